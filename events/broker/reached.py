"""What a price does to an account when it reaches a level: stops, targets, orders, stop-outs."""

from __future__ import annotations

from events import mt5
from events.accounting import OpenPosition, RefusedFill, stop_out_first
from events.broker.orders import BrokerOrder
from events.broker.server import TradeServer


def pull(server: TradeServer, position: OpenPosition, price: float, *, reason: int) -> None:
    """A position whose stop (`reason` ORDER_REASON_SL) or target was reached: it is closed at the
    first price there was, however far beyond. A stop slips like an order at market."""
    stopped = reason == mt5.ORDER_REASON_SL
    tag, level = ("sl", position.stop_loss) if stopped else ("tp", position.take_profit)
    comment = f"[{tag} {level:g}]"
    server.close(position, reason=reason, comment=comment, price=price, slips=stopped)


def activate(server: TradeServer, order: BrokerOrder, price: float) -> None:
    """A pending order whose price was reached. Stop orders slip like orders at market."""
    if order.type in (mt5.ORDER_TYPE_BUY_STOP_LIMIT, mt5.ORDER_TYPE_SELL_STOP_LIMIT):
        order.type = mt5.ORDER_TYPE_BUY_LIMIT + order.side
        order.price_open, order.price_stoplimit = order.price_stoplimit, 0.0
        server.touch(order)
        return
    if not server.affords(order.symbol, order.side, order.volume_current, price):
        server.drop(order, mt5.ORDER_STATE_REJECTED)
        return
    if order.type in (mt5.ORDER_TYPE_BUY_STOP, mt5.ORDER_TYPE_SELL_STOP):
        price = server.slipped(order, price)
    try:
        server.fill(order, price)
    except RefusedFill:
        return  # it is in the history as rejected


def stop_out(server: TradeServer) -> bool:
    """Close the biggest loser, and the next, until the level holds again. Where a market is
    closed nothing can be: then it waits. Returns whether anything was closed."""
    closed = False
    while server.ledger.positions:
        figures = server.valuer.figures(server.ledger, server.now_ms)
        mode, level = server.account.margin_so_mode, server.account.margin_so_so
        if not figures.stopped_out(mode=mode, level=level):
            return closed
        marks = server.valuer.marks(server.ledger, server.now_ms)
        valued = server.valuer.valuations(server.ledger, marks)
        held = server.ledger.positions
        trading = (one for one in valued if server.is_open(held[one.identifier].symbol))
        worst = stop_out_first(trading)
        if worst is None:
            return closed
        text = f"so: {figures.margin_level_percent:.2f}%"
        server.close(server.ledger.positions[worst], reason=mt5.ORDER_REASON_SO, comment=text)
        closed = True
    return closed

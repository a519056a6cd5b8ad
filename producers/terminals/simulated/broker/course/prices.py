"""What prices do to an account by themselves: stops, targets, pending orders, stop-outs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from events.accounting import RefusedFill, stop_out_first
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.course.triggers import Trigger, first_trigger
from producers.terminals.simulated.broker.records import BrokerOrder

if TYPE_CHECKING:
    from producers.terminals.simulated.broker.server import TradeServer

STOP_OUT_GRID_MS = 1000
STOP_OUTS_PER_STEP_MAX = 1000


def happen_until(server: TradeServer, target_ms: int) -> None:
    """Let a server's prices act up to a moment (UTC ms), in order of time."""
    for _ in range(STOP_OUTS_PER_STEP_MAX):
        trigger = _first_trigger(server, target_ms)
        stopped = _first_stop_out(server, target_ms if trigger is None else trigger.utc_ms)
        if stopped is not None:
            server.now_ms = stopped
            _stop_out(server)
        elif trigger is not None:
            server.now_ms = trigger.utc_ms
            _pull(server, trigger)
        else:
            return


def _first_trigger(server: TradeServer, target_ms: int) -> Trigger | None:
    held = server.valuer.holdings(server.ledger).guarded
    pending = [order for order in server.orders.values() if not order.is_market]
    if not held and not pending:
        return None
    return first_trigger(
        server.market, held, pending, after_utc_ms=server.now_ms, until_utc_ms=target_ms
    )


def _pull(server: TradeServer, trigger: Trigger) -> None:
    if trigger.position is not None:
        tag = "sl" if trigger.reason == mt5.ORDER_REASON_SL else "tp"
        level = trigger.position.stop_loss if tag == "sl" else trigger.position.take_profit
        server.close(
            trigger.position, reason=trigger.reason, comment=f"[{tag} {level:g}]",
            price=trigger.price,
        )  # fmt: skip
        return
    assert trigger.order is not None, "a trigger has a position or an order"
    _activate(server, trigger.order, trigger.price)


def _activate(server: TradeServer, order: BrokerOrder, price: float) -> None:
    """A pending order whose price was reached."""
    if order.type in (mt5.ORDER_TYPE_BUY_STOP_LIMIT, mt5.ORDER_TYPE_SELL_STOP_LIMIT):
        order.type = mt5.ORDER_TYPE_BUY_LIMIT + order.side
        order.price_open, order.price_stoplimit = order.price_stoplimit, 0.0
        server.touch(order)
    elif server.affords(order.symbol, order.side, order.volume_current, price):
        try:
            server.fill(order, price)
        except RefusedFill:
            return  # it is in the history as rejected
    else:
        server.drop(order, mt5.ORDER_STATE_REJECTED)


def _first_stop_out(server: TradeServer, target_ms: int) -> int | None:
    if not server.ledger.positions:
        return None
    first = (server.now_ms // STOP_OUT_GRID_MS + 1) * STOP_OUT_GRID_MS
    grid = np.arange(first, target_ms + 1, STOP_OUT_GRID_MS, dtype=np.int64)
    if not len(grid):
        return None
    at = server.valuer.stopped_out(server.ledger, grid)
    return None if at is None else int(grid[at])


def _stop_out(server: TradeServer) -> None:
    """Close the biggest loser, and the next, until the level holds again."""
    while server.ledger.positions:
        figures = server.valuer.figures(server.ledger, server.now_ms)
        mode, level = server.account.margin_so_mode, server.account.margin_so_so
        if not figures.stopped_out(mode=mode, level=level):
            return
        marks = server.valuer.marks(server.ledger, server.now_ms)
        worst = stop_out_first(server.valuer.valuations(server.ledger, marks))
        assert worst is not None
        text = f"so: {figures.margin_level_percent:.2f}%"
        server.close(server.ledger.positions[worst], reason=mt5.ORDER_REASON_SO, comment=text)

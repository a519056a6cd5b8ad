"""What a broker does at midnight of its clock: swaps, and the end of orders for the day."""

from __future__ import annotations

from events import mt5
from events.accounting import OpenPosition, swap_nights
from events.broker.orders import BrokerOrder
from events.broker.server import TradeServer

_THURSDAY = 4  # 1 January 1970, with Sunday as 0
_REOPENS = (mt5.SYMBOL_SWAP_MODE_REOPEN_CURRENT, mt5.SYMBOL_SWAP_MODE_REOPEN_BID)


def midnight(server: TradeServer, ended_day: int) -> None:
    """Charge the swap of the night after a day (days since the epoch on the broker's clock), and
    end orders of that day."""
    for position in list(server.ledger.positions.values()):
        contract = server.valuer.contract(position.symbol)
        nights = swap_nights((ended_day + _THURSDAY) % 7, contract.swap_rollover_weekday)
        if nights and contract.swap_mode in _REOPENS:
            _reopen(server, position, nights)
        elif nights:
            amount = server.valuer.swap(position, server.now_ms) * nights
            server.ledger.charge_swap(position.identifier, amount)
            server.touch_position(position)
    for order in list(server.orders.values()):
        if order.type_time == mt5.ORDER_TIME_DAY and not order.is_market:
            server.drop(order, mt5.ORDER_STATE_EXPIRED)


def _reopen(server: TradeServer, position: OpenPosition, nights: int) -> None:
    """Close a position and open it again at a price moved by the swap's points. The identifier
    stays, the ticket does not (MQL5 reference, "Position properties": POSITION_TICKET)."""
    quote = server.valuer.quotes.at(position.symbol, server.now_ms)
    if quote is None:
        return
    contract = server.valuer.contract(position.symbol)
    closed = quote[position.side]
    by_bid = contract.swap_mode == mt5.SYMBOL_SWAP_MODE_REOPEN_BID
    opened = contract.reopened(position.side, quote[0] if by_bid else closed, nights)
    order = BrokerOrder(
        ticket=server.new_ticket(), symbol=position.symbol, type=position.side,
        volume_initial=position.volume_lots, volume_current=position.volume_lots,
        price_open=opened, time_setup_ms=server.server_ms, magic=position.magic,
        reason=mt5.DEAL_REASON_ROLLOVER, comment=position.comment,
        position_id=position.identifier,
    )  # fmt: skip
    stops = position.stop_loss, position.take_profit
    deals = server.ledger.reopen(
        position, order=order.ticket, tickets=server.deal_tickets(), time_ms=server.server_ms,
        closed=closed, opened=opened, reason=mt5.DEAL_REASON_ROLLOVER,
        profit_of=server.profit_of,
    )  # fmt: skip
    server.deals += deals
    server.drop(order, mt5.ORDER_STATE_FILLED)
    again = server.ledger.positions[position.identifier]
    again.stop_loss, again.take_profit = stops
    server.touch_position(again)

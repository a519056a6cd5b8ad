"""Orders, deals and positions as structs of the module."""

from __future__ import annotations

from events.accounting import BookedDeal, OpenPosition
from events.broker.orders import BrokerOrder
from producers.terminals.structs import TradeDeal, TradeOrder, TradePosition


def order_struct(order: BrokerOrder, price_current: float) -> TradeOrder:
    """An order (times in server ms) as the module gives it."""
    return TradeOrder(
        (
            order.ticket,
            order.time_setup_ms // 1000,
            order.time_setup_ms,
            order.time_done_ms // 1000,
            order.time_done_ms,
            order.time_expiration_s,
            order.type,
            order.type_time,
            order.type_filling,
            order.state,
            order.magic,
            order.position_id,
            order.position_by_id,
            order.reason,
            order.volume_initial,
            order.volume_current,
            order.price_open,
            order.stop_loss,
            order.take_profit,
            price_current,
            order.price_stoplimit,
            order.symbol,
            order.comment,
            "",
        )
    )


def deal_struct(deal: BookedDeal) -> TradeDeal:
    """A booked deal (times in server ms) as the module gives it."""
    return TradeDeal(
        (
            deal.ticket,
            deal.order,
            deal.time_ms // 1000,
            deal.time_ms,
            deal.type,
            int(deal.entry),
            deal.magic,
            deal.position_id,
            deal.reason,
            deal.volume_lots,
            deal.price,
            deal.commission,
            deal.swap,
            deal.profit,
            deal.fee,
            deal.symbol,
            deal.comment,
            "",
        )
    )


def position_struct(
    position: OpenPosition, *, price_current: float, profit: float
) -> TradePosition:
    """An open position at current prices (times in server ms)."""
    return TradePosition(
        (
            position.ticket,
            position.time_ms // 1000,
            position.time_ms,
            position.time_update_ms // 1000,
            position.time_update_ms,
            position.side,
            position.magic,
            position.identifier,
            position.reason,
            position.volume_lots,
            position.price_open,
            position.stop_loss,
            position.take_profit,
            price_current,
            position.swap,
            profit,
            position.symbol,
            position.comment,
            "",
        )
    )

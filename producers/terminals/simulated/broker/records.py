"""Orders and deals as the broker keeps them, and as structs of the module."""

from __future__ import annotations

from dataclasses import dataclass

from events.accounting import BookedDeal, OpenPosition
from producers.terminals import constants as mt5
from producers.terminals.structs import TradeDeal, TradeOrder, TradePosition


@dataclass(slots=True)
class BrokerOrder:
    """One order, active or final. Times are server time in ms; volumes in lots."""

    ticket: int
    symbol: str
    type: int
    volume_initial: float
    volume_current: float
    price_open: float
    time_setup_ms: int
    state: int = mt5.ORDER_STATE_PLACED
    time_done_ms: int = 0
    price_stoplimit: float = 0.0
    stop_loss: float = 0.0
    take_profit: float = 0.0
    price_current: float = 0.0
    type_time: int = mt5.ORDER_TIME_GTC
    type_filling: int = mt5.ORDER_FILLING_FOK
    time_expiration_s: int = 0
    magic: int = 0
    reason: int = mt5.ORDER_REASON_CLIENT
    position_id: int = 0
    position_by_id: int = 0
    position_ticket: int = 0
    """The position a market order closes on a hedging account; not part of the struct."""
    comment: str = ""

    @property
    def side(self) -> int:
        """0 buy, 1 sell."""
        return self.type % 2 if self.type < mt5.ORDER_TYPE_CLOSE_BY else 0

    @property
    def is_market(self) -> bool:
        return self.type <= mt5.ORDER_TYPE_SELL

    def finish(self, state: int, time_ms: int) -> None:
        """Bring the order to its final state."""
        self.state, self.time_done_ms = state, time_ms
        if state == mt5.ORDER_STATE_FILLED:
            self.volume_current = 0.0

    def struct(self, price_current: float) -> TradeOrder:
        return TradeOrder(
            (
                self.ticket,
                self.time_setup_ms // 1000,
                self.time_setup_ms,
                self.time_done_ms // 1000,
                self.time_done_ms,
                self.time_expiration_s,
                self.type,
                self.type_time,
                self.type_filling,
                self.state,
                self.magic,
                self.position_id,
                self.position_by_id,
                self.reason,
                self.volume_initial,
                self.volume_current,
                self.price_open,
                self.stop_loss,
                self.take_profit,
                price_current,
                self.price_stoplimit,
                self.symbol,
                self.comment,
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

"""Orders as the broker keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from events import mt5


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

    @property
    def waits_below(self) -> bool:
        """Whether a pending order waits for the price to fall to its own; else for a rise."""
        return self.type in _BELOW

    @property
    def expires_s(self) -> int:
        """When a pending order ends, in seconds of the broker's clock; 0: not by itself."""
        timed = self.type_time in (mt5.ORDER_TIME_SPECIFIED, mt5.ORDER_TIME_SPECIFIED_DAY)
        return self.time_expiration_s if timed and not self.is_market else 0

    def finish(self, state: int, time_ms: int) -> None:
        """Bring the order to its final state."""
        self.state, self.time_done_ms = state, time_ms
        if state == mt5.ORDER_STATE_FILLED:
            self.volume_current = 0.0


_BELOW = frozenset(
    {mt5.ORDER_TYPE_BUY_LIMIT, mt5.ORDER_TYPE_SELL_STOP, mt5.ORDER_TYPE_SELL_STOP_LIMIT}
)

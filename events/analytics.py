"""Events of group `analytics`: what trading brought and cost, and how wide spreads were."""

from __future__ import annotations

from typing import ClassVar

from events.event import Event
from events.log import Lane


class Analytics(Event):
    """Trades of one symbol and strategy that were closed within one hour (UTC): a level that
    replaces the one before it under the same key. Money in account currency; costs are positive
    when they were paid."""

    TYPE: ClassVar[str] = "analytics"
    LANE: ClassVar[Lane] = Lane.LOW

    login: int
    symbol: str
    strategy: str
    hour_ms: int
    """Beginning of the hour (UTC)."""
    trades: int = 0
    won: int = 0
    lots: float = 0.0
    """Largest volume of each trade, added up."""
    profit: float = 0.0
    commission: float = 0.0
    swap: float = 0.0
    fee: float = 0.0
    net_profit: float = 0.0
    """profit + commission + swap + fee, as the broker booked them."""
    slippage: float = 0.0
    """What deals were worse than the price that was wanted; negative: better."""
    slippage_points: float = 0.0
    """The same in points, added up over `slippage_deals`."""
    slippage_deals: int = 0
    """Deals of which both prices and the symbol's arithmetic were known."""
    spread_cost: float = 0.0
    """Half of the spread at each of `spread_deals`: a part of `profit`, not beside it."""
    spread_deals: int = 0

    @property
    def key(self) -> str:
        return f"{self.login}/{self.symbol}/{self.strategy}/{self.hour_ms}"


class SpreadHour(Event):
    """Ask less bid of one symbol within one hour (UTC): a level that replaces the one before it
    under the same key. Each tick counts for as long as it stood, a minute at most."""

    TYPE: ClassVar[str] = "spread"
    LANE: ClassVar[Lane] = Lane.LOW

    symbol: str
    hour_ms: int
    """Beginning of the hour (UTC)."""
    ticks: int = 0
    """Ticks with a bid and an ask that is not below it."""
    seconds: float = 0.0
    """Time they stood, added up."""
    mean: float = 0.0
    """Weighted by time, as a price."""
    smallest: float = 0.0
    largest: float = 0.0
    point: float = 0.0
    """Of the symbol; 0 where it is unknown."""

    @property
    def key(self) -> str:
        return f"{self.symbol}/{self.hour_ms}"

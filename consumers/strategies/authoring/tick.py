"""One tick as a strategy sees it."""

from __future__ import annotations

from typing import NamedTuple


class Tick(NamedTuple):
    """Prices of one symbol at a moment. Made by the million, so of plain values."""

    symbol: str
    time_ms: int
    """UTC."""
    bid: float
    ask: float
    last: float
    volume: float
    """Lots that were traded at `last`; 0 where the broker tells none."""
    flags: int
    """MT5's TICK_FLAG bits: 2 bid, 4 ask, 8 last, 16 volume, 32 buy, 64 sell."""
    mid: float
    """Between bid and ask."""

    @property
    def spread(self) -> float:
        """Ask less bid, as a price."""
        return self.ask - self.bid

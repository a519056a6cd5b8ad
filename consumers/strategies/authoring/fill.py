"""What became of a strategy's position: one deal of it."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Fill(NamedTuple):
    """One deal of a position that this strategy owns, whoever caused it."""

    symbol: str
    leg: str
    time_ms: int
    """UTC."""
    side: Literal["buy", "sell"]
    entry: Literal["in", "out"]
    """Whether it opened (or added to) the position, or closed (a part of) it."""
    volume_lots: float
    price: float
    profit: float
    """Account currency; 0 for what opens."""
    costs: float
    """Commission, swap and fee of this deal, as the broker booked them (negative: paid)."""
    reason: str
    """expert (our own order), stop_loss, take_profit, stop_out, manual, other."""
    position_id: int
    position: float
    """Lots held by the strategy in (symbol, leg) after it, signed."""

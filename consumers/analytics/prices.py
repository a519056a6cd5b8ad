"""The newest prices of a symbol, thinned out: enough to tell what stood when a deal was made."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from events.ticks import TickBatch

KEPT_MAX = 16
STEP_MS = 500
"""One price of each such span is kept: the last one in it."""
AGE_MAX_MS = 60_000
"""An older price is not what stood."""

Kept = list[list[float]]
"""[server ms, bid, ask] each, oldest first."""


class Price(NamedTuple):
    """What a symbol stood at."""

    bid: float
    ask: float

    @property
    def spread(self) -> float:
        return self.ask - self.bid

    def wanted(self, side: int) -> float:
        """What a market order of this side (0 buy, 1 sell) is for."""
        return self.bid if side else self.ask


def remember(kept: Kept, batch: TickBatch) -> Kept:
    """The kept prices with those of a batch."""
    ticks = batch.ticks
    good = (ticks["bid"] > 0) & (ticks["ask"] >= ticks["bid"])
    rows = ticks[good][-1_000:]
    if not len(rows):
        return kept
    spans = rows["time_msc"] // STEP_MS
    last_of_span = np.append(spans[1:] != spans[:-1], True)
    found = [
        [float(row["time_msc"]), float(row["bid"]), float(row["ask"])]
        for row in rows[last_of_span][-KEPT_MAX:]
    ]
    merged = {one[0] // STEP_MS: one for one in [*kept, *found]}
    return [merged[span] for span in sorted(merged)][-KEPT_MAX:]


def price_at(kept: Kept, server_ms: int) -> Price | None:
    """The price that stood at a moment of the server's clock; None where nobody knows."""
    before = [one for one in kept if one[0] <= server_ms]
    if not before or server_ms - before[-1][0] > AGE_MAX_MS:
        return None
    return Price(before[-1][1], before[-1][2])

"""Less of a curve, of bars and of trades: as much as a page can draw, with the extremes kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from consumers.backtest.result import PriceBars
from events.trading import Trade

Floats = npt.NDArray[np.float64]
Indexes = npt.NDArray[np.intp]


def rows_kept(values: Floats, rows_max: int) -> Indexes:
    """Which rows of a curve are drawn: first and last, and of each stretch of equal length the
    lowest and the highest. All of them where they are few."""
    count = len(values)
    if count <= rows_max:
        return np.arange(count)
    stretches = max(1, (rows_max - 2) // 2)
    edges = np.linspace(0, count, stretches + 1).astype(np.intp)
    kept = [0, count - 1]
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[begin:end]
        kept += [begin + int(part.argmin()), begin + int(part.argmax())]
    found: Indexes = np.unique(np.array(kept, np.intp))
    return found


def fewer_bars(bars: PriceBars, bars_max: int) -> PriceBars:
    """Neighbouring bars as one, as many as it takes; `seconds` is then the longest of a bar."""
    each = -(-len(bars) // bars_max) if bars_max else 1
    if each <= 1:
        return bars
    begins = np.arange(0, len(bars), each)
    ends = np.minimum(begins + each, len(bars)) - 1
    return PriceBars(
        bars.seconds * each, bars.time_ms[begins], bars.open[begins],
        np.maximum.reduceat(bars.high, begins), np.minimum.reduceat(bars.low, begins),
        bars.close[ends],
    )  # fmt: skip


def trades_kept(trades: Sequence[Trade], trades_max: int) -> list[Trade]:
    """Trades spread evenly over all of them, first and last among them."""
    if len(trades) <= trades_max:
        return list(trades)
    chosen = np.linspace(0, len(trades) - 1, trades_max).round().astype(int)
    return [trades[index] for index in chosen.tolist()]

"""Sums over a moving window that come out the same one at a time and all at once.

A running sum gathers rounding errors, so it is computed anew from the window (math.fsum) after
so many steps. Steps are counted from the first full window, hence a sum does not depend on how
its inputs were cut into arrays; between two countings np.add.accumulate adds in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from consumers.indicators.indicator import FloatArray

RECOUNT_AFTER = 1_024


def recount_after(period: int) -> int:
    """Steps between two exact sums; for long windows as many as the window is long."""
    return max(RECOUNT_AFTER, period)


def running(start: float, steps: FloatArray) -> FloatArray:
    """start + steps[0], then + steps[1], ...: in this order, as a loop would."""
    sums = np.empty(len(steps) + 1)
    sums[0] = start
    sums[1:] = steps
    np.add.accumulate(sums, out=sums)
    return sums[1:]


def stretches(count: int, *, begun: int, due: int, every: int) -> Iterator[tuple[int, int]]:
    """Spans of [begun, count) that end where a sum is due to be computed anew: after `due`
    steps, then after `every` steps each."""
    while begun < count:
        end = min(count, begun + due)
        yield begun, end
        begun, due = end, every

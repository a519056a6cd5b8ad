"""Bars of the bid for a chart: few enough to be drawn, whatever the length of a run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from consumers.backtest.curve import slot_begins
from consumers.backtest.result import PriceBars

BARS_MAX = 4_000
"""With more of them two or more become one of the next interval."""
INTERVALS_S = (60, 300, 900, 3_600, 14_400, 86_400, 604_800)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class ChartRecorder:
    """Bars of one symbol. Ticks without a bid are left out."""

    def __init__(self, *, bars_max: int = BARS_MAX) -> None:
        self._bars_max = bars_max
        self._interval = 0
        self._slots: list[Ints] = []
        self._prices: list[Floats] = []
        """Rows of open, high, low, close."""
        self._count = 0

    def add(self, time_ms: Ints, bid: Floats) -> None:
        """Ticks in the order they are seen."""
        if len(bid) and not bid.all():
            time_ms, bid = time_ms[bid > 0], bid[bid > 0]
        if not len(bid):
            return
        slots, prices = _bars_of_ticks(time_ms, bid, self._seconds * 1000)
        self._slots.append(slots)
        self._prices.append(prices)
        self._count += len(slots)
        if self._count > 2 * self._bars_max:
            self._shrink()

    def bars(self) -> PriceBars:
        self._shrink()
        if not self._slots:
            empty = np.zeros(0)
            return PriceBars(self._seconds, np.zeros(0, np.int64), empty, empty, empty, empty)
        slots, prices = self._slots[0], self._prices[0]
        time_ms = slots * self._seconds * 1000
        return PriceBars(self._seconds, time_ms, prices[0], prices[1], prices[2], prices[3])

    @property
    def _seconds(self) -> int:
        return INTERVALS_S[self._interval]

    def _shrink(self) -> None:
        """All bars as one array, of a longer interval where there are too many."""
        if not self._slots:
            return
        slots, prices = np.concatenate(self._slots), np.concatenate(self._prices, axis=1)
        slots, prices = _bars(slots, *prices)
        while len(slots) > self._bars_max and self._interval + 1 < len(INTERVALS_S):
            before = self._seconds
            self._interval += 1
            slots, prices = _bars(slots * before // self._seconds, *prices)
        self._slots, self._prices, self._count = [slots], [prices], len(slots)


def _bars_of_ticks(time_ms: Ints, bid: Floats, interval_ms: int) -> tuple[Ints, Floats]:
    """Bars of ticks."""
    begins = slot_begins(time_ms, interval_ms)
    rows = np.array(
        [
            bid[begins], np.maximum.reduceat(bid, begins), np.minimum.reduceat(bid, begins),
            bid[np.append(begins[1:], len(bid)) - 1],
        ]
    )  # fmt: skip
    return time_ms[begins] // interval_ms, rows


def _bars(
    slots: Ints, opens: Floats, highs: Floats, lows: Floats, closes: Floats
) -> tuple[Ints, Floats]:
    """Rows of one slot that follow each other as one row."""
    edges = np.flatnonzero(slots[1:] != slots[:-1]) + 1
    begins = np.concatenate([np.zeros(1, np.int64), edges])
    ends = np.concatenate([edges, np.array([len(slots)])]) - 1
    rows = np.array(
        [
            opens[begins], np.maximum.reduceat(highs, begins),
            np.minimum.reduceat(lows, begins), closes[ends],
        ]
    )  # fmt: skip
    return slots[begins], rows

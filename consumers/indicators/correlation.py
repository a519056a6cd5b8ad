"""Rolling correlation of two series."""

from __future__ import annotations

from collections import deque
from math import fsum, sqrt
from typing import ClassVar

import numpy as np

from consumers.indicators.indicator import (
    FloatArray,
    Indicator,
    Values,
    floats,
    nothing_yet,
    period_of,
    same_length,
)
from consumers.indicators.rolling import recount_after, running, stretches

NOISE = 1e-12


class RollingCorrelation(Indicator):
    """Pearson's correlation of the last `period` pairs; 0 where a series stands still.

    Summed around a reference that moves at each recount, as in `deviation`.
    """

    __slots__ = ("_centres", "_due", "_every", "_first", "_second", "_sums", "period", "value",
                 "warm_up")  # fmt: skip
    FACTS: ClassVar[tuple[str, ...]] = ("period",)
    MEMORY: ClassVar[tuple[str, ...]] = (
        "_first", "_second", "_centres", "_sums", "_due", "value",
    )  # fmt: skip

    def __init__(self, period: int) -> None:
        """Raises ValueError on a period below 2."""
        self.period = self.warm_up = period_of(period, least=2)
        self._first: deque[float] = deque(maxlen=period)
        self._second: deque[float] = deque(maxlen=period)
        self._centres = [0.0, 0.0]
        self._sums = [0.0] * 5
        self._every = self._due = recount_after(period)
        self.value: float | None = None

    def _recount(self) -> None:
        self._due = self._every
        a, b = self._centres = [self._first[-1], self._second[-1]]
        pairs = [(x - a, y - b) for x, y in zip(self._first, self._second, strict=True)]
        self._sums = [
            fsum(x for x, _ in pairs),
            fsum(y for _, y in pairs),
            fsum(x * x for x, _ in pairs),
            fsum(y * y for _, y in pairs),
            fsum(x * y for x, y in pairs),
        ]

    def update(self, first: float, second: float) -> float | None:
        """Take the next pair."""
        if len(self._first) < self.period:
            self._first.append(first)
            self._second.append(second)
            if len(self._first) < self.period:
                return None
            self._recount()
        else:
            a, b = self._centres
            x, y, u, v = first - a, second - b, self._first[0] - a, self._second[0] - b
            sums = self._sums
            sums[0] += x - u
            sums[1] += y - v
            sums[2] += x * x - u * u
            sums[3] += y * y - v * v
            sums[4] += x * y - u * v
            self._first.append(first)
            self._second.append(second)
            self._due -= 1
            if not self._due:
                self._recount()
        self.value = self._correlation()
        return self.value

    def _correlation(self) -> float:
        period = self.period
        x, y, xx, yy, xy = (total / period for total in self._sums)
        first, second = xx - x * x, yy - y * y
        if first <= NOISE * xx or second <= NOISE * yy:
            return 0.0
        return min(1.0, max(-1.0, (xy - x * y) / (sqrt(first) * sqrt(second))))

    def update_many(self, first: Values, second: Values) -> FloatArray:
        """Take many pairs."""
        xs, ys = floats(first), floats(second)
        count = same_length(xs, ys)
        result = nothing_yet(count)
        begun = min(self.period - len(self._first), count)
        for place in range(begun):
            if (got := self.update(float(xs[place]), float(ys[place]))) is not None:
                result[place] = got
        known = [np.concatenate([w, s[begun:]]) for w, s in ((self._first, xs), (self._second, ys))]
        for low, high in stretches(count, begun=begun, due=self._due, every=self._every):
            gone = slice(low - begun, high - begun)
            result[low:high] = self._stretch(
                xs[low:high], ys[low:high], known[0][gone], known[1][gone]
            )
            self.value = float(result[high - 1])
        return result

    def _stretch(
        self, first: FloatArray, second: FloatArray, first_gone: FloatArray, second_gone: FloatArray
    ) -> FloatArray:
        a, b = self._centres
        x, y, u, v = first - a, second - b, first_gone - a, second_gone - b
        steps = (x - u, y - v, x * x - u * u, y * y - v * v, x * y - u * v)
        sums = np.stack([running(s, step) for s, step in zip(self._sums, steps, strict=True)])
        self._sums = sums[:, -1].tolist()
        self._first.extend(first[-self.period :].tolist())
        self._second.extend(second[-self.period :].tolist())
        self._due -= len(first)
        if not self._due:
            self._recount()
            sums[:, -1] = self._sums
        mx, my, xx, yy, xy = sums / self.period
        varied, also = xx - mx * mx, yy - my * my
        flat = (varied <= NOISE * xx) | (also <= NOISE * yy)
        both = np.sqrt(np.where(flat, 1.0, varied)) * np.sqrt(np.where(flat, 1.0, also))
        clipped: FloatArray = np.clip((xy - mx * my) / both, -1.0, 1.0)
        clipped[flat] = 0.0
        return clipped

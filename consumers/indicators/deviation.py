"""Rolling standard deviation, z-score and Bollinger bands.

Squares are summed of differences to a reference near the window, not of prices: at 1.38 with a
deviation of 0.00001 the textbook formula keeps no digit. The reference moves at each recount.
"""

from __future__ import annotations

from collections import deque
from math import fsum, sqrt
from typing import ClassVar, NamedTuple

import numpy as np

from consumers.indicators.indicator import (
    FloatArray,
    Indicator,
    OneInput,
    Values,
    floats,
    nothing_yet,
    period_of,
)
from consumers.indicators.rolling import recount_after, running, stretches

NOISE = 1e-12
"""A variance below this share of the mean square is rounding: the window is constant."""


class _Moments(Indicator):
    """Mean and standard deviation of the last `period` inputs."""

    __slots__ = ("_centre", "_due", "_every", "_left", "_mean", "_squares", "_std", "_sum",
                 "_window", "ddof", "period", "warm_up")  # fmt: skip
    FACTS: ClassVar[tuple[str, ...]] = ("period", "ddof")
    MEMORY: ClassVar[tuple[str, ...]] = (
        "_window", "_centre", "_sum", "_squares", "_mean", "_std", "_left", "_due",
    )  # fmt: skip

    def __init__(self, period: int, *, ddof: int = 0) -> None:
        """`ddof` 0: of the population, as TA-Lib and MT5 do; 1: of a sample. Raises ValueError on
        a period of less than ddof + 1 inputs."""
        self.ddof = period_of(ddof, least=0, name="ddof")
        self.period = self.warm_up = self._left = period_of(period, least=ddof + 1)
        self._window: deque[float] = deque(maxlen=period)
        self._centre = self._sum = self._squares = self._mean = self._std = 0.0
        self._every = self._due = recount_after(period)

    def _recount(self) -> None:
        self._due = self._every
        self._centre = centre = self._window[-1]
        self._sum = fsum(value - centre for value in self._window)
        self._squares = fsum((value - centre) * (value - centre) for value in self._window)

    def _push(self, value: float) -> bool:
        """Take one; whether there is a mean and a deviation."""
        window = self._window
        if self._left:
            window.append(value)
            self._left -= 1
            if self._left:
                return False
            self._recount()
        else:
            new, old = value - self._centre, window[0] - self._centre
            self._sum += new - old
            self._squares += new * new - old * old
            window.append(value)
            self._due -= 1
            if not self._due:
                self._recount()
        period = self.period
        mean, square = self._sum / period, self._squares / period
        spread = square - mean * mean
        self._mean = self._centre + mean
        self._std = (
            sqrt(spread * (period / (period - self.ddof))) if spread > NOISE * square else 0.0
        )
        return True

    def _push_many(self, array: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation after each input; NaN while warming up."""
        means, stds = nothing_yet(len(array)), nothing_yet(len(array))
        begun = min(self._left, len(array))
        for place, value in enumerate(array[:begun].tolist()):
            if self._push(value):
                means[place], stds[place] = self._mean, self._std
        known = np.concatenate([self._window, array[begun:]])
        for low, high in stretches(len(array), begun=begun, due=self._due, every=self._every):
            stretch = self._stretch(array[low:high], known[low - begun : high - begun])
            means[low:high], stds[low:high] = stretch
            self._mean, self._std = float(means[high - 1]), float(stds[high - 1])
        return means, stds

    def _stretch(self, values: FloatArray, dropped: FloatArray) -> tuple[FloatArray, FloatArray]:
        """As many `_push` at once, up to the next recount."""
        new, old = values - self._centre, dropped - self._centre
        sums = running(self._sum, new - old)
        squares = running(self._squares, new * new - old * old)
        centres = np.full(len(values), self._centre)
        self._sum, self._squares = float(sums[-1]), float(squares[-1])
        self._window.extend(values[-self.period :].tolist())
        self._due -= len(values)
        if not self._due:
            self._recount()
            sums[-1], squares[-1], centres[-1] = self._sum, self._squares, self._centre
        mean, square = sums / self.period, squares / self.period
        spread = square - mean * mean
        scale = self.period / (self.period - self.ddof)
        known = spread > NOISE * square
        return centres + mean, np.sqrt(np.where(known, spread, 0.0) * scale)


class RollingStd(_Moments, OneInput):
    """Standard deviation of the last `period` inputs; of the population unless `ddof=1`."""

    __slots__ = ()

    @property
    def value(self) -> float | None:
        """The newest value."""
        return None if self._left else self._std

    def update(self, value: float) -> float | None:
        return self._std if self._push(value) else None

    def update_many(self, values: Values) -> FloatArray:
        return self._push_many(floats(values))[1]


class ZScore(_Moments, OneInput):
    """(newest - mean) / standard deviation of the last `period` inputs, the newest included;
    0 where all of them are equal."""

    __slots__ = ()

    @property
    def value(self) -> float | None:
        """The newest value."""
        if self._left:
            return None
        return (self._window[-1] - self._mean) / self._std if self._std else 0.0

    def update(self, value: float) -> float | None:
        if not self._push(value):
            return None
        return (value - self._mean) / self._std if self._std else 0.0

    def update_many(self, values: Values) -> FloatArray:
        array = floats(values)
        means, stds = self._push_many(array)
        flat = stds == 0
        scores: FloatArray = (array - means) / np.where(flat, 1.0, stds)
        scores[flat] = 0.0
        return scores


class BollingerValue(NamedTuple):
    """Bands around a simple moving average."""

    lower: float
    middle: float
    upper: float


class Bollinger(_Moments):
    """Bollinger bands: mean -/+ `deviations` standard deviations (of the population) of the last
    `period` inputs (Bollinger on Bollinger Bands, 2001; the same in TA-Lib and MT5).
    `update_many` returns rows of lower, middle, upper."""

    __slots__ = ("deviations",)
    FACTS: ClassVar[tuple[str, ...]] = (*_Moments.FACTS, "deviations")

    def __init__(self, period: int = 20, deviations: float = 2.0, *, ddof: int = 0) -> None:
        """Raises ValueError on a bad period."""
        super().__init__(period, ddof=ddof)
        self.deviations = float(deviations)

    @property
    def value(self) -> BollingerValue | None:
        """The newest bands."""
        return None if self._left else self._bands()

    def _bands(self) -> BollingerValue:
        middle, width = self._mean, self.deviations * self._std
        return BollingerValue(middle - width, middle, middle + width)

    def update(self, value: float) -> BollingerValue | None:
        """Take the next input."""
        return self._bands() if self._push(value) else None

    def update_many(self, values: Values) -> FloatArray:
        """Rows of lower, middle, upper."""
        means, stds = self._push_many(floats(values))
        width = self.deviations * stds
        return np.column_stack([means - width, means, means + width])

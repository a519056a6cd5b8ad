"""Moving averages: simple, exponential, linearly weighted."""

from __future__ import annotations

from collections import deque
from math import fsum
from typing import ClassVar, Literal

import numpy as np

from consumers.indicators.indicator import (
    FloatArray,
    OneInput,
    Values,
    floats,
    nothing_yet,
    period_of,
)
from consumers.indicators.recurrence import smoothed
from consumers.indicators.rolling import recount_after, running, stretches

Seed = Literal["sma", "first"]


class Ema(OneInput):
    """Exponential moving average: y = a*x + (1 - a)*y with a = 2 / (period + 1).

    `seed="sma"` begins with the mean of the first `period` inputs, as TA-Lib does; `"first"`
    with the first input, as MT5's iMA does (MovingAverages.mqh). Either way the first value is
    given with input number `period`.
    """

    __slots__ = ("_left", "_rest", "_share", "_value", "period", "seed", "warm_up")
    FACTS: ClassVar[tuple[str, ...]] = ("period", "seed")
    MEMORY: ClassVar[tuple[str, ...]] = ("_value", "_left")

    def __init__(self, period: int, *, seed: Seed = "sma") -> None:
        """Raises ValueError on a period below 1 or an unknown seed."""
        if seed not in ("sma", "first"):
            raise ValueError(f"seed is 'sma' or 'first', not {seed!r}")
        self.period = self.warm_up = period_of(period)
        self.seed = seed
        self._set_share(2.0 / (period + 1))
        self._value = 0.0
        self._left = period

    def _set_share(self, share: float) -> None:
        self._share = share
        self._rest = 1.0 - share

    @property
    def value(self) -> float | None:
        """The newest value."""
        return None if self._left else self._value

    def begin(self) -> None:
        """Give values from the next input on, without waiting for a whole period."""
        self._left = 0

    def update(self, value: float) -> float | None:
        if self._left:
            return self._warm(value)
        value = self._value = self._share * value + self._rest * self._value
        return value

    def update_many(self, values: Values) -> FloatArray:
        array = floats(values)
        begun = min(self._left, len(array))
        result = nothing_yet(len(array))
        for place, value in enumerate(array[:begun].tolist()):
            if self._warm(value) is not None:
                result[place] = self._value
        if begun < len(array):
            result[begun:] = smoothed(
                array[begun:], share=self._share, rest=self._rest, start=self._value
            )
            self._value = float(result[-1])
        return result

    def _warm(self, value: float) -> float | None:
        self._left -= 1
        if self.seed == "first":
            first = self._left == self.period - 1
            self._value = value if first else self._share * value + self._rest * self._value
        else:
            self._value += value
            if not self._left:
                self._value /= self.period
        return None if self._left else self._value


class Wilder(Ema):
    """Wilder's smoothing: an exponential average with a = 1 / period that begins with the mean
    of the first `period` inputs (New Concepts in Technical Trading Systems, 1978). MT5 calls it
    SMMA."""

    __slots__ = ()

    def _set_share(self, share: float) -> None:
        super()._set_share(1.0 / self.period)


class Sma(OneInput):
    """Simple moving average: the mean of the last `period` inputs."""

    __slots__ = ("_due", "_every", "_sum", "_window", "period", "warm_up")
    FACTS: ClassVar[tuple[str, ...]] = ("period",)
    MEMORY: ClassVar[tuple[str, ...]] = ("_window", "_sum", "_due")

    def __init__(self, period: int) -> None:
        """Raises ValueError on a period below 1."""
        self.period = self.warm_up = period_of(period)
        self._window: deque[float] = deque(maxlen=period)
        self._sum = 0.0
        self._every = self._due = recount_after(period)

    @property
    def value(self) -> float | None:
        """The newest value."""
        return self._sum / self.period if len(self._window) == self.period else None

    def _recount(self) -> None:
        self._due = self._every
        self._sum = fsum(self._window)

    def update(self, value: float) -> float | None:
        window, period = self._window, self.period
        if len(window) < period:
            window.append(value)
            if len(window) < period:
                return None
            self._recount()
            return self._sum / period
        self._sum += value - window[0]
        window.append(value)
        self._due -= 1
        if not self._due:
            self._recount()
        return self._sum / period

    def update_many(self, values: Values) -> FloatArray:
        array = floats(values)
        result = nothing_yet(len(array))
        begun = min(self.period - len(self._window), len(array))
        for place, value in enumerate(array[:begun].tolist()):
            if self.update(value) is not None:
                result[place] = self._sum / self.period
        known = np.concatenate([self._window, array[begun:]])
        for low, high in stretches(len(array), begun=begun, due=self._due, every=self._every):
            new, old = array[low:high], known[low - begun : high - begun]
            sums = running(self._sum, new - old)
            self._sum = float(sums[-1])
            self._window.extend(new[-self.period :].tolist())
            self._due -= high - low
            if not self._due:
                self._recount()
                sums[-1] = self._sum
            result[low:high] = sums / self.period
        return result


class Wma(OneInput):
    """Linearly weighted moving average: the newest of `period` inputs weighs `period`, the
    oldest 1. MT5 calls it LWMA."""

    __slots__ = ("_due", "_every", "_sum", "_weighed", "_weights", "_window", "period", "warm_up")
    FACTS: ClassVar[tuple[str, ...]] = ("period",)
    MEMORY: ClassVar[tuple[str, ...]] = ("_window", "_sum", "_weighed", "_due")

    def __init__(self, period: int) -> None:
        """Raises ValueError on a period below 1."""
        self.period = self.warm_up = period_of(period)
        self._weights = period * (period + 1) // 2
        self._window: deque[float] = deque(maxlen=period)
        self._sum = self._weighed = 0.0
        self._every = self._due = recount_after(period)

    @property
    def value(self) -> float | None:
        """The newest value."""
        return self._weighed / self._weights if len(self._window) == self.period else None

    def _recount(self) -> None:
        self._due = self._every
        self._sum = fsum(self._window)
        self._weighed = fsum(weight * value for weight, value in enumerate(self._window, 1))

    def update(self, value: float) -> float | None:
        window, period = self._window, self.period
        if len(window) < period:
            window.append(value)
            if len(window) < period:
                return None
            self._recount()
            return self._weighed / self._weights
        self._weighed += period * value - self._sum
        self._sum += value - window[0]
        window.append(value)
        self._due -= 1
        if not self._due:
            self._recount()
        return self._weighed / self._weights

    def update_many(self, values: Values) -> FloatArray:
        array = floats(values)
        result = nothing_yet(len(array))
        begun = min(self.period - len(self._window), len(array))
        for place, value in enumerate(array[:begun].tolist()):
            if self.update(value) is not None:
                result[place] = self._weighed / self._weights
        known = np.concatenate([self._window, array[begun:]])
        for low, high in stretches(len(array), begun=begun, due=self._due, every=self._every):
            new, old = array[low:high], known[low - begun : high - begun]
            sums = running(self._sum, new - old)
            before = np.concatenate([[self._sum], sums[:-1]])
            weighed = running(self._weighed, self.period * new - before)
            self._sum, self._weighed = float(sums[-1]), float(weighed[-1])
            self._window.extend(new[-self.period :].tolist())
            self._due -= high - low
            if not self._due:
                self._recount()
                weighed[-1] = self._weighed
            result[low:high] = weighed / self._weights
        return result

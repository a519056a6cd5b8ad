"""Oscillators of one price series: RSI and MACD."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from consumers.indicators.averages import Ema, Seed, Sma, Wilder
from consumers.indicators.indicator import (
    FloatArray,
    Indicator,
    OneInput,
    Values,
    floats,
    nothing_yet,
    period_of,
)


class Rsi(OneInput):
    """Relative strength index: 100 * U / (U + D) with Wilder's averages of rises and falls (New
    Concepts in Technical Trading Systems, 1978; the same in TA-Lib and MT5). 50 where the price
    stood still all the time, as in MT5. The first value comes with input period + 1."""

    __slots__ = ("_downs", "_last", "_ups", "period", "value", "warm_up")
    FACTS: ClassVar[tuple[str, ...]] = ("period",)
    MEMORY: ClassVar[tuple[str, ...]] = ("_last", "_ups", "_downs", "value")

    def __init__(self, period: int = 14) -> None:
        """Raises ValueError on a period below 1."""
        self.period = period_of(period)
        self.warm_up = period + 1
        self._last: float | None = None
        self._ups, self._downs = Wilder(period), Wilder(period)
        self.value: float | None = None

    def update(self, value: float) -> float | None:
        last, self._last = self._last, value
        if last is None:
            return None
        change = value - last
        up = self._ups.update(change if change > 0 else 0.0)
        down = self._downs.update(-change if change < 0 else 0.0)
        if up is None or down is None:
            return None
        both = up + down
        self.value = 100.0 * up / both if both else 50.0
        return self.value

    def update_many(self, values: Values) -> FloatArray:
        array = floats(values)
        result = nothing_yet(len(array))
        if not len(array):
            return result
        begun = 0 if self._last is not None else 1
        last = array[0] if self._last is None else self._last
        changes = np.diff(array, prepend=last)[begun:]
        up = self._ups.update_many(np.where(changes > 0, changes, 0.0))
        down = self._downs.update_many(np.where(changes < 0, -changes, 0.0))
        both = up + down
        still = both == 0
        rsi = 100.0 * up / np.where(still, 1.0, both)
        rsi[still] = 50.0
        result[begun:] = rsi
        self._last = float(array[-1])
        if not np.isnan(result[-1]):
            self.value = float(result[-1])
        return result


class MacdValue(NamedTuple):
    """Line (fast less slow average), its average, and their difference."""

    line: float
    signal: float
    histogram: float


class Macd(Indicator):
    """Moving average convergence/divergence of Gerald Appel: Ema(fast) - Ema(slow), with
    Ema(signal) of that as the signal line. Each average begins with its own first inputs; TA-Lib
    lets the fast one begin later, which fades within a few periods. MT5's iMACD is
    `seed="first", average="sma"`: its signal line is a simple average. `update_many` returns
    rows of line, signal, histogram."""

    __slots__ = ("_fast", "_signal", "_slow", "average", "fast", "seed", "signal", "slow",
                 "value", "warm_up")  # fmt: skip
    FACTS: ClassVar[tuple[str, ...]] = ("fast", "slow", "signal", "seed", "average")
    MEMORY: ClassVar[tuple[str, ...]] = ("_fast", "_slow", "_signal", "value")

    def __init__(
        self,
        fast: int = 12,
        slow: int = 26,
        signal: int = 9,
        *,
        seed: Seed = "sma",
        average: Literal["ema", "sma"] = "ema",
    ) -> None:
        """Raises ValueError on a bad period, a fast one that is not below the slow one, or an
        unknown average."""
        if average not in ("ema", "sma"):
            raise ValueError(f"average is 'ema' or 'sma', not {average!r}")
        self._fast, self._slow = Ema(fast, seed=seed), Ema(slow, seed=seed)
        if fast >= slow:
            raise ValueError(f"fast must be below slow, not {fast} and {slow}")
        self._signal: Ema | Sma = Ema(signal, seed=seed) if average == "ema" else Sma(signal)
        self.fast, self.slow, self.signal = fast, slow, signal
        self.seed, self.average = seed, average
        self.warm_up = slow + signal - 1
        self.value: MacdValue | None = None

    def update(self, value: float) -> MacdValue | None:
        """Take the next input."""
        fast, slow = self._fast.update(value), self._slow.update(value)
        if fast is None or slow is None:
            return None
        line = fast - slow
        signal = self._signal.update(line)
        if signal is None:
            return None
        self.value = MacdValue(line, signal, line - signal)
        return self.value

    def update_many(self, values: Values) -> FloatArray:
        """Rows of line, signal, histogram."""
        array = floats(values)
        result = nothing_yet(len(array), 3)
        line = self._fast.update_many(array) - self._slow.update_many(array)
        begun = int(np.isnan(line).sum())
        signal = self._signal.update_many(line[begun:])
        known = ~np.isnan(signal)
        place = begun + int((~known).sum())
        lines, signals = line[place:], signal[known]
        result[place:] = np.column_stack([lines, signals, lines - signals])
        if place < len(array):
            self.value = MacdValue(*result[-1].tolist())
        return result

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`. Raises ValueError when it is of another indicator."""
        super().restore(state)
        self.value = None if self.value is None else MacdValue(*self.value)

"""Highest high and lowest low of a moving window: Donchian channel and stochastic oscillator."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from consumers.indicators.averages import Sma
from consumers.indicators.indicator import (
    BarPrices,
    FloatArray,
    Indicator,
    Values,
    floats,
    nothing_yet,
    period_of,
    same_length,
)


class DonchianValue(NamedTuple):
    """A channel: lowest low, its middle, highest high."""

    lower: float
    middle: float
    upper: float


class _Range(Indicator):
    """Highest high and lowest low of the last `period` bars."""

    __slots__ = ("_highest", "_highs", "_lowest", "_lows", "period", "warm_up")
    FACTS: ClassVar[tuple[str, ...]] = ("period",)
    MEMORY: ClassVar[tuple[str, ...]] = ("_highs", "_lows", "_highest", "_lowest")

    def __init__(self, period: int) -> None:
        self.period = self.warm_up = period_of(period)
        self._highs: deque[float] = deque(maxlen=period)
        self._lows: deque[float] = deque(maxlen=period)
        self._highest = self._lowest = 0.0

    def _push(self, high: float, low: float) -> bool:
        highs, lows = self._highs, self._lows
        if len(highs) < self.period:
            highs.append(high)
            lows.append(low)
            if len(highs) < self.period:
                return False
            self._highest, self._lowest = max(highs), min(lows)
            return True
        high_gone, low_gone = highs[0], lows[0]
        highs.append(high)
        lows.append(low)
        if high >= self._highest:
            self._highest = high
        elif high_gone == self._highest:
            self._highest = max(highs)
        if low <= self._lowest:
            self._lowest = low
        elif low_gone == self._lowest:
            self._lowest = min(lows)
        return True

    def _push_many(self, high: FloatArray, low: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Highest and lowest after each bar; NaN while warming up."""
        count, period = same_length(high, low), self.period
        highest, lowest = nothing_yet(count), nothing_yet(count)
        if not count:
            return highest, lowest
        highs, lows = np.concatenate([self._highs, high]), np.concatenate([self._lows, low])
        full = len(highs) - period + 1
        if full > 0:
            filled = min(full, count)
            highest[-filled:] = _rolled(highs, period, np.maximum)[-filled:]
            lowest[-filled:] = _rolled(lows, period, np.minimum)[-filled:]
            self._highest, self._lowest = float(highest[-1]), float(lowest[-1])
        self._highs.extend(high[-period:].tolist())
        self._lows.extend(low[-period:].tolist())
        return highest, lowest


def _rolled(values: FloatArray, period: int, chosen: np.ufunc) -> FloatArray:
    """The extreme of each full window, by doubling its width: log2(period) passes."""
    width = 1
    while width * 2 <= period:
        values = chosen(values[:-width], values[width:])
        width *= 2
    rest = period - width
    rolled: FloatArray = chosen(values[: len(values) - rest], values[rest:]) if rest else values
    return rolled


class Donchian(_Range):
    """Donchian channel: highest high and lowest low of the last `period` bars, the newest
    included. Who trades breaks of it compares with the channel before the bar: ask `value`
    first. `update_many` returns rows of lower, middle, upper."""

    __slots__ = ()

    @property
    def value(self) -> DonchianValue | None:
        """The newest channel."""
        if len(self._highs) < self.period:
            return None
        lower, upper = self._lowest, self._highest
        return DonchianValue(lower, (lower + upper) / 2, upper)

    def update(self, high: float, low: float) -> DonchianValue | None:
        """Take the next bar."""
        if not self._push(high, low):
            return None
        lower, upper = self._lowest, self._highest
        return DonchianValue(lower, (lower + upper) / 2, upper)

    def update_bar(self, bar: BarPrices) -> DonchianValue | None:
        """`update` with a bar's high and low."""
        return self.update(bar.high, bar.low)

    def update_many(self, high: Values, low: Values) -> FloatArray:
        """Rows of lower, middle, upper."""
        upper, lower = self._push_many(floats(high), floats(low))
        return np.column_stack([lower, (lower + upper) / 2, upper])


class StochasticValue(NamedTuple):
    """%K and its average %D, 0 to 100."""

    k: float
    d: float


Slowing = Literal["mean", "sums"]


class Stochastic(Indicator):
    """Stochastic oscillator of George Lane: where the close lies in the range of `period` bars.

    %K is the mean of `slowing` raw values (1: the fast one), %D the mean of `smoothing` %K, as
    TA-Lib's STOCH has it. `slowed="sums"` is MT5's iStochastic: %K is the sum of close - lowest
    over the sum of highest - lowest. Without any range it is 50 (of MT5's: 100, as there).
    `update_many` returns rows of k, d.
    """

    __slots__ = ("_d", "_range", "_shares", "_widths", "period", "slowed", "slowing", "smoothing",
                 "value", "warm_up")  # fmt: skip
    FACTS: ClassVar[tuple[str, ...]] = ("period", "slowing", "smoothing", "slowed")
    MEMORY: ClassVar[tuple[str, ...]] = ("_range", "_shares", "_widths", "_d", "value")

    def __init__(
        self,
        period: int = 14,
        *,
        slowing: int = 3,
        smoothing: int = 3,
        slowed: Slowing = "mean",
    ) -> None:
        """Raises ValueError on a bad period or an unknown way of slowing."""
        if slowed not in ("mean", "sums"):
            raise ValueError(f"slowed is 'mean' or 'sums', not {slowed!r}")
        self.period, self.slowing, self.smoothing, self.slowed = period, slowing, smoothing, slowed
        self._range = _Range(period)
        self._shares = Sma(slowing)
        self._widths = Sma(slowing)
        self._d = Sma(smoothing)
        self.warm_up = period + slowing + smoothing - 2
        self.value: StochasticValue | None = None

    def update(self, high: float, low: float, close: float) -> StochasticValue | None:
        """Take the next bar."""
        if not self._range._push(high, low):
            return None
        above, width = close - self._range._lowest, self._range._highest - self._range._lowest
        if self.slowed == "sums":
            share, whole = self._shares.update(above), self._widths.update(width)
            k = (
                None
                if share is None or whole is None
                else (share / whole * 100 if whole else 100.0)
            )
        else:
            k = self._shares.update(above / width * 100 if width else 50.0)
        if k is None or (d := self._d.update(k)) is None:
            return None
        self.value = StochasticValue(k, d)
        return self.value

    def update_bar(self, bar: BarPrices) -> StochasticValue | None:
        """`update` with a bar's high, low and close."""
        return self.update(bar.high, bar.low, bar.close)

    def update_many(self, high: Values, low: Values, close: Values) -> FloatArray:
        """Rows of k, d."""
        closes = floats(close)
        highest, lowest = self._range._push_many(floats(high), floats(low))
        same_length(closes, highest)
        begun = int(np.isnan(highest).sum())  # while warming up
        above, width = (closes - lowest)[begun:], (highest - lowest)[begun:]
        k = self._slow(above, width)
        known = ~np.isnan(k)
        result = nothing_yet(len(closes), 2)
        place = begun + int((~known).sum())
        result[place:, 0] = k[known]
        result[place:, 1] = self._d.update_many(k[known])
        result[np.isnan(result[:, 1])] = np.nan
        if len(result) and not np.isnan(result[-1, 1]):
            self.value = StochasticValue(*result[-1].tolist())
        return result

    def _slow(self, above: FloatArray, width: FloatArray) -> FloatArray:
        if self.slowed == "mean":
            still = width == 0
            raw = above / np.where(still, 1.0, width) * 100
            raw[still] = 50.0
            return self._shares.update_many(raw)
        share, whole = self._shares.update_many(above), self._widths.update_many(width)
        still = whole == 0
        k: FloatArray = share / np.where(still, 1.0, whole) * 100
        k[still] = 100.0
        return k

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`. Raises ValueError when it is of another indicator."""
        super().restore(state)
        self.value = None if self.value is None else StochasticValue(*self.value)

"""Indicators of the true range: ATR and ADX."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from consumers.indicators.averages import Ema, Sma, Wilder
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

Smoothing = Literal["wilder", "mt5"]


def _smoothing(name: str) -> None:
    if name not in ("wilder", "mt5"):
        raise ValueError(f"smoothing is 'wilder' or 'mt5', not {name!r}")


class Atr(Indicator):
    """Average true range: Wilder's average of max(high, close before) - min(low, close before)
    (New Concepts in Technical Trading Systems, 1978; TA-Lib). `smoothing="mt5"` is MT5's iATR, a
    simple average. The first value comes with bar period + 1."""

    __slots__ = ("_average", "_close", "period", "smoothing", "warm_up")
    FACTS: ClassVar[tuple[str, ...]] = ("period", "smoothing")
    MEMORY: ClassVar[tuple[str, ...]] = ("_close", "_average")

    def __init__(self, period: int = 14, *, smoothing: Smoothing = "wilder") -> None:
        """Raises ValueError on a bad period or smoothing."""
        _smoothing(smoothing)
        self.period, self.smoothing = period_of(period), smoothing
        self.warm_up = period + 1
        self._average: Wilder | Sma = Wilder(period) if smoothing == "wilder" else Sma(period)
        self._close: float | None = None

    @property
    def value(self) -> float | None:
        """The newest value."""
        return self._average.value

    def update(self, high: float, low: float, close: float) -> float | None:
        """Take the next bar."""
        before, self._close = self._close, close
        if before is None:
            return None
        return self._average.update(max(high, before) - min(low, before))

    def update_bar(self, bar: BarPrices) -> float | None:
        """`update` with a bar's high, low and close."""
        return self.update(bar.high, bar.low, bar.close)

    def update_many(self, high: Values, low: Values, close: Values) -> FloatArray:
        """Take many bars."""
        highs, lows, closes = floats(high), floats(low), floats(close)
        count = same_length(highs, lows, closes)
        result = nothing_yet(count)
        if not count:
            return result
        begun = 0 if self._close is not None else 1
        first = closes[0] if self._close is None else self._close
        before = np.concatenate([[first], closes[:-1]])
        spans = np.maximum(highs, before) - np.minimum(lows, before)
        result[begun:] = self._average.update_many(spans[begun:])
        self._close = float(closes[-1])
        return result


class AdxValue(NamedTuple):
    """Strength of a trend (0 to 100), and the directional indicators it is made of."""

    adx: float
    plus: float
    minus: float


class Adx(Indicator):
    """Average directional index with +DI and -DI (Wilder 1978): averages of directional movement
    over the average true range. TA-Lib begins its sums with one bar less, which fades.
    `smoothing="mt5"` is MT5's iADX: exponential averages of each bar's own ratio, begun at 0
    (MT5's iADXWilder is the default here). The first value comes with bar 2 * period, MT5's
    with bar `period`.
    `update_many` returns rows of adx, plus, minus."""

    __slots__ = ("_bar", "_index", "_minus", "_plus", "_true", "period", "smoothing", "value",
                 "warm_up")  # fmt: skip
    FACTS: ClassVar[tuple[str, ...]] = ("period", "smoothing")
    MEMORY: ClassVar[tuple[str, ...]] = ("_bar", "_plus", "_minus", "_true", "_index", "value")

    def __init__(self, period: int = 14, *, smoothing: Smoothing = "wilder") -> None:
        """Raises ValueError on a bad period or smoothing."""
        _smoothing(smoothing)
        self.period, self.smoothing = period_of(period), smoothing
        self.warm_up = 2 * period if smoothing == "wilder" else max(2, period)
        self._plus, self._minus, self._true, self._index = (self._average() for _ in range(4))
        if smoothing == "mt5":
            for average in (self._plus, self._minus, self._index):
                average.update(0.0)
            self._plus.begin()
            self._minus.begin()
        self._bar: list[float] | None = None
        self.value: AdxValue | None = None

    def _average(self) -> Ema:
        if self.smoothing == "wilder":
            return Wilder(self.period)
        return Ema(self.period, seed="first")

    def update(self, high: float, low: float, close: float) -> AdxValue | None:
        """Take the next bar."""
        before, self._bar = self._bar, [high, low, close]
        if before is None:
            return None
        up, down = high - before[0], before[1] - low
        rise = up if up > down and up > 0 else 0.0
        fall = down if down > up and down > 0 else 0.0
        true = max(high, before[2]) - min(low, before[2])
        if self.smoothing == "mt5":
            plus = self._plus.update(100.0 * rise / true if true else 0.0)
            minus = self._minus.update(100.0 * fall / true if true else 0.0)
        else:
            plus, minus = self._ratios(rise, fall, true)
        if plus is None or minus is None:
            return None
        both = plus + minus
        adx = self._index.update(100.0 * abs(plus - minus) / both if both else 0.0)
        if adx is None:
            return None
        self.value = AdxValue(adx, plus, minus)
        return self.value

    def _ratios(self, rise: float, fall: float, true: float) -> tuple[float | None, float | None]:
        up, down, span = self._plus.update(rise), self._minus.update(fall), self._true.update(true)
        if up is None or down is None or span is None:
            return None, None
        return (100.0 * up / span, 100.0 * down / span) if span else (0.0, 0.0)

    def update_bar(self, bar: BarPrices) -> AdxValue | None:
        """`update` with a bar's high, low and close."""
        return self.update(bar.high, bar.low, bar.close)

    def update_many(self, high: Values, low: Values, close: Values) -> FloatArray:
        """Rows of adx, plus, minus."""
        highs, lows, closes = floats(high), floats(low), floats(close)
        count = same_length(highs, lows, closes)
        result = nothing_yet(count, 3)
        if not count:
            return result
        begun = 0 if self._bar is not None else 1
        first = self._bar or [float(highs[0]), float(lows[0]), float(closes[0])]
        self._bar = [float(highs[-1]), float(lows[-1]), float(closes[-1])]
        high_before, low_before, close_before = (
            np.concatenate([[value], array[:-1]])
            for value, array in zip(first, (highs, lows, closes), strict=True)
        )
        up, down = (highs - high_before)[begun:], (low_before - lows)[begun:]
        true = (np.maximum(highs, close_before) - np.minimum(lows, close_before))[begun:]
        rise = np.where((up > down) & (up > 0), up, 0.0)
        fall = np.where((down > up) & (down > 0), down, 0.0)
        plus, minus = self._directions(rise, fall, true)
        known = ~np.isnan(plus)
        plus, minus = plus[known], minus[known]
        adx = self._index.update_many(_share(np.abs(plus - minus), plus + minus, 100.0))
        place = begun + int((~known).sum()) + int(np.isnan(adx).sum())
        kept = ~np.isnan(adx)
        result[place:] = np.column_stack([adx[kept], plus[kept], minus[kept]])
        if place < count:
            self.value = AdxValue(*result[-1].tolist())
        return result

    def _directions(
        self, rise: FloatArray, fall: FloatArray, true: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        if self.smoothing == "mt5":
            return (
                self._plus.update_many(_share(rise, true, 100.0)),
                self._minus.update_many(_share(fall, true, 100.0)),
            )
        up, down = self._plus.update_many(rise), self._minus.update_many(fall)
        span = self._true.update_many(true)
        return _share(up, span, 100.0), _share(down, span, 100.0)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`. Raises ValueError when it is of another indicator."""
        super().restore(state)
        self.value = None if self.value is None else AdxValue(*self.value)


def _share(part: FloatArray, whole: FloatArray, scale: float) -> FloatArray:
    """scale * part / whole, 0 where there is no whole."""
    none = whole == 0
    share: FloatArray = scale * part / np.where(none, 1.0, whole)
    share[none] = 0.0
    return share

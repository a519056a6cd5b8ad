"""Bars: M1 from ticks, longer timeframes from M1, on the broker's clock."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from events.candles import TIMEFRAME_SECONDS, opening_times
from events.ticks import RATE_DTYPE, RateArray, TickArray
from producers.terminals import constants as mt5

Int64Array = npt.NDArray[np.int64]

DAY_S = 86_400
_NAMES = {getattr(mt5, f"TIMEFRAME_{name}"): name for name in TIMEFRAME_SECONDS}
STEP_FIRST_S = 6 * 3600


def bars_of_ticks(ticks: TickArray) -> RateArray:
    """M1 bars of the bid (of the last price where there is one), oldest first. Rows without a
    price or a time count for nothing. `spread` is 0."""
    price = np.where(ticks["last"] > 0, ticks["last"], ticks["bid"])
    good = (price > 0) & (ticks["time_msc"] > 0)
    price, minute = price[good], ticks["time_msc"][good] // 60_000
    bars = np.zeros(len(price), RATE_DTYPE)
    bars["time"] = minute * 60
    for name in ("open", "high", "low", "close"):
        bars[name] = price
    bars["tick_volume"] = 1
    bars["real_volume"] = ticks["volume"][good]
    return _merged(bars, bars["time"].copy())


def aggregated(minutes: RateArray, timeframe: int) -> RateArray:
    """Bars of a timeframe from M1 bars, both in server time. Raises KeyError on an unknown
    timeframe."""
    if len(minutes) > 1 and (np.diff(minutes["time"]) < 0).any():
        minutes = minutes[np.argsort(minutes["time"], kind="stable")]
    return _merged(minutes, bar_times(minutes["time"], timeframe))


def bar_times(times_s: Int64Array, timeframe: int) -> Int64Array:
    """Opening time of the bar each server time belongs to. Weeks begin on Sunday, months on
    the first."""
    return opening_times(times_s, _NAMES[timeframe])


def last_bars(
    minutes: Callable[[int, int], RateArray],
    timeframe: int,
    *,
    end_utc_s: int,
    begin_utc_s: int,
    count: int,
) -> RateArray:
    """The last `count` bars that opened before `end_utc_s` (all of them if there are fewer).

    `minutes(from_utc_s, to_utc_s)` gives M1 bars in server time; it is asked for growing spans.
    """
    parts: list[RateArray] = []
    bars = np.empty(0, RATE_DTYPE)
    step = max(STEP_FIRST_S, count * mt5.TIMEFRAME_SECONDS[timeframe] * 3 // 2)  # weekends
    high = end_utc_s
    while high > begin_utc_s:
        low = max(begin_utc_s, high - step)
        parts.insert(0, minutes(low, high))
        bars = aggregated(np.concatenate(parts), timeframe)
        if len(bars) > count:  # the oldest may lack its beginning
            break
        high, step = low, step * 2
    return bars[-count:] if count else bars[:0]


def _merged(bars: RateArray, opened: Int64Array) -> RateArray:
    """Neighbours of one opening time as one bar."""
    if not len(bars):
        return np.empty(0, RATE_DTYPE)
    starts = np.flatnonzero(np.diff(opened, prepend=opened[0] - 1))
    ends = np.append(starts[1:], len(bars)) - 1
    merged = np.zeros(len(starts), RATE_DTYPE)
    merged["time"] = opened[starts]
    merged["open"], merged["close"] = bars["open"][starts], bars["close"][ends]
    merged["high"] = np.maximum.reduceat(bars["high"], starts)
    merged["low"] = np.minimum.reduceat(bars["low"], starts)
    merged["spread"] = np.minimum.reduceat(bars["spread"], starts)
    for name in ("tick_volume", "real_volume"):
        merged[name] = np.add.reduceat(bars[name], starts)
    return merged

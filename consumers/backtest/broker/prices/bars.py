"""Bars as ticks: four of each, so that a backtest on bars runs through the same broker.

A bar says how far prices went, not in which order. Its ticks are open, low, high, close (bid, and
ask by the bar's spread); from the second on they carry a mark that tells that the price came there
without a gap, so that levels between are filled at the level. With the worst case first, a target
does not count where the same bar reaches the stop too, whatever came first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from consumers.strategies.running.tick_run import TickRun
from events.candles import TIMEFRAME_SECONDS, CandleBatch
from events.ticks import BATCH_TICKS_MAX, TICK_DTYPE, Mark, TickBatch

if TYPE_CHECKING:
    from consumers.backtest.broker.prices.tape import Prices

INSIDE = 1 << 20
"""Flag of a made-up tick: its price was reached from the tick before without a gap."""
WORST_FIRST = 1 << 21
"""Flag of all ticks of bars whose inside is read as badly as it can be."""
TICKS_PER_BAR = 4
_BID, _ASK = 2, 4
_BARS_MAX = BATCH_TICKS_MAX // TICKS_PER_BAR


def ticks_of_bars(
    candles: CandleBatch, *, point: float, digits: int, worst_case: bool = True
) -> Iterator[TickBatch]:
    """Four ticks of every bar, at its beginning, a third, two thirds, and 1 ms before its end.

    `point` and `digits` are the symbol's: the spread of a bar is in points. Without `worst_case`
    a rising bar goes down first, a falling one up first, and nothing is read worse than that.
    """
    length_ms = TIMEFRAME_SECONDS[candles.timeframe] * 1000
    for first in range(0, len(candles), _BARS_MAX):
        rows = candles.candles[first : first + _BARS_MAX]
        times = np.array([0, length_ms // 3, 2 * length_ms // 3, length_ms - 1], np.int64)
        low_first = np.ones(len(rows), np.bool_) if worst_case else rows["close"] >= rows["open"]
        prices = np.empty((len(rows), TICKS_PER_BAR))
        prices[:, 0], prices[:, 3] = rows["open"], rows["close"]
        prices[:, 1] = np.where(low_first, rows["low"], rows["high"])
        prices[:, 2] = np.where(low_first, rows["high"], rows["low"])
        spread = np.round(rows["spread"] * point, digits)[:, None]
        ticks = np.zeros(len(rows) * TICKS_PER_BAR, TICK_DTYPE)
        ticks["bid"] = prices.ravel()
        ticks["ask"] = np.round(prices + spread, digits).ravel()
        ticks["time_msc"] = (rows["time"][:, None] * 1000 + times).ravel()
        ticks["time"] = ticks["time_msc"] // 1000
        ticks["flags"] = _BID | _ASK | (WORST_FIRST if worst_case else 0)
        inside = np.arange(len(ticks)) % TICKS_PER_BAR > 0
        ticks["flags"][inside] |= INSIDE
        last_ms = int(ticks["time_msc"][-1]) - candles.offset_s * 1000
        yield TickBatch(
            candles.symbol, ticks, candles.offset_s, candles.offset_source, last_ms, last_ms,
            Mark.IMPORTED,
        )  # fmt: skip


def runs_of_bars(
    batches: Iterable[CandleBatch], *, point: float, digits: int, worst_case: bool = True
) -> Iterator[TickRun]:
    """`ticks_of_bars` of one symbol's bars as runs."""
    for candles in batches:
        for batch in ticks_of_bars(candles, point=point, digits=digits, worst_case=worst_case):
            yield TickRun.of(batch)


def bar_end(prices: Prices, place: int) -> int:
    """Behind the last tick of the bar that a tick belongs to."""
    end = place + 1
    while end < len(prices) and int(prices.flags[end]) & INSIDE:
        end += 1
    return end


def bar_ticks(prices: Prices, place: int) -> range:
    """The places of all ticks of its bar."""
    begin = place
    while begin > 0 and int(prices.flags[begin]) & INSIDE:
        begin -= 1
    return range(begin, bar_end(prices, place))

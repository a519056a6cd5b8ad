"""Rows of a terminal's past as the batches that the log holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from events.candles import CandleBatch
from events.clock_rules import ClockRule
from events.tick_files.file_clock import FileClock
from events.ticks import Mark, OffsetSource, RateArray, TickArray, TickBatch

ENTRY_ROWS = 1_000
ENTRIES_MAX = 500
"""Of one step: where it has more rows, entries are larger."""
TICKS = "ticks"

Batch = TickBatch | CandleBatch


@dataclass(frozen=True, slots=True)
class Feed:
    """What is fetched: the ticks of a symbol, or its candles of one timeframe."""

    symbol: str
    what: str = TICKS

    def __str__(self) -> str:
        return f"{self.symbol}:{self.what}"


class Batches:
    """Cuts rows where the clock's offset changes. `clock` is the broker's, None when unknown:
    then times are kept as they are and marked so."""

    def __init__(self, clock: ClockRule | None, now_ms: Callable[[], int]) -> None:
        self._clock, self._now_ms = clock, now_ms
        self._source = OffsetSource.UNKNOWN if clock is None else OffsetSource.ASSUMED

    def ticks(self, feed: Feed, rows: TickArray) -> list[Batch]:
        """Of ticks in the order the terminal gave them."""
        return [self._ticks(feed, *part) for part in self._parts(rows, rows["time_msc"])]

    def candles(self, feed: Feed, rows: RateArray) -> list[Batch]:
        """Of candles of one timeframe."""
        return [self._candles(feed, *part) for part in self._parts(rows, rows["time"] * 1000)]

    def _parts(
        self, rows: TickArray, times_ms: npt.NDArray[Any]
    ) -> Iterator[tuple[TickArray, int]]:
        """Rows in parts of one clock offset and bounded length, with that offset (s)."""
        if not len(rows):
            return
        times = np.ascontiguousarray(times_ms, np.int64)
        offsets = (
            FileClock(self._clock).offsets_s(times)
            if self._clock is not None
            else np.zeros(len(rows), np.int64)
        )
        length = max(ENTRY_ROWS, -(-len(rows) // ENTRIES_MAX))
        edges = (np.flatnonzero(np.diff(offsets)) + 1).tolist()
        for first, end in zip([0, *edges], [*edges, len(rows)], strict=True):
            for begin in range(first, end, length):
                yield rows[begin : min(begin + length, end)], int(offsets[first])

    def _ticks(self, feed: Feed, rows: TickArray, offset_s: int) -> TickBatch:
        newest = int(rows["time_msc"].max()) - offset_s * 1000
        return TickBatch(
            feed.symbol, rows, offset_s, self._source, newest, self._now_ms(), Mark.BACKFILL
        )

    def _candles(self, feed: Feed, rows: RateArray, offset_s: int) -> CandleBatch:
        newest = (int(rows["time"].max()) - offset_s) * 1000
        return CandleBatch(
            feed.symbol, feed.what, rows, offset_s, self._source, newest, self._now_ms()
        )

"""Ticks and bars of the past from a terminal into the archive, step by step.

Each step is one file that says what span it covers, and that appears under its name only when it
is whole: so a fetch that was ended goes on with the spans that no file covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt

from events.archive.chunk import ChunkOf
from events.archive.folder import ArchiveFolder
from events.archive.stream_reading import FETCHED
from events.candles import CandleBatch
from events.clock_rules import ClockRule
from events.codec import AnyEvent, encode
from events.log import Entry, EntryId, Lane, Slot, Stream, partition_of
from events.tick_files.file_clock import FileClock
from events.ticks import Mark, OffsetSource, RateArray, TickArray, TickBatch

TICKS_STEP_MS = 6 * 3_600_000
CANDLES_STEP_MS = 7 * 24 * 3_600_000
ENTRY_ROWS = 1_000
TICKS = "ticks"


class Past(Protocol):
    """A terminal that is asked for its past. Times are server ms, from <= time < until."""

    def ticks(self, symbol: str, from_server_ms: int, until_server_ms: int) -> TickArray: ...

    def candles(
        self, symbol: str, timeframe: str, from_server_ms: int, until_server_ms: int
    ) -> RateArray: ...


@dataclass(frozen=True, slots=True)
class Feed:
    """What is fetched: the ticks of a symbol, or its candles of one timeframe."""

    symbol: str
    what: str = TICKS

    def __str__(self) -> str:
        return f"{self.symbol}:{self.what}"


@dataclass(slots=True)
class Fetched:
    """What one run brought of one feed."""

    feed: str
    rows: int = 0
    chunks: int = 0
    steps: int = 0
    empty_steps: int = 0
    """Spans of which the terminal has nothing: closed markets, or no history."""
    already_ms: int = 0
    """Of the span, covered by files that were there."""


class HistoryFetch:
    """Fetches into one namespace of an archive. `clock` is the broker's, None when unknown."""

    def __init__(
        self,
        past: Past,
        folder: ArchiveFolder,
        namespace: str,
        *,
        partitions: int,
        clock: ClockRule | None,
        now_ms: Callable[[], int],
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._past, self._folder, self._namespace = past, folder, namespace
        self._partitions, self._clock, self._now_ms = partitions, clock, now_ms
        self._pause = pause

    def run(
        self,
        feed: Feed,
        from_server_ms: int,
        until_server_ms: int,
        *,
        told: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> Fetched:
        """Fetch what no file covers yet; the caller holds `folder.writing`. `told` gets server ms
        done and in all. Raises what the terminal raises, and ArchiveError."""
        found = Fetched(str(feed))
        stream = self._stream(feed.symbol)
        step_ms = TICKS_STEP_MS if feed.what == TICKS else CANDLES_STEP_MS
        missing = list(uncovered(self._covered(stream, feed), from_server_ms, until_server_ms))
        total = sum(until - begin for begin, until in missing)
        found.already_ms = until_server_ms - from_server_ms - total
        done = 0
        for begin, until in _steps(missing, step_ms):
            events = self._events(feed, begin, until)
            found.steps += 1
            if events:
                covers = (str(feed), begin, until)
                facts = ChunkOf(None, self._partitions, self._partitions, "live", covers)
                self._folder.write(self._placed(stream, feed, events), facts)
                found.chunks += 1
                found.rows += sum(len(one) for one in events)
            else:
                found.empty_steps += 1
            done += until - begin
            told(done, total)
            self._pause()
        return found

    def _stream(self, symbol: str) -> Stream:
        partition = partition_of(symbol, self._partitions)
        return Slot(self._namespace, FETCHED, partition).stream(Lane.LOW)

    def _covered(self, stream: Stream, feed: Feed) -> list[tuple[int, int]]:
        covers = [chunk.covers for chunk in self._folder.chunks(stream)]
        return sorted((one[1], one[2]) for one in covers if one and one[0] == str(feed))

    def _events(self, feed: Feed, begin: int, until: int) -> Sequence[TickBatch | CandleBatch]:
        if feed.what == TICKS:
            ticks = self._past.ticks(feed.symbol, begin, until)
            return [self._ticks(feed, *part) for part in self._under(ticks, ticks["time_msc"])]
        bars = self._past.candles(feed.symbol, feed.what, begin, until)
        return [self._candles(feed, *part) for part in self._under(bars, bars["time"] * 1000)]

    def _under(
        self, rows: TickArray, times_ms: npt.NDArray[Any]
    ) -> Iterator[tuple[TickArray, int]]:
        """Rows in parts of one clock offset, each at most ENTRY_ROWS long."""
        if not len(rows):
            return
        times = np.ascontiguousarray(times_ms, np.int64)
        offsets = (
            FileClock(self._clock).offsets_s(times)
            if self._clock is not None
            else np.zeros(len(rows), np.int64)
        )
        edges = (np.flatnonzero(np.diff(offsets)) + 1).tolist()
        for first, end in zip([0, *edges], [*edges, len(rows)], strict=True):
            for begin in range(first, end, ENTRY_ROWS):
                yield rows[begin : min(begin + ENTRY_ROWS, end)], int(offsets[first])

    @property
    def _source(self) -> OffsetSource:
        return OffsetSource.UNKNOWN if self._clock is None else OffsetSource.ASSUMED

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

    @staticmethod
    def _placed(stream: Stream, feed: Feed, events: Sequence[AnyEvent]) -> list[Entry]:
        """Entries at ids that follow from their times: the same span has the same ids again, and
        no two feeds share one."""
        base = crc32(str(feed).encode()) << 16
        entries, ms = [], 0
        for number, event in enumerate(events):
            new = encode(event, history=True)
            ms = max(ms, event.event_time_ms, 0)
            entries.append(Entry(stream, EntryId(ms, base + number), new.type, new.key, new.data))
        return entries


def uncovered(
    covered: Sequence[tuple[int, int]], begin: int, until: int
) -> Iterator[tuple[int, int]]:
    """The parts of begin <= time < until that none of the spans (sorted) covers."""
    at = begin
    for first, end in covered:
        if first > at:
            yield at, min(first, until)
        at = max(at, end)
        if at >= until:
            return
    if at < until:
        yield at, until


def _steps(spans: Sequence[tuple[int, int]], step_ms: int) -> Iterator[tuple[int, int]]:
    for begin, until in spans:
        at = begin
        while at < until:
            end = min((at // step_ms + 1) * step_ms, until)
            yield at, end
            at = end

"""One stream out of all places that hold a part of it, each entry once, and what nobody holds."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import NamedTuple

from events.archive.chunk import Chunk, read_chunk
from events.archive.folder import ArchiveFolder
from events.archive.stored import Stored
from events.archive.times import times_of
from events.log import BEGIN, END, Entry, EntryId, Log, Stream

PAGE_ENTRIES = 200
"""Read from the log at once: some 12 MB of full tick batches."""
FETCHED = "fetched"
"""The writer of streams that are put together from chunks alone, in the order of their ids."""


class Hole(NamedTuple):
    """Entries of a stream that no place holds."""

    stream: Stream
    after: EntryId
    """The last entry before it (0-0: it is the beginning)."""
    before: EntryId
    """The first entry behind it."""
    entries: int | None
    """How many are missing; None where nobody counted."""
    after_ms: int | None
    """Event time of the entries around it, where they name one."""
    before_ms: int | None

    def __str__(self) -> str:
        count = "entries" if self.entries is None else f"{self.entries} entries"
        return f"{self.stream}: {count} between {self.after} and {self.before} are nowhere"


class Page(NamedTuple):
    """Entries that follow each other without a gap; `before` counts those of the stream that came
    before them (None where nobody counted)."""

    entries: list[Entry]
    before: int | None


class _Begins(NamedTuple):
    """Where the log begins to hold a stream."""

    removed: int
    """Entries that left it before."""
    first: EntryId | None
    """None: it holds nothing."""
    last: EntryId


class StreamReading:
    """Reads a stream: from the log, before it from chunks, and between them from another place.

    `told` gets each hole. `skip` says of a chunk that nobody wants it.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        log: Log | None,
        archive: ArchiveFolder | None,
        stored: Stored | None = None,
        told: Callable[[Hole], None] = lambda _: None,
        skip: Callable[[Chunk], bool] = lambda _: False,
    ) -> None:
        self.stream, self._log, self._archive, self._stored = stream, log, archive, stored
        self._told, self._skip = told, skip
        self._at = BEGIN
        self._count: int | None = 0
        """Entries of the stream up to there; None when that is not known."""
        self._newest_ms: int | None = None
        self._gap: tuple[EntryId, int, int | None] | None = None

    def pages(
        self, after: EntryId = BEGIN, until: EntryId = END, *, count: int | None = None
    ) -> Iterator[Page]:
        """Pages of entries with after < id <= until, oldest first; of the log what it holds now.
        `count`, where it is known, tells how many entries the stream had up to `after`.

        Raises LogUnavailable, ChunkDamaged, SegmentMissing, DatabaseError.
        """
        self._at, self._count = after, 0 if after == BEGIN else count
        begins = self._log_begins()
        end = until if begins.first is None else min(until, begins.last)
        while True:
            yield from self._from_chunks(end)
            begins = self._log_begins()
            if begins.first is None:
                before = begins.removed if begins.removed else None
                yield from self._up_to(end.next() if end < END else END, before)
                break
            if not self._reaches(begins):
                yield from self._up_to(begins.first, begins.removed)
            if (yield from self._from_log(end)):
                break
        self._close_gap(None)

    def _log_begins(self) -> _Begins:
        if self._log is None:
            return _Begins(0, None, BEGIN)
        info = self._log.info(self.stream)
        return _Begins(info.entries_added - info.length, info.first_id, info.last_id)

    def _reaches(self, begins: _Begins) -> bool:
        """Whether what follows next is in the log."""
        if begins.first is None:
            return False
        counted = self._count is not None and self._count >= begins.removed
        return self._at >= begins.first or not begins.removed or counted

    def _page(self, entries: list[Entry], end: EntryId) -> Iterator[Page]:
        """Give entries on, and remember how far we are."""
        wanted = [entry for entry in entries if self._at < entry.id <= end]
        if not wanted:
            return
        self._close_gap(wanted[0])
        before = self._count
        self._at = wanted[-1].id
        self._count = None if before is None else before + len(wanted)
        times = times_of(wanted[-1].type, wanted[-1].data)
        self._newest_ms = times.newest_ms if times else self._newest_ms
        yield Page(wanted, before)

    def _from_chunks(self, end: EntryId) -> Iterator[Page]:
        """What lies in chunks and not in the log."""
        for named in self._archive.named(self.stream) if self._archive else ():
            begins = self._log_begins()
            in_log = begins.first is not None and named.first >= begins.first
            if named.first > end or in_log or self._reaches(begins):
                return
            if named.last <= self._at:
                continue
            assert self._archive is not None, "it named the chunk"
            chunk = self._archive.footer(named.path)
            if chunk.first > self._at:
                yield from self._up_to(chunk.first, chunk.before)
                self._count = chunk.before if chunk.before is not None else self._count
            if self._skip(chunk):
                self._at, self._count = chunk.last, _plus(chunk.before, chunk.entries)
                self._newest_ms = chunk.to_ms
            else:
                yield from self._page(list(read_chunk(chunk)), end)

    def _from_log(self, end: EntryId) -> Generator[Page, None, bool]:
        """True when the log has nothing more; False when entries left it under our eyes."""
        assert self._log is not None, "it has a first entry"
        while True:
            begun = self._at
            found = self._log.between(self.stream, begun.next(), end, count_max=PAGE_ENTRIES)
            gone = self._log_begins().removed
            if self._count is not None and gone > self._count:
                return False
            if not found:
                return True
            yield from self._page(found, end)

    def _up_to(self, first: EntryId, before: int | None) -> Iterator[Page]:
        """What another place holds of the entries that come before `first`, of which the stream
        had `before`; what is missing then is noted."""
        if self._at.next() >= first or _minus(before, self._count) == 0:
            return
        if self._stored is not None:
            found = self._stored.between(self.stream, self._at, first)
            while page := list(islice(found, PAGE_ENTRIES)):
                yield from self._page(page, END)
        missing = _minus(before, self._count)
        if missing is not None and missing > 0:
            self._gap = (self._at, missing, self._newest_ms)
        self._count = before if before is not None else self._count

    def _close_gap(self, entry: Entry | None) -> None:
        """Tell of a hole once it is seen where it ends."""
        if self._gap is not None:
            after, missing, after_ms = self._gap
            times = times_of(entry.type, entry.data) if entry else None
            before_ms = times.oldest_ms if times else None
            before = entry.id if entry else END
            self._told(Hole(self.stream, after, before, missing, after_ms, before_ms))
        self._gap = None


def fetched_pages(
    archive: ArchiveFolder,
    stream: Stream,
    *,
    after: EntryId = BEGIN,
    skip: Callable[[Chunk], bool] = lambda _: False,
) -> Iterator[Page]:
    """Entries of a stream whose chunks lie across each other, by id; each chunk is opened when
    its first entry is due."""
    waiting = [named for named in archive.named(stream) if named.last > after][::-1]
    heads: list[tuple[EntryId, int, Entry, Iterator[Entry]]] = []
    number = 0
    page: list[Entry] = []
    while waiting or heads:
        while waiting and (not heads or waiting[-1].first <= heads[0][0]):
            chunk = archive.footer(waiting.pop().path)
            rest = iter(()) if skip(chunk) else iter(read_chunk(chunk))
            first = next((entry for entry in rest if entry.id > after), None)
            if first is not None:
                number += 1
                heapq.heappush(heads, (first.id, number, first, rest))
        if heads:
            _, own, entry, rest = heads[0]
            page.append(entry)
            following = next(rest, None)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following.id, own, following, rest))
        if len(page) >= PAGE_ENTRIES:
            yield Page(page, None)
            page = []
    if page:
        yield Page(page, None)


def _plus(count: int | None, more: int) -> int | None:
    return None if count is None else count + more


def _minus(before: int | None, count: int | None) -> int | None:
    return None if before is None or count is None else before - count

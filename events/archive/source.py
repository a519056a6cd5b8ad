"""A namespace's entries as one source, wherever they lie: the log with its segments, the archive,
the database. In log order, no entry twice; what is nowhere is told.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from events.archive.chunk import Chunk
from events.archive.errors import ArchiveError
from events.archive.folder import ArchiveFolder
from events.archive.stored import DatabaseEntries, Stored
from events.archive.stream_reading import FETCHED, Hole, StreamReading, fetched_pages
from events.archive.times import is_within, times_of
from events.log import BEGIN, SOURCE, Entry, EntryId, Lane, Log, Slot, Stream
from events.retention.opening import whole_log
from events.settings import Settings

MARKET_WRITERS = (SOURCE, FETCHED)
"""Who writes what a terminal shows: its producer, and `history fetch` into the archive."""
PLACES = ("log", "archive", "database")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a namespace is read. Times are UTC ms of the events, from <= time < until; an entry
    is taken when anything in it lies there, and when it names no time."""

    namespace: str
    writers: Collection[str] = MARKET_WRITERS
    lanes: Collection[Lane] = tuple(Lane)
    partitions: Collection[int] | None = None
    from_ms: int | None = None
    until_ms: int | None = None

    def takes(self, stream: Stream) -> bool:
        slot = stream.slot
        wanted = self.partitions is None or slot.partition in self.partitions
        return slot.writer in self.writers and stream.lane in self.lanes and wanted

    def skips(self, chunk: Chunk) -> bool:
        """Whether nothing in a chunk can be wanted."""
        if chunk.from_ms is None or chunk.to_ms is None:
            return False
        before = self.from_ms is not None and chunk.to_ms < self.from_ms
        return before or (self.until_ms is not None and chunk.from_ms >= self.until_ms)

    def misses(self, hole: Hole) -> bool:
        """Whether a hole may hide something that is wanted."""
        ends, begins = hole.before_ms, hole.after_ms
        if self.from_ms is not None and ends is not None and ends <= self.from_ms:
            return False
        return self.until_ms is None or begins is None or begins < self.until_ms


@dataclass(slots=True)
class EntrySource:
    """Places that are read as one. `holes` grows while entries are read."""

    log: Log | None
    archive: ArchiveFolder | None = None
    stored: Stored | None = None
    holes: list[Hole] = field(default_factory=list)

    def streams(self, wanted: Wanted) -> list[Stream]:
        """Streams of which some place may hold entries."""
        found: set[Stream] = set()
        if self.archive is not None:
            found |= set(self.archive.streams(wanted.namespace))
        if self.log is not None and wanted.namespace in self.log.namespaces():
            for writer, slots in self.log.tasks.writers(wanted.namespace).items():
                for number in range(slots):
                    found |= set(Slot(wanted.namespace, writer, number).streams())
        if self.stored is not None:
            found |= set(self.stored.streams(wanted.namespace))
        return sorted(stream for stream in found if wanted.takes(stream))

    def partitions(self, namespace: str) -> int:
        """Of the namespace; 0 when no place knows it."""
        if self.log is not None and (known := self.log.namespaces().get(namespace)):
            return known
        for stream in self.archive.streams(namespace) if self.archive else ():
            if (chunk := self._any_chunk(stream)) is not None:
                return chunk.partitions
        return 0

    def _any_chunk(self, stream: Stream) -> Chunk | None:
        named = self.archive.named(stream) if self.archive else []
        return self.archive.footer(named[0].path) if named and self.archive else None

    def entries(
        self,
        wanted: Wanted,
        *,
        after: Mapping[Stream, EntryId] | None = None,
        until: Mapping[Stream, EntryId] | None = None,
    ) -> Iterator[Entry]:
        """What is wanted, by id over all slots: that is the log's order within each slot (of two
        slots it is nobody's, and here always the same). With `after`, only what lies behind those
        places; with `until`, only up to those.

        Raises LogUnavailable, ChunkDamaged, SegmentMissing, DatabaseError.
        """
        streams = self.streams(wanted)
        each = [
            self.of_stream(
                stream, wanted,
                after=(after or {}).get(stream, BEGIN), until=(until or {}).get(stream),
            )
            for stream in streams
        ]  # fmt: skip
        yield from heapq.merge(*each, key=_by_id)

    def of_stream(
        self,
        stream: Stream,
        wanted: Wanted,
        *,
        after: EntryId = BEGIN,
        until: EntryId | None = None,
    ) -> Iterator[Entry]:
        """The same of one stream."""
        for page in self._reading(stream, wanted, after, until):
            for entry in page:
                if until is not None and entry.id > until:
                    return
                if is_within(times_of(entry.type, entry.data), wanted.from_ms, wanted.until_ms):
                    yield entry

    def _reading(
        self, stream: Stream, wanted: Wanted, after: EntryId, until: EntryId | None
    ) -> Iterator[list[Entry]]:
        if stream.slot.writer == FETCHED:
            if self.archive is not None:
                for page in fetched_pages(self.archive, stream, after=after, skip=wanted.skips):
                    yield page.entries
            return

        def told(hole: Hole) -> None:
            if wanted.misses(hole):
                self.holes.append(hole)

        reading = StreamReading(
            stream, log=self.log, archive=self.archive, stored=self.stored, told=told,
            skip=wanted.skips,
        )  # fmt: skip
        for page in reading.pages(after) if until is None else reading.pages(after, until):
            yield page.entries


def _by_id(entry: Entry) -> tuple[EntryId, Stream]:
    return entry.id, entry.stream


def archive_folder(settings: Settings) -> ArchiveFolder:
    """The archive of this machine: ARCHIVE_DIR, or `archive` in the state folder."""
    named = settings.archive_dir
    root = settings.state_dir / "archive" if named is None else Path(named).expanduser()
    return ArchiveFolder(root.absolute())


@contextmanager
def opened_source(
    settings: Settings,
    *,
    places: Collection[str] = PLACES,
    told: Callable[[str], None] = lambda _: None,
) -> Iterator[EntrySource]:
    """The places of the settings that there are. `told` gets a line for a place that cannot be
    had. Raises ArchiveError when there is none at all, LogUnavailable, BadSettings."""
    with ExitStack() as stack:
        source = EntrySource(log=None)
        url = settings.redis_url() if "log" in places else None
        if url is not None:
            from events.redis import open_log

            bare = open_log(url)
            stack.callback(bare.close)
            source.log = whole_log(bare, settings)
        folder = archive_folder(settings)
        if "archive" in places and folder.root.is_dir():
            source.archive = folder
        dsn = settings.postgres_url() if "database" in places else None
        if dsn is not None:
            source.stored = _database(dsn, stack, told)
        if source.log is None and source.archive is None and source.stored is None:
            raise ArchiveError(
                "there is nothing to read from: no Redis runs (start `bridgectl up`, or set "
                f"REDIS_URL), and there is no archive at {folder.root}"
            )
        yield source


def _database(dsn: str, stack: ExitStack, told: Callable[[str], None]) -> Stored | None:
    from events import postgres

    try:
        postgres.check(dsn)
        connection = stack.enter_context(postgres.connect(dsn, application="bridge source"))
    except postgres.DatabaseError as error:
        told(f"the database is left out: {error}")
        return None
    return DatabaseEntries(connection)

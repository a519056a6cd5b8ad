"""From the log into the archive: what is not there yet, in chunks that are verified as written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from events.archive.chunk import Chunk, ChunkOf, read_chunk
from events.archive.errors import ArchiveError
from events.archive.folder import ArchiveFolder
from events.archive.source import EntrySource, Wanted
from events.archive.stored import Stored
from events.archive.stream_reading import FETCHED, Hole, Page, StreamReading
from events.log import BEGIN, Entry, Log, Stream

CHUNK_BYTES_AIM = 16 * 1024 * 1024
"""Of entries' data: some 280,000 ticks."""
CHUNK_ENTRIES_MAX = 50_000
ENTRY_OVERHEAD_BYTES = 100
DAY_MS = 86_400_000
READER = "archive.0"
"""Registered while the archive is to have everything before it leaves the log."""


@dataclass(slots=True)
class Exported:
    """What one export did."""

    namespace: str
    streams: int = 0
    chunks: int = 0
    entries: int = 0
    ticks: int = 0
    size_bytes: int = 0
    holes: list[Hole] = field(default_factory=list)

    def take(self, chunk: Chunk) -> None:
        self.chunks += 1
        self.entries += chunk.entries
        self.ticks += chunk.ticks
        self.size_bytes += chunk.size_bytes


class _Part(NamedTuple):
    entries: list[Entry]
    before: int | None
    is_whole: bool
    """It cannot grow any more."""


class Exporter:
    """Exports one namespace of a log. `told` gets a stream and its entries so far and in all.

    With `whole_only` nothing is written of a stream's end before it fills a chunk, or its UTC day
    (of entry ids) is over: for exports that come again and again.
    """

    def __init__(
        self,
        log: Log,
        folder: ArchiveFolder,
        namespace: str,
        *,
        stored: Stored | None = None,
        writers: Collection[str] = (),
        whole_only: bool = False,
        told: Callable[[Stream, int, int], None] = lambda _s, _d, _a: None,
    ) -> None:
        self._log, self._folder, self._namespace = log, folder, namespace
        self._stored, self._writers, self._whole_only = stored, writers, whole_only
        self._told = told

    def run(self) -> Exported:
        """Raises ArchiveError (another program writes; the disk; another log), LogUnavailable."""
        partitions = self._log.namespaces().get(self._namespace)
        if partitions is None:
            known = ", ".join(sorted(self._log.namespaces())) or "none"
            raise ArchiveError(f"the log holds no namespace {self._namespace!r}: there is {known}")
        done = Exported(self._namespace)
        origin = self._log.origin(self._namespace)
        slots = self._log.tasks.writers(self._namespace)
        with self._folder.writing(self._namespace):
            holding = self._log.tasks.readers(self._namespace)
            for stream in self.streams():
                facts = ChunkOf(None, partitions, slots[stream.slot.writer], origin)
                for chunk in self._stream(stream, facts, done.holes):
                    done.take(chunk)
                    if READER in holding.get(stream, ()) and chunk.before is not None:
                        self._show(chunk)
                done.streams += 1
        return done

    def streams(self) -> list[Stream]:
        """What there is to export."""
        writers = self._log.tasks.writers(self._namespace)
        unknown = set(self._writers) - set(writers)
        if unknown:
            raise ArchiveError(
                f"nobody called {', '.join(sorted(unknown))} writes into {self._namespace}: "
                f"there is {', '.join(writers)}"
            )
        chosen = [name for name in writers if not self._writers or name in self._writers]
        wanted = Wanted(self._namespace, writers=[name for name in chosen if name != FETCHED])
        return EntrySource(self._log).streams(wanted)

    def hold(self) -> None:
        """From now on nothing leaves the log before it is in the archive."""
        self._log.tasks.join(READER, self.streams())
        for stream in self.streams():
            chunk = self._folder.newest(stream)
            if chunk is not None and chunk.before is not None:
                self._show(chunk)

    def release(self) -> None:
        """Entries may leave the log again whether they are archived or not."""
        self._log.tasks.leave(READER, self.streams())

    def _show(self, chunk: Chunk) -> None:
        count = (chunk.before or 0) + chunk.entries
        self._log.mirror(READER, chunk.stream, chunk.last, count)

    def _stream(self, stream: Stream, facts: ChunkOf, holes: list[Hole]) -> Iterator[Chunk]:
        newest = self._folder.newest(stream)
        self._check_same_log(stream, newest)
        reading = StreamReading(
            stream, log=self._log, archive=None, stored=self._stored, told=holes.append
        )
        after, count = (newest.last, _end_of(newest)) if newest else (BEGIN, 0)
        total, done = self._log.info(stream).length, 0
        for part in _parts(reading.pages(after, count=count)):
            if part.is_whole or not self._whole_only or _is_old(part, self._log, stream):
                own = ChunkOf(part.before, facts.partitions, facts.slots, facts.origin)
                yield self._folder.write(part.entries, own)
                done += len(part.entries)
                self._told(stream, done, max(total, done))

    def _check_same_log(self, stream: Stream, newest: Chunk | None) -> None:
        """Raises ArchiveError when the archive belongs to a log that is no more."""
        if newest is None:
            return
        info = self._log.info(stream)
        here = self._log.between(stream, newest.last, newest.last, count_max=1)
        is_other = info.last_id < newest.last
        if here and not is_other:
            *_, last = read_chunk(newest)
            is_other = last != here[0]
        if is_other:
            raise ArchiveError(
                f"{stream}: the archive's entries up to {newest.last} are not those of this log, "
                "which was emptied or begun anew: give ARCHIVE_DIR another folder, or move "
                f"{newest.path.parents[4]} away"
            )


def _end_of(chunk: Chunk) -> int | None:
    return None if chunk.before is None else chunk.before + chunk.entries


def _parts(pages: Iterator[Page]) -> Iterator[_Part]:
    """Pages put together to chunks: of one UTC day, without a gap, of bounded size."""
    entries: list[Entry] = []
    before: int | None = None
    size = 0
    for page in pages:
        goes_on = page.before is None or before is None or page.before == before + len(entries)
        if entries and not goes_on:
            yield _Part(entries, before, is_whole=True)
            entries, size = [], 0
        for place, entry in enumerate(page.entries):
            full = size >= CHUNK_BYTES_AIM or len(entries) >= CHUNK_ENTRIES_MAX
            if entries and (full or entry.id.ms // DAY_MS != entries[0].id.ms // DAY_MS):
                yield _Part(entries, before, is_whole=True)
                entries, size = [], 0
            if not entries:
                before = None if page.before is None else page.before + place
            entries.append(entry)
            size += len(entry.data) + ENTRY_OVERHEAD_BYTES
    if entries:
        yield _Part(entries, before, is_whole=False)


def _is_old(part: _Part, log: Log, stream: Stream) -> bool:
    """Whether the day of a part is over by the log's own clock."""
    now_ms = log.retained.look(stream.slot).now_ms
    return now_ms // DAY_MS > part.entries[-1].id.ms // DAY_MS

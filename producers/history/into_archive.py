"""Where a terminal's past goes by default: files of the archive, each with the span it covers."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from events.archive.chunk import ChunkOf
from events.archive.folder import ArchiveFolder
from events.archive.stream_reading import FETCHED
from events.codec import encode
from events.log import Entry, EntryId, Lane, Slot, Stream, partition_of
from producers.history.batches import Feed
from producers.history.fetching import Step


class IntoArchive:
    """Files of the writer `fetched`; each appears under its name only when it is whole. The caller
    holds `folder.writing`."""

    ticks_step_ms = 6 * 3_600_000

    def __init__(self, folder: ArchiveFolder, namespace: str, partitions: int) -> None:
        self._folder, self._namespace, self._partitions = folder, namespace, partitions

    def covered(self, feed: Feed) -> list[tuple[int, int]]:
        """What files say that they cover. Raises ChunkDamaged."""
        covers = [chunk.covers for chunk in self._folder.chunks(self._stream(feed))]
        return sorted((one[1], one[2]) for one in covers if one and one[0] == str(feed))

    def check(self, feed: Feed, missing: Sequence[tuple[int, int]]) -> None:
        """Any span goes between the others."""

    def take(self, steps: Sequence[Step]) -> int:
        """A file for each step. Raises ArchiveError."""
        for step in steps:
            covers = (str(step.feed), step.from_ms, step.until_ms)
            facts = ChunkOf(None, self._partitions, self._partitions, "live", covers)
            self._folder.write(self._placed(step), facts)
        return len(steps)

    def _stream(self, feed: Feed) -> Stream:
        partition = partition_of(feed.symbol, self._partitions)
        return Slot(self._namespace, FETCHED, partition).stream(Lane.LOW)

    def _placed(self, step: Step) -> list[Entry]:
        """Entries at ids that follow from their times: the same span has the same ids again, and
        no two feeds share one."""
        stream, base = self._stream(step.feed), crc32(str(step.feed).encode()) << 16
        entries, ms = [], 0
        for number, batch in enumerate(step.batches):
            new = encode(batch, history=True)
            ms = max(ms, batch.event_time_ms, 0)
            entries.append(Entry(stream, EntryId(ms, base + number), new.type, new.key, new.data))
        return entries

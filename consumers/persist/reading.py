"""What the persist group reads from the log: how much at once, and whether it is still our log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from events import continuity
from events.continuity import Continuity, look
from events.log import Entry, EntryId, Log, Stream
from events.offset import checksum_of
from events.postgres import StoredOffset

READ_BYTES_AIM = 16 * 1024 * 1024
READ_COUNT_FIRST = 64
READ_COUNT_MAX = 2_000
COMMIT_BYTES_AIM = 4 * 1024 * 1024
"""About 70,000 ticks: larger arrays fall out of the processor's cache."""


@dataclass(slots=True)
class ReadSize:
    """How many entries of each stream to ask for, so that an answer is near READ_BYTES_AIM."""

    count: int = READ_COUNT_FIRST

    def learn(self, found: Mapping[Stream, list[Entry]]) -> None:
        size = sum(len(entry.data) for entries in found.values() for entry in entries)
        if size > READ_BYTES_AIM:
            self.count = max(1, self.count * READ_BYTES_AIM // size)
        elif size < READ_BYTES_AIM // 4 and any(len(e) >= self.count for e in found.values()):
            self.count = min(READ_COUNT_MAX, self.count * 2)


def portions(found: Mapping[Stream, list[Entry]]) -> Iterator[list[Entry]]:
    """Entries of one commit at a time, urgent lanes first, each stream in order."""
    portion: list[Entry] = []
    size = 0
    for stream in sorted(found, key=lambda stream: (stream.lane, stream.slot)):
        for entry in found[stream]:
            portion.append(entry)
            size += len(entry.data)
            if size >= COMMIT_BYTES_AIM:
                yield portion
                portion, size = [], 0
    if portion:
        yield portion


def advanced(
    offsets: Mapping[Stream, StoredOffset],
    entries: Iterable[Entry],
    ticks: Mapping[str, int],
) -> dict[Stream, StoredOffset]:
    """The offsets of those streams that these entries move."""
    counts: dict[Stream, int] = {}
    newest: dict[Stream, Entry] = {}
    for entry in entries:
        counts[entry.stream] = counts.get(entry.stream, 0) + 1
        newest[entry.stream] = entry
    return {
        stream: StoredOffset(
            stream,
            entry.id,
            offsets[stream].entries + counts[stream],
            offsets[stream].ticks + ticks.get(str(stream), 0),
            checksum_of(entry),
        )
        for stream, entry in newest.items()
    }


def log_was_cut(log: Log, offset: StoredOffset) -> str:
    """Why the log is not the one this offset was stored for, or "" when it is."""
    finding = look(log, offset.stream, offset.place)
    return f"{finding.stream}: {finding.cause}" if finding.continuity is Continuity.CUT else ""


def not_whole(log: Log, offset: StoredOffset) -> str:
    """Why the log is not the one this offset was stored for, or lost entries before they were
    stored; "" when all is well."""
    finding = look(log, offset.stream, offset.place)
    return "" if finding.whole else f"{finding.stream}: {finding.cause}"


def counted_from_here(log: Log, offset: StoredOffset) -> StoredOffset:
    """An offset of a stream that we see for the first time: what was trimmed before is no loss
    of ours, and is counted as read."""
    begun = continuity.counted_from_here(log, offset.stream, offset.place)
    return offset if begun == offset.place else StoredOffset(offset.stream, *begun[:2], 0, 0)


def ends(offsets: Mapping[Stream, StoredOffset]) -> dict[Stream, EntryId]:
    """Where to read on."""
    return {stream: offset.last for stream, offset in offsets.items()}

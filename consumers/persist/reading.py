"""What the persist group reads from the log: how much at once, and whether it is still our log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from events.log import BEGIN, Entry, EntryId, Log, Stream
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
    """Why the log is not the one this offset was stored for, or "" when it is.

    Comparing ids alone would miss a log that was cut and then grew past us again.
    """
    if offset.last == BEGIN:
        return ""
    found = log.between(offset.stream, offset.last, offset.last, count_max=1)
    if not found:
        return f"{offset.stream}: entry {offset.last}, the last one stored, is gone from the log"
    if checksum_of(found[0]) != offset.checksum:
        return f"{offset.stream}: entry {offset.last} in the log is not the one that was stored"
    return ""


def entries_lost(log: Log, offset: StoredOffset) -> str:
    """Why entries were lost before they were stored, or "" when none were."""
    info = log.info(offset.stream)
    if info.last_id < offset.last:
        return (
            f"{offset.stream}: the log ends at {info.last_id},"
            f" before {offset.last}, the last one stored"
        )
    trimmed = info.entries_added - info.length
    if trimmed > offset.entries:
        return (
            f"{offset.stream}: {trimmed - offset.entries} entries were removed from the log"
            " before they were stored"
        )
    return ""


def counted_from_here(log: Log, offset: StoredOffset) -> StoredOffset:
    """An offset of a stream that we see for the first time: what was trimmed before is no loss
    of ours, and is counted as read."""
    if offset.last != BEGIN or offset.entries:
        return offset
    info = log.info(offset.stream)
    trimmed = max(0, info.entries_added - info.length)
    return StoredOffset(offset.stream, offset.last, trimmed, 0, 0)


def ends(offsets: Mapping[Stream, StoredOffset]) -> dict[Stream, EntryId]:
    """Where to read on."""
    return {stream: offset.last for stream, offset in offsets.items()}

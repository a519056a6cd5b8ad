"""Where the log and what was made of it part: the last entry that both have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from consumers.repair.plan import below
from events.log import Entry, EntryId, Log, Stream
from events.offset import checksum_of

PAGE_ENTRIES = 500
WINDOW_MS = 600_000
"""Stored entries are read so much of the log's time at once."""

Stored = Callable[[EntryId, EntryId], Sequence[Entry]]
"""Stored entries with first <= id <= last, oldest first."""


def last_common(log: Log, stream: Stream, until: EntryId, stored: Stored) -> EntryId | None:
    """The newest entry up to `until` that log and store share; None when there is none.

    What a log loses is always its tail, so everything before that entry is shared too: when its
    very first entry is not, nothing is.
    """
    first = log.between(stream, count_max=1)
    if not first or not _shared(first, stored):
        return None
    before = until
    while page := log.newest(stream, count_max=PAGE_ENTRIES, before=before):
        shared = _shared(page, stored)
        if shared:
            return max(shared)
        before = below(page[-1].id)
    return None


def _shared(entries: Sequence[Entry], stored: Stored) -> set[EntryId]:
    ids = [entry.id for entry in entries]
    sums = {entry.id: checksum_of(entry) for entry in stored(min(ids), max(ids))}
    return {entry.id for entry in entries if sums.get(entry.id) == checksum_of(entry)}


def stored_after(stored: Stored, place: EntryId, until: EntryId) -> Iterator[Entry]:
    """Stored entries behind `place`, up to `until`, oldest first; never all in memory."""
    first = place.next()
    while first <= until:
        last = min(EntryId(first.ms + WINDOW_MS, 2**64 - 1), until)
        yield from stored(first, last)
        first = last.next()


def entries_after(log: Log, stream: Stream, place: EntryId) -> Iterator[Entry]:
    """Entries of the log behind `place`, oldest first."""
    while page := log.between(stream, place.next(), count_max=PAGE_ENTRIES):
        yield from page
        place = page[-1].id


def counted(entries: Iterable[Entry]) -> int:
    return sum(1 for _ in entries)


def begins_anew(log: Log, stream: Stream) -> bool:
    """Whether the log still holds the first entry this stream ever had (or had none)."""
    info = log.info(stream)
    return info.entries_added == info.length

"""Where the log and what was made of it part: the last entry up to which both are the same.

A reader may have read on past the fork before anybody noticed, so the newest entry that both have
proves nothing. What counts is that it is the same one *and* has the same number in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from consumers.repair.plan import below
from events.continuity import Continuity, Finding, look
from events.log import BEGIN, Entry, EntryId, Log, Stream
from events.offset import Offset, checksum_of

PAGE_ENTRIES = 500
PAGE_ENTRIES_FIRST = 16
"""Forks are short, and an entry may hold thousands of ticks: look at few first, then at more."""
WINDOW_MS = 600_000
"""Stored entries are read so much of the log's time at once."""
TRIMMED_MS_MAX = 86_400_000
"""How far below the first entry of a trimmed log stored ones are counted."""

Stored = Callable[[EntryId, EntryId], Sequence[Entry]]
"""Stored entries with first <= id <= last, oldest first."""


class Parting(NamedTuple):
    """The place, and how many stored entries lie behind it."""

    place: Offset
    undone: int


class _Counts:
    """Walks down from an offset, counting what lies behind in the log and in the store."""

    def __init__(self, offset: Offset, added: int, log_after: int) -> None:
        self._offset, self._added = offset, added
        self.log_after, self.stored_after = log_after, 0

    def meets(self, id_: EntryId, here: int | None, stored: int | None) -> bool:
        """Whether this is the place; else count it as lying behind. The numbers are checksums."""
        if here is not None and here == stored and self.number == self.stored_number:
            return True
        self.log_after += here is not None
        self.stored_after += stored is not None
        return False

    @property
    def number(self) -> int:
        """How many entries the log had up to here."""
        return self._added - self.log_after

    @property
    def stored_number(self) -> int:
        return self._offset.entries - self.stored_after


def parting(log: Log, stream: Stream, offset: Offset, stored: Stored) -> Parting | None:
    """Where they part, or None when they share no beginning: the log was begun anew."""
    info = log.info(stream)
    counts = _Counts(offset, info.entries_added, _count(log, stream, offset.last, info.last_id))
    upper, size = offset.last, PAGE_ENTRIES_FIRST
    while page := log.newest(stream, count_max=size, before=upper):
        here = {entry.id: checksum_of(entry) for entry in page}
        there = {entry.id: checksum_of(entry) for entry in stored(page[-1].id, upper)}
        for id_ in sorted(here.keys() | there.keys(), reverse=True):
            if counts.meets(id_, here.get(id_), there.get(id_)):
                return Parting(Offset(id_, counts.number, here[id_]), counts.stored_after)
        upper, size = below(page[-1].id), min(size * 2, PAGE_ENTRIES)
    return _below_the_log(info.entries_added - info.length, upper, counts, stored)


def _below_the_log(trimmed: int, upper: EntryId, counts: _Counts, stored: Stored) -> Parting | None:
    """What was trimmed from the log cannot be compared, only counted."""
    if not trimmed:
        return None
    lowest = EntryId(max(0, upper.ms - TRIMMED_MS_MAX), 0)
    while upper > lowest:
        first = EntryId(max(0, upper.ms - WINDOW_MS), 0)
        for entry in reversed(stored(first, upper)):
            if counts.stored_number == trimmed:
                place = Offset(entry.id, trimmed, checksum_of(entry))
                return Parting(place, counts.stored_after)
            counts.stored_after += 1
        upper = below(first)
    if counts.stored_number == trimmed:
        return Parting(Offset(BEGIN, trimmed, 0), counts.stored_after)
    return None


def examined(log: Log, stream: Stream, offset: Offset) -> Finding:
    """The judgement of `events.continuity.look`, and to the last count: a reader that read on
    past a fork stands on an entry that is there, with a number that is not its own.

    Costs reading all that lies behind the offset.
    """
    finding = look(log, stream, offset)
    if not finding.whole:
        return finding
    missed = missed_entries(log, stream, offset)
    if not missed:
        return finding
    what = Continuity.LOST if missed > 0 else Continuity.CUT
    cause = (
        f"up to {offset.last} the log had {offset.entries + missed} entries, "
        f"{offset.entries} were done"
    )
    return Finding(stream, offset, what, cause)


def missed_entries(log: Log, stream: Stream, offset: Offset) -> int:
    """How many entries the log had up to an offset that were not done. Negative: of those that
    were done it has so many fewer."""
    info = log.info(stream)
    behind = _count(log, stream, offset.last, info.last_id)
    return info.entries_added - behind - offset.entries


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


def _count(log: Log, stream: Stream, after: EntryId, last: EntryId) -> int:
    count = 0
    while page := log.between(stream, after.next(), last, count_max=PAGE_ENTRIES):
        count += len(page)
        after = page[-1].id
    return count

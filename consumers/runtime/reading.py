"""Reading a task's inputs: in the log's order, or by priority; both repeatable from end offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from consumers.runtime.handler import Order
from events.ahead import AskedRead, ReadsAhead
from events.log import Entry, EntryId, Lane, Log, Stream

BATCH_ENTRIES_MAX = 1_000
"""Entries asked of each lane. Larger ones spread the wait for the disk over more entries; what is
critical cuts them."""
PRIORITY_ENTRIES_MAX = 200
"""The same by priority: something critical waits while a reply is taken in or a commit is made."""
BATCH_BYTES_AIM = 4 * 1024 * 1024
"""A quarter of it by priority: nothing is done while a reply is taken in."""
LOW_SHARE = 0.1
"""Of a batch, kept for lower lanes while higher ones are full, so that low never starves."""


class _Given(NamedTuple):
    """The last batch in the log's order: where it began, what it held, where it would end."""

    after: dict[Stream, EntryId]
    entries: list[Entry]
    ends: dict[Stream, EntryId]


class _Ahead(NamedTuple):
    """What was asked for while the former batch was handled."""

    after: dict[Stream, EntryId]
    count_max: int
    asked: AskedRead


class Reading:
    """Reads batches of a task's inputs after given offsets, never blocking.

    A blocking read is used only to wake up (`wait`): its reply may hold one lane and miss
    another, so what it found is read again.
    """

    def __init__(
        self,
        log: Log,
        inputs: Sequence[Stream],
        order: Order,
        *,
        entries_max: int = BATCH_ENTRIES_MAX,
    ) -> None:
        if entries_max < 1:
            raise ValueError(f"entries_max = {entries_max}: at least 1")
        if order is Order.PRIORITY:
            entries_max = min(entries_max, PRIORITY_ENTRIES_MAX)
        self._log, self._order, self._entries_max = log, order, entries_max
        self._urgent = [stream for stream in inputs if stream.lane <= Lane.HIGH]
        self._patient = [stream for stream in inputs if stream.lane > Lane.HIGH]
        self._count = entries_max
        self._last: _Given | None = None
        self._ahead: _Ahead | None = None
        self._bytes_aim = BATCH_BYTES_AIM if order is Order.LOG else BATCH_BYTES_AIM // 4
        self.reached: dict[Stream, EntryId] = {}
        """By priority: the newest critical entries that a batch gave."""
        self._given: dict[Stream, EntryId] = {}
        """The last entries of the lower lanes in the last batch that had room for them."""
        self._owed: set[Stream] = set()
        """Lower lanes that such a batch did not come to."""
        self._alone = False

    def batch(self, after: Mapping[Stream, EntryId]) -> list[Entry]:
        """The next entries, in the order in which they are to be handled."""
        return self._by_log(after) if self._order is Order.LOG else self._by_priority(after)

    def wait(self, after: Mapping[Stream, EntryId], block_ms: int) -> None:
        """Sleep until something may be there."""
        self._log.read(after, count_max=1, block_ms=block_ms)

    def forget(self) -> None:
        """Read anew what was read or asked for already: it may lie for long."""
        self._last = None
        self._drop_ahead()

    def _by_log(self, after: Mapping[Stream, EntryId]) -> list[Entry]:
        """What a commit had no room for comes first; where it is less than one commit took, with
        what follows."""
        rest, taken = self._rest(after)
        if not rest or (self._ahead is not None and len(rest) < taken):
            return self._more(after, rest)
        return self._give(after, rest).entries

    def _rest(self, after: Mapping[Stream, EntryId]) -> tuple[list[Entry], int]:
        """What is left of the last batch where it was cut, and how many were taken of it.

        Nothing when it was taken whole, or not at all, or when offsets were set elsewhere.
        """
        last, self._last = self._last, None
        if last is None or after in (last.ends, last.after):
            return [], 0
        taken = 0
        for entry in last.entries:
            if entry.id > after[entry.stream]:
                break
            taken += 1
        if _ends(last.after, last.entries[:taken]) != after:
            return [], 0
        return last.entries[taken:], taken

    def _more(self, after: Mapping[Stream, EntryId], rest: list[Entry]) -> list[Entry]:
        """The rest and what follows it, in one order."""
        begin, count = _ends(after, rest), self._count
        ahead = self._ahead
        if ahead is not None and ahead.after == begin:
            self._ahead, count = None, ahead.count_max
            found = ahead.asked.take()
            self._learn(found, count)
        else:
            self._drop_ahead()
            found = self._read(begin, begin, count)
        entries = in_log_order(found, count)
        if rest:
            entries = sorted([*rest, *entries], key=attrgetter("id", "stream"))
        given = self._give(after, entries)
        if any(len(each) >= count for each in found.values()):
            self._read_ahead(given.ends)
        return given.entries

    def _give(self, after: Mapping[Stream, EntryId], entries: list[Entry]) -> _Given:
        self._last = _Given(dict(after), entries, _ends(after, entries))
        return self._last

    def _read_ahead(self, ends: dict[Stream, EntryId]) -> None:
        """Much lies ahead: ask for it now, so that the log works while these are handled.

        In the log's order nothing can be missed by asking early: what is appended later has
        later ids. Where offsets are set elsewhere meanwhile, the reply is not used.
        """
        if isinstance(self._log, ReadsAhead):
            asked = self._log.read_ahead(ends, count_max=self._count)
            self._ahead = _Ahead(ends, self._count, asked) if asked is not None else None

    def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.asked.drop()

    def _by_priority(self, after: Mapping[Stream, EntryId]) -> list[Entry]:
        """What is critical comes alone and is committed at once, in every second batch at most.

        Otherwise the higher lanes, and a share for the others. Where a batch was cut before it
        came to a lower lane, that is made good by a batch of this lane alone, lowest first.
        """
        count = self._count
        share = max(1, int(count * LOW_SHARE))
        self._owed |= {stream for stream, last in self._given.items() if after[stream] < last}
        self._given = {}
        urgent = self._read(after, self._urgent, count)
        critical = {s: entries for s, entries in urgent.items() if s.lane is Lane.CRITICAL}
        self.reached |= {stream: entries[-1].id for stream, entries in critical.items()}
        if critical and not self._alone:
            self._alone = True
            return in_priority_order(critical)
        self._alone = False
        if self._owed:
            lowest = max(stream.lane for stream in self._owed)
            streams = {stream for stream in self._owed if stream.lane is lowest}
            self._owed -= streams
            return in_priority_order(self._read(after, streams, share))
        left = max(share, count - sum(map(len, urgent.values())))
        found = self._read(after, self._patient, left)
        if any(len(e) >= left for stream, e in found.items() if stream.lane < Lane.LOW):
            found = {s: e[:share] if s.lane is Lane.LOW else e for s, e in found.items()}
        self._given = {stream: entries[-1].id for stream, entries in found.items()}
        return in_priority_order(urgent | found)

    def _read(
        self, after: Mapping[Stream, EntryId], streams: Iterable[Stream], count: int
    ) -> dict[Stream, list[Entry]]:
        wanted = {stream: after[stream] for stream in streams}
        if not wanted:
            return {}
        found = self._log.read(wanted, count_max=count)
        self._learn(found, count)
        return found

    def _learn(self, found: Mapping[Stream, list[Entry]], count: int) -> None:
        """Ask for fewer of large entries, for more of small ones."""
        size = sum(len(entry.data) for entries in found.values() for entry in entries)
        if size > self._bytes_aim:
            self._count = max(1, self._count * self._bytes_aim // size)
        elif size < self._bytes_aim // 4 and any(len(e) >= count for e in found.values()):
            self._count = min(self._entries_max, self._count * 2)


def tally(entries: Iterable[Entry]) -> dict[Stream, tuple[Entry, int]]:
    """The last entry of each stream, and how many of its entries there are."""
    counts: dict[Stream, tuple[Entry, int]] = {}
    for stream, run in groupby(entries, attrgetter("stream")):
        of_run = [*run]
        before = counts[stream][1] if stream in counts else 0
        counts[stream] = of_run[-1], before + len(of_run)
    return counts


def _ends(after: Mapping[Stream, EntryId], entries: Iterable[Entry]) -> dict[Stream, EntryId]:
    """Where to read on behind some entries."""
    return {**after, **{stream: entry.id for stream, (entry, _) in tally(entries).items()}}


def in_log_order(found: Mapping[Stream, list[Entry]], count: int) -> list[Entry]:
    """Merge the lanes of each slot by id.

    Where a lane filled its `count` more may follow in it, so nothing of its slot after its last
    id may be handled yet: another lane would overtake it.
    """
    if len(found) == 1:
        [entries] = found.values()
        return entries
    reach: dict[object, EntryId] = {}
    for stream, entries in found.items():
        if len(entries) >= count:
            last = entries[-1].id
            reach[stream.slot] = min(last, reach.get(stream.slot, last))
    merged = [
        entry
        for stream, entries in found.items()
        for entry in entries
        if stream.slot not in reach or entry.id <= reach[stream.slot]
    ]
    merged.sort(key=attrgetter("id", "stream"))
    return merged


def in_priority_order(found: Mapping[Stream, list[Entry]]) -> list[Entry]:
    """Higher lanes first, each stream in its order."""
    streams = sorted(found, key=lambda stream: (stream.lane, stream.slot))
    return [entry for stream in streams for entry in found[stream]]


SORTS: Mapping[Order, Callable[[Mapping[Stream, list[Entry]]], list[Entry]]] = {
    Order.LOG: lambda found: in_log_order(found, 2**63),
    Order.PRIORITY: in_priority_order,
}
"""How the entries of one journalled batch were ordered: a pure function of the entries."""

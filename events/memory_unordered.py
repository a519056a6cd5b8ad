"""Unordered hand-out in memory, beside a MemoryLog and under its lock."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from events.log import BEGIN, Entry, EntryId, GroupInfo, Slot, Stream, check_sizes
from events.unordered import Derived, Reclaimed, Taken

if TYPE_CHECKING:
    from events.memory_log import MemoryLog


@dataclass
class _Given:
    consumer: str
    at: float
    times: int


@dataclass
class _List:
    newest: EntryId
    """The newest entry that was given to anybody."""
    given: dict[EntryId, _Given] = field(default_factory=dict)

    @property
    def done_to(self) -> EntryId:
        if not self.given:
            return self.newest
        oldest = min(self.given)
        return EntryId(oldest.ms, oldest.seq - 1) if oldest.seq else EntryId(oldest.ms - 1, 2**63)


class MemoryUnordered:
    """See `events.unordered.Unordered`."""

    def __init__(self, log: MemoryLog, monotonic: Callable[[], float]) -> None:
        self._log, self._monotonic = log, monotonic
        self._lists: dict[tuple[str, Stream], _List] = {}
        self._derived: dict[Slot, set[str]] = {}
        self._done_to: dict[Slot, dict[Stream, EntryId]] = {}

    def open(self, reader: str, begin: Mapping[Stream, EntryId]) -> None:
        with self._log.changed:
            for stream, first in begin.items():
                self._list(reader, stream, first)

    def take(
        self, reader: str, consumer: str, begin: Mapping[Stream, EntryId], *, count_max: int
    ) -> Taken:
        with self._log.changed:
            taken: list[Entry] = []
            for stream, first in begin.items():
                known, state = self._list(reader, stream, first), self._log.stream(stream)
                start = bisect_right(state.ids, known.newest)
                for entry in state.entries[start : start + count_max]:
                    known.given[entry.id] = _Given(consumer, self._monotonic(), 1)
                    known.newest = entry.id
                    taken.append(entry)
                self._show(reader, stream, known)
            return Taken(tuple(taken))

    def again(
        self, reader: str, consumer: str, streams: Collection[Stream], *, count_max: int
    ) -> Taken:
        with self._log.changed:
            entries: list[Entry] = []
            lost: list[str] = []
            for stream in sorted(streams):
                given = self._list(reader, stream, BEGIN).given
                mine = sorted(id_ for id_, one in given.items() if one.consumer == consumer)
                for id_ in mine[:count_max]:
                    entry = self._entry(stream, id_)
                    if entry is None:
                        lost.append(f"{stream}@{id_}")
                        del given[id_]
                    else:
                        given[id_].at = self._monotonic()
                        entries.append(entry)
            return Taken(tuple(entries), tuple(lost))

    def hold(self, reader: str, consumer: str, entries: Collection[Entry]) -> None:
        with self._log.changed:
            for entry in entries:
                given = self._list(reader, entry.stream, BEGIN).given.get(entry.id)
                if given is not None:
                    given.consumer, given.at = consumer, self._monotonic()

    def reclaim(
        self, reader: str, consumer: str, stream: Stream, *, silent_ms: int, count_max: int
    ) -> Reclaimed:
        with self._log.changed:
            known = self._list(reader, stream, BEGIN)
            now = self._monotonic()
            silent = sorted(
                id_ for id_, given in known.given.items() if (now - given.at) * 1000 >= silent_ms
            )
            entries, times, lost, suspects = [], [], [], 0
            for id_ in silent[:count_max]:
                entry, count = self._entry(stream, id_), known.given[id_].times
                if entry is None:
                    lost.append(f"{stream}@{id_}")
                    del known.given[id_]
                elif count < 2 or not suspects:
                    suspects += count > 1
                    known.given[id_] = _Given(consumer, now, count + 1)
                    entries.append(entry)
                    times.append(count + 1)
            self._show(reader, stream, known)
            return Reclaimed(tuple(entries), tuple(times), tuple(lost), known.done_to)

    def derive(self, slot: Slot, derived: Sequence[Derived]) -> int:
        check_sizes([output for one in derived for output in one.outputs])
        with self._log.changed:
            done, places = self._done_to.get(slot, {}), self._derived.setdefault(slot, set())
            new = 0
            for entry, outputs in derived:
                if entry.place in places or entry.id <= done.get(entry.stream, BEGIN):
                    continue
                places.add(entry.place)
                self._log.add_now(slot, outputs)
                new += 1
            self._log.changed.notify_all()
            return new

    def acknowledge(self, reader: str, entries: Collection[Entry]) -> int:
        with self._log.changed:
            done = 0
            for entry in entries:
                known = self._list(reader, entry.stream, BEGIN)
                done += known.given.pop(entry.id, None) is not None
                self._show(reader, entry.stream, known)
            return done

    def done_to(self, slot: Slot) -> dict[Stream, EntryId]:
        with self._log.changed:
            return dict(self._done_to.get(slot, {}))

    def settle(self, slot: Slot, stream: Stream, done_to: EntryId) -> None:
        with self._log.changed:
            known = self._done_to.setdefault(slot, {})
            known[stream] = max(done_to, known.get(stream, BEGIN))
            self._derived[slot] = {
                place
                for place in self._derived.get(slot, set())
                if not _below(place, stream, known[stream])
            }

    def tidy(self, reader: str, stream: Stream, consumer: str, *, silent_ms: int) -> None:
        """Nothing to do: consumers without a list leave no trace here."""

    def _list(self, reader: str, stream: Stream, first: EntryId) -> _List:
        return self._lists.setdefault((reader, stream), _List(first))

    def _entry(self, stream: Stream, id_: EntryId) -> Entry | None:
        state = self._log.stream(stream)
        place = bisect_right(state.ids, id_) - 1
        return state.entries[place] if place >= 0 and state.ids[place] == id_ else None

    def _show(self, reader: str, stream: Stream, known: _List) -> None:
        """What operators see, and what trimming goes by."""
        state = self._log.stream(stream)
        read = bisect_right(state.ids, known.done_to)
        state.groups[reader] = GroupInfo(known.done_to, read, None)


def _below(place: str, stream: Stream, done_to: EntryId) -> bool:
    name, _, id_ = place.rpartition("@")
    return name == str(stream) and EntryId.parse(id_) <= done_to

"""Unordered hand-out in Redis: consumer groups, and outputs once per place in the group's slot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any

from events.log import BEGIN, Entry, EntryId, Slot, Stream, check_sizes
from events.redis import keys
from events.redis.connect import Client
from events.redis.scripts import Script
from events.unordered import Derived, Reclaimed, Taken

TAKE, AGAIN, HANDOUT, RECLAIM, DERIVE, SETTLE, TIDY = (
    Script(f"unordered/{name}")
    for name in ("take", "again", "handout", "reclaim", "derive", "settle", "tidy")
)
PLACES_MAX = 2_000
"""Places forgotten in one step: a script takes so many arguments at most."""
Run = Callable[[Script, Sequence[str], Sequence[Any]], Any]
Calls = Callable[[], AbstractContextManager[None]]
Parsed = Callable[[Stream, Any], list[Entry]]


class RedisUnordered:
    """See `events.unordered.Unordered`. Made by RedisLog, whose connections it uses."""

    def __init__(self, client: Client, run: Run, calls: Calls, parsed: Parsed) -> None:
        self._client, self._run, self._calls, self._parsed = client, run, calls, parsed

    def open(self, reader: str, begin: Mapping[Stream, EntryId]) -> None:
        for streams in _by_slot(begin):
            arguments = [reader, *(str(begin[stream]) for stream in streams)]
            self._run(HANDOUT, [str(stream) for stream in streams], arguments)

    def take(
        self, reader: str, consumer: str, begin: Mapping[Stream, EntryId], *, count_max: int
    ) -> Taken:
        entries: list[Entry] = []
        for streams in _by_slot(begin):
            by_key = {str(stream).encode(): stream for stream in streams}
            arguments = [reader, consumer, count_max, *(str(begin[s]) for s in streams)]
            reply = self._run(TAKE, [str(stream) for stream in streams], arguments)
            for key, rows in reply or ():
                entries += self._parsed(by_key[key], rows)
        return Taken(tuple(entries))

    def again(
        self, reader: str, consumer: str, streams: Collection[Stream], *, count_max: int
    ) -> Taken:
        entries: list[Entry] = []
        lost: list[str] = []
        for part in _by_slot(streams):
            arguments = [reader, consumer, count_max]
            reply = self._run(AGAIN, [str(stream) for stream in part], arguments)
            for stream, (rows, gone) in zip(part, reply, strict=True):
                entries += self._parsed(stream, rows)
                lost += [f"{stream}@{id_.decode()}" for id_ in gone]
        return Taken(tuple(entries), tuple(lost))

    def hold(self, reader: str, consumer: str, entries: Collection[Entry]) -> None:
        for stream, ids in _ids(entries).items():
            with self._calls():
                self._client.xclaim(str(stream), reader, consumer, 0, ids, justid=True)

    def reclaim(
        self, reader: str, consumer: str, stream: Stream, *, silent_ms: int, count_max: int
    ) -> Reclaimed:
        arguments = [reader, consumer, silent_ms, count_max]
        rows, times, lost, delivered, oldest = self._run(RECLAIM, [str(stream)], arguments)
        done_to = EntryId.parse(delivered)
        if oldest:
            done_to = min(done_to, _before(EntryId.parse(oldest)))
        return Reclaimed(
            tuple(self._parsed(stream, rows)),
            tuple(int(count) for count in times),
            tuple(f"{stream}@{id_.decode()}" for id_ in lost),
            done_to,
        )

    def derive(self, slot: Slot, derived: Sequence[Derived]) -> int:
        check_sizes([output for one in derived for output in one.outputs])
        arguments: list[Any] = [len(derived)]
        for entry, outputs in derived:
            arguments += (str(entry.stream), entry.id.ms, entry.id.seq, len(outputs))
            for output in outputs:
                has_last = output.last is not None
                arguments += (
                    int(output.lane), output.type, output.key, output.data, output.cause,
                    "1" if has_last else "0", output.last if has_last else b"",
                )  # fmt: skip
        own = [keys.meta(slot), keys.done_to(slot), keys.derived(slot), keys.last(slot)]
        return int(self._run(DERIVE, [*own, *keys.lanes(slot)], arguments))

    def acknowledge(self, reader: str, entries: Collection[Entry]) -> int:
        done = 0
        for stream, ids in _ids(entries).items():
            with self._calls():
                done += int(self._client.execute_command("XACK", str(stream), reader, *ids))
        return done

    def done_to(self, slot: Slot) -> dict[Stream, EntryId]:
        with self._calls():
            found = self._client.hgetall(keys.done_to(slot))
        return {Stream.parse(stream): EntryId.parse(id_) for stream, id_ in sorted(found.items())}

    def settle(self, slot: Slot, stream: Stream, done_to: EntryId) -> None:
        with self._calls():
            places = sorted(self._client.smembers(keys.derived(slot)))
        below = [place for place in places if _below(place.decode(), stream, done_to)]
        names, own = [keys.done_to(slot), keys.derived(slot)], [str(stream), *done_to]
        for first in range(0, max(len(below), 1), PLACES_MAX):
            self._run(SETTLE, names, [*own, *below[first : first + PLACES_MAX]])

    def tidy(self, reader: str, stream: Stream, consumer: str, *, silent_ms: int) -> None:
        self._run(TIDY, [str(stream)], [reader, consumer, silent_ms])


def _by_slot(streams: Iterable[Stream]) -> list[list[Stream]]:
    """Streams that one script may touch."""
    return [list(part) for _, part in groupby(sorted(streams), lambda stream: stream.slot)]


def _ids(entries: Collection[Entry]) -> dict[Stream, list[str]]:
    found: dict[Stream, list[str]] = {}
    for entry in entries:
        found.setdefault(entry.stream, []).append(str(entry.id))
    return found


def _before(id_: EntryId) -> EntryId:
    """A place below this id and not below any smaller one that an entry has."""
    if id_ == BEGIN:
        return BEGIN
    return EntryId(id_.ms, id_.seq - 1) if id_.seq else EntryId(id_.ms - 1, 2**63)


def _below(place: str, stream: Stream, done_to: EntryId) -> bool:
    name, _, id_ = place.rpartition("@")
    return name == str(stream) and EntryId.parse(id_) <= done_to

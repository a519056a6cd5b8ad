"""Recorded events once more through the whole pipeline, in a namespace of their own.

Each partition's entries are appended in the order they had, with their own bytes and hence their
own event times; only ids are new. How far it came lies beside them in the same step, so that a
replay that was ended goes on without loss or doubles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from events.archive.importing import keeps_last
from events.archive.source import MARKET_WRITERS, EntrySource, Wanted
from events.archive.stream_reading import Hole
from events.archive.times import times_of
from events.log import (
    BEGIN,
    OPERATOR,
    SOURCE,
    Claim,
    CursorMove,
    Entry,
    EntryId,
    Log,
    LogError,
    NewEntry,
    Slot,
    Stream,
)

WRITERS = (*MARKET_WRITERS, OPERATOR)
"""What came from outside: what groups derived is derived again."""
BATCH_ENTRIES_MAX = 500
BATCH_BYTES_AIM = 2 * 1024 * 1024
ALIVE_WITHIN_S = 5.0
PAUSE_S_MAX = 60.0
"""Longest wait between two entries, however far they lie apart."""
PREFIX = "replay:"


class ReplayRefused(LogError):
    """This replay cannot go into that namespace. The message names cause and cure."""


@dataclass(slots=True)
class Replayed:
    """What one run did."""

    namespace: str
    into: str
    entries: int = 0
    holes: list[Hole] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pace:
    """`speed` times as fast as the events came; None is as fast as possible."""

    speed: float | None = None
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class ReplayInto:
    """One replay. `told` gets how many entries were appended and the event time reached."""

    def __init__(
        self,
        source: EntrySource,
        log: Log,
        wanted: Wanted,
        *,
        into: str,
        holder: str,
        pace: Pace | None = None,
        told: Callable[[int, int | None], None] = lambda _n, _t: None,
    ) -> None:
        self._source, self._log, self._into, self._holder = source, log, into, holder
        self._wanted = Wanted(
            wanted.namespace, writers=WRITERS, lanes=wanted.lanes,
            from_ms=wanted.from_ms, until_ms=wanted.until_ms,
        )  # fmt: skip
        self._pace, self._told = pace or Pace(), told
        self._feed = f"{PREFIX}{wanted.namespace}:{wanted.from_ms}:{wanted.until_ms}"
        self._claims: dict[int, Claim] = {}
        self._cursors: dict[str, str] = {}
        self._reached_ms: int | None = None

    def run(self) -> Replayed:
        """Raises ReplayRefused, WriterHeld, LogUnavailable (start again, it goes on)."""
        done = Replayed(self._wanted.namespace, self._into)
        with ExitStack() as stack:
            self._open(stack)
            after = self._after()
            for batch in self._batches(self._source.entries(self._wanted, after=after)):
                self._append(batch)
                done.entries += len(batch)
                self._told(done.entries, self._reached_ms)
        done.holes = list(self._source.holes)
        return done

    def _open(self, stack: ExitStack) -> None:
        namespace, into = self._wanted.namespace, self._into
        partitions = self._source.partitions(namespace)
        if not partitions:
            raise ReplayRefused(f"nothing was recorded of {namespace!r}: see `bridgectl status`")
        known = self._log.namespaces()
        if into == namespace or (into in known and self._log.origin(into) != "replay"):
            origin = self._log.origin(into)
            raise ReplayRefused(
                f"namespace {into!r} is there already ({origin}): give --into another name"
            )
        self._log.open_namespace(into, partitions, "replay")
        for number in range(partitions):
            slot = Slot(into, SOURCE, number)
            claim = self._log.claim(slot, self._holder, alive_within_s=ALIVE_WITHIN_S)
            stack.callback(self._log.release, claim)
            self._claims[number] = claim
            for feed, text in self._log.cursors(slot).items():
                if feed.rpartition("/")[0] == self._feed:
                    self._cursors[feed] = text
                elif feed.startswith(PREFIX):
                    raise ReplayRefused(
                        f"namespace {into!r} holds another replay ({feed.rpartition('/')[0]}): "
                        "give --into another name, or the same span again"
                    )

    def _cursor_name(self, slot: Slot) -> str:
        who = OPERATOR if slot.writer == OPERATOR else str(slot.partition)
        return f"{self._feed}/{who}"

    def _after(self) -> Mapping[Stream, EntryId]:
        """Where each stream goes on: behind the last entry, by id and name, that was appended."""
        after: dict[Stream, EntryId] = {}
        for stream in self._source.streams(self._wanted):
            text = self._cursors.get(self._cursor_name(stream.slot), "").rpartition("@")[0]
            if text:
                name, _, id_text = text.rpartition("@")
                last = EntryId.parse(id_text)
                after[stream] = last if stream <= Stream.parse(name) else _before(last)
        return after

    def _batches(self, entries: Iterator[Entry]) -> Iterator[list[Entry]]:
        """Entries that may go in one step: by number and size, and by the pace."""
        batch: list[Entry] = []
        size = 0
        begun: tuple[float, int] | None = None
        pace = self._pace
        for entry in entries:
            times = times_of(entry.type, entry.data)
            newest = times.newest_ms if times else None
            if newest is not None:
                self._reached_ms = max(newest, self._reached_ms or newest)
            if pace.speed is not None and self._reached_ms is not None:
                begun = begun or (pace.monotonic(), self._reached_ms)
                due = begun[0] + (self._reached_ms - begun[1]) / 1000 / pace.speed
                wait_s = due - pace.monotonic()
                if wait_s > 0:
                    if batch:
                        yield batch
                        batch, size = [], 0
                    waited_s = min(wait_s, PAUSE_S_MAX)
                    pace.sleep(waited_s)
                    # What was cut off a long pause does not make the rest later.
                    begun = (begun[0] - (wait_s - waited_s), begun[1])
            batch.append(entry)
            size += len(entry.data)
            if len(batch) >= BATCH_ENTRIES_MAX or size >= BATCH_BYTES_AIM:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _append(self, batch: list[Entry]) -> None:
        by_partition: dict[int, list[Entry]] = {}
        posted: list[Entry] = []
        for entry in batch:
            slot = entry.stream.slot
            if slot.writer == OPERATOR:
                posted.append(entry)
            else:
                by_partition.setdefault(slot.partition, []).append(entry)
        for entry in posted:
            # The same place is taken once, also when we died before our cursor moved.
            self._log.post(Slot(self._into, OPERATOR, 0), _new(entry), once=entry.place)
        if posted:
            self._move(0, [], posted[-1])
        for number, entries in by_partition.items():
            self._move(number, entries, entries[-1])
        for number in self._claims.keys() - by_partition.keys():
            self._log.beat(self._claims[number])

    def _move(self, number: int, entries: list[Entry], last: Entry) -> None:
        name = self._cursor_name(last.stream.slot)
        move = CursorMove(name, self._cursors.get(name, ""), f"{last.stream}@{last.id}")
        done = self._log.append(self._claims[number], [_new(entry) for entry in entries], [move])
        self._cursors.update(done.cursors)


def _new(entry: Entry) -> NewEntry:
    last = entry.data if keeps_last(entry.type) else None
    return NewEntry(entry.stream.lane, entry.type, entry.key, entry.data, entry.cause, last)


def _before(id_: EntryId) -> EntryId:
    if id_.seq:
        return EntryId(id_.ms, id_.seq - 1)
    return EntryId(id_.ms - 1, 2**62) if id_.ms else BEGIN

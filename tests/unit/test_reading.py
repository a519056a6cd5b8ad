"""Reading in the log's order where commits take less than was read."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.group import Group
from consumers.runtime.handler import Handler, Inputs, Order
from consumers.runtime.reading import Reading
from consumers.runtime.task import TaskRun
from events.codec import AnyEvent, encode
from events.decisions import TradeSignal
from events.log import BEGIN, Entry, EntryId, Lane, NewEntry, Slot, Stream
from events.memory_log import MemoryLog
from events.operations import ClockTick

SLOTS = (Slot("demo", "source", 0), Slot("demo", "source", 1))
LANES = (Lane.CRITICAL, Lane.NORMAL)
STREAMS = [slot.stream(lane) for slot in SLOTS for lane in LANES]


class _Asked:
    """A read that the log carries out when it is taken, as late as can be."""

    def __init__(self, log: CountingLog, after: Mapping[Stream, EntryId], count_max: int) -> None:
        self._log, self._after, self._count_max = log, dict(after), count_max

    def ready(self) -> bool:
        return True

    def take(self) -> dict[Stream, list[Entry]]:
        return self._log.read(self._after, count_max=self._count_max)

    def drop(self) -> None:
        self._log.dropped += 1


class CountingLog(MemoryLog):
    """Can be asked ahead, and counts what it gives away."""

    given = dropped = 0

    def read(
        self,
        after: Mapping[Stream, EntryId],
        *,
        count_max: int = 10_000,
        block_ms: int | None = None,
    ) -> dict[Stream, list[Entry]]:
        found = super().read(after, count_max=count_max, block_ms=block_ms)
        self.given += sum(map(len, found.values()))
        return found

    def read_ahead(
        self, after: Mapping[Stream, EntryId], *, count_max: int, block_ms: int = 0
    ) -> _Asked:
        return _Asked(self, after, count_max)


def filled(entries: int) -> tuple[CountingLog, Stream]:
    """As many entries in one lane, and which one that is."""
    log = CountingLog(now_ms=lambda: 1_000)
    log.open_namespace("demo", 2)
    claim = log.claim(SLOTS[0], "test", alive_within_s=0)
    new = [encode(ClockTick(event_time_ms=number)) for number in range(entries)]
    for begin in range(0, entries, 500):
        log.append(claim, new[begin : begin + 500])
    return log, SLOTS[0].stream(new[0].lane)


@given(seed=st.integers(0, 2**32), count=st.integers(1, 12))
def test_no_cut_of_any_batch_loses_doubles_or_inverts(seed: int, count: int) -> None:
    """Random appends to two slots between batches of which random parts are taken."""
    chance = random.Random(seed)
    log = CountingLog(now_ms=lambda: 1_000)
    log.open_namespace("demo", 2)
    claims = [log.claim(slot, "test", alive_within_s=0) for slot in SLOTS]
    reading = Reading(log, STREAMS, Order.LOG, entries_max=count)
    after = dict.fromkeys(STREAMS, BEGIN)
    seen: dict[Slot, list[EntryId]] = {slot: [] for slot in SLOTS}
    appended = 0
    for turn in range(400):
        if turn < 40:
            new = [NewEntry(chance.choice(LANES), "t.1", "k", b"") for _ in range(9)]
            appended += len(log.append(chance.choice(claims), new).ids)
        batch = reading.batch(after)
        assert batch == sorted(batch, key=lambda entry: (entry.id, entry.stream)), "as replays sort"
        assert len(batch) < 2 * len(STREAMS) * count + count, "what is held stays bounded"
        if chance.random() < 0.1:
            reading.forget()
        least = min(len(batch), turn // 200)
        for entry in batch[: chance.randint(least, len(batch))]:
            after[entry.stream] = entry.id
            seen[entry.stream.slot].append(entry.id)
    assert all(ids == sorted(set(ids)) for ids in seen.values())
    assert sum(map(len, seen.values())) == appended


@pytest.mark.parametrize("taken", [1, 7, 30, 49, 50])
def test_what_a_commit_had_no_room_for_is_not_read_again(taken: int) -> None:
    log, stream = filled(500)
    reading, after, seen = Reading(log, [stream], Order.LOG, entries_max=50), {stream: BEGIN}, 0
    while batch := reading.batch(after):
        assert len(batch) < 2 * 50 + taken
        part = batch[:taken]
        after, seen = {stream: part[-1].id}, seen + len(part)
    assert seen == log.given == 500
    assert log.dropped == 0


def test_a_rest_is_dropped_where_offsets_were_set_elsewhere_or_nothing_was_taken() -> None:
    log, stream = filled(100)
    reading = Reading(log, [stream], Order.LOG, entries_max=10)
    first = reading.batch({stream: BEGIN})
    assert reading.batch({stream: BEGIN}) == first, "again, from the log"
    assert (log.given, log.dropped) == (20, 1)
    [far, *_] = log.between(stream, count_max=100)[60:]
    assert reading.batch({stream: far.id})[0].id > far.id
    assert log.dropped == 2


class Talkative(Handler):
    """As much from each entry as would fill half a commit."""

    inputs: ClassVar[Inputs] = Inputs(lanes=tuple(Lane))
    types: ClassVar[frozenset[str]] = frozenset({"clock"})

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        for _ in range(400):
            yield TradeSignal(
                event_time_ms=event.event_time_ms, strategy="s", symbol="X", target="flat"
            )


def test_a_task_whose_commits_are_small_reads_every_entry_once() -> None:
    log, _ = filled(120)
    log.tasks.open_group("demo", "talk", 2)
    group = Group("talk", Talkative)
    spec = group.specs(log)[0]
    taken = log.tasks.acquire(spec.slot, "me", seen="")
    assert taken is not None
    run = TaskRun(log, group, spec, *taken, entries_max=40)
    steps = []
    while (step := run.step()).entries:
        steps.append(step.entries)
    assert sum(steps) == 120
    assert max(steps) == 3
    assert log.given == 120

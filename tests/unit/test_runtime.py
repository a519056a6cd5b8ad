"""The runtime's parts: state, order of reading, one task's step."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.group import Group
from consumers.runtime.handler import Handler, Inputs, Order
from consumers.runtime.journal import Deed, JournalStep, Note
from consumers.runtime.reading import Reading
from consumers.runtime.state import State, UnstorableState
from consumers.runtime.task import TaskRun
from events.codec import AnyEvent, decode, encode
from events.decisions import TradeSignal
from events.log import BEGIN, Claim, EntryId, Lane, NewEntry, Slot, Stream
from events.memory_log import MemoryLog
from events.operations import ClockTick, GapHealed, HandlerFailed

SOURCE = Slot("demo", "source", 0)
LANES = (Lane.CRITICAL, Lane.HIGH, Lane.NORMAL)


class Chain(Handler):
    """Every output depends on every entry before it, so that any loss or swap shows."""

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        assert isinstance(event, ClockTick | GapHealed)
        if isinstance(event, GapHealed) and event.reason == "poison":
            self.state["chain"] = "spoiled"
            raise ZeroDivisionError("cannot bear it")
        count, chain = self.state.get("chain", [0, 0])
        chain = hash_of(chain, event.event_time_ms)
        self.state["chain"] = [count + 1, chain]
        yield TradeSignal(
            event_time_ms=event.event_time_ms, strategy="chain", symbol="X", target="flat",
            reason=f"{count + 1}:{chain}",
        )  # fmt: skip


class ChainByPriority(Chain):
    order: ClassVar[Order] = Order.PRIORITY


def hash_of(chain: int, number: int) -> int:
    return (chain * 1_000_003 + number) % 2**61


def world() -> tuple[MemoryLog, Claim]:
    log = MemoryLog(now_ms=lambda: 1_000)
    log.open_namespace("demo", 1)
    return log, log.claim(SOURCE, "test", alive_within_s=0)


def clock(number: int) -> NewEntry:
    return encode(ClockTick(event_time_ms=number))


def gap(number: int, reason: str = "") -> NewEntry:
    healed = GapHealed(
        event_time_ms=number, symbol="X", reason=reason, from_ms=0, until_ms=1, ticks=0
    )
    return encode(healed)


def owned(log: MemoryLog, handler: type[Handler] = Chain, **more: Any) -> TaskRun:
    group = Group("chain", handler)
    [spec] = group.specs(log)
    taken = log.tasks.acquire(spec.slot, "me", seen=log.tasks.look([spec.slot])[0].token)
    assert taken is not None
    return TaskRun(log, group, spec, *taken, **more)


def derived(log: MemoryLog) -> list[str]:
    stream = Slot("demo", "chain", 0).stream(Lane.NORMAL)
    found = [decode(entry) for entry in log.between(stream, count_max=10**6)]
    return [event.reason for event in found if isinstance(event, TradeSignal)]


def expected(numbers: Iterable[int]) -> list[str]:
    chain, reasons = 0, []
    for count, number in enumerate(numbers, 1):
        chain = hash_of(chain, number)
        reasons.append(f"{count}:{chain}")
    return reasons


def test_a_task_handles_every_entry_in_the_order_of_the_log() -> None:
    log, claim = world()
    log.append(claim, [clock(n) if n % 3 else gap(n) for n in range(50)])
    task = owned(log, entries_max=7)
    while task.step().entries:
        pass
    assert derived(log) == expected(range(50))
    ids = [e.id for e in log.between(Slot("demo", "chain", 0).stream(Lane.NORMAL), count_max=99)]
    assert [id_.seq for id_ in ids] == list(range(1, 51))
    assert task.spec.journals(Order.LOG) is False
    [row] = log.tasks.journal(task.spec.slot, count_max=9)
    assert {note.deed for note in JournalStep.from_bytes(row.data).notes} == {Deed.BEGAN}


def test_an_owner_that_comes_later_goes_on_where_the_former_ended() -> None:
    log, claim = world()
    log.append(claim, [clock(n) for n in range(30)])
    first = owned(log, entries_max=7)
    first.step()
    second = owned(log, entries_max=11)
    while second.step().entries:
        pass
    assert derived(log) == expected(range(30))


def test_priority_serves_high_first_and_the_journal_repeats_the_order() -> None:
    log, claim = world()
    log.append(claim, [clock(n) if n % 2 else gap(n) for n in range(40)])
    task = owned(log, ChainByPriority, entries_max=8)
    while task.step().entries:
        pass
    order = journalled_order(log, task)
    assert derived(log) == expected(order)
    assert order[:8] == list(range(0, 16, 2))
    assert sorted(order) == list(range(40))
    assert 1 in order[:10], "low lanes get their share"


def journalled_order(log: MemoryLog, task: TaskRun) -> list[int]:
    at, numbers = dict.fromkeys(task.spec.inputs, BEGIN), []
    for row in log.tasks.journal(task.spec.slot, count_max=999):
        ends = JournalStep.from_bytes(row.data).ends
        for stream in sorted(ends, key=lambda stream: stream.lane):
            for entry in log.between(stream, at[stream].next(), ends[stream], count_max=999):
                event = decode(entry)
                assert isinstance(event, ClockTick | GapHealed)
                numbers.append(event.event_time_ms)
            at[stream] = ends[stream]
    return numbers


def test_an_entry_that_raises_becomes_a_dead_letter_and_leaves_no_trace_in_the_state() -> None:
    log, claim = world()
    log.append(claim, [clock(1), gap(2), gap(3, "poison"), clock(4), gap(5, "poison"), clock(6)])
    task = owned(log)
    steps = []
    while (step := task.step()).entries:
        steps.append(step)
    assert derived(log) == expected([1, 2, 4, 6])
    assert sum(step.failed for step in steps) == 2
    letters = log.between(Slot("demo", "chain", 0).stream(Lane.CRITICAL), count_max=9)
    first = decode(letters[0])
    assert isinstance(first, HandlerFailed)
    assert first.error == "ZeroDivisionError: cannot bear it"
    assert "test_runtime.py" in first.traceback
    assert first.place == letters[0].cause


def test_an_entry_that_may_not_be_skipped_halts_the_task_in_front_of_it() -> None:
    class Strict(Chain):
        halts_on = frozenset({"gap_healed"})

    log, claim = world()
    log.append(claim, [clock(1), gap(3, "poison"), clock(4)])
    task = owned(log, Strict)
    step = task.step()
    assert (step.entries, step.failed) == (1, 1)
    assert "may not be skipped" in step.halted
    assert task.step().halted == step.halted
    assert derived(log) == expected([1])
    assert log.tasks.look([task.spec.slot])[0].halted == step.halted


def test_entries_nobody_can_read_are_dead_letters_in_their_place() -> None:
    log, claim = world()
    log.append(claim, [clock(1), NewEntry(Lane.NORMAL, "later.7", "k", b"{}"), clock(2)])
    task = owned(log)
    task.step()
    assert derived(log) == expected([1, 2])
    [letter] = log.between(Slot("demo", "chain", 0).stream(Lane.CRITICAL), count_max=9)
    failed = decode(letter)
    assert isinstance(failed, HandlerFailed)
    assert "later.7 is not known" in failed.error


def test_types_that_are_not_wanted_are_passed_over() -> None:
    class OnlyGaps(Chain):
        types = frozenset({"gap_healed"})

    log, claim = world()
    log.append(claim, [clock(1), gap(2), NewEntry(Lane.NORMAL, "later.7", "k", b"{}"), gap(3)])
    task = owned(log, OnlyGaps)
    assert task.step().entries == 4
    assert derived(log) == expected([2, 3])


def test_an_urgent_call_ends_the_batch_after_the_entry_at_hand() -> None:
    log, claim = world()
    log.append(claim, [clock(n) for n in range(10)])
    task = owned(log)
    assert task.step(urgent=lambda: True).entries == 1
    while task.step().entries:
        pass
    assert derived(log) == expected(range(10))


def test_the_mirror_shows_offsets_of_a_group_that_came_late() -> None:
    log, claim = world()
    log.append(claim, [clock(n) for n in range(10)])
    task = owned(log, entries_max=4)
    task.step()
    task.mirror()
    group = log.groups(SOURCE.stream(Lane.NORMAL))["chain.0"]
    assert (group.entries_read, group.lag) == (4, 6)


def test_a_group_reads_what_it_declares() -> None:
    class Everything(Handler):
        tasks = 1
        inputs = Inputs(writers=("source", "risk"), lanes=(Lane.NORMAL,))

    class PerPartition(Handler):
        inputs = Inputs(lanes=(Lane.NORMAL,), account=True)

    log = MemoryLog()
    for name in ("a", "b"):
        log.open_namespace(name, 2)
    log.tasks.open_group("a", "risk", 1)
    one, other = Group("g", Everything).specs(log)
    assert [str(s) for s in one.inputs] == [
        "{a:risk:0}:normal", "{a:source:0}:normal", "{a:source:1}:normal",
    ]  # fmt: skip
    assert len(other.inputs) == 2
    assert one.journals(Order.LOG)
    [zero, last] = Group("g", PerPartition, namespaces=("b",)).specs(log)
    assert zero.slot == Slot("b", "g", 0)
    assert [str(stream) for stream in last.inputs] == [
        "{b:source:0}:critical", "{b:source:0}:high", "{b:source:1}:normal",
    ]  # fmt: skip


@given(seed=st.integers(0, 2**32), counts=st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_no_count_no_writer_and_no_moment_of_reading_inverts_the_order(
    seed: int, counts: list[int]
) -> None:
    """Random appends between reads with random COUNTs: ids never go down within the slot."""
    chance = random.Random(seed)
    log, claim = world()
    after = {SOURCE.stream(lane): BEGIN for lane in LANES}
    seen: list[EntryId] = []
    appended = 0
    for count in [*counts, *([50] * 60)]:
        if appended < 200:
            batch = [
                NewEntry(chance.choice(LANES), "t.1", "k", b"") for _ in range(chance.randrange(8))
            ]
            appended += len(log.append(claim, batch).ids)
        reading = Reading(log, list(after), Order.LOG, entries_max=count)
        for entry in reading.batch(after):
            seen.append(entry.id)
            after[entry.stream] = entry.id
    assert seen == sorted(seen)
    assert len(seen) == appended


def test_no_batch_that_grows_or_shrinks_inverts_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small entries after large ones: a lane is full by the count it was asked with."""
    monkeypatch.setattr("consumers.runtime.reading.BATCH_BYTES_AIM", 400)
    log, claim = world()
    for size in [150] * 12 + [1] * 60 + [150] * 12:
        log.append(claim, [NewEntry(LANES[0], "t.1", "k", b"x" * size)] * 3)
        log.append(claim, [NewEntry(LANES[-1], "t.1", "k", b"")])
    after = {SOURCE.stream(lane): BEGIN for lane in LANES}
    reading = Reading(log, list(after), Order.LOG, entries_max=16)
    seen: list[EntryId] = []
    while batch := reading.batch(after):
        seen += [entry.id for entry in batch]
        after |= {entry.stream: entry.id for entry in batch}
    assert seen == sorted(seen)
    assert len(seen) == 4 * 84


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False)
    | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=9,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=5), values, max_size=6))
def test_state_comes_back_as_it_was_put(content: dict[str, Any]) -> None:
    state = State()
    state.update(content)
    changed, removed = state.changes()
    assert removed == []
    assert dict(State(changed)) == content
    assert list(State(changed)) == sorted(content)


def test_only_what_changed_is_written_even_when_changed_in_place() -> None:
    state = State()
    state["a"], state["b"] = {"n": 1}, [1]
    state.settle(*state.changes())
    state["a"]["n"] = 2
    assert state["b"] == [1]
    changed, removed = state.changes()
    assert (list(changed), removed) == (["a"], [])
    state.settle(changed, removed)
    del state["b"]
    assert state.changes() == ({}, ["b"])
    state.discard()
    assert dict(state) == {"a": {"n": 2}, "b": [1]}


@pytest.mark.parametrize("value", [(1, 2), {1, 2}, object(), 2**70, {"deep": [(1,)]}])
def test_what_would_come_back_as_something_else_is_refused(value: object) -> None:
    state = State()
    state["key"] = value
    with pytest.raises(UnstorableState, match="'key' cannot be stored"):
        state.changes()


def test_journal_rows_read_back() -> None:
    ends = {Stream(SOURCE, lane): EntryId(5, int(lane)) for lane in LANES}
    step = JournalStep("3", ends, (Note(Deed.SKIPPED, f"{SOURCE.stream(Lane.HIGH)}@5-1", "why"),))
    assert JournalStep.from_bytes(step.to_bytes()) == step

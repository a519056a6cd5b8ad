"""Deriving again: what ran is compared to the byte, other code takes over, snapshots bound it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.failures.request import Action, Request
from consumers.replay.verification import TaskVerification, verify_task
from consumers.risk import RiskHandler
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler, Order
from consumers.runtime.rederive.snapshots import Snapshots
from consumers.runtime.rederive.starts import snapshot_starts
from consumers.runtime.rederive.upgrade import Upgrade, UpgradeProgress, upgraded
from consumers.runtime.task import TaskRun
from events.codec import AnyEvent, decode, encode
from events.decisions import TradeSignal
from events.log import Claim, Entry, EntryId, Lane, NewEntry, Slot
from events.memory_log import MemoryLog
from events.offset import Offset
from events.operations import ClockTick, GapHealed, HandlerFailed, HandlerUpgraded
from events.tasks import SNAPSHOTS_MAX
from events.trading import Account
from tests.golden import sample_model

SOURCE, OWN = Slot("demo", "source", 0), Slot("demo", "chain", 0)


class Chain(Handler):
    """Every output depends on every entry before it."""

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        assert isinstance(event, ClockTick | GapHealed)
        if isinstance(event, GapHealed) and event.reason == "poison":
            self.state["chain"] = [0, 0]
            raise ZeroDivisionError("cannot bear it")
        count, chain = self.state.get("chain", [0, 0])
        chain = (chain * 1_000_003 + event.event_time_ms) % 2**61
        self.state["chain"] = [count + 1, chain]
        yield self.told(event, f"{count + 1}:{chain}")

    def told(self, event: ClockTick | GapHealed, reason: str) -> TradeSignal:
        return TradeSignal(
            event_time_ms=event.event_time_ms, strategy="chain", symbol="X", target="flat",
            reason=reason,
        )  # fmt: skip


class ByPriority(Chain):
    order: ClassVar[Order] = Order.PRIORITY


class OverPartitions(Chain):
    tasks: ClassVar[int | None] = 1


class Strict(Chain):
    halts_on: ClassVar[frozenset[str]] = frozenset({"gap_healed"})


class Gated(Chain):
    """Bears poison once a gate was opened: a retry may succeed, and where it does matters."""

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        assert isinstance(event, ClockTick | GapHealed)
        if isinstance(event, GapHealed) and event.reason == "poison" and "open" in self.state:
            event = event.model_copy(update={"reason": ""})
        if event.event_time_ms % 29 == 7:
            self.state["open"] = True
        yield from super().handle(event)


class GatedByPriority(Gated):
    order: ClassVar[Order] = Order.PRIORITY


class GatedStrictly(Gated):
    halts_on: ClassVar[frozenset[str]] = frozenset({"gap_healed"})


class GatedStrictlyByPriority(GatedStrictly):
    order: ClassVar[Order] = Order.PRIORITY


class Second(Chain):
    version: ClassVar[str] = "2"

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        assert isinstance(event, ClockTick | GapHealed)
        total = self.state["total"] = self.state.get("total", 0) + event.event_time_ms
        yield self.told(event, f"sum {total}")


class Clocked(Chain):
    """Impure: the time of day stands in what it derives."""

    def told(self, event: ClockTick | GapHealed, reason: str) -> TradeSignal:
        return super().told(event, f"{reason} at {time.perf_counter_ns()}")


class Thrown(Chain):
    """Impure: dice."""

    def told(self, event: ClockTick | GapHealed, reason: str) -> TradeSignal:
        return super().told(event, f"{reason} {random.random()}")


class Remembering(Chain):
    """Impure: it remembers beside its state, so a hand-over changes what it derives."""

    def setup(self) -> None:
        self.seen = 0

    def told(self, event: ClockTick | GapHealed, reason: str) -> TradeSignal:
        self.seen += 1
        return super().told(event, f"{reason} #{self.seen}")


class World:
    """A log with one terminal, and a group's tasks as they run."""

    def __init__(self, handler: type[Handler] = Chain, *, partitions: int = 1) -> None:
        self.log = MemoryLog(now_ms=lambda: 1_000)
        self.log.open_namespace("demo", partitions)
        self.claims = [
            self.log.claim(Slot("demo", "source", n), "test", alive_within_s=0)
            for n in range(partitions)
        ]
        self.group = Group("chain", handler)

    @property
    def spec(self) -> Any:
        return self.group.specs(self.log)[0]

    def append(self, entries: list[NewEntry], partition: int = 0) -> None:
        for at in range(0, len(entries), 500):
            self.log.append(self.claims[partition], entries[at : at + 500])

    def taken(self) -> tuple[Claim, Any]:
        slot = self.spec.slot
        taken = self.log.tasks.acquire(slot, "me", seen=self.log.tasks.look([slot])[0].token)
        assert taken is not None
        return taken

    def task(self, **more: Any) -> TaskRun:
        return TaskRun(self.log, self.group, self.spec, *self.taken(), **more)

    def run(self, task: TaskRun | None = None, **more: Any) -> TaskRun:
        task = task or self.task(**more)
        while task.step().entries:
            pass
        return task

    def upgrade(self, handler: type[Handler], policy: Upgrade = Upgrade.DERIVE) -> Any:
        self.group = Group("chain", handler)
        claim, record = self.taken()
        return upgraded(self.log, self.group, self.spec, claim, record, policy=policy)

    def verified(self) -> TaskVerification:
        return verify_task(self.log, self.group, self.spec)

    def outputs(self) -> list[Entry]:
        lanes = [self.log.between(OWN.stream(lane), count_max=10**6) for lane in Lane]
        return sorted((entry for lane in lanes for entry in lane), key=lambda entry: entry.id)

    def tamper(self, ordinal: int, **change: Any) -> None:
        """Change a recorded output behind everybody's back."""
        for lane in Lane:
            entries = self.log.stream(OWN.stream(lane)).entries
            for at, entry in enumerate(entries):
                if entry.id.seq == ordinal:
                    entries[at] = entry._replace(**change)

    def trim(self, stream_lane: Lane, below: EntryId) -> None:
        self.log.retained.trim(SOURCE.stream(stream_lane), below, ())


def clock(number: int) -> NewEntry:
    return encode(ClockTick(event_time_ms=number))


def gap(number: int, reason: str = "") -> NewEntry:
    return encode(
        GapHealed(event_time_ms=number, symbol="X", reason=reason, from_ms=0, until_ms=1, ticks=0)
    )


def mixed(count: int, first: int = 0, poison: int = 0) -> list[NewEntry]:
    return [
        gap(n, "poison") if poison and n % poison == 2 else gap(n) if n % 3 == 0 else clock(n)
        for n in range(first, first + count)
    ]


@pytest.mark.parametrize("handler", [Chain, ByPriority, OverPartitions])
def test_a_run_derives_again_to_the_byte(handler: type[Handler]) -> None:
    world = World(handler, partitions=2 if handler is OverPartitions else 1)
    for round_ in range(6):
        world.append(mixed(40, round_ * 40, poison=17))
        if handler is OverPartitions:
            world.append(mixed(25, round_ * 25), partition=1)
        world.run(entries_max=7 + round_)
    found = world.verified()
    assert (found.problem, found.first, found.state) == ("", None, [])
    assert found.equal == len(world.outputs()) > 200
    assert found.began == "the beginning of the task"
    assert found.good
    assert found.as_json()["good"] is True


@pytest.mark.parametrize("handler", [Clocked, Thrown, Remembering])
def test_a_handler_that_is_not_pure_is_caught(handler: type[Handler]) -> None:
    world = World(handler)
    world.append(mixed(20))
    world.run()
    world.append(mixed(20, 20))
    world.run()
    found = world.verified()
    assert not found.good
    assert found.different > 0
    assert found.first is not None
    assert found.first.what == "other data"
    assert found.first.causes[0].startswith("{demo:source:0}:")


def test_the_first_difference_is_told_with_both_events() -> None:
    world = World()
    world.append(mixed(30))
    world.run()
    forged = TradeSignal(
        event_time_ms=1, strategy="chain", symbol="X", target="long", reason="forged"
    )
    world.tamper(12, data=forged.model_dump_json().encode())
    found = world.verified()
    assert (found.equal, found.different, found.missing, found.extra) == (29, 1, 0, 0)
    assert found.first is not None
    assert found.first.ordinal == 12
    assert decode(found.first.recorded or pytest.fail("nothing recorded")) == forged
    shown = found.as_json()["first_difference"]
    assert shown["recorded"]["event"]["reason"] == "forged"
    assert shown["derived"]["event"]["reason"].startswith("12:")


@pytest.mark.parametrize("change", [{"key": "Y"}, {"type": "trade_signal.2"}, {"cause": ""}])
def test_every_part_of_an_output_is_compared(change: dict[str, str]) -> None:
    world = World()
    world.append(mixed(9))
    world.run()
    world.tamper(5, **change)
    found = world.verified()
    assert found.different == 1
    assert found.first is not None
    assert found.first.what == f"other {next(iter(change))}"


def test_a_dead_letter_whose_traceback_moved_is_no_difference_and_another_error_is() -> None:
    world = World()
    world.append([gap(1, "poison"), gap(2, "poison"), clock(3)])
    world.run()
    for ordinal, change in ((1, {"traceback": "file.py:1 in handle"}), (2, {"error": "another"})):
        failed = decode(world.outputs()[ordinal - 1])
        assert isinstance(failed, HandlerFailed)
        world.tamper(ordinal, data=failed.model_copy(update=change).model_dump_json().encode())
    found = world.verified()
    assert (found.retold, found.different, found.equal) == (1, 1, 1)
    assert found.first is not None
    assert found.first.ordinal == 2


def test_a_hole_in_the_log_is_told_and_passed_by_a_younger_snapshot() -> None:
    now = [0.0]
    world = World()
    world.append([clock(n) for n in range(20)])
    task = world.task(entries_max=5, monotonic=lambda: now[0])
    world.run(task)
    world.append([clock(n) for n in range(20, 30)])
    before = world.verified()
    assert before.good
    now[0] = 601.0
    world.run(task)
    world.append([clock(n) for n in range(30, 40)])
    world.run(task)
    state = world.log.stream(SOURCE.stream(Lane.NORMAL))
    del state.ids[10:12], state.entries[10:12]
    found = world.verified()
    assert found.began.startswith("the snapshot after commit")
    assert (found.problem, found.first) == ("", None)
    del state.ids[-2:], state.entries[-2:]
    assert "are kept of the" in world.verified().problem
    assert world.verified().same


def test_lost_and_added_outputs_are_differences() -> None:
    world = World()
    world.append([clock(n) for n in range(10)])
    world.run()
    state = world.log.stream(OWN.stream(Lane.NORMAL))
    del state.ids[4], state.entries[4]
    found = world.verified()
    assert (found.equal, found.missing, found.extra) == (9, 1, 0)
    assert found.first is not None
    assert found.first.what == "derived now, but not at the time"


def test_state_that_came_out_otherwise_is_told() -> None:
    world = World()
    world.append(mixed(9))
    task = world.run()
    task._deriving.state["chain"] = [1, 1]  # as a bug would
    task._deriving._changes = task._deriving.state.changes()
    task.halt("spoiled")
    found = world.verified()
    assert found.equal == 9
    assert [one.key for one in found.state] == ["chain"]
    assert found.state[0].recorded == [1, 1]
    assert not found.good


def test_growth_while_verifying_is_left_to_the_next_time() -> None:
    world = World()
    world.append(mixed(1_200))
    world.run()
    task = world.task()
    grown: list[int] = []

    def grow(done: int, of: int) -> None:
        if not grown:
            grown.append(of)
            world.append(mixed(30, 5_000))
            world.run(task)

    found = verify_task(world.log, world.group, world.spec, told=grow)
    assert grown == [1_200]
    assert (found.equal, found.good) == (1_200, True)
    assert world.verified().equal == 1_230


def test_a_task_that_never_ran_and_other_code_are_told_and_are_no_differences() -> None:
    world = World()
    assert world.verified().skipped == ["nothing was committed yet"]
    world.append(mixed(5))
    world.run()
    world.group = Group("chain", Second)
    found = world.verified()
    assert found.same
    assert not found.good
    assert "version '1' derived all there is" in found.problem


def test_what_was_trimmed_before_a_group_came_is_no_loss_of_its() -> None:
    world = World()
    world.append(mixed(20))
    world.trim(Lane.NORMAL, EntryId(1_000, 9))
    world.trim(Lane.HIGH, EntryId(1_000, 9))
    world.run()
    world.append(mixed(20, 20))
    world.run()
    found = world.verified()
    assert found.good
    assert found.equal == 31


def test_outputs_that_were_trimmed_are_not_missed() -> None:
    world = World()
    world.append(mixed(20))
    world.run()
    ids = world.log.stream(OWN.stream(Lane.NORMAL)).ids
    world.log.retained.trim(OWN.stream(Lane.NORMAL), ids[8], ())
    found = world.verified()
    assert (found.equal, found.trimmed, found.missing) == (12, 8, 0)
    assert found.good


def test_without_a_beginning_or_a_snapshot_it_says_what_is_missing() -> None:
    world = World()
    world.append(mixed(20))
    world.run()
    world.trim(Lane.NORMAL, EntryId(1_000, 9))
    found = world.verified()
    assert "begins with entry 7 by now, and entry 1 would be needed" in found.problem
    assert not found.good


@pytest.mark.parametrize("handler", [Chain, ByPriority])
def test_a_snapshot_serves_where_the_beginning_is_gone(handler: type[Handler]) -> None:
    now = [0.0]
    world = World(handler)
    world.append(mixed(30))
    task = world.task(monotonic=lambda: now[0])
    world.run(task)
    now[0] = 601.0
    world.append(mixed(30, 30))
    world.run(task)
    assert len(world.log.tasks.snapshots(OWN)) == 1
    world.append(mixed(30, 60))
    world.run(task)
    for lane in (Lane.NORMAL, Lane.HIGH):
        world.trim(lane, EntryId(1_000, 15))
    found = world.verified()
    assert found.began.startswith("the snapshot after commit")
    assert found.good
    assert 30 <= found.equal < 60
    assert "no longer kept whole" in found.skipped[-1]


def test_the_ring_keeps_the_oldest_usable_snapshot_and_bounds_the_journal() -> None:
    world = World(ByPriority)
    task = world.task(entries_max=1)
    task._snapshots = Snapshots(world.log, world.spec, Order.PRIORITY, "1", every_commits=10)
    world.append([clock(n) for n in range(60)])
    world.run(task)
    assert [info.commit for info in world.log.tasks.snapshots(OWN)] == [10, 20, 30, 40, 50, 60]
    assert world.log.tasks.journal(OWN, count_max=1)[0].commit == 1, "a replay can begin there"
    world.append([clock(n) for n in range(60, 400)])
    world.run(task)
    there = [info.commit for info in world.log.tasks.snapshots(OWN)]
    assert len(there) == SNAPSHOTS_MAX
    rows = world.log.tasks.journal(OWN, count_max=10**6)
    assert len(rows) <= 10 * SNAPSHOTS_MAX + 10
    assert rows[0].commit == there[0]
    assert world.verified().good


def test_a_snapshot_is_taken_at_once_where_what_was_read_left_the_log() -> None:
    now = [0.0]
    world = World()
    world.append([clock(n) for n in range(10)])
    task = world.run(world.task(monotonic=lambda: now[0]))
    world.trim(Lane.NORMAL, EntryId(1_000, 10))
    world.append([clock(10)])
    now[0] = 29.0
    world.run(task)
    assert world.log.tasks.snapshots(OWN) == []
    assert "would be needed" in world.verified().problem
    now[0] = 31.0
    world.append([clock(11)])
    world.run(task)
    assert len(world.log.tasks.snapshots(OWN)) == 1
    now[0] = 62.0
    world.append([clock(12)])
    world.run(task)
    assert len(world.log.tasks.snapshots(OWN)) == 1
    assert world.verified().good


def test_snapshots_that_nothing_can_begin_from_go_first() -> None:
    world = World()
    now = [0.0]
    task = world.task(monotonic=lambda: now[0])
    for number in range(SNAPSHOTS_MAX + 3):
        now[0] += 601
        world.append([clock(number)])
        world.run(task)
    there = [info.commit for info in world.log.tasks.snapshots(OWN)]
    assert there[0] == 1, "the oldest is how far back a replay can reach"
    world.trim(Lane.NORMAL, EntryId(1_000, 5))
    now[0] += 601
    world.append([clock(99)])
    world.run(task)
    assert world.log.tasks.snapshots(OWN)[0].commit > 1


def test_an_upgrade_derives_the_state_again_and_says_so() -> None:
    world = World()
    world.append(mixed(30))
    world.run()
    record = world.upgrade(Second)
    assert record.version == "2"
    assert sum(range(30)) == msgpack.unpackb(record.state["total"])
    assert "chain" not in record.state
    said = decode(world.outputs()[-1])
    assert isinstance(said, HandlerUpgraded)
    assert (said.version_before, said.version, said.entries) == ("1", "2", 30)
    world.append(mixed(10, 30))
    world.run()
    event = decode(world.outputs()[-1])
    assert isinstance(event, TradeSignal)
    assert event.reason == f"sum {sum(range(40))}"
    found = world.verified()
    assert found.good
    assert found.equal == 10
    assert found.skipped == ["commits up to 2 by other versions"]


def test_an_upgrade_of_nothing_or_to_the_same_version_changes_nothing() -> None:
    world = World()
    claim, record = world.taken()
    assert upgraded(world.log, world.group, world.spec, claim, record) is record
    world.append(mixed(3))
    world.run()
    assert world.upgrade(Chain).version == "1"
    assert len(world.outputs()) == 3


def test_an_upgrade_that_cannot_derive_halts_and_names_the_cure() -> None:
    world = World()
    world.append(mixed(30))
    world.run()
    world.trim(Lane.NORMAL, EntryId(1_000, 9))
    record = world.upgrade(Second)
    assert record.version == "1"
    assert "--upgrade oldest" in record.halted
    assert "entry 1 would be needed" in record.halted
    world.log.tasks.ask(OWN, "r1", b"anything")
    assert world.task().step().halted == record.halted
    assert world.log.tasks.peek(OWN).version == "1", "nothing is written over the former state"
    again = world.upgrade(Second, Upgrade.OLDEST)
    assert (again.version, again.halted) == ("2", "")
    kept = [n for n in range(30) if n % 3 == 0 or n >= 9]
    assert msgpack.unpackb(again.state["total"]) == sum(kept)


def test_an_upgrade_that_may_not_skip_what_it_does_not_bear_halts() -> None:
    class Strict2(GatedStrictly):
        version = "2"

    world = World(Chain)
    world.append([clock(1), gap(2, "poison"), clock(3)])
    world.run()
    record = world.upgrade(Strict2)
    assert record.version == "1"
    assert "may not be skipped: ZeroDivisionError" in record.halted
    assert "--upgrade keep" in record.halted


def test_an_upgrade_mends_a_task_that_its_former_code_halted() -> None:
    class Mended(GatedStrictly):
        version = "2"

        def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
            if isinstance(event, GapHealed):
                event = event.model_copy(update={"reason": ""})
            yield from super().handle(event)

    world = World(Strict)
    world.append([clock(1), gap(2, "poison"), clock(3)])
    world.run()
    [place] = letter_places(world)
    record = world.upgrade(Mended)
    assert (record.version, record.halted.partition(" ")[0]) == ("2", place)
    ask(world, Action.RETRY, place, 1)
    world.run()
    assert world.task().halted == ""
    found = world.verified()
    assert (found.problem, found.first, found.state) == ("", None, [])
    assert (found.equal, found.given) == (2, 1)


def test_an_upgrade_can_keep_the_state() -> None:
    world = World()
    world.append(mixed(30))
    world.run()
    before = world.log.tasks.peek(OWN)
    record = world.upgrade(Second, Upgrade.KEEP)
    assert record.state == before.state
    assert record.offsets == before.offsets
    assert record.version == "2"


def test_going_back_to_former_code_begins_with_its_snapshot() -> None:
    world = World()
    world.append(mixed(30))
    world.run()
    world.upgrade(Second)
    world.append(mixed(10, 30))
    world.run()
    record = world.upgrade(Chain)
    assert msgpack.unpackb(record.state["chain"])[0] == 40
    assert [start.record.version for start in snapshot_starts(world.log, OWN, "2")] == ["2"]
    world.append(mixed(10, 40))
    world.run()
    found = world.verified()
    assert found.good
    assert found.equal == 10


def test_an_upgrade_keeps_the_lease_and_tells_how_far_it_is() -> None:
    world = World()
    world.append(mixed(1_700))
    world.run()
    world.group = Group("chain", Second)
    claim, record = world.taken()
    beat, now = world.log.tasks.look([OWN])[0].beat, [0.0]
    seen: list[UpgradeProgress] = []

    def tick() -> float:
        now[0] += 0.3
        return now[0]

    upgraded(world.log, world.group, world.spec, claim, record, told=seen.append, monotonic=tick)
    assert [one.entries for one in seen] == sorted(one.entries for one in seen)
    assert seen[-1].entries == 1_700
    assert {one.entries_all for one in seen} == {1_700}
    assert world.log.tasks.look([OWN])[0].beat >= beat + 4


def test_a_halted_task_derives_again_its_halt() -> None:
    world = World(Strict)
    world.append([clock(1), gap(2), gap(3, "poison"), clock(4)])
    world.run()
    found = world.verified()
    assert (found.equal, found.problem, found.first) == (3, "", None)


def test_risk_figures_derive_again() -> None:
    world = World(RiskHandler)
    account = sample_model(Account)
    assert isinstance(account, Account)
    for number in range(40):
        seen = account.model_copy(update={"equity": 1_000.0 + number % 7, "event_time_ms": number})
        world.append([encode(seen), clock(number)])
        world.run(entries_max=3)
    found = world.verified()
    assert (found.good, found.equal) == (True, 40)


def ask(world: World, action: Action, place: str, number: int) -> None:
    request = Request(f"r{number}", action, place, "me", "why not", 7)
    world.log.tasks.ask(OWN, request.id, request.to_bytes())


def letter_places(world: World) -> list[str]:
    return [entry.cause for entry in world.outputs() if entry.type == "handler_failed.1"] or [
        "{demo:source:0}:high@1-1"
    ]


@pytest.mark.parametrize("handler", [GatedStrictly, GatedStrictlyByPriority])
@pytest.mark.parametrize("action", list(Action))
def test_what_operators_did_to_a_halted_task_is_done_again(
    handler: type[Handler], action: Action
) -> None:
    world = World(handler)
    world.append([clock(1), gap(2), gap(3, "poison"), clock(4), gap(5)])
    world.run()
    [place] = letter_places(world)
    ask(world, Action.RETRY, place, 1)  # fails again: it is halted still
    world.run()
    ask(world, action, place, 2)
    if action is Action.RETRY:  # fails a third time
        world.run()
        ask(world, Action.DROP, place, 3)
    world.run()
    assert world.task().halted == ""
    found = world.verified()
    assert (found.problem, found.first, found.state) == ("", None, [])
    assert found.equal + found.given == len(world.outputs())
    assert found.given == (3 if action is Action.RETRY else 2)


def quarantine_next(world: World) -> None:
    """Two owners died over the next entry, as far as the task can tell."""
    claim, record = world.taken()
    for stream in world.spec.inputs:
        at = record.offsets.get(stream, Offset()).last
        for entry in world.log.between(stream, at.next(), count_max=1):
            world.log.tasks.trying(claim, f"{entry.place}|2|elsewhere")


@pytest.mark.parametrize("handler", [Gated, GatedByPriority, GatedStrictly])
def test_an_entry_that_killed_processes_is_not_handled_again(handler: type[Handler]) -> None:
    world = World(handler)
    world.append([clock(1), gap(2)])
    world.run()
    world.append([clock(3), clock(4), gap(6)])
    quarantine_next(world)
    world.run()
    found = world.verified()
    assert (found.problem, found.first, found.state) == ("", None, [])
    assert found.given == 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_random_lives_of_a_task_derive_again(seed: int) -> None:
    """Random orders, batches, owners, poison, halts, requests, quarantines and snapshots."""
    chance = random.Random(seed)
    handler = chance.choice(
        [Gated, GatedByPriority, GatedStrictly, GatedStrictlyByPriority, OverPartitions]
    )
    partitions = 2 if handler is OverPartitions else 1
    world, now = World(handler, partitions=partitions), [0.0]
    appended = 0
    for round_ in range(chance.randrange(1, 25)):
        count = chance.randrange(0, 40)
        entries = mixed(count, appended, poison=chance.choice([0, 13]))
        world.append(entries, chance.randrange(partitions))
        appended += count
        now[0] += chance.choice([1, 300])
        if chance.random() < 0.3:
            ask(world, chance.choice(list(Action)), chance.choice(letter_places(world)), round_)
        if chance.random() < 0.1:
            quarantine_next(world)
        task = world.task(entries_max=chance.randrange(1, 60), monotonic=lambda: now[0])
        for _ in range(chance.randrange(0, 6)):
            task.step(urgent=lambda: chance.random() < 0.1)
            now[0] += chance.choice([1, 700])
    found = world.verified()
    assert found.good, (seed, found)
    assert found.equal + found.given == len(world.outputs()), seed

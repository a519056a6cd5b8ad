"""Workers on a log in memory and a clock of their own: sharing, leases, hand-over, trouble."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from consumers.runtime.group import Group
from consumers.runtime.handler import Handler, Inputs
from consumers.runtime.sharing import share, takes, worker_name
from consumers.workers.beating import Beater
from consumers.workers.beginning import Begin
from consumers.workers.ownership import LOOK_CALM_S, LOOK_MISSING_S
from consumers.workers.status import is_done, look
from consumers.workers.taking import WorkerOptions
from consumers.workers.worker import SPECS_S, GroupRefused, Worker
from events.codec import AnyEvent, decode, encode
from events.decisions import TradeSignal
from events.log import Claim, Lane, LogUnavailable, Slot, Stream, StreamInfo
from events.memory_log import MemoryLog
from events.operations import ClockTick
from events.retention import Limits, Retention, SegmentFolder, WholeLog

LEASE_S = 1.0
STEP_S = 0.01


class Chain(Handler):
    """Every output depends on every entry before it, so that any loss or swap shows."""

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        count, chain = self.state.get("chain", [0, 0])
        chain = (chain * 1_000_003 + event.event_time_ms) % 2**61
        self.state["chain"] = [count + 1, chain]
        yield TradeSignal(
            event_time_ms=event.event_time_ms, strategy="chain", symbol="X", target="flat",
            reason=f"{count + 1}:{chain}",
        )  # fmt: skip


class NeedsAll(Chain):
    """Follows what group `chain` derives, too."""

    inputs: ClassVar[Inputs] = Inputs(writers=("source", "chain"))


class Everywhere(Chain):
    """One task over all terminals."""

    inputs: ClassVar[Inputs] = Inputs(namespaces_together=True)


class Broken(Chain):
    """Its code does not even begin."""

    broken: ClassVar[bool] = True

    def setup(self) -> None:
        if Broken.broken:
            raise ImportError("no such model")


def expected(count: int) -> list[str]:
    chain, reasons = 0, []
    for number in range(count):
        chain = (chain * 1_000_003 + number) % 2**61
        reasons.append(f"{number + 1}:{chain}")
    return reasons


class AwayLog(MemoryLog):
    """A log that does not answer while it is away."""

    away = False

    def read(self, *args: Any, **more: Any) -> Any:
        self._answer()
        return super().read(*args, **more)

    def beat(self, claim: Claim) -> None:
        self._answer()
        super().beat(claim)

    def namespaces(self) -> dict[str, int]:
        self._answer()
        return super().namespaces()

    def _answer(self) -> None:
        if self.away:
            raise LogUnavailable("no answer from the log")


@dataclass
class World:
    """A group, its log, and workers that are stepped by hand on one clock."""

    handler: type[Handler] = Chain
    partitions: int = 4
    now_s: float = 1_000.0
    workers: dict[str, Worker] = field(default_factory=dict)
    log: AwayLog = field(init=False)
    claims: list[Claim] = field(default_factory=list)
    appended: int = 0

    def __post_init__(self) -> None:
        self.log = AwayLog(now_ms=lambda: int(self.now_s * 1000), monotonic=self.monotonic)
        self.open("demo")

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def open(self, namespace: str) -> None:
        self.log.open_namespace(namespace, self.partitions)
        for number in range(self.partitions):
            slot = Slot(namespace, "source", number)
            self.claims.append(self.log.claim(slot, "feed", alive_within_s=0))

    def append(self, count: int) -> None:
        """The same entries to every partition."""
        numbers = range(self.appended, self.appended + count)
        for claim in self.claims:
            self.log.append(claim, [encode(ClockTick(event_time_ms=n)) for n in numbers])
        self.appended += count

    def start(self, name: str, *, namespaces: tuple[str, ...] = (), **options: Any) -> Worker:
        group = Group("chain", self.handler, namespaces=namespaces)
        self.workers[name] = Worker(
            self.log, group, WorkerOptions(name, lease_s=LEASE_S, entries_max=7, **options),
            monotonic=self.monotonic, sleep=self.sleep, chance=random.Random(1),
        )  # fmt: skip
        return self.workers[name]

    def run(self, seconds: float, *names: str, until: Callable[[], bool] = lambda: False) -> float:
        """Step all workers (or these) in turn; how long it took."""
        begun = self.now_s
        while self.now_s < begun + seconds and not until():
            for name in names or tuple(self.workers):
                self.workers[name].beater.round()
                self.workers[name].turn()
            self.now_s += STEP_S
        return self.now_s - begun

    def sizes(self) -> list[int]:
        return [len(worker.owned) for worker in self.workers.values()]

    def holders(self) -> set[str]:
        slots = [spec.slot for spec in Group("chain", self.handler).specs(self.log)]
        return {holding.holder.partition("/")[0] for holding in self.log.tasks.look(slots)}

    def derived(self, namespace: str = "demo", partition: int = 0) -> list[str]:
        stream = Slot(namespace, "chain", partition).stream(Lane.NORMAL)
        found = [decode(entry) for entry in self.log.between(stream, count_max=10**6)]
        return [event.reason for event in found if isinstance(event, TradeSignal)]

    def check(self) -> None:
        """Every task has handled every entry once, in order."""
        for claim in self.claims:
            slot = claim.slot
            assert self.derived(slot.namespace, slot.partition) == expected(self.appended)


def test_one_worker_takes_every_task_and_handles_everything() -> None:
    world = World()
    world.append(50)
    world.start("a")
    world.run(0.5)
    assert world.sizes() == [4]
    world.check()


def test_workers_that_come_get_their_share_and_those_who_leave_give_it_up_at_once() -> None:
    world = World()
    world.start("a")
    world.run(1)
    for name, sizes in (("b", [2, 2]), ("c", [2, 1, 1]), ("d", [1, 1, 1, 1])):
        world.start(name)
        took_s = world.run(2, until=lambda wanted=sizes: sorted(world.sizes()) == sorted(wanted))  # type: ignore[misc] # mypy cannot infer
        assert took_s < 0.5, (name, world.sizes())
        world.append(20)
    leaver = world.workers.pop("a")
    leaver.leave()
    assert leaver.owned == {}
    took_s = world.run(2, until=lambda: sum(world.sizes()) == 4)
    assert took_s <= 0.2, "nobody waits for a lease that was given up"
    world.run(0.5)
    world.check()


def test_a_dead_worker_is_replaced_after_its_lease_and_not_before() -> None:
    world = World()
    world.start("a")
    world.run(0.3)
    world.start("b")
    world.run(1, until=lambda: world.sizes() == [2, 2])
    world.run(1)
    world.append(30)
    took_s = world.run(5, "b", until=lambda: len(world.workers["b"].owned) == 4)
    assert LEASE_S - 0.01 <= took_s <= 1.25 * LEASE_S + 0.2
    world.run(0.5, "b")
    world.check()


def test_a_slow_batch_costs_no_lease_as_long_as_heartbeats_come() -> None:
    world = World()
    world.start("a")
    world.run(0.3)
    world.start("b")
    world.run(1, until=lambda: world.sizes() == [2, 2])
    slow = world.workers["a"]
    begun = world.now_s
    while world.now_s < begun + 3 * LEASE_S:
        slow.beater.round()
        world.run(0.1, "b")
    assert world.sizes() == [2, 2]


def test_a_worker_that_was_replaced_is_fenced_and_harms_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(partitions=1)
    world.append(20)
    sleeper = world.start("a")
    world.run(0.02)
    world.append(20)
    world.start("b")
    world.run(2, "b", until=lambda: bool(world.workers["b"].owned))
    world.run(0.5, "b")
    assert sleeper.owned, "it still believes that the task is its own"
    world.append(20)
    with caplog.at_level(logging.WARNING):
        sleeper.turn()
    assert sleeper.progress.fenced == 1
    assert "fenced" in caplog.text
    assert not sleeper.owned
    world.run(1)
    world.check()
    assert world.sizes() == [0, 1], "the one who has it keeps it"


def test_a_heartbeat_notices_the_fence_without_a_commit() -> None:
    world = World(partitions=1)
    sleeper = world.start("a")
    world.run(0.1)
    world.start("b")
    world.run(2, "b")
    sleeper.beater.round()
    sleeper.turn()
    assert (sleeper.progress.fenced, len(sleeper.owned)) == (1, 0)


def test_a_log_that_is_away_is_waited_for_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    worker = world.start("a")
    world.run(0.2)
    world.append(30)
    world.log.away = True
    with caplog.at_level(logging.INFO):
        begun = world.now_s
        while world.now_s < begun + 20:
            if not worker.turn():
                worker.wait()
        assert worker.owned == {}
        assert worker.progress.waiting == "no answer from the log"
        world.log.away = False
        world.run(6)
    told = [r.message for r in caplog.records if "waiting" in r.message]
    assert len(told) == 1
    assert "answers again" in caplog.text
    world.check()
    assert world.log.tasks.peek(Slot("demo", "chain", 0)).attempts == 0, "nobody died"


def test_time_in_which_the_log_did_not_answer_breaks_no_lease() -> None:
    world = World()
    world.start("a")
    world.run(0.3)
    world.start("b")
    world.run(1)
    owned = [set(worker.owned) for worker in world.workers.values()]
    world.log.away = True
    world.now_s += 30
    world.log.away = False
    world.workers["b"].turn()
    world.workers["a"].beater.round()
    world.run(3)
    assert [set(worker.owned) for worker in world.workers.values()] == owned


def test_a_new_terminal_is_found_and_its_readers_are_registered_first() -> None:
    world = World(partitions=2)
    world.start("a")
    world.append(5)
    world.run(0.2)
    world.open("second")
    for claim in world.claims[2:]:
        world.log.append(claim, [encode(ClockTick(event_time_ms=n)) for n in range(5)])
    world.run(SPECS_S + 0.5)
    world.check()
    readers = world.log.tasks.readers("second")
    assert readers[Slot("second", "source", 1).stream(Lane.NORMAL)] == {"chain.1"}
    assert world.log.tasks.writers("second")["chain"] == 2


def test_a_task_over_all_terminals_stays_where_it_began_when_another_comes() -> None:
    world = World(Everywhere, partitions=1)
    worker = world.start("a")
    world.append(5)
    world.run(0.2)
    world.open("another")  # its name comes before that of the first
    world.append(5)
    world.run(SPECS_S + 0.5)
    [run] = worker.owned.values()
    assert run.spec.slot == Slot("demo", "chain", 0)
    assert {stream.slot.namespace for stream in run.ends} == {"another", "demo"}
    assert len(world.derived()) == 5 + 5 + 5
    assert "chain" not in world.log.tasks.writers("another")


def test_a_writer_that_comes_later_is_read_too() -> None:
    world = World(NeedsAll, partitions=1)
    world.log.tasks.open_group("demo", "other", 1)
    follower = Worker(
        world.log, Group("other", NeedsAll), WorkerOptions("f", lease_s=LEASE_S),
        monotonic=world.monotonic, sleep=world.sleep,
    )  # fmt: skip
    world.workers["f"] = follower
    world.append(5)
    world.run(0.5)
    [run] = follower.owned.values()
    assert {stream.slot.writer for stream in run.ends} == {"source"}
    world.handler = Chain
    world.start("a")
    world.run(SPECS_S + 0.5)
    [run] = follower.owned.values()
    assert {stream.slot.writer for stream in run.ends} == {"source", "chain"}
    assert follower.progress.tasks[Slot("demo", "other", 0)].entries == 10


def test_a_new_group_may_begin_with_what_comes_next() -> None:
    world = World(partitions=1)
    world.append(20)
    world.start("a", begin=Begin.NEWEST)
    world.run(0.2)
    assert world.derived() == []
    world.append(3)
    world.run(0.2)
    assert len(world.derived()) == 3
    world.workers.pop("a").leave()
    world.append(2)
    world.start("b", begin=Begin.NEWEST)
    world.run(0.2)
    assert len(world.derived()) == 5, "one that ran goes on where it was"


def test_a_stream_that_was_cut_halts_its_task_alone_and_for_good() -> None:
    world = World(partitions=2)
    world.append(20)
    world.start("a")
    world.run(0.2)
    world.workers.pop("a").leave()
    world.log.drop(Slot("demo", "source", 1).stream(Lane.NORMAL))
    heir = world.start("b")
    world.append(1)
    world.run(0.5)
    assert list(heir.progress.halted) == [Slot("demo", "chain", 1)]
    assert "bridgectl repair" in heir.progress.halted[Slot("demo", "chain", 1)]
    assert len(world.derived(partition=0)) == 21
    assert len(world.derived(partition=1)) == 20
    assert world.log.tasks.look([Slot("demo", "chain", 1)])[0].halted
    assert is_done(look(world.log, Group("chain", Chain)))


def test_entries_that_were_spilled_are_not_done_and_are_read_from_disk(tmp_path: Path) -> None:
    world = World(partitions=1)
    world.log.tasks.open_group("demo", "chain", 1)
    world.log.tasks.join("chain.0", Slot("demo", "source", 0).streams())
    for _ in range(4):
        world.append(500)
        world.now_s += 60
    folder = SegmentFolder(tmp_path, bytes_max=1 << 30)
    retention = Retention(world.log, folder, Limits(memory_bytes_max=1_000))
    for _ in range(20):
        retention.keep(Slot("demo", "source", 0))
    whole, group = WholeLog(world.log, folder), Group("chain", Chain)
    assert world.log.info(Slot("demo", "source", 0).stream(Lane.NORMAL)).length < 500
    assert not is_done(look(whole, group))
    world.workers["a"] = Worker(
        whole, group, WorkerOptions("a", lease_s=LEASE_S),
        monotonic=world.monotonic, sleep=world.sleep,
    )  # fmt: skip
    world.run(3)
    world.check()
    assert is_done(look(whole, group))


def test_code_that_does_not_begin_is_tried_again_and_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broken, "broken", True)
    world = World(Broken, partitions=1)
    world.append(5)
    world.start("a")
    world.run(10)
    assert len([r for r in caplog.records if "cannot go on" in r.message]) == 1
    monkeypatch.setattr(Broken, "broken", False)
    world.run(6)
    world.check()


def test_a_group_with_another_number_of_tasks_is_refused_for_good() -> None:
    world = World(partitions=2)
    world.log.tasks.open_group("demo", "chain", 3)
    with pytest.raises(GroupRefused, match="has 3 tasks in 'demo', not 2"):
        world.start("a").turn()


def test_a_log_that_goes_away_while_a_task_is_taken_leaves_nobody_vouching_for_it() -> None:
    world = World(partitions=1)
    worker = world.start("a")
    asked = world.log.info

    def away_once_it_is_ours(stream: Stream) -> StreamInfo:
        if world.log.tasks.look([Slot("demo", "chain", 0)])[0].token:
            raise LogUnavailable("no answer from the log")
        return asked(stream)

    world.log.info = away_once_it_is_ours  # type: ignore[method-assign]
    world.run(1)
    assert not worker.owned
    [before] = world.log.tasks.look([Slot("demo", "chain", 0)])
    worker.beater.round()
    [after] = world.log.tasks.look([Slot("demo", "chain", 0)])
    assert before.beat == after.beat, "no heartbeat for what is not in hand"
    world.log.info = asked  # type: ignore[method-assign]
    world.append(5)
    world.run(6)
    world.check()


def test_a_loop_that_stands_still_is_no_longer_vouched_for() -> None:
    world = World(partitions=1)
    worker = world.start("a", handle_s_max=5.0)
    world.run(0.1)
    worker.beater.round()
    [holding] = world.log.tasks.look([Slot("demo", "chain", 0)])
    world.now_s += 4.9
    assert worker.beater.round()
    world.now_s += 0.2
    assert not worker.beater.round()
    [now] = world.log.tasks.look([Slot("demo", "chain", 0)])
    assert now.beat == holding.beat + 1


def test_the_process_of_a_loop_that_hangs_ends() -> None:
    log = MemoryLog()
    said: list[str] = []
    beater = Beater(
        log, "chain", "me", lease_s=0.5, hang_s=0.05, on_hang=said.append,
    )  # fmt: skip
    beater.busy_with = "{demo:chain:0}"
    beater.start()
    beater._thread.join(5)
    assert said == [
        "chain: {demo:chain:0} did not end within 0.05 s: this process ends, so that another can "
        "go on"
    ]
    beater.stop()


def test_a_worker_for_some_namespaces_leaves_no_task_of_others_to_nobody() -> None:
    world = World(partitions=2)
    world.open("second")
    world.start("all")
    world.start("some", namespaces=("second",))
    world.run(2)
    assert sorted(world.sizes()) == [2, 2] or world.sizes() == [3, 1]
    owned = {slot for worker in world.workers.values() for slot in worker.owned}
    assert len(owned) == 4
    assert {slot.namespace for slot in world.workers["some"].owned} == {"second"}


def test_the_name_of_a_worker_says_which_namespaces_it_takes() -> None:
    assert takes(worker_name("host:1"), "demo")
    narrow = worker_name("host:1", ("b", "a"))
    assert narrow.endswith("@a,b")
    assert takes(narrow, "a")
    assert not takes(narrow, "demo")
    held = {Slot("demo", "risk", 0): "", Slot("a", "risk", 0): ""}
    assert share(held, [narrow], "me") >= {Slot("demo", "risk", 0)}


def test_more_workers_than_tasks_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World(partitions=1)
    with caplog.at_level(logging.INFO):
        for name in "abc":
            world.start(name)
        world.run(3)
    assert sorted(world.sizes()) == [0, 0, 1]
    idle = [r.message for r in caplog.records if "stands by" in r.message]
    assert len(idle) == 2, "once by each that has none"
    assert all(line.endswith("workers for 1 tasks: this one stands by") for line in idle)


def test_looks_are_rare_when_all_is_well_and_frequent_when_something_is_missing() -> None:
    world = World()
    worker = world.start("a")
    world.run(1)
    assert 0 < worker._ownership.due_in_s() <= LOOK_CALM_S
    world.log.tasks.acquire(Slot("demo", "chain", 0), "x/1", seen=world.log.tasks.look(
        [Slot("demo", "chain", 0)])[0].token)  # fmt: skip
    world.run(0.4)
    assert worker._ownership.due_in_s() <= LOOK_MISSING_S + STEP_S


class Fate:
    """What happens to a group in one seeded run: workers come, leave, die, stand still, and
    replies are lost before or after the log did what was asked."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World(partitions=3)
        self.asleep: dict[str, float] = {}
        self.started = 0
        tasks = self.world.log.tasks
        self._commit, self._acquire = tasks.commit, tasks.acquire
        tasks.commit = self._lossy(tasks.commit)  # type: ignore[method-assign]
        tasks.acquire = self._lossy(tasks.acquire)  # type: ignore[method-assign]

    def _lossy(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def lossy(*args: Any, **more: Any) -> Any:
            luck = self.chance.random()
            if luck < 0.02:
                raise LogUnavailable("the request was lost")
            done = call(*args, **more)
            if luck < 0.04:
                raise LogUnavailable("the reply was lost")
            return done

        return lossy

    def run(self, seconds: float) -> None:
        world = self.world
        end_s = world.now_s + seconds
        while world.now_s < end_s:
            self.happen()
            for name, worker in list(world.workers.items()):
                if self.asleep.get(name, 0.0) <= world.now_s and not worker.stopping:
                    with contextlib.suppress(LogUnavailable):
                        worker.beater.round()
                    worker.turn()
            world.now_s += 0.02

    def happen(self) -> None:
        world, luck = self.world, self.chance.random()
        name = self.chance.choice(sorted(world.workers)) if world.workers else ""
        if luck < 0.1:
            world.append(self.chance.randint(1, 20))
        elif luck < 0.12 and len(world.workers) < 5:
            self.started += 1
            world.start(f"w{self.started}")
        elif luck < 0.13 and name:
            world.workers.pop(name).leave()
        elif luck < 0.14 and name:
            del world.workers[name]  # dead: it says nothing any more
        elif luck < 0.15 and name:
            self.asleep[name] = world.now_s + self.chance.uniform(0.1, 4 * LEASE_S)
        elif luck < 0.155:
            world.log.away = True
        elif luck < 0.2:
            world.log.away = False

    def drain(self) -> None:
        """All is well again, and one more worker is there."""
        world = self.world
        tasks = world.log.tasks
        tasks.commit, tasks.acquire = self._commit, self._acquire  # type: ignore[method-assign]
        world.log.away = False
        world.start("last")
        world.now_s += 4 * LEASE_S
        world.run(15)


def lives(seed: int) -> None:
    fate = Fate(seed)
    fate.run(15)
    fate.drain()
    assert sum(fate.world.sizes()) == 3, seed
    assert max(fate.world.sizes()) - min(fate.world.sizes()) <= 1, seed
    fate.world.check()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_workers_nothing_is_skipped_doubled_or_left_to_nobody(
    seed: int,
) -> None:
    lives(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 153))
def test_many_lives_of_workers_skip_and_double_nothing(seed: int) -> None:
    lives(seed)

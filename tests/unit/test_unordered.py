"""Consumers of an unordered group over a log in memory: die, hang, come back, share the work."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.sinks import Batch, Refused, Sink, SinkGroup
from consumers.sinks.sink import GIVEN_MAX
from consumers.unordered import Consumer, KeepsState
from consumers.workers.beginning import Begin
from consumers.workers.taking import WorkerOptions
from consumers.workers.worker import GroupRefused, Worker
from events.codec import AnyEvent, encode
from events.decisions import TradeSignal
from events.log import Entry, Lane, LogUnavailable, NewEntry, Slot
from events.memory_log import MemoryLog
from events.operations import ClockTick, HandlerFailed

SOURCE = Slot("demo", "source", 0)
OWN = Slot("demo", "notes", 0)
SILENT_S = 10.0


class Killed(BaseException):
    """A consumer that dies here and now."""


class Note(Handler):
    """One output per clock tick; some numbers raise, some kill."""

    raises: ClassVar[frozenset[int]] = frozenset()
    kills: ClassVar[frozenset[int]] = frozenset()

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        number = event.event_time_ms
        if number in self.kills:
            raise Killed
        if number in self.raises:
            raise ZeroDivisionError(number)
        yield TradeSignal(
            event_time_ms=number, strategy="note", symbol="X", target="flat", reason=str(number)
        )


class Many(Note):
    """More outputs than the log takes in one step."""

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        for _ in range(400):
            yield from super().handle(event)


class Counting(Handler):
    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        self.state["count"] = 1
        yield from ()


class Kept(Sink):
    given: ClassVar[list[int]] = []
    down: ClassVar[bool] = False

    def write(self, batch: Batch) -> None:
        if Kept.down:
            raise OSError("no route")
        numbers = [event.event_time_ms for event in batch.events]
        if 13 in numbers:
            raise Refused(batch.entries[numbers.index(13)], "unlucky")
        Kept.given += numbers


class World:
    def __init__(self, code: type[Handler] | type[Sink] = Note) -> None:
        self.now = 0.0
        self.log = MemoryLog(now_ms=lambda: 1_000, monotonic=lambda: self.now)
        self.log.open_namespace("demo", 1)
        self.claim = self.log.claim(SOURCE, "test", alive_within_s=0)
        self.group = SinkGroup("notes", code) if issubclass(code, Sink) else Group("notes", code)
        self.count = 0

    def feed(self, count: int) -> None:
        for _ in range(count):
            self.count += 1
            self.log.append(self.claim, [encode(ClockTick(event_time_ms=self.count))])

    def consumer(self, log: Any = None, **options: Any) -> Consumer:
        return Consumer(
            log or self.log, self.group, WorkerOptions("here", **options), silent_s=SILENT_S,
            monotonic=lambda: self.now, sleep=lambda _: None, chance=random.Random(1),
        )  # fmt: skip

    def drain(self, consumer: Consumer) -> None:
        while consumer.turn():
            pass

    def numbers(self) -> list[int]:
        found = self.log.between(OWN.stream(Lane.NORMAL), count_max=10_000)
        return sorted(int(entry.data.split(b'"reason":"')[1].split(b'"')[0]) for entry in found)

    def dead(self) -> list[Entry]:
        return self.log.between(OWN.stream(Lane.CRITICAL), count_max=1_000)


class Faulty:
    """A log that loses a request or a reply of some calls, by chance."""

    def __init__(self, log: MemoryLog, chance: random.Random, share: float) -> None:
        self._log, self._chance, self._share = log, chance, share
        self.unordered, self.tasks = self, log.tasks

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._log.unordered, name, None)
        if found is None:
            return getattr(self._log, name)

        def call(*args: Any, **more: Any) -> Any:
            fate = self._chance.random()
            if fate < self._share / 2:
                raise LogUnavailable("request lost")
            answer = found(*args, **more)
            if fate < self._share:
                raise LogUnavailable("reply lost")
            return answer

        return call


def test_several_consumers_do_everything_once() -> None:
    world = World()
    world.feed(30)
    consumers = [world.consumer(entries_max=4) for _ in range(3)]
    for _ in range(10):
        for consumer in consumers:
            consumer.turn()
    assert world.numbers() == list(range(1, 31))
    assert all(consumer.progress.tasks[OWN].entries for consumer in consumers)


def test_what_a_dead_consumer_left_is_done_by_another_after_a_while() -> None:
    world = World()
    world.feed(5)
    dead = world.consumer()
    dead._effect = Dies()
    with pytest.raises(Killed):
        dead.turn()
    heir = world.consumer()
    world.drain(heir)
    assert world.numbers() == []
    world.now += SILENT_S
    world.drain(heir)
    assert world.numbers() == [1, 2, 3, 4, 5]


class Dies:
    def of(self, task: Slot, entries: object) -> Any:
        raise Killed

    def close(self) -> None:
        pass


def test_a_consumer_that_hung_and_wakes_up_adds_nothing() -> None:
    world = World()
    world.feed(5)
    slow, heir = world.consumer(), world.consumer()
    effect = slow._effect
    slow._effect = Dies()
    with pytest.raises(Killed):
        slow.turn()
    [hand] = slow._hands.values()
    world.now += SILENT_S
    world.drain(heir)
    slow._effect = effect
    world.drain(slow)  # it still holds the batch in its hands
    assert hand.kept == []
    assert world.numbers() == [1, 2, 3, 4, 5]
    world.now += SILENT_S
    world.drain(heir)
    assert world.log.unordered.done_to(OWN)[SOURCE.stream(Lane.NORMAL)] > (1_000, 3)


@pytest.mark.parametrize("seed", range(20))
def test_lost_requests_lost_replies_and_deaths_leave_every_output_once(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    consumers: list[Consumer] = []
    for _ in range(150):
        world.feed(chance.randint(0, 2))
        world.now += chance.random() * SILENT_S / 4
        if len(consumers) < 3:
            faulty = Faulty(world.log, chance, 0.2)
            consumers.append(world.consumer(faulty, entries_max=chance.randint(1, 5)))
        consumer = chance.choice(consumers)
        if chance.random() < 0.1:
            consumers.remove(consumer)  # dies with what is on its list
        else:
            consumer.turn()
    heir = world.consumer()
    for _ in range(200):
        world.now += SILENT_S
        world.drain(heir)
    # Who has bad luck five times in a row is a dead letter, and then nothing else.
    dead = [int(entry.cause.rpartition("-")[2]) + 1 for entry in world.dead()]
    assert sorted(world.numbers() + dead) == list(range(1, world.count + 1)), seed
    assert len(dead) <= 2, seed


class LosesAcknowledgements(Faulty):
    """None of them arrives."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log, random.Random(1), 0.0)

    def acknowledge(self, *_: object) -> int:
        raise LogUnavailable("request lost")


@pytest.mark.parametrize("remembers", [True, False])
def test_the_place_of_an_entry_keeps_its_outputs_from_being_doubled(remembers: bool) -> None:
    world = World()
    world.feed(3)
    world.consumer(LosesAcknowledgements(world.log)).turn()
    assert world.numbers() == [1, 2, 3]
    if not remembers:
        world.log.unordered._derived.clear()
    world.now += SILENT_S
    world.drain(world.consumer())
    assert world.numbers() == ([1, 2, 3] if remembers else [1, 1, 2, 2, 3, 3])


def test_an_entry_that_raises_is_a_dead_letter_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Note, "raises", frozenset({2}))
    world = World()
    world.feed(3)
    world.log.append(world.claim, [NewEntry(Lane.HIGH, "surprise.9", "k", b"?")])
    world.drain(world.consumer())
    assert world.numbers() == [1, 3]
    letters = [entry.data.decode() for entry in world.dead()]
    assert sorted("ZeroDivisionError" in letter for letter in letters) == [False, True]
    assert all(entry.type.startswith(HandlerFailed.TYPE) for entry in world.dead())


def test_an_entry_that_kills_is_passed_over_and_drags_no_other_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Note, "kills", frozenset({3}))
    world = World()
    world.feed(8)
    deaths = 0
    for _ in range(40):
        consumer = world.consumer()
        try:
            world.drain(consumer)
        except Killed:
            deaths += 1
        world.now += SILENT_S
    assert world.numbers() == [1, 2, 4, 5, 6, 7, 8]
    [letter] = world.dead()
    assert "every consumer died" in letter.data.decode()
    assert deaths == GIVEN_MAX


def test_a_sink_that_is_down_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Kept)
    Kept.given, Kept.down = [], True
    world.feed(20)
    consumer, other = world.consumer(), world.consumer()
    for _ in range(30):
        assert not consumer.turn()
        other.turn()
        world.now += 1.0
    assert "no route" in consumer.progress.waiting
    assert sum("does not take entries" in r.message for r in caplog.records) <= 2
    Kept.down = False
    world.now += 10.0
    world.drain(consumer)
    world.drain(other)
    assert sorted(Kept.given) == [n for n in range(1, 21) if n != 13]
    assert len(world.dead()) == 1
    assert consumer.progress.waiting == ""


def test_a_handler_that_keeps_state_is_told_to_run_in_order() -> None:
    world = World(Counting)
    world.feed(1)
    with pytest.raises(KeepsState, match="without --unordered"):
        world.consumer().turn()


def test_outputs_go_to_the_log_in_parts_that_it_takes() -> None:
    world = World(Many)
    world.feed(7)
    world.drain(world.consumer())
    assert Counter(world.numbers()) == {number: 400 for number in range(1, 8)}


def test_a_group_that_has_another_number_of_tasks_is_refused_for_good() -> None:
    world = World()
    world.log.tasks.open_group("demo", "notes", 3)
    with pytest.raises(GroupRefused, match="3 tasks"):
        world.consumer().turn()


def test_a_group_runs_either_in_order_or_without() -> None:
    world = World()
    options = WorkerOptions("here")
    worker = Worker(world.log, world.group, options, sleep=lambda _: None)
    world.feed(3)
    for _ in range(3):
        worker.turn()
    worker.leave()
    with pytest.raises(GroupRefused, match="was run in order"):
        world.consumer().turn()
    other = World()
    other.consumer().turn()
    other.feed(3)
    worker = Worker(other.log, other.group, options, sleep=lambda _: None)

    def take_turns() -> None:
        for _ in range(3):
            worker.turn()

    with pytest.raises(GroupRefused, match="was run with --unordered before"):
        take_turns()
    assert other.numbers() == []
    assert worker.owned == {}
    worker.leave()


def test_a_group_may_begin_with_what_comes_next() -> None:
    world = World()
    world.feed(3)
    consumer = world.consumer(begin=Begin.NEWEST)
    world.drain(consumer)
    world.feed(2)
    world.drain(consumer)
    assert world.numbers() == [4, 5]
    assert world.log.tasks.readers("demo")[SOURCE.stream(Lane.NORMAL)] == {"notes.0"}


def test_entries_that_were_removed_before_they_were_done_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.feed(3)
    dead = world.consumer()
    dead._effect = Dies()
    with pytest.raises(Killed):
        dead.turn()
    world.log.drop(SOURCE.stream(Lane.NORMAL))
    world.now += SILENT_S
    world.drain(world.consumer())
    assert caplog.text.count("LOST") == 3

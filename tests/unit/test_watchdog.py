"""The clock beside group `watch`: who is silent, told once, whoever watches."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from consumers.alerts.watchdog import AGAIN_S, Sign, Silences, Watchdog, signs, told_before
from events.codec import decode, encode
from events.log import OPERATOR, SOURCE, Claim, Lane, Log, LogUnavailable, Slot
from events.memory_log import MemoryLog
from events.operations import ClockTick, Silence
from events.settings import Settings
from events.tasks import Commit

SOURCE_SLOT = Slot("demo", SOURCE, 0)
POSTED = Slot("demo", OPERATOR, 0).stream(Lane.CRITICAL)
SILENT_S = 30.0
WALL_S = 1_700_000_100.0


def sign(mark: str, *, of: Any = "producer", name: str = "demo") -> Sign:
    return Sign(of, name, "demo", mark, "host:1")


class Looks:
    """`Silences` on a clock that is moved by hand."""

    def __init__(self) -> None:
        self.silences = Silences(SILENT_S)
        self.now = 100.0

    def at(self, later_s: float, *seen: Sign) -> list[tuple[float, bool, str]]:
        self.now += later_s
        told = self.silences.look(seen, self.now, WALL_S + self.now)
        return [(event.silent_s, event.over, event.last_sign) for _, event in told]


def test_who_moves_is_not_silent_and_who_stands_still_is_told_again_and_again() -> None:
    looks = Looks()
    assert looks.at(0, sign("1")) == []
    assert looks.at(29, sign("1")) == []
    assert looks.at(1, sign("2")) == []
    assert looks.at(29, sign("2")) == []
    assert looks.at(1, sign("2")) == [(30.0, False, "2")]
    assert looks.at(1, sign("2")) == []
    assert looks.at(AGAIN_S, sign("2")) == [(331.0, False, "2")]
    assert looks.at(1, sign("3")) == [(0.0, True, "2")]
    assert looks.at(1, sign("4")) == []


def test_who_ended_as_told_is_no_silence() -> None:
    looks = Looks()
    looks.at(0, sign("1"))
    assert looks.at(60) == []
    assert looks.at(1, sign("1")) == []
    assert looks.at(29, sign("1")) == [], "it counts from when it is seen again"


def test_what_was_missed_while_the_log_was_away_proves_nothing() -> None:
    looks = Looks()
    looks.at(0, sign("1"))
    looks.silences.pause()
    assert looks.at(300, sign("1")) == []


def test_one_that_begins_later_knows_what_was_told_and_says_when_it_is_over() -> None:
    looks = Looks()
    looks.silences.known({("group", "risk"): "7"})
    assert looks.at(0, sign("8", of="group", name="risk")) == []
    assert looks.at(1, sign("9", of="group", name="risk")) == [(0.0, True, "7")]


class World:
    """A log with a producer, and watchdogs on a clock that is moved by hand."""

    def __init__(self, log: Log) -> None:
        self.log, self.now = log, 1_000.0
        log.open_namespace("demo", 1)
        self.claim: Claim | None = log.claim(SOURCE_SLOT, "host:1", alive_within_s=0)

    def beat(self) -> None:
        assert self.claim is not None
        self.log.append(self.claim, [encode(ClockTick(event_time_ms=1))])

    def watchdog(self, **settings: Any) -> Watchdog:
        return Watchdog(
            lambda: self.log,
            Settings(_env_file=None, **settings),
            monotonic=lambda: self.now,
            wall=lambda: WALL_S + self.now,
        )

    @property
    def posted(self) -> list[Silence]:
        events = [decode(entry) for entry in self.log.between(POSTED, count_max=100)]
        return [event for event in events if isinstance(event, Silence)]


@pytest.fixture
def world(log: Log) -> World:
    return World(log)


def test_a_producer_that_dies_is_posted_once_by_all_who_watch(world: World) -> None:
    world.beat()
    dogs = [world.watchdog(), world.watchdog()]
    for later in range(0, 40, 10):
        for dog in dogs:
            dog.turn()
        world.now += 10
        assert len(world.posted) == (1 if later >= 30 else 0)
    (told,) = world.posted
    assert (told.of, told.name, told.holder, told.over) == ("producer", "demo", "host:1", False)
    world.beat()
    for dog in dogs:
        dog.turn()
    assert [one.over for one in world.posted] == [False, True]


def test_a_producer_that_stopped_as_told_is_nobodys_concern(world: World) -> None:
    world.beat()
    dog = world.watchdog()
    dog.turn()
    assert world.claim is not None
    world.log.release(world.claim)
    for _ in range(10):
        world.now += 10
        dog.turn()
    assert world.posted == []


def test_a_group_whose_workers_died_is_posted_and_one_that_left_is_not(world: World) -> None:
    world.log.tasks.join("risk.0", [SOURCE_SLOT.stream(Lane.HIGH)])
    world.log.tasks.join("other.0", [SOURCE_SLOT.stream(Lane.HIGH)])
    for group in ("risk", "other"):
        world.log.tasks.beat_worker(group, "host:9/ab")
    dog = world.watchdog()
    dog.turn()
    world.log.tasks.drop_worker("other", "host:9/ab")
    for _ in range(4):
        world.now += 10
        world.beat()
        dog.turn()
    assert [(one.of, one.name, one.holder) for one in world.posted] == [("group", "risk", "host:9")]
    assert told_before(world.log, ["demo"]).keys() == {("group", "risk")}
    world.log.tasks.beat_worker("risk", "host:10/cd")
    again = world.watchdog()  # another one begins, and knows
    again.turn()
    world.log.tasks.beat_worker("risk", "host:10/cd")
    again.turn()
    assert [one.over for one in world.posted] == [False, True]
    assert told_before(world.log, ["demo"]) == {}


def test_signs_are_those_of_chosen_terminals(world: World) -> None:
    world.log.open_namespace("other", 1)
    world.log.claim(Slot("other", SOURCE, 0), "host:2", alive_within_s=0)
    assert [one.name for one in signs(world.log, ["demo"])] == ["demo"]
    assert [one.name for one in signs(world.log, ["demo", "other"])] == ["demo", "other"]


class Away(MemoryLog):
    """A log that can be unplugged."""

    away = False

    def namespaces(self) -> dict[str, int]:
        if self.away:
            raise LogUnavailable("no answer from Redis at 127.0.0.1:1: connection refused")
        return super().namespaces()


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What a target would be told past the log."""
    told: list[tuple[str, bool]] = []
    lock = threading.Lock()

    class Target:
        name, gathers, pause_s = "webhook", False, 0.0

        def send(self, message: Any, *, timeout_s: float) -> None:
            with lock:
                told.append((message.alerts[0].topic, message.alerts[0].resolved))

    monkeypatch.setattr("consumers.alerts.watchdog.targets_of", lambda settings: (Target(),))
    return told


def test_a_log_that_is_away_is_told_past_it_and_once_when_it_is_back(
    targets: list[tuple[str, bool]],
) -> None:
    log = Away()
    world = World(log)
    dog = world.watchdog()
    dog.turn()
    log.away = True
    for _ in range(10):
        dog.turn()
        world.now += 5
    assert targets == [("log", False)]
    log.away = False
    dog.turn()
    dog.turn()
    assert targets == [("log", False), ("log", True)]
    assert world.posted == [], "nobody is called silent for what was not seen"


def test_a_group_watch_that_stands_still_is_told_past_itself(
    targets: list[tuple[str, bool]],
) -> None:
    world = World(MemoryLog())
    task = Slot("demo", "watch", 0)
    world.log.tasks.open_group("demo", "watch", 1)
    found = world.log.tasks.acquire(task, "w", seen="")
    assert found is not None
    claim, record = found
    dog = world.watchdog()
    dog.turn()
    assert targets == []
    world.log.tasks.commit(Commit(claim, record.newest, {}, halted="50 entries failed in a row"))
    for _ in range(5):
        world.now += 1
        dog.turn()
    assert targets == [("watch", False)]
    world.log.tasks.commit(Commit(claim, record.newest, {}))
    dog.turn()
    assert targets == [("watch", False), ("watch", True)]

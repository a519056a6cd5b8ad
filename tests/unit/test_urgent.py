"""What is critical is noticed within a batch, and a flood of it starves nobody."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.runtime.group import Group
from consumers.runtime.handler import Handler, Inputs, Order
from consumers.runtime.reading import LOW_SHARE, Reading, tally
from consumers.runtime.task import TaskRun
from consumers.runtime.urgent import LOOK_S, CriticalWatch
from events.ahead import ReadsAhead
from events.codec import AnyEvent, encode
from events.decisions import Command
from events.log import BEGIN, Claim, Entry, EntryId, Lane, Log, NewEntry, Slot, Stream
from events.memory_log import MemoryLog
from events.operations import ClockTick
from events.redis import RedisLog, open_log
from events.retention import Limits, Retention, SegmentFolder, WholeLog
from tests.servers import wait_until

SOURCE = Slot("demo", "source", 0)
CRITICAL = SOURCE.stream(Lane.CRITICAL)


def entry(lane: Lane) -> NewEntry:
    return NewEntry(lane, "x.1", "k", b"")


def world(log: Log) -> Claim:
    log.open_namespace("demo", 1)
    return log.claim(SOURCE, "feed", alive_within_s=0)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    critical_every=st.sampled_from([1, 3, 20, 200]),
    high=st.sampled_from([0, 40, 80]),
)
def test_low_lanes_get_their_share_though_critical_entries_cut_every_batch(
    seed: int, critical_every: int, high: int
) -> None:
    """In virtual time, one unit an entry: a batch ends wherever a critical entry arrives."""
    chance = random.Random(seed)
    log = MemoryLog(now_ms=lambda: 1_000)
    claim = world(log)
    log.append(claim, [entry(lane) for lane in (Lane.NORMAL, Lane.LOW) for _ in range(100)])
    reading = Reading(log, SOURCE.streams(), Order.PRIORITY, entries_max=40)
    at = dict.fromkeys(SOURCE.streams(), BEGIN)
    handled = dict.fromkeys(Lane, 0)
    units = 0
    while units < 500 and handled[Lane.LOW] < 90:
        log.append(claim, [entry(Lane.HIGH)] * high + [entry(Lane.NORMAL)] * 40)
        if critical_every == 1:
            log.append(claim, [entry(Lane.CRITICAL)] * 2)
        for place, found in enumerate(reading.batch(at)):
            came = chance.randrange(critical_every) == 0
            if came:
                log.append(claim, [entry(Lane.CRITICAL)])
            if place and came:
                break
            at[found.stream] = found.id
            handled[found.stream.lane] += 1
            units += 1
    share = handled[Lane.LOW] / units
    assert share >= LOW_SHARE / 2 or handled[Lane.LOW] >= 90, (share, handled)


def test_a_critical_entry_is_given_alone_so_that_it_is_committed_at_once() -> None:
    log = MemoryLog()
    claim = world(log)
    log.append(claim, [entry(Lane.NORMAL)] * 5 + [entry(Lane.HIGH), entry(Lane.CRITICAL)])
    reading = Reading(log, SOURCE.streams(), Order.PRIORITY)
    at = dict.fromkeys(SOURCE.streams(), BEGIN)
    lanes = []
    for _ in range(2):
        batch = reading.batch(at)
        lanes.append([found.stream.lane for found in batch])
        at |= {stream: last.id for stream, (last, _) in tally(batch).items()}
    assert lanes == [[Lane.CRITICAL], [Lane.HIGH, *[Lane.NORMAL] * 5]]


@given(
    lanes=st.lists(st.sampled_from(Lane), max_size=40),
)
def test_a_tally_counts_every_stream_and_names_its_last_entry(lanes: list[Lane]) -> None:
    entries = [
        Entry(SOURCE.stream(lane), EntryId(1, number), "x.1", "k", b"")
        for number, lane in enumerate(lanes)
    ]
    found = tally(entries)
    assert {s: count for s, (_, count) in found.items()} == {
        SOURCE.stream(lane): lanes.count(lane) for lane in lanes
    }
    assert {s: last for s, (last, _) in found.items()} == {e.stream: e for e in entries}


@dataclass
class Task:
    """A task as the watch sees it."""

    reached: Mapping[Stream, EntryId] = field(default_factory=dict)


class Moments:
    """A clock that goes on by more than a look whenever it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 2 * LOOK_S
        return self.now


def test_a_watch_tells_of_what_no_batch_holds_yet(redis_log: RedisLog) -> None:
    claim = world(redis_log)
    first = redis_log.append(claim, [entry(Lane.CRITICAL)]).ids[0]
    watch, task = CriticalWatch(redis_log, monotonic=Moments()), Task({CRITICAL: first})
    assert not any(watch.urgent([task]) for _ in range(20))
    redis_log.append(claim, [entry(Lane.NORMAL)])
    second = redis_log.append(claim, [entry(Lane.CRITICAL)]).ids[0]
    wait_until(lambda: watch.urgent([task]), what="the critical entry is noticed")
    assert watch.urgent([task]), "until a batch has it"
    task.reached = {CRITICAL: second}
    assert not any(watch.urgent([task]) for _ in range(20))
    assert not watch.urgent([]), "a task that was handed over is nobody's concern"
    watch.close()


def test_a_watch_survives_a_cut_connection_and_leaves_none_behind(redis_url: str) -> None:
    log = open_log(redis_url)
    claim = world(log)
    watch, task = CriticalWatch(log, monotonic=Moments()), Task({CRITICAL: BEGIN})
    assert not watch.urgent([task])
    killer = open_log(redis_url)
    killer.client.client_kill_filter(_type="normal", skipme=True)
    killer.close()
    wait_until(lambda: not watch.urgent([task]), what="no error")
    log.client.connection_pool.disconnect()
    log.append(claim, [entry(Lane.CRITICAL)])
    wait_until(lambda: watch.urgent([task]), what="noticed on a new connection")
    watch.close()
    log.close()


def test_what_was_asked_ahead_is_what_a_read_gives_and_may_be_dropped(redis_log: RedisLog) -> None:
    claim = world(redis_log)
    redis_log.append(claim, [entry(lane) for lane in Lane for _ in range(3)])
    after = dict.fromkeys(SOURCE.streams(), BEGIN)
    assert isinstance(redis_log, ReadsAhead)
    asked = redis_log.read_ahead(after, count_max=2)
    dropped = redis_log.read_ahead(after, count_max=2)
    assert asked is not None
    assert dropped is not None
    dropped.drop()
    wait_until(asked.ready)
    assert asked.take() == redis_log.read(after, count_max=2)
    assert redis_log.read_ahead({}, count_max=2) is None


class Late:
    """A read that the log carries out as late as it can."""

    def __init__(self, log: MemoryLog, after: Mapping[Stream, EntryId], count_max: int) -> None:
        self._log, self._after, self._count_max = log, dict(after), count_max

    def ready(self) -> bool:
        return True

    def take(self) -> dict[Stream, list[Entry]]:
        return self._log.read(self._after, count_max=self._count_max)

    def drop(self) -> None:
        pass


class AskedLate(MemoryLog):
    def read_ahead(
        self, after: Mapping[Stream, EntryId], *, count_max: int, block_ms: int = 0
    ) -> Late:
        return Late(self, after, count_max)


def test_what_was_spilled_under_an_asked_read_is_read_from_disk(tmp_path: Path) -> None:
    log = AskedLate()
    claim = world(log)
    normal = SOURCE.stream(Lane.NORMAL)
    for _ in range(2_000):
        log.append(claim, [NewEntry(Lane.NORMAL, "x.1", "k", b"x" * 900)])
    folder = SegmentFolder(tmp_path, bytes_max=1 << 30)
    whole = WholeLog(log, folder)
    expected = whole.read({normal: BEGIN}, count_max=70)
    asked = whole.read_ahead({normal: BEGIN}, count_max=70)
    assert asked is not None
    log.tasks.join("slow.0", [normal])
    assert Retention(log, folder, Limits(3_600, 1_000_000)).keep(SOURCE).spilled > 0
    assert log.read({normal: BEGIN}, count_max=70) != expected, "they left the log"
    assert asked.take() == expected
    assert whole.read_ahead({normal: BEGIN}, count_max=70) is None, "that is on disk"


class Noting(Handler):
    """Handles everything, slowly enough that something critical comes in between."""

    order: ClassVar[Order] = Order.PRIORITY
    inputs: ClassVar[Inputs] = Inputs(lanes=tuple(Lane))

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        time.sleep(0.002)
        yield from ()


def test_a_batch_ends_when_something_critical_comes(redis_log: RedisLog, redis_url: str) -> None:
    claim = world(redis_log)
    ticks = [encode(ClockTick(event_time_ms=n, server_time_ms=n)) for n in range(200)]
    redis_log.append(claim, ticks)
    group = Group("noting", Noting)
    [spec] = group.specs(redis_log)
    taken = redis_log.tasks.acquire(spec.slot, "here", seen="")
    assert taken is not None
    run = TaskRun(redis_log, group, spec, *taken)
    watch = CriticalWatch(redis_log)
    asked = 0

    def urgent() -> bool:
        nonlocal asked
        asked += 1
        if asked == 20:
            redis_log.append(claim, [encode(Command(
                event_time_ms=1, command_id="c", verb="halt", issued_by="test"))])  # fmt: skip
        return watch.urgent([run])

    done = [run.step(urgent=urgent).entries]
    assert 20 <= done[0] < 60
    assert run.step(urgent=urgent).entries == 1
    assert run.reached[CRITICAL] == run.ends[CRITICAL] > BEGIN
    while step := run.step(urgent=urgent).entries:
        done.append(step)
    assert sum(done) == 200
    watch.close()

"""`consume --unordered` and sinks as processes, killed at random: at least once, outputs once."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.group import Group
from consumers.unordered import Consumer as UnorderedConsumer
from consumers.workers.taking import WorkerOptions
from events.codec import encode
from events.log import BEGIN, SOURCE, Lane, Slot, partition_of
from events.operations import ClockTick
from events.redis import RedisLog
from tests.integration.test_consume import Consumer
from tests.integration.unordered_handlers import Note
from tests.servers import wait_until

wait = partial(wait_until, timeout_s=60)
PARTITIONS = 2
NOTE_PATH = "tests.integration.unordered_handlers:Note"
SEEN = "tests.integration.unordered_handlers:Seen"


@pytest.fixture
def consumer(tmp_path: Path, redis_url: str) -> Iterator[Consumer]:
    with closing(Consumer(tmp_path, redis_url, "postgresql://x@127.0.0.1:1/x")) as made:
        yield made


class Numbers:
    """Appends clock ticks that are numbered through."""

    def __init__(self, log: RedisLog) -> None:
        self.log, self.count = log, 0
        log.open_namespace("demo", PARTITIONS)
        self._claims = [
            log.claim(Slot("demo", SOURCE, n), "feed", alive_within_s=0) for n in range(PARTITIONS)
        ]

    def append(self, count: int = 1) -> None:
        for _ in range(count):
            self.count += 1
            claim = self._claims[partition_of(str(self.count), PARTITIONS)]
            self.log.append(claim, [encode(ClockTick(event_time_ms=self.count))])

    def derived(self, group: str) -> Counter[int]:
        found: Counter[int] = Counter()
        for number in range(PARTITIONS):
            stream = Slot("demo", group, number).stream(Lane.NORMAL)
            for entry in self.log.between(stream, count_max=100_000):
                found[int(json.loads(entry.data)["reason"])] += 1
        return found

    @property
    def all(self) -> Counter[int]:
        return Counter(range(1, self.count + 1))


def kill_workers(
    consumer: Consumer,
    words: tuple[str, ...],
    chance: random.Random,
    kills: int,
    *,
    meanwhile: Callable[[], None],
) -> list[subprocess.Popen[str]]:
    """Two workers, of which one is killed again and again and replaced; returns the last two."""
    workers = [consumer.start(*words, "--as-worker", str(number)) for number in range(2)]
    for kill in range(kills):
        for _ in range(8):
            meanwhile()
            threading.Event().wait(chance.random() / 5)
        victim = workers.pop(chance.randrange(2))
        victim.kill()
        victim.communicate()
        workers.append(consumer.start(*words, "--as-worker", str(kill)))
    return workers


def run_killed(consumer: Consumer, redis_log: RedisLog, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    numbers = Numbers(redis_log)
    numbers.append(50)
    words = (
        "consume",
        "--unordered",
        "--group",
        "note",
        "--handler",
        NOTE_PATH,
        "--lease",
        "1",
        "--batch",
        "20",
    )
    workers = kill_workers(consumer, words, chance, kills, meanwhile=lambda: numbers.append(5))
    wait(lambda: numbers.derived("note") == numbers.all, what=f"seed {seed}: {consumer.told()}")
    end(workers)
    code, out, told = consumer.run(*words, "--until-idle", "--json")
    assert code == 0, told
    assert json.loads(out)["failed"] == 0
    assert numbers.derived("note") == numbers.all, seed
    for number in range(PARTITIONS):
        stream = Slot("demo", SOURCE, number).stream(Lane.NORMAL)
        seen = redis_log.groups(stream)[f"note.{number}"]
        assert (seen.lag, seen.pending) == (0, 0)


def test_killed_consumers_leave_every_output_once(consumer: Consumer, redis_log: RedisLog) -> None:
    run_killed(consumer, redis_log, seed=1, kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
@pytest.mark.timeout(600)
def test_consumers_killed_many_times_leave_every_output_once(
    consumer: Consumer, redis_log: RedisLog, seed: int
) -> None:
    run_killed(consumer, redis_log, seed=seed, kills=25)


def end(workers: list[subprocess.Popen[str]]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.communicate(timeout=30)
        assert worker.returncode in (0, -signal.SIGTERM), "the last one had hardly begun"


def inline(log: RedisLog, **more: Any) -> UnorderedConsumer:
    """A consumer in this process."""
    group = Group("note", Note)
    return UnorderedConsumer(log, group, WorkerOptions("test"), silent_s=0.2, **more)


def drain(consumer: UnorderedConsumer) -> None:
    while consumer.turn():
        pass


def test_a_list_that_somebody_removed_is_made_anew_where_all_is_done(redis_log: RedisLog) -> None:
    numbers = Numbers(redis_log)
    numbers.append(20)
    consumer = inline(redis_log)
    drain(consumer)
    wait(lambda: settled(consumer, redis_log), what="what is done to be written down")
    for number in range(PARTITIONS):
        stream = Slot("demo", SOURCE, number).stream(Lane.NORMAL)
        assert redis_log.client.xgroup_destroy(str(stream), f"note.{number}") == 1
    numbers.append(20)
    before = consumer.progress.tasks
    handled = sum(count.entries for count in before.values())
    drain(consumer)
    assert sum(count.entries for count in before.values()) == handled + 20, "nothing a second time"
    assert numbers.derived("note") == numbers.all
    consumer.leave()


def settled(consumer: UnorderedConsumer, log: RedisLog) -> bool:
    consumer.turn()
    streams = [Slot("demo", SOURCE, n).stream(Lane.NORMAL) for n in range(PARTITIONS)]
    return all(
        log.unordered.done_to(Slot("demo", "note", stream.slot.partition)).get(stream)
        == log.info(stream).last_id
        for stream in streams
    )


def test_entries_that_were_trimmed_by_hand_are_told_as_lost(
    redis_log: RedisLog, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = Numbers(redis_log)
    numbers.append(20)
    stream = Slot("demo", SOURCE, 0).stream(Lane.NORMAL)
    length = redis_log.info(stream).length
    reader = {stream: BEGIN}
    redis_log.unordered.open("note.0", reader)
    given = redis_log.unordered.take("note.0", "dead", reader, count_max=3).entries
    redis_log.client.xtrim(str(stream), maxlen=2, approximate=False)
    consumer = inline(redis_log)

    def told() -> bool:
        consumer.turn()
        return all(f"{entry.place} was removed" in caplog.text for entry in given)

    wait(told, what="the loss to be told")
    drain(consumer)
    assert f"{length - 2 - 3} entries of {stream} were removed" in caplog.text
    consumer.leave()


def rows(path: Path) -> Counter[int]:
    with closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'seen'").fetchall():
            return Counter()
        return Counter(number for (number,) in connection.execute("SELECT number FROM seen"))


def sink_killed(consumer: Consumer, redis_log: RedisLog, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    numbers = Numbers(redis_log)
    numbers.append(50)
    words = ("consume", "--group", "seen", "--handler", SEEN, "--lease", "0.5", "--batch", "20")
    workers = kill_workers(consumer, words, chance, kills, meanwhile=lambda: numbers.append(5))
    file = consumer.folder / "seen.db"
    wait(lambda: file.exists() and rows(file) == numbers.all, what=f"{seed}: {consumer.told()}")
    end(workers)
    assert rows(file) == numbers.all, seed


def test_a_sink_that_keeps_its_offset_has_every_row_once_however_it_is_killed(
    consumer: Consumer, redis_log: RedisLog
) -> None:
    sink_killed(consumer, redis_log, seed=1, kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
@pytest.mark.timeout(600)
def test_a_sink_that_keeps_its_offset_has_every_row_once_when_killed_often(
    consumer: Consumer, redis_log: RedisLog, seed: int
) -> None:
    sink_killed(consumer, redis_log, seed=seed, kills=25)

"""What people meet who run groups: wrong names, slow handlers, restored copies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from time import sleep

import pytest

from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.workers.taking import WorkerOptions
from consumers.workers.worker import Worker
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.groups.readers import collect
from events.log import Lane, Slot, Stream
from events.redis import RedisLog, open_log
from tests.conftest import REDIS_KINDS
from tests.integration.test_consume import Consumer
from tests.integration.test_groups import CHAIN, MODULE, PARTITIONS, Feed, expected
from tests.servers import RedisServer, redis_binaries, wait_until

KEEPS = """

class Keeps(Handler):
    def handle(self, event: Any) -> Iterator[TradeSignal]:
        self.state["count"] = self.state.get("count", 0) + 1
        yield from ()
"""
SHORT_LEASE_S = 0.5


@pytest.fixture
def consumer(tmp_path: Path, redis_url: str) -> Iterator[Consumer]:
    (tmp_path / "my_handlers.py").write_text(MODULE + KEEPS)
    with closing(Consumer(tmp_path, redis_url, "")) as made:
        yield made


def test_a_terminal_that_is_not_there_is_named_with_those_that_are(
    consumer: Consumer, redis_log: RedisLog
) -> None:
    Feed(redis_log)
    code, _, told = consumer.run(*CHAIN, "--terminal", "nosuch", "--until-idle")
    assert code == 1
    assert "the log holds no terminal called 'nosuch': there is demo" in told


def test_a_refused_group_without_an_order_says_so_once_and_leaves_nothing(
    consumer: Consumer, redis_log: RedisLog
) -> None:
    feed = Feed(redis_log)
    feed.append(5)
    keeps = ("consume", "--handler", "my_handlers:Keeps", "--until-idle")
    code, _, told = consumer.run(*keeps, "--unordered", "--workers", "2", "--plain")
    assert code == 1
    assert told.count("that needs an order; run it without --unordered") == 1
    assert "Usage" not in told
    assert redis_log.tasks.readers("demo") == {}
    assert "keeps" not in redis_log.tasks.writers("demo")
    code, out, told = consumer.run(*keeps, "--json")
    assert code == 0, told
    assert json.loads(out)["entries"] == 5 * PARTITIONS


class Slow(Handler):
    """Takes three leases over each entry."""

    tasks = 1

    def handle(self, event: AnyEvent) -> Iterable[AnyEvent]:
        sleep(3 * SHORT_LEASE_S)
        count = self.state["count"] = self.state.get("count", 0) + 1
        yield TradeSignal(
            event_time_ms=event.event_time_ms, strategy="slow", symbol="X", target="flat",
            reason=str(count),
        )  # fmt: skip


def test_a_worker_that_lives_and_beats_is_not_taken_over_however_long_an_entry_takes(
    redis_log: RedisLog, redis_url: str
) -> None:
    feed = Feed(redis_log, partitions=1)
    feed.append(3)
    own = Slot("demo", "slow", 0)
    logs = [open_log(redis_url) for _ in range(4)]
    workers = [
        Worker(
            logs[2 * number], Group("slow", Slow),
            WorkerOptions(f"here:{number}", lease_s=SHORT_LEASE_S), beat_log=logs[2 * number + 1],
        )
        for number in range(2)
    ]  # fmt: skip
    threads = [threading.Thread(target=worker.run) for worker in workers]
    threads[0].start()
    wait_until(lambda: bool(redis_log.tasks.look([own])[0].holder))
    threads[1].start()
    seen: set[str] = set()

    def done() -> bool:
        seen.add(redis_log.tasks.look([own])[0].holder)
        return redis_log.info(own.stream(Lane.NORMAL)).entries_added == 3

    try:
        wait_until(done, timeout_s=40)
    finally:
        for worker in workers:
            worker.stopping = True
        for thread in threads:
            thread.join()
        for log in logs:
            log.close()
    assert len(seen) == 1, seen
    assert [worker.progress.fenced for worker in workers] == [0, 0]
    assert feed.derived(own) == ["1", "2", "3"]


def test_redis_shows_the_same_lag_as_groups_list(consumer: Consumer, redis_log: RedisLog) -> None:
    feed = Feed(redis_log)
    feed.append(7)
    code, _, told = consumer.run(*CHAIN, "--until-idle")
    assert code == 0, told
    feed.append(3)
    readers = {one.name: one for one in collect(redis_log, watch_s=0.0)}
    for number in range(PARTITIONS):
        reader = readers[f"chain.{number}"]
        assert reader.lag == 3
        for lane in reader.lanes:
            shown = redis_log.client.xinfo_groups(lane.stream)
            [own] = [one for one in shown if one["name"].decode() == reader.name]
            assert own["lag"] == lane.lag, (lane, own)
            assert own["last-delivered-id"].decode() == lane.offset
            assert redis_log.groups(Stream.parse(lane.stream))[reader.name].lag == lane.lag


@pytest.mark.skipif(not REDIS_KINDS, reason="no Redis binary comes from pip for this system")
def test_a_group_goes_on_in_a_restored_log_as_if_nothing_had_happened(
    consumer: Consumer, redis_log: RedisLog, tmp_path: Path
) -> None:
    feed = Feed(redis_log)
    feed.append(10)
    code, _, told = consumer.run(*CHAIN, "--until-idle")
    assert code == 0, told
    feed.append(5)  # not handled when the copy is made
    code, _, told = consumer.run("backup", "copy.zip")
    assert code == 0, told
    folder = tmp_path / "second"
    folder.mkdir()
    server = RedisServer(redis_binaries()[REDIS_KINDS[0]], folder).start()
    try:
        consumer.environment["REDIS_URL"] = server.url
        code, _, told = consumer.run("restore", "copy.zip")
        assert code == 0, told
        with closing(open_log(server.url)) as log:
            again = Feed(log)
            again.appended = 15
            again.append(5)
            code, out, told = consumer.run(*CHAIN, "--until-idle", "--json")
            assert code == 0, told
            assert json.loads(out)["entries"] == 10 * PARTITIONS
            for number in range(PARTITIONS):
                assert again.derived(Slot("demo", "chain", number)) == expected(20)
    finally:
        server.kill()

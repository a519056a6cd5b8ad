"""`consume --group persist` as a process: killed, stopped, asked for nonsense."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from events.postgres import connect, read_offsets
from events.redis import RedisLog
from tests.integration.persisting import Feed, flowing, stored_all, stored_equals_log
from tests.servers import free_port, wait_until

wait = partial(wait_until, timeout_s=60)
"""A process needs seconds to start on a busy machine."""

Command = tuple[str, ...]


class Consumer:
    """Starts `bridgectl` with its own state folder against given servers."""

    def __init__(self, folder: Path, redis_url: str, postgres_url: str) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if "MT5" not in name},
            "REDIS_URL": redis_url,
            "POSTGRES_URL": postgres_url,
            "BRIDGE_STATE_DIR": str(folder / "state"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        self._children: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.folder / "consume.err").open("a") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "bridgectl", *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=self.environment, cwd=self.folder,
            )  # fmt: skip
        self._children.append(child)
        return child

    def run(self, *arguments: str) -> tuple[int, str, str]:
        (self.folder / "consume.err").write_text("")
        child = self.start(*arguments)
        out, _ = child.communicate(timeout=60)
        return child.returncode, out, self.told()

    def close(self) -> None:
        """Leave no process behind, whatever a test did."""
        for child in self._children:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()

    def told(self) -> str:
        return (self.folder / "consume.err").read_text()


@pytest.fixture
def consumer(tmp_path: Path, redis_url: str, postgres_url: str) -> Iterator[Consumer]:
    with closing(Consumer(tmp_path, redis_url, postgres_url)) as made:
        yield made


def stored_entries(dsn: str) -> int:
    with connect(dsn, application="test") as connection:
        return sum(row.entries for row in read_offsets(connection, "persist"))


def end(child: subprocess.Popen[str], number: int) -> None:
    child.send_signal(number)
    child.communicate(timeout=30)


def kill_at_random(
    consumer: Consumer, redis_log: RedisLog, dsn: str, *, seed: int, kills: int
) -> None:
    """Two programs share the slots; one of them is killed again and again, and replaced."""
    chance = random.Random(seed)
    feed = Feed(redis_log, seed=seed)
    words = ("consume", "--group", "persist", "--workers", "2")
    programs = [consumer.start(*words) for _ in range(2)]
    with flowing(feed):
        for kill in range(kills):
            before = stored_entries(dsn)
            wait(lambda seen=before: stored_entries(dsn) > seen, what=consumer.told())  # type: ignore[misc] # mypy cannot infer
            threading.Event().wait(chance.random() * 2)
            child = programs.pop(chance.randrange(2))
            child.kill()
            child.communicate()
            if kill < kills - 1:
                programs.append(consumer.start(*words))
    for child in programs:
        child.kill()
        child.communicate()
    code, out, told = consumer.run("consume", "--group", "persist", "--until-idle", "--json")
    assert code == 0, (seed, told)
    assert json.loads(out)["halted"] == {}
    stored_equals_log(feed, dsn)


def test_killing_the_consumer_at_random_moments_loses_and_doubles_nothing(
    consumer: Consumer, redis_log: RedisLog, postgres_url: str
) -> None:
    kill_at_random(consumer, redis_log, postgres_url, seed=1, kills=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.timeout(600)
def test_killing_the_consumer_many_times_loses_and_doubles_nothing(
    consumer: Consumer, redis_log: RedisLog, postgres_url: str, seed: int
) -> None:
    kill_at_random(consumer, redis_log, postgres_url, seed=seed, kills=25)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_a_stopped_consumer_is_replaced_and_does_no_harm_when_it_wakes(
    consumer: Consumer, redis_log: RedisLog, postgres_url: str
) -> None:
    feed = Feed(redis_log, seed=21)
    first = consumer.start("consume", "--lease", "1")
    with flowing(feed):
        wait(lambda: stored_entries(postgres_url) > 0, what="the first to store")
        first.send_signal(signal.SIGSTOP)
        heir = consumer.start("consume", "--lease", "1")
        stopped_at = stored_entries(postgres_url)
        wait(lambda: stored_entries(postgres_url) > stopped_at + 20, what=consumer.told())
        first.send_signal(signal.SIGCONT)
        wait(lambda: "waiting, nothing is lost" in consumer.told(), what="the fence")
    wait(lambda: stored_all(feed, postgres_url), what="everything to be stored")
    for child in (first, heir):
        end(child, signal.SIGTERM)
        assert child.returncode == 0, consumer.told()
    stored_equals_log(feed, postgres_url)


def test_servers_that_are_down_at_start_are_waited_for(tmp_path: Path) -> None:
    port = free_port()
    dsn = f"postgresql://postgres:hidden@127.0.0.1:{port}/bridge"
    with closing(Consumer(tmp_path, f"redis://127.0.0.1:{port}/0", dsn)) as consumer:
        child = consumer.start("consume")
        wait(lambda: "waiting for it" in consumer.told(), what="the wait to be told")
        end(child, signal.SIGTERM)
        assert child.returncode == 0
        assert "hidden" not in consumer.told()


def test_an_empty_database_gets_its_tables_and_a_wrong_group_is_refused(
    tmp_path: Path, redis_log: RedisLog, redis_url: str, empty_postgres_url: str
) -> None:
    consumer = Consumer(tmp_path, redis_url, empty_postgres_url)
    feed = Feed(redis_log, seed=31)
    feed.append(10)
    code, _, told = consumer.run("consume", "--group", "nonsense")
    assert code == 2
    assert "there is no group 'nonsense'. There is: " in told
    assert "persist (stores" in told
    code, out, told = consumer.run("consume", "--until-idle", "--json")
    assert code == 0, told
    facts = json.loads(out)
    assert facts["entries"] == sum(map(len, feed.entries().values()))
    assert facts["group"] == "persist"
    stored_equals_log(feed, empty_postgres_url)
    code, out, _ = consumer.run("migrate", "--json")
    assert code == 0
    assert json.loads(out)["current"] == json.loads(out)["newest"]


def test_a_halted_slot_ends_the_run_with_an_error(
    consumer: Consumer, redis_log: RedisLog, postgres_url: str
) -> None:
    feed = Feed(redis_log, seed=41)
    feed.append(10)
    assert consumer.run("consume", "--until-idle")[0] == 0
    for stream in feed.entries():
        redis_log.client.delete(str(stream))
    code, _, told = consumer.run("consume", "--until-idle")
    assert code == 1
    assert "the log ends at 0-0" in told
    assert "bridgectl repair" in told

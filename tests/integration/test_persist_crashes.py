"""Group persist killed, stopped and starved at exact steps: every row once, and others unharmed."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from consumers.persist import PersistGroup
from consumers.risk import RiskHandler
from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from events.codec import encode
from events.log import Lane, Slot
from events.memory_log import MemoryLog
from events.postgres import DatabaseUnavailable, connect, migrate, read_entries
from events.postgres.connection import Connection
from events.redis import RedisLog
from tests.integration.persisting import (
    BASE_MS,
    Feed,
    Shared,
    account,
    drain,
    finish,
    flowing,
    options,
    stored_all,
    stored_equals_log,
)
from tests.postgres_server import PostgresServer
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]
CONNECTIONS_MAX = 100
"""More than any test server takes."""
RISK_S_MAX = 1.0
"""Until a figure is there on a busy machine; a wait for the lock would take all the time."""


@contextmanager
def crashing(step: str, number: int, redis_url: str, dsn: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "tests.integration.crashing_persist"]
    child = subprocess.Popen(
        [*words, step, str(number), redis_url, dsn],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL to send to itself")
@pytest.mark.parametrize("number", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))])
@pytest.mark.parametrize(
    "step", ["before-commit", "after-commit", pytest.param("in-copy", marks=pytest.mark.slow)]
)
def test_a_kill_at_a_step_of_a_commit_leaves_every_row_once(
    redis_log: RedisLog, redis_url: str, postgres_url: str, step: str, number: int
) -> None:
    feed = Feed(redis_log, seed=number)
    with flowing(feed), crashing(step, number, redis_url, postgres_url) as child:
        assert child.wait(60) == -signal.SIGKILL
    drain(Shared(redis_log), postgres_url)
    stored_equals_log(feed, postgres_url)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_a_holder_that_stands_still_inside_copy_is_replaced_and_rolled_back(
    redis_log: RedisLog, redis_url: str, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = Feed(redis_log, seed=35)
    with crashing("stopped-in-copy", 3, redis_url, postgres_url) as zombie:
        with flowing(feed):
            wait_until(lambda: stands_still(zombie.pid), timeout_s=60, what="the zombie to stop")
            heir = PersistGroup(options(Shared(redis_log), postgres_url, lease_s=1.0))
            begun = time.monotonic()
            heir.start()
            wait_until(lambda: len(heir.progress().held) == 3, what="the take-over")
            taken_s = time.monotonic() - begun
        wait_until(lambda: stored_all(feed, postgres_url), timeout_s=60, what="all to be stored")
        os.kill(zombie.pid, signal.SIGCONT)
        feed.append(10)
        finish(heir, feed, postgres_url)
    stored_equals_log(feed, postgres_url)
    with capsys.disabled():
        print(f"\npersist: taken over from one in COPY after {taken_s:.2f} s (lease 1 s)")  # noqa: T201 - measured
    assert taken_s < 5


def stands_still(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("locked_s", [2.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_a_locked_table_does_not_slow_risk_down(
    redis_log: RedisLog, postgres_url: str, locked_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = Feed(redis_log, seed=37)
    risk = Risk(redis_log, feed)
    group = PersistGroup(options(Shared(redis_log), postgres_url))
    with flowing(feed):
        group.start()
        wait_until(lambda: group.progress().commits > 0, what="the first commit")
        before = risk.latencies_s(1.0)
        with connect(postgres_url, application="test", autocommit=False) as connection:
            connection.execute("LOCK TABLE raw.ticks IN ACCESS EXCLUSIVE MODE")
            wait_until(lambda: waits_for_lock(connection), what="the sink to wait for the lock")
            during = risk.latencies_s(locked_s)
            assert waits_for_lock(connection), "it was held up all the time"
            connection.rollback()
    finish(group, feed, postgres_url)
    stored_equals_log(feed, postgres_url)
    lane = Slot("demo", "risk", 0).stream(Lane.HIGH)
    drain(Shared(redis_log), postgres_url)
    with connect(postgres_url, application="test") as connection:
        derived = redis_log.between(lane, count_max=10_000)
        assert read_entries(connection, lane) == derived
    assert len(during) > 10
    usual_ms, locked_ms = (statistics.median(each) * 1000 for each in (before, during))
    with capsys.disabled():
        print(f"\nrisk: {usual_ms:.1f} ms, while persist waits for a lock {locked_ms:.1f} ms")  # noqa: T201 - measured
    assert max(during) < RISK_S_MAX


class Risk:
    """Group risk in this thread, and how long its figures take."""

    def __init__(self, log: RedisLog, feed: Feed) -> None:
        self._log, self._feed = log, feed
        group = Group("risk", RiskHandler)
        [spec] = group.specs(log)
        log.tasks.open_group("demo", "risk", 1)
        taken = log.tasks.acquire(spec.slot, "test", seen="")
        assert taken is not None
        self._run = TaskRun(log, group, spec, *taken)

    def latencies_s(self, seconds: float) -> list[float]:
        """From an account event to the committed figures that follow from it, again and again."""
        found = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._log.append(self._feed.claims[0], [encode(account(BASE_MS))])
            begun = time.monotonic()
            while not self._run.step().outputs:
                pass
            found.append(time.monotonic() - begun)
            threading.Event().wait(0.02)
        return found


def waits_for_lock(connection: Connection) -> bool:
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").fetchone()
    return bool(row and row[0])


@pytest.fixture
def small_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of its own, whose connections a test may use up."""
    server = PostgresServer(tmp_path_factory.mktemp("small") / "pgdata").start()
    try:
        yield server
    finally:
        server.kill()


def test_a_database_without_a_free_connection_is_waited_for(
    small_postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = small_postgres.create_database("small")
    migrate(dsn)
    feed = Feed(MemoryLog(), seed=38)
    feed.append(20)
    with ExitStack() as stack:
        with suppress(DatabaseUnavailable):
            for _ in range(CONNECTIONS_MAX):
                stack.enter_context(connect(dsn, application="test"))
        group = PersistGroup(options(feed.log, dsn))
        group.start()
        wait_until(lambda: bool(group.progress().waiting), what="the wait for a connection")
        assert group.running
        feed.append(20)
    finish(group, feed, dsn)
    stored_equals_log(feed, dsn)
    assert sum("waiting, nothing is lost" in record.message for record in caplog.records) == 1

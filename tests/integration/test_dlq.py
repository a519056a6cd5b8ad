"""Dead letters through real servers and processes: `consume`, `dlq`, and entries that kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import bridgectl
from consumers.failures.desk import Desk
from consumers.failures.request import Action
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.unordered import Consumer
from consumers.workers.taking import WorkerOptions
from events.codec import AnyEvent, decode, encode
from events.log import Lane, NewEntry, Slot
from events.operations import ClockTick, GapHealed
from events.postgres import connect
from events.redis import RedisLog
from tests.integration.persisting import Feed, drain, stored_equals_log
from tests.integration.test_persist import account
from tests.servers import wait_until

SOURCE = Slot("demo", "source", 0)
FRAGILE = """
import os, time
from consumers.runtime.handler import Handler
from events.operations import ClockTick, GapHealed

MENDED = {mended}

class Fragile(Handler):
    halts_on = frozenset({{"clock_changed"}})

    def handle(self, event):
        reason = event.reason if isinstance(event, GapHealed) else ""
        if not MENDED and reason == "raise":
            raise ValueError("a gap it cannot bear")
        if not MENDED and reason == "exit":
            os._exit(9)
        if not MENDED and reason == "strict":
            raise ValueError("may not be skipped")
        if reason == "slow":
            time.sleep(0.05)
        count = self.state["count"] = self.state.get("count", 0) + 1
        yield ClockTick(event_time_ms=count)

class Strict(Fragile):
    halts_on = frozenset({{"gap_healed"}})
"""
FRAGILE_SINK = """
from pathlib import Path
from consumers.sinks.sink import Sink

class Lines(Sink):
    def write(self, batch):
        if not Path("up").exists():
            raise ConnectionError("the other side is down")
        with Path("lines").open("a") as file:
            for event in batch.events:
                file.write(f"{event.event_time_ms}\\n")
"""


class Bench:
    """A log with one partition, a folder with a handler, and the command line over both."""

    def __init__(self, log: RedisLog, url: str, folder: Path) -> None:
        self.log, self.folder = log, folder
        log.open_namespace("demo", 1)
        self._claim = log.claim(SOURCE, "test", alive_within_s=0.1)
        self.environment = {
            **{name: value for name, value in os.environ.items() if "MT5" not in name},
            "REDIS_URL": url,
            "BRIDGE_STATE_DIR": str(folder / "state"),
            "PYTHONPATH": str(Path(bridgectl.__file__).parent),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._children: list[subprocess.Popen[str]] = []
        self.write_handler(mended=False)

    def write_handler(self, *, mended: bool) -> None:
        (self.folder / "fragile.py").write_text(FRAGILE.format(mended=mended))
        (self.folder / "fragile_sink.py").write_text(FRAGILE_SINK)

    def append(self, *reasons: str) -> None:
        """A clock entry for "", a gap for everything else."""
        self.log.append(self._claim, [gap(reason) if reason else clock() for reason in reasons])

    def consume(self, name: str = "Fragile", *more: str) -> subprocess.Popen[str]:
        with (self.folder / "consume.err").open("a") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "bridgectl", "consume", "--handler", name, *more],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=self.environment, cwd=self.folder,
            )  # fmt: skip
        self._children.append(child)
        return child

    def drain(self, name: str = "fragile:Fragile") -> dict[str, Any]:
        """Everything that is there, then the end."""
        child = self.consume(name, "--until-idle", "--json")
        out, _ = child.communicate(timeout=60)
        assert out.strip(), (self.folder / "consume.err").read_text()
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def dlq(self, *arguments: str) -> Result:
        return CliRunner(env=self.environment).invoke(bridgectl.cli, ["dlq", *arguments])

    def letters(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.dlq("list", "--json").stdout)["letters"]
        return found

    def counts(self, group: str = "fragile") -> list[int]:
        stream = Slot("demo", group, 0).stream(Lane.NORMAL)
        found = [decode(entry) for entry in self.log.between(stream, count_max=10_000)]
        return [event.event_time_ms for event in found if isinstance(event, ClockTick)]

    def told(self) -> str:
        return (self.folder / "consume.err").read_text()

    def close(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.terminate()
        for child in self._children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()


def clock() -> NewEntry:
    return encode(ClockTick(event_time_ms=1))


def gap(reason: str) -> NewEntry:
    return encode(
        GapHealed(event_time_ms=1, symbol="X", reason=reason, from_ms=0, until_ms=1, ticks=0)
    )


@pytest.fixture
def bench(redis_log: RedisLog, redis_url: str, tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(redis_log, redis_url, tmp_path)) as made:
        yield made


def test_a_dead_letter_is_listed_shown_and_handled_after_the_handler_was_mended(
    bench: Bench,
) -> None:
    bench.append("", "raise", "", "raise")
    assert bench.drain()["failed"] == 2
    first, second = bench.letters()
    assert first["error"] == "ValueError: a gap it cannot bear"
    assert "fragile.py:" in first["traceback"]
    shown = json.loads(bench.dlq("show", first["name"], "--json").stdout)
    assert shown["entry"]["event"]["reason"] == "raise"
    assert first["place"] in bench.dlq("show", first["place"]).stdout

    asked = bench.dlq("retry", first["name"], "--wait", "0.2s")
    assert asked.exit_code == 1
    assert "nobody runs group fragile now" in asked.stdout
    dropped = bench.dlq("drop", second["name"], "--reason", "a test", "--wait", "0.1s", "--json")
    assert json.loads(dropped.stdout)["answers"][0]["outcome"] is None
    bench.write_handler(mended=True)
    bench.drain()
    assert bench.letters() == []
    assert bench.dlq("list").stdout == "no dead letters\n"
    assert bench.counts() == [1, 2, 3]
    again = bench.dlq("retry", first["name"])
    assert again.exit_code == 1
    assert "no dead letter is called" in str(again.exception)


def test_a_running_task_answers_and_a_halted_one_goes_on(bench: Bench) -> None:
    bench.append("", "strict", "")
    bench.consume("fragile:Strict", "--group", "fragile")
    wait_until(lambda: bool(bench.letters()), what="the task to halt")
    [letter] = bench.letters()
    assert letter["halts"]
    assert "HALTED" in bench.dlq("list").stdout
    failed = bench.dlq("retry", letter["name"][:4])
    assert (failed.exit_code, "failed" in failed.stdout) == (1, True)
    dropped = bench.dlq("drop", letter["name"], "--reason", "seen by hand", "--by", "ann", "--json")
    assert dropped.exit_code == 0
    assert json.loads(dropped.stdout)["answers"][0]["outcome"] == "skipped"
    wait_until(lambda: bench.counts() == [1, 2], what="the task to go on")
    assert bench.letters() == []


def test_an_entry_that_ends_the_process_is_passed_over_at_last(bench: Bench) -> None:
    bench.append("", "exit", "", "raise", "")
    child = bench.consume("fragile:Fragile", "--lease", "0.5")
    wait_until(lambda: len(bench.letters()) == 2, timeout_s=100, what="both letters")
    wait_until(lambda: bench.counts() == [1, 2, 3], what="the rest to be handled")
    assert child.poll() is None
    killer = bench.letters()[0]
    assert "its process ended each of 2 times" in killer["error"]
    assert bench.told().count("taken over") <= 5


@pytest.mark.slow
@pytest.mark.parametrize("kills", [5, 12])
@pytest.mark.timeout(600)
def test_workers_killed_from_outside_leave_no_dead_letters(bench: Bench, kills: int) -> None:
    """Each worker is killed as soon as it holds the task, idle or in the middle of an entry."""
    entries = kills * 20
    bench.append(*(["slow"] * entries))
    bench.consume("fragile:Fragile", "--lease", "0.5", "--batch", "10", "--plain")
    task, killed = Slot("demo", "fragile", 0), 0
    holders: set[str] = set()

    def held_by_another() -> bool:
        holder = bench.log.tasks.look([task])[0].holder
        return bool(holder) and holder not in holders

    while killed < kills and len(bench.counts()) < entries:
        wait_until(held_by_another, timeout_s=60, what="a worker that holds the task")
        holder = bench.log.tasks.look([task])[0].holder
        holders.add(holder)
        if killed % 2:
            before = len(bench.counts())
            wait_until(lambda before=before: len(bench.counts()) > before, timeout_s=60)  # type: ignore[misc]  # a bound default
        os.kill(pid_of(holder), signal.SIGKILL)
        killed += 1
    wait_until(lambda: len(bench.counts()) == entries, timeout_s=300, what="everything handled")
    assert bench.counts() == list(range(1, entries + 1))
    assert bench.letters() == []
    assert killed >= kills // 2


def pid_of(holder: str) -> int:
    """From `host:pid...` as workers name themselves."""
    import re

    found = re.search(r"\b(\d{2,})\b", holder.partition("/")[0].rpartition(":")[2] or holder)
    assert found, holder
    return int(found[1])


def test_a_sink_that_is_down_is_waited_for_and_told_of_once(bench: Bench) -> None:
    bench.append(*[""] * 5)
    bench.consume("fragile_sink:Lines", "--plain")
    wait_until(lambda: "does not take entries" in bench.told(), what="it is said")
    bench.append(*[""] * 5)
    wait_until(lambda: bool(bench.log.groups(SOURCE.stream(Lane.NORMAL))), what="the mirror")
    [group] = bench.log.groups(SOURCE.stream(Lane.NORMAL)).values()
    assert group.entries_read == 0
    (bench.folder / "up").touch()
    lines = bench.folder / "lines"
    wait_until(
        lambda: lines.exists() and len(lines.read_text().split()) == 10, what="everything written"
    )
    wait_until(lambda: "takes entries again" in bench.told(), what="it is said")
    assert bench.told().count("does not take entries") == 1
    assert bench.letters() == []


def test_a_letter_of_a_group_without_order_can_be_dropped(redis_log: RedisLog) -> None:
    class Stateless(Handler):
        def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
            raise ZeroDivisionError
            yield event

    redis_log.open_namespace("demo", 1)
    claim = redis_log.claim(SOURCE, "test", alive_within_s=0.1)
    redis_log.append(claim, [clock(), clock()])
    Consumer(redis_log, Group("loose", Stateless), WorkerOptions(holder="me")).turn()
    desk = Desk(redis_log, None, warn=pytest.fail)
    first, second = desk.letters()
    [answer] = desk.decide(Action.DROP, [first], by="ann", reason="odd", wait_s=1)
    assert answer.settled
    assert desk.letters() == [second]


def test_what_the_database_could_not_take_can_be_stored_later(
    postgres_url: str, bench: Bench
) -> None:
    bench.environment["POSTGRES_URL"] = postgres_url
    feed = Feed(bench.log, seed=3, namespace="ftmo")
    with connect(postgres_url, application="test") as connection:
        connection.execute("ALTER TABLE raw.accounts ADD CONSTRAINT small CHECK (balance < 1e6)")
    feed.append(3)
    feed.log.append(feed.claims[0], [encode(account(feed.now_ms, 2e6))])
    feed.log.append(feed.claims[0], [NewEntry(Lane.HIGH, "surprise.9", "k", b"\x00\xff")])
    assert drain(feed.log, postgres_url).progress().dead == 2
    refused, unknown = bench.letters()
    assert refused["group"] == unknown["group"] == "persist"
    assert "small" in refused["error"]
    shown = json.loads(bench.dlq("show", unknown["name"], "--json").stdout)
    assert shown["entry"]["data_hex"] == "00ff"

    failed = bench.dlq("retry", "--all", "--group", "persist", "--json")
    assert [a["outcome"] for a in json.loads(failed.stdout)["answers"]] == ["failed", "failed"]
    assert len(bench.letters()) == 2
    dropped = bench.dlq("drop", unknown["name"], "--reason", "odd")
    assert "only copy" in dropped.stdout
    with connect(postgres_url, application="test") as connection:
        connection.execute("ALTER TABLE raw.accounts DROP CONSTRAINT small")
    done = bench.dlq("retry", "--all", "--group", "persist", "--json")
    assert [a["outcome"] for a in json.loads(done.stdout)["answers"]] == ["handled", "failed"]
    assert [letter["name"] for letter in bench.letters()] == [unknown["name"]]
    stored_equals_log(feed, postgres_url)
    with connect(postgres_url, application="test") as connection:
        query = "SELECT count(*) FROM raw.accounts WHERE balance = 2e6"
        assert connection.execute(query).fetchone() == (1,)

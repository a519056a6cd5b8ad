"""`replay` and `why` as commands, against groups that ran as processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import bridgectl
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.runtime.task import TaskRun
from events.codec import decode, encode
from events.log import SOURCE, Lane, Log, NewEntry, Slot
from events.operations import ClockTick, GapHealed, HandlerUpgraded
from events.redis import RedisLog
from events.retention import SegmentFolder
from tests.integration.replay_handlers import ByPriority, Chained
from tests.integration.test_consume import Consumer

HANDLERS = "tests.integration.replay_handlers"
PARTITIONS = 2
VERIFY = ("replay", "--verify", "--group")


def clock(number: int) -> NewEntry:
    return encode(ClockTick(event_time_ms=number))


def gap(number: int) -> NewEntry:
    return encode(
        GapHealed(event_time_ms=number, symbol="X", reason="", from_ms=0, until_ms=1, ticks=0)
    )


def fill(log: Log, count: int, first: int = 0) -> None:
    log.open_namespace("demo", PARTITIONS)
    for number in range(PARTITIONS):
        claim = log.claim(Slot("demo", SOURCE, number), "test", alive_within_s=0)
        entries = [gap(n) if n % 5 == 0 else clock(n) for n in range(first, first + count)]
        for at in range(0, count, 500):
            log.append(claim, entries[at : at + 500])
        log.release(claim)


def outputs(log: Log, group: str) -> list[tuple[Any, ...]]:
    """What a group derived, but for whose it is."""
    return [
        (number, lane, entry.id, entry.type, entry.key, entry.data.replace(group.encode(), b"G"),
         entry.cause)
        for number in range(PARTITIONS)
        for lane in Lane
        for entry in log.between(Slot("demo", group, number).stream(lane), count_max=10**6)
    ]  # fmt: skip


class Bridge:
    """Runs commands of the bridge, each in a process with its own order of sets."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if "MT5" not in name},
            "REDIS_URL": redis_url,
            "BRIDGE_STATE_DIR": str(folder / "state"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "COLUMNS": "250",
        }

    def run(self, *words: str, hash_seed: int = 0) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "bridgectl", *words],
            env={**self.environment, "PYTHONHASHSEED": str(hash_seed)},
            cwd=self.folder, capture_output=True, text=True, timeout=90, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def consume(self, group: str, handler: str, *more: str, hash_seed: int = 0) -> None:
        code, _, told = self.run(
            "consume", "--group", group, "--handler", f"{HANDLERS}:{handler}", "--until-idle",
            "--plain", *more, hash_seed=hash_seed,
        )  # fmt: skip
        assert code == 0, told

    def here(self, *words: str) -> tuple[int, str]:
        """Run a command in this process: it starts at once."""
        found = CliRunner().invoke(bridgectl.cli, words, env=self.environment)
        error = "" if isinstance(found.exception, SystemExit) else str(found.exception or "")
        return found.exit_code, f"{found.output}{error}"

    def verified(self, group: str, handler: str) -> tuple[int, Any]:
        code, out = self.here(*VERIFY, group, "--handler", f"{HANDLERS}:{handler}", "--json")
        return code, json.loads(out.splitlines()[-1])


@pytest.fixture
def bridge(tmp_path: Path, redis_url: str) -> Bridge:
    return Bridge(tmp_path, redis_url)


def test_processes_workers_and_hash_seeds_change_nothing_of_what_is_derived(
    bridge: Bridge, redis_log: RedisLog
) -> None:
    fill(redis_log, 400)
    bridge.consume("one", "Chained", hash_seed=1)
    bridge.consume("other", "Chained", "--workers", "2", "--batch", "37", hash_seed=2)
    alone, shared = outputs(redis_log, "one"), outputs(redis_log, "other")
    assert alone == shared
    assert len(alone) == PARTITIONS * 400
    code, out, told = bridge.run(
        *VERIFY, "other", "--handler", f"{HANDLERS}:Chained", "--json", hash_seed=3
    )
    assert code == 0, told
    found = json.loads(out)
    assert [task["equal"] for task in found["tasks"]] == [400, 400]


def run_here(log: Log, group: str, handler: type[Handler], *, batch: int) -> None:
    """Run a group's tasks until everything is handled."""
    made = Group(group, handler)
    log.tasks.open_group("demo", group, PARTITIONS)
    for spec in made.specs(log):
        taken = log.tasks.acquire(spec.slot, "me", seen=log.tasks.look([spec.slot])[0].token)
        assert taken is not None
        task = TaskRun(log, made, spec, *taken, entries_max=batch)
        while task.step().entries:
            pass
        task.release()


def test_a_group_that_follows_priorities_derives_again_from_its_journal(
    bridge: Bridge, redis_log: RedisLog
) -> None:
    fill(redis_log, 700)
    run_here(redis_log, "urgent", ByPriority, batch=50)
    fill(redis_log, 300, first=700)
    run_here(redis_log, "urgent", ByPriority, batch=20)
    code, found = bridge.verified("urgent", "ByPriority")
    assert (code, found["good"]) == (0, True)
    assert [task["equal"] for task in found["tasks"]] == [1_000, 1_000]


def test_the_order_of_a_set_is_caught_and_the_first_difference_shown(
    bridge: Bridge, redis_log: RedisLog
) -> None:
    fill(redis_log, 100)
    bridge.consume("impure", "Unordered", hash_seed=1)
    code, shown, told = bridge.run(
        "replay", "--verify", "--group", "impure", "--handler", f"{HANDLERS}:Unordered", hash_seed=2
    )
    assert code == 3, (shown, told)
    assert re.search(r"impure\.0: first difference: output \d+, other data", shown)
    assert re.search(r"  recorded +\d+-\d+ demo:0 normal trade_signal\.1 chained/X ", shown)
    assert re.search(r"  derived +\d+-\d+ demo:0 normal trade_signal\.1 chained/X ", shown)
    assert re.search(r"  reason: '.*' recorded, '.*' derived", shown)
    assert re.search(r"  cause +\d+-\d+ demo:0 (normal clock\.1|high gap_healed\.1)", shown)


def test_other_code_derives_the_state_again_also_from_spilled_segments(
    bridge: Bridge, redis_log: RedisLog
) -> None:
    fill(redis_log, 400)
    run_here(redis_log, "grown", Chained, batch=50)
    folder = SegmentFolder(bridge.folder / "state" / "segments", bytes_max=10**9)
    for lane in (Lane.HIGH, Lane.NORMAL):
        stream = Slot("demo", SOURCE, 0).stream(lane)
        entries = redis_log.between(stream, count_max=50)
        assert redis_log.retained.spill(
            folder.write(stream, entries, first=entries[0].id, before=0)
        )
    code, found = bridge.verified("grown", "Chained")
    assert (code, found["good"]) == (0, True)
    assert found["tasks"][0]["entries"] == 400
    assert found["tasks"][0]["began"] == "the beginning of the task"
    fill(redis_log, 50, first=400)
    bridge.consume("grown", "Later")
    said = decode(redis_log.between(Slot("demo", "grown", 0).stream(Lane.HIGH), count_max=1)[0])
    assert isinstance(said, HandlerUpgraded)
    assert (said.version_before, said.version, said.entries) == ("1", "2", 400)
    code, found = bridge.verified("grown", "Later")
    assert code == 0, found
    assert [task["equal"] for task in found["tasks"]] == [50, 50]
    assert "by other versions" in found["tasks"][0]["skipped"][0]


def test_a_trial_writes_a_file_and_nothing_else(bridge: Bridge, redis_log: RedisLog) -> None:
    fill(redis_log, 50)
    path = bridge.folder / "would-be.jsonl"
    code, out = bridge.here(
        "replay", "--handler", f"{HANDLERS}:Chained", "--output", str(path), "--json"
    )
    assert code == 0, out
    tasks = json.loads(out.splitlines()[-1])["tasks"]
    assert [task["entries"] for task in tasks] == [50, 50]
    assert len(path.read_text().splitlines()) == 100
    assert outputs(redis_log, "chained") == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("replay",), "which group?"),
        (("replay", "--group", "persist"), "persist derives no events"),
        (("replay", "--group", "nonsense"), "there is no group 'nonsense'"),
        (("replay", "--verify", "--group", "risk", "--speed", "2"), "without --verify"),
        (("replay", "--verify", "--group", "risk"), "committed anything yet"),
        (("why", "nonsense"), "names no entry"),
        (("why", "last:deal"), "no 'deal' among the newest"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    bridge: Bridge, redis_log: RedisLog, words: tuple[str, ...], told: str
) -> None:
    redis_log.open_namespace("demo", PARTITIONS)
    code, error = bridge.here(*words)
    assert code in (1, 2)
    assert told in " ".join(error.split())


@pytest.fixture
def consumer(tmp_path: Path, redis_url: str, postgres_url: str) -> Iterator[Consumer]:
    with closing(Consumer(tmp_path, redis_url, postgres_url)) as made:
        yield made


def test_why_walks_to_an_origin_that_only_the_database_still_has(
    bridge: Bridge, consumer: Consumer, redis_log: RedisLog
) -> None:
    fill(redis_log, 20)
    run_here(redis_log, "walked", Chained, batch=50)
    code, _, told = consumer.run("consume", "--group", "persist", "--until-idle")
    assert code == 0, told
    bridge.environment["POSTGRES_URL"] = consumer.environment["POSTGRES_URL"]
    signal = redis_log.newest(Slot("demo", "walked", 0).stream(Lane.NORMAL))[0]
    code, shown = bridge.here("why", "last:trade_signal")
    assert code == 0, shown
    assert "clock.1" in shown
    assert "ms after its cause" in shown
    redis_log.client.xtrim(str(Slot("demo", SOURCE, 0).stream(Lane.NORMAL)), maxlen=0)
    code, out = bridge.here("why", signal.place, "--json")
    assert code == 0, out
    first, last = json.loads(out.splitlines()[-1])["chain"]
    assert (first["archived"], first["entry"]["type"]) == (True, "clock.1")
    assert last["place"] == signal.place

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
from events.codec import decode, encode
from events.log import SOURCE, Entry, EntryId, Lane, Log, NewEntry, Slot
from events.operations import ClockTick, GapHealed, HandlerUpgraded
from events.redis import RedisLog
from events.retention import SegmentFolder
from tests.integration.test_consume import Consumer

HANDLERS = "tests.integration.replay_handlers"
PARTITIONS = 2


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

    def verified(self, group: str, handler: str, *, hash_seed: int = 0) -> tuple[int, Any]:
        code, out, told = self.run(
            "replay", "--verify", "--group", group, "--handler", f"{HANDLERS}:{handler}", "--json",
            hash_seed=hash_seed,
        )  # fmt: skip
        assert out, told
        return code, json.loads(out)


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
    code, found = bridge.verified("other", "Chained", hash_seed=3)
    assert (code, found["good"]) == (0, True)
    assert [task["equal"] for task in found["tasks"]] == [400, 400]


def test_a_group_that_follows_priorities_derives_again_from_its_journal(
    bridge: Bridge, redis_log: RedisLog
) -> None:
    fill(redis_log, 700)
    bridge.consume("urgent", "ByPriority", "--batch", "50", hash_seed=1)
    fill(redis_log, 300, first=700)
    bridge.consume("urgent", "ByPriority", "--batch", "20", hash_seed=2)
    code, found = bridge.verified("urgent", "ByPriority", hash_seed=3)
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


def test_other_code_derives_the_state_again_before_it_goes_on(
    bridge: Bridge, redis_log: RedisLog
) -> None:
    fill(redis_log, 600)
    bridge.consume("grown", "Chained")
    fill(redis_log, 50, first=600)
    bridge.consume("grown", "Later")
    said = decode(redis_log.between(Slot("demo", "grown", 0).stream(Lane.HIGH), count_max=1)[0])
    assert isinstance(said, HandlerUpgraded)
    assert (said.version_before, said.version, said.entries) == ("1", "2", 600)
    code, found = bridge.verified("grown", "Later")
    assert code == 0
    assert [task["equal"] for task in found["tasks"]] == [50, 50]
    assert "by other versions" in found["tasks"][0]["skipped"][0]


def test_spilled_segments_are_read_where_the_log_ends(bridge: Bridge, redis_log: RedisLog) -> None:
    fill(redis_log, 400)
    bridge.consume("spilled", "Chained")
    folder = SegmentFolder(bridge.folder / "state" / "segments", bytes_max=10**9)
    for lane in (Lane.HIGH, Lane.NORMAL):
        stream = Slot("demo", SOURCE, 0).stream(lane)
        entries = redis_log.between(stream, count_max=50)
        assert redis_log.retained.spill(
            folder.write(stream, entries, first=entries[0].id, before=0)
        )
    code, found = bridge.verified("spilled", "Chained")
    assert (code, found["good"]) == (0, True)
    assert found["tasks"][0]["entries"] == 400
    assert found["tasks"][0]["began"] == "the beginning of the task"


def test_a_trial_writes_a_file_and_nothing_else(bridge: Bridge, redis_log: RedisLog) -> None:
    fill(redis_log, 50)
    code, out, told = bridge.run(
        "replay", "--handler", f"{HANDLERS}:Chained", "--output", "would-be.jsonl", "--json"
    )
    assert code == 0, told
    tasks = json.loads(out)["tasks"]
    assert [task["entries"] for task in tasks] == [50, 50]
    lines = (bridge.folder / "would-be.jsonl").read_text().splitlines()
    assert len(lines) == 100
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
    found = CliRunner().invoke(bridgectl.cli, words, env=bridge.environment)
    assert found.exit_code in (1, 2)
    assert told in " ".join(f"{found.output} {found.exception}".split())


@pytest.fixture
def consumer(tmp_path: Path, redis_url: str, postgres_url: str) -> Iterator[Consumer]:
    with closing(Consumer(tmp_path, redis_url, postgres_url)) as made:
        yield made


def test_why_walks_to_an_origin_that_only_the_database_still_has(
    consumer: Consumer, redis_log: RedisLog, redis_url: str
) -> None:
    fill(redis_log, 20)
    Bridge(consumer.folder, redis_url).consume("walked", "Chained")
    code, _, told = consumer.run("consume", "--group", "persist", "--until-idle")
    assert code == 0, told
    signal = _newest(redis_log, "walked")
    code, shown, told = consumer.run("why", "last:trade_signal")
    assert code == 0, told
    assert "clock.1" in shown
    assert "ms after its cause" in shown
    origin = signal.cause.rpartition("@")[2]
    stream = Slot("demo", SOURCE, 0).stream(Lane.NORMAL)
    redis_log.retained.trim(stream, EntryId.parse(origin).next(), ())
    redis_log.client.xtrim(str(stream), maxlen=0)
    code, out, told = consumer.run("why", signal.place, "--json")
    assert code == 0, told
    first, last = json.loads(out)["chain"]
    assert (first["archived"], first["entry"]["type"]) == (True, "clock.1")
    assert last["place"] == signal.place


def _newest(log: Log, group: str) -> Entry:
    return log.newest(Slot("demo", group, 0).stream(Lane.NORMAL))[0]

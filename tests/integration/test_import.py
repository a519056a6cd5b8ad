"""`bridgectl import` as people run it: a real log, real processes, killed in the middle."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from events.codec import decode
from events.log import SOURCE, Lane, Slot, partition_of
from events.redis import RedisLog
from events.tick_files import load_ticks
from events.ticks import TickArray, TickBatch
from producers.append import Writer
from producers.report import Report
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "data"
EURUSD = SAMPLES / "EURUSD_20140504-20140507.csv.gz"
BTCUSD = SAMPLES / "BTCUSD_20230220T12.csv.gz"
NAMESPACE = "imported"
RUN_S_MAX = 60


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "bridgectl.py"), "import", *map(str, arguments)]


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "REDIS_URL": redis_url,
        "BRIDGE_STATE_DIR": str(tmp_path / "state"),
        "LOG_FILE": str(tmp_path / "log.txt"),
        "PYTHONWARNINGS": "",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder without any settings."""
    here = tmp_path / "here"
    here.mkdir()
    return here


def run(
    environment: dict[str, str], folder: Path, *arguments: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment, cwd=folder, capture_output=True, text=True,
        timeout=RUN_S_MAX, check=False,
    )  # fmt: skip


def in_log(log: RedisLog, symbol: str) -> TickArray:
    partitions = log.namespaces()[NAMESPACE]
    stream = Slot(NAMESPACE, SOURCE, partition_of(symbol, partitions)).stream(Lane.NORMAL)
    batches = [decode(entry) for entry in log.between(stream, count_max=10**6)]
    return np.concatenate(
        [one.ticks for one in batches if isinstance(one, TickBatch) and one.symbol == symbol]
    )


def test_files_are_imported_once_however_often_they_are_given(
    redis_log: RedisLog, environment: dict[str, str], folder: Path
) -> None:
    first = run(environment, folder, "--json", EURUSD, f"BITCOIN={BTCUSD}")
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert told["namespace"] == NAMESPACE
    assert told["ticks_appended"] == 112_572 + 8_523
    assert [file["symbol"] for file in told["files"]] == ["EURUSD", "BITCOIN"]
    again = run(environment, folder, EURUSD)
    assert again.returncode == 0
    assert "112,572 ticks, already there" in again.stdout
    assert in_log(redis_log, "EURUSD").tobytes() == load_ticks(EURUSD).tobytes()
    assert in_log(redis_log, "BITCOIN").tobytes() == load_ticks(BTCUSD).tobytes()


def test_a_damaged_file_is_told_in_a_line_and_kept_on_request(
    redis_log: RedisLog, environment: dict[str, str], folder: Path
) -> None:
    path = folder / "EURUSD.csv.gz"
    path.write_bytes(EURUSD.read_bytes()[:200_000])
    refused = run(environment, folder, path)
    assert refused.returncode == 1
    assert "EURUSD.csv.gz, line " in refused.stderr
    assert "gzip data end too early" in refused.stderr
    assert "Traceback" not in refused.stderr
    kept = run(environment, folder, "--on-error", "keep", "--json", path)
    assert kept.returncode == 1
    (told,) = json.loads(kept.stdout)["files"]
    assert told["ticks"] > 10_000
    file = load_ticks(EURUSD)
    assert in_log(redis_log, "EURUSD").tobytes() == file[: told["ticks"]].tobytes()


def test_a_running_producer_is_named(
    redis_log: RedisLog, environment: dict[str, str], folder: Path
) -> None:
    writer = Writer(
        redis_log, "simulated", 4, holder="producer 7", report=Report(), alive_within_s=0.0,
        beat_s=0.05,
    )  # fmt: skip
    writer.open()
    writer.start_beating(lambda: None)
    try:
        refused = run(environment, folder, "--terminal", "simulated", BTCUSD)
        elsewhere = run(environment, folder, BTCUSD)
        named = run(environment, folder, "--namespace", "history", BTCUSD)
    finally:
        writer.close()
    assert refused.returncode == 1
    assert "is held by producer 7: stop that one first" in refused.stderr
    assert elsewhere.returncode == named.returncode == 0, elsewhere.stderr + named.stderr
    assert redis_log.namespaces() == {NAMESPACE: 4, "history": 4, "simulated": 4}


def test_a_file_without_ticks_is_told(environment: dict[str, str], folder: Path) -> None:
    path = folder / "EURUSD.csv"
    path.write_text("<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\r\n")
    done = run(environment, folder, path)
    assert done.returncode == 0
    assert "there are no ticks in it" in done.stderr


def rows_in_log(log: RedisLog, slot: Slot) -> int:
    """As the cursor of the only file tells."""
    (text,) = log.cursors(slot).values() or ("0",)
    return int(text.partition("@")[0].split()[0])


@pytest.mark.parametrize(("seed", "kills"), [(1, 1), pytest.param(2, 5, marks=pytest.mark.slow)])
def test_a_killed_import_goes_on_where_it_stood(
    redis_log: RedisLog, environment: dict[str, str], folder: Path, seed: int, kills: int
) -> None:
    chance = random.Random(seed)
    header, _, lines = gzip.decompress(EURUSD.read_bytes()).partition(b"\n")
    path = folder / "EURUSD.csv"
    path.write_bytes(header + b"\n" + lines * 8)
    slot = Slot(NAMESPACE, SOURCE, partition_of("EURUSD", 4))
    killed = 0
    for _ in range(kills):
        target = rows_in_log(redis_log, slot) + 32_000 * chance.randrange(1, 12)
        process = subprocess.Popen(
            command("--on-error", "keep", path), env=environment, cwd=folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def far_enough(process: subprocess.Popen[bytes] = process, target: int = target) -> bool:
            return process.poll() is not None or rows_in_log(redis_log, slot) >= target

        wait_until(far_enough, timeout_s=RUN_S_MAX, what="the import moves on")
        process.kill()
        killed += process.wait() != 0
    done = run(environment, folder, "--on-error", "keep", path)
    assert done.returncode == 0, done.stderr
    assert killed > 0, f"seed {seed}"
    assert in_log(redis_log, "EURUSD").tobytes() == load_ticks(path).tobytes(), f"seed {seed}"

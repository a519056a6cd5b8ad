"""`bridgectl up`: from a terminal to the database in one command, and to the same again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from events.log import SOURCE, Slot
from events.redis import RedisLog, open_log
from events.settings import load
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]
BTCUSD = ROOT / "tests" / "data" / "BTCUSD_20230220T12.csv.gz"
BTCUSD_TICKS = 8_523
END_S_MAX = 110


@dataclass
class Ended:
    code: int
    result: dict[str, Any]
    err: str


class Bridge:
    """Starts `bridgectl` with the test's own settings."""

    def __init__(self, folder: Path, **settings: str) -> None:
        names = ("MT5_", "BRIDGE_", "RISK_", "MAX_", "REDIS_", "POSTGRES_")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(names)}
        self.state_dir = folder / "state"
        self.environment = {
            **kept, "PYTHONPATH": str(ROOT), "BRIDGE_STATE_DIR": str(self.state_dir), **settings,
        }  # fmt: skip
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "bridgectl", *words],
            env=self.environment, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._started.append(process)
        return process

    def run(self, *words: str) -> Ended:
        return self.ended(self.start(*words))

    def ended(self, process: subprocess.Popen[str]) -> Ended:
        out, err = process.communicate(timeout=END_S_MAX)
        result = json.loads(out.splitlines()[-1]) if out.strip() else {}
        return Ended(process.returncode, result, err)

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Callable[..., Bridge]]:
    made: list[Bridge] = []

    def make(**settings: str) -> Bridge:
        made.append(Bridge(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_recorded_terminal_is_stored_once_and_what_is_taken_away_is_noticed(
    bridge: Callable[..., Bridge], redis_url: str, postgres_url: str
) -> None:
    ours = bridge(REDIS_URL=redis_url, POSTGRES_URL=postgres_url)
    first = ours.run("up", "--terminal", "recorded", "--ticks", str(BTCUSD), "--speed", "max",
                     "--json")  # fmt: skip
    assert first.code == 0, first.err
    assert first.result["terminal"] == "recorded"
    assert first.result["ending"] == "played"
    assert first.result["ticks_appended"] == first.result["ticks_stored"] == BTCUSD_TICKS
    assert first.result["checked"] == BTCUSD_TICKS
    assert first.result["missing"] == first.result["duplicated"] == first.result["altered"] == 0
    assert first.result["entries_by_lane"]["normal"] > 0
    assert first.result["redis"].startswith("configured ")
    assert not (ours.state_dir / "redis").exists(), "configured servers are used, none is started"

    with psycopg.connect(postgres_url) as connection:
        connection.execute("DELETE FROM raw.ticks WHERE ctid IN (SELECT ctid FROM raw.ticks "
                           "ORDER BY entry_ms, entry_seq, idx OFFSET 100 LIMIT 3)")  # fmt: skip
        connection.execute("INSERT INTO raw.ticks SELECT * FROM raw.ticks LIMIT 1")
    checked = ours.run("verify", "ticks", "--ticks", str(BTCUSD), "--json")
    assert checked.code == 3
    assert checked.result["places"]["log"]["missing"] == 0
    assert checked.result["places"]["database"]["missing"] == 3
    assert checked.result["places"]["database"]["doubled"] == 1


def test_without_anything_configured_the_simulated_terminal_runs_on_embedded_servers(
    bridge: Callable[..., Bridge],
) -> None:
    """The whole of it is killed in the middle; the next run goes on where it stood."""
    ours = bridge()
    running = ours.start("up", "--plain")
    ticks_flow(ours, "simulated")
    running.send_signal(signal.SIGKILL)
    running.communicate()
    address = load(bridge_state_dir=ours.state_dir).redis_url()
    assert address is not None
    log = open_log(address)
    try:
        wait_until(lambda: not holders(log, "simulated"), timeout_s=60, what="orphans to end")
    finally:
        log.close()

    ended = ours.run("up", "--for", "5s", "--json")
    assert "no MT5 configured: simulated terminal" in ended.err
    assert "adopting the embedded redis whose owner has died" in ended.err
    assert ended.code == 0, ended.err
    assert ended.result["terminal"] == "simulated"
    # What the killed run had appended and not stored yet is stored now too.
    assert ended.result["ticks_stored"] >= ended.result["ticks_appended"] > 0
    assert ended.result["missing"] == ended.result["duplicated"] == ended.result["altered"] == 0
    assert ended.result["redis"].startswith("embedded Valkey")
    settings = load(bridge_state_dir=ours.state_dir)
    assert settings.redis_url() is None, "embedded servers end with the run"
    assert settings.postgres_url() is None


@pytest.mark.slow
def test_the_same_files_again_add_nothing(
    bridge: Callable[..., Bridge], redis_url: str, postgres_url: str
) -> None:
    ours = bridge(REDIS_URL=redis_url, POSTGRES_URL=postgres_url)
    words = ("--ticks", str(BTCUSD), "--speed", "max", "--json")
    assert ours.run("up", *words).result["ticks_stored"] == BTCUSD_TICKS
    again = ours.run("up", *words)
    assert again.code == 0, again.err
    assert again.result["ticks_appended"] == again.result["ticks_stored"] == 0
    assert again.result["missing"] == again.result["duplicated"] == 0


@pytest.mark.slow
def test_a_producer_that_is_killed_is_started_again_and_nothing_is_lost(
    bridge: Callable[..., Bridge], redis_url: str, postgres_url: str, redis_log: RedisLog
) -> None:
    ours = bridge(REDIS_URL=redis_url, POSTGRES_URL=postgres_url)
    running = ours.start("up", "--terminal", "simulated", "--symbols", "BTCUSD", "--for", "25s",
                         "--json")  # fmt: skip
    wait_until(lambda: bool(appended(redis_log, "simulated")), timeout_s=60, what="ticks")
    [holder] = holders(redis_log, "simulated")
    os.kill(int(holder.rpartition("pid ")[2]), signal.SIGKILL)
    before = appended(redis_log, "simulated")
    ended = ours.ended(running)
    assert ended.code == 0, ended.err
    assert "starting it again" in ended.err
    assert ended.result["restarts"] == 1
    assert sum(appended(redis_log, "simulated").values()) > sum(before.values())
    assert ended.result["missing"] == ended.result["duplicated"] == ended.result["altered"] == 0


def test_a_real_terminal_on_a_log_that_forgets_is_refused(
    bridge: Callable[..., Bridge], stand_in_url: str, tmp_path: Path
) -> None:
    (tmp_path / "terminals.toml").write_text(
        '[terminals.far]\nkind = "classic"\nhost = "127.0.0.1"\nport = 1\n'
    )
    ours = bridge(REDIS_URL=stand_in_url, POSTGRES_URL="postgresql://x@127.0.0.1:1/x")
    done = ours.run("up", "--for", "5s", "--json")
    assert done.code == 1
    assert "far is a real terminal" in done.err
    assert "--volatile-log" in done.err


def holders(log: RedisLog, name: str) -> set[str]:
    found = {
        log.holder(Slot(name, SOURCE, partition))
        for partition in range(log.namespaces().get(name, 0))
    }
    return found - {""}


def appended(log: RedisLog, name: str) -> dict[str, int]:
    from events.running.counts import LogEnds, appended_since

    return {one: seen.ticks for one, seen in appended_since(log, name, LogEnds({}, {})).items()}


def ticks_flow(ours: Bridge, name: str) -> None:
    """Wait until the log on the embedded server holds ticks."""

    def there() -> bool:
        address = load(bridge_state_dir=ours.state_dir).redis_url()
        if address is None:
            return False
        log = open_log(address)
        try:
            return bool(appended(log, name))
        finally:
            log.close()

    wait_until(there, timeout_s=90, what="ticks in the log")

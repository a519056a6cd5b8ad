"""The whole way of a tick under kill -9: producer, terminal host, persist consumer, Redis.

The simulated terminal makes the same ticks from the same seed, whoever asks and whenever, so
that after the crashes every tick of the run can be asked for again and compared.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.postgres import connect
from tests.servers import RedisServer, redis_binaries, wait_until

SYMBOLS = ("BTCUSD", "ETHUSD")
"""Traded round the clock, so that the test is worth the same on a Sunday."""
TERMINALS = f"""
[terminals.sim]
kind = "simulated"
clock = "America/New_York+7h"
symbols = {json.dumps(SYMBOLS)}

[terminals.sim.options]
seed = 7
ticks = {{ rate = 40.0, same_ms_share = 0.2, identical_share = 0.05 }}
trader = {{ every_s = 2.0, hold_max_s = 3.0, flash_share = 0.5 }}
"""
SERVICES = {
    "producer": ("produce", "--terminal", "sim"),
    "consumer": ("consume", "--group", "persist", "--workers", "2", "--lease", "2"),
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds children in /proc")


class Bridge:
    """Producer and consumer as processes of their own against given servers."""

    def __init__(self, folder: Path, redis: RedisServer, postgres_url: str) -> None:
        self.redis, self.postgres_url = redis, postgres_url
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "terminals.toml").write_text(TERMINALS)
        self._environment = {
            **{name: value for name, value in os.environ.items() if "MT5" not in name},
            "REDIS_URL": redis.url,
            "POSTGRES_URL": postgres_url,
            "BRIDGE_STATE_DIR": str(folder / "state"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def start(self, name: str) -> None:
        with (self._folder / f"{name}.err").open("ab") as errors:
            self._children[name] = subprocess.Popen(
                [sys.executable, "-m", "bridgectl", *SERVICES[name]],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                env=self._environment, cwd=self._folder,
            )  # fmt: skip

    def kill(self, victim: str) -> None:
        """kill -9, and start again what nothing else starts."""
        if victim == "redis":
            self.redis.kill()
            self.redis.start()
        elif victim == "host":
            for pid in children_of(self._children["producer"].pid):
                os.kill(pid, signal.SIGKILL)
        else:
            self._children[victim].kill()
            self._children[victim].wait()
            self.start(victim)

    def stop(self, name: str) -> None:
        child = self._children.pop(name, None)
        if child is not None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(30)
            finally:
                child.kill()

    def close(self) -> None:
        for child in self._children.values():
            child.kill()
            child.wait()
        self._children.clear()

    def run(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "bridgectl", *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
            env=self._environment, cwd=self._folder, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout or done.stderr

    def told(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self._folder.glob("*.err"))

    def ticks_stored(self) -> int:
        with connect(self.postgres_url, application="test") as connection:
            row = connection.execute("SELECT count(*) FROM ticks").fetchone()
        return int(row[0]) if row else 0


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def bridge(tmp_path: Path, postgres_url: str) -> Iterator[Bridge]:
    folder = tmp_path / "redis"
    folder.mkdir()
    binary = next(iter(redis_binaries().values()))
    server = RedisServer(binary, folder, ["--appendfsync", "always"]).start()
    running = Bridge(tmp_path, server, postgres_url)
    yield running
    running.close()
    server.kill()


def ticks_survive(bridge: Bridge, *, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    for name in SERVICES:
        bridge.start(name)
    wait_until(lambda: bridge.ticks_stored() > 0, timeout_s=60, what=f"ticks: {bridge.told()}")
    victims = ["producer", "host", "consumer", "redis"] * (kills // 4)
    chance.shuffle(victims)
    for victim in victims:
        time.sleep(chance.uniform(0.2, 2.0))
        bridge.kill(victim)
    before = bridge.ticks_stored()
    wait_until(
        lambda: bridge.ticks_stored() > before, timeout_s=60, what=f"healing: {bridge.told()}"
    )
    time.sleep(chance.uniform(1.0, 2.0))
    for name in SERVICES:
        bridge.stop(name)
    code, out = bridge.run("consume", "--group", "persist", "--until-idle", "--json")
    assert code == 0, (seed, out)
    code, out = bridge.run("verify", "ticks", "--terminal", "sim", "--json")
    assert code == 0, (seed, victims, out, bridge.told())
    everything_is_there_once(json.loads(out.splitlines()[-1]), seed)
    deals_are_there_once(bridge, seed)


def everything_is_there_once(found: dict[str, dict[str, dict[str, int]]], seed: int) -> None:
    for place in ("log", "database"):
        counts = found["places"][place]
        assert counts["truth"] == counts["found"] > 1000, (seed, place, counts)
        assert counts["missing"] == counts["doubled"] == counts["altered"] == 0, (seed, counts)


def deals_are_there_once(bridge: Bridge, seed: int) -> None:
    """Deals of positions that lived between two polls, and across the crashes."""
    with connect(bridge.postgres_url, application="test") as connection:
        rows = connection.execute("SELECT ticket, position_id, entry FROM deals").fetchall()
    tickets = [row[0] for row in rows]
    assert len(tickets) == len(set(tickets)), seed
    opened = {row[1] for row in rows if row[2] == 0}
    closed = {row[1] for row in rows if row[2] == 1}
    assert closed
    assert closed <= opened, seed


def test_kill_9_of_every_part_loses_and_doubles_nothing(bridge: Bridge) -> None:
    ticks_survive(bridge, seed=11, kills=4)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(100, 110))
def test_kill_9_many_times_loses_and_doubles_nothing(bridge: Bridge, seed: int) -> None:
    ticks_survive(bridge, seed=seed, kills=40)

"""Groups as processes against a real server, under kill -9, pauses, restarts and bad networks.

pytest tests/simulation/processes/test_process_crashes.py --seed 7
pytest -m slow tests/simulation/processes/test_process_crashes.py -k thousand
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.handler import Handler
from events.log import NewEntry
from tests.conftest import Seeds
from tests.servers import RedisServer, fault_proxy, redis_binaries, wait_until
from tests.simulation.groups.chains import (
    KEYS,
    Chain,
    ChainByPriority,
    ChainOfAll,
    Fainting,
    some_ticks,
)
from tests.simulation.processes.faketime import FAKETIME, HOUR_S, jump, preload
from tests.simulation.processes.nemesis import Nemesis, begun
from tests.simulation.processes.process_world import LEASE_S, ProcessWorld

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="SIGSTOP and SIGKILL: Windows has no such signals"
)

KILLS = 1_000
HOSTS = 2
TICKS_PER_BATCH, BATCHES_PER_S = 1_000, 100
MakeWorld = Callable[..., ProcessWorld]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[MakeWorld]:
    """Makes a world around a server of its own: `kind` of binary, `fsync` policy."""
    binaries = redis_binaries()
    if not binaries:
        pytest.skip("no Redis binary comes from pip for this system")
    with ExitStack() as stack:

        def make(
            handler: type[Handler], seed: int, *, kind: str = "", fsync: str = "always", **more: Any
        ) -> ProcessWorld:
            folder = tmp_path / "server"
            folder.mkdir()
            binary = binaries[kind or next(iter(binaries))]
            server = RedisServer(binary, folder, ["--appendfsync", fsync]).start()
            stack.callback(server.kill)
            ways = [stack.enter_context(fault_proxy(server.port)) for _ in range(HOSTS)]
            world = ProcessWorld(tmp_path, server, ways, handler, seed, **more)
            stack.callback(world.close)
            return world

        yield make


def survives(world: ProcessWorld, nemesis: Nemesis, *, replay: bool = False) -> None:
    """Everything fed was handled once, in order, and everything derived is as if nothing had
    happened. With `replay`, the program's own check must agree."""
    world.drain()
    told = (world.seed, dict(nemesis.struck), world.feed.entries)
    assert world.differences() == [], told
    sys.stdout.write(f"\nseed, faults, entries: {told}\n")
    if replay:
        assert world.replayed() == "", told
    for worker in list(world.workers):
        world.end(worker)
    assert world.owners() == 0, "workers that ended on request hold nothing"


def test_kills_pauses_and_a_bad_network_change_nothing(made: MakeWorld, seeds: Seeds) -> None:
    world = made(Chain, seeds.first, fsync="everysec")
    nemesis = Nemesis(world, seeds.first)
    begun(world, workers=3)
    some = ["kill a worker", "pause a worker", "lose replies", "lose requests", "kill the server",
            "cut connections", "flush scripts", "end a worker"]  # fmt: skip
    random.Random(seeds.first).shuffle(some)
    for name in some:
        nemesis.strike(name)
        nemesis.rest(0.1, 0.4)
    survives(world, nemesis)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fsync", ["always", "everysec"])
@pytest.mark.parametrize("kind", list(redis_binaries()))
@pytest.mark.parametrize("handler", [Chain, ChainByPriority, ChainOfAll])
def test_every_fault_many_times_changes_nothing(
    handler: type[Handler], kind: str, fsync: str, made: MakeWorld, seeds: Seeds
) -> None:
    """Each fault at least three times, in an order that the seed chooses."""
    world = made(handler, seeds.first, kind=kind, fsync=fsync)
    nemesis = Nemesis(world, seeds.first)
    begun(world, workers=4)
    faults = sorted(nemesis.faults) * seeds.count(3)
    random.Random(seeds.first).shuffle(faults)
    for name in faults:
        nemesis.strike(name)
        nemesis.rest(0.2, 1.5)
    survives(world, nemesis, replay=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sees in /proc who stands still")
def test_workers_that_stand_still_between_handling_and_commit_are_fenced(
    made: MakeWorld, seeds: Seeds, tmp_path: Path
) -> None:
    """Stopped inside a batch, woken when another has handled it: the late commit is refused."""
    more = ("--set", f"faint_file={tmp_path}/faint")
    world = made(Fainting, seeds.first, more=more)
    begun(world, workers=3)
    woken = 0
    while woken < 5:
        wait_until(lambda: bool(world.stopped()), timeout_s=60, what=f"fainting: {world.told()}")
        time.sleep(2 * LEASE_S)
        for worker in world.stopped():
            worker.send_signal(signal.SIGCONT)
            woken += 1
    survives(world, Nemesis(world, seeds.first))
    assert "fenced" in world.everything_told()


@pytest.mark.slow
@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime (apt install libfaketime)")
def test_the_clock_of_workers_means_nothing(made: MakeWorld, seeds: Seeds, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    jump(clock, 0)
    world = made(ChainByPriority, seeds.first, variables=preload(clock))
    nemesis = Nemesis(world, seeds.first)
    begun(world, workers=3)
    for by_s in (HOUR_S, -HOUR_S, 0):
        jump(clock, by_s)
        nemesis.rest(0.5, 1.0)
        nemesis.strike("kill a worker")
    survives(world, nemesis)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_kills_change_nothing(made: MakeWorld, seeds: Seeds) -> None:
    """kill -9 of one worker after the other, each while it works. `--runs N` kills N times."""
    world = made(Chain, seeds.first, feed_every_s=0.02)
    nemesis = Nemesis(world, seeds.first)
    begun(world, workers=4)
    for _ in range(seeds.count(KILLS)):
        before = world.commits()
        wait_until(lambda: world.commits() > before, timeout_s=60, what=f"work: {world.told()}")  # noqa: B023 - called at once
        nemesis.rest(0.0, 0.3)
        nemesis.strike("kill a worker")
    survives(world, nemesis)


def ticks_of(chance: random.Random, number: int) -> list[NewEntry]:
    return [some_ticks(chance.choice(KEYS), number, TICKS_PER_BATCH)]


def scaled(world: ProcessWorld, *, most: int, hold_s: float) -> float:
    """1 -> `most` -> 1 workers while ticks flow; gives the ticks per second that flowed."""
    begun(world, workers=1)
    begun_at, fed = time.monotonic(), world.feed.entries
    for _ in range(most - 1):
        world.start_worker()
        time.sleep(hold_s)
    for worker in world.workers[1:]:
        world.end(worker)
        time.sleep(hold_s)
    passed_s = time.monotonic() - begun_at
    return (world.feed.entries - fed) * TICKS_PER_BATCH / passed_s


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("handler", [Chain, ChainByPriority])
def test_scaling_while_ticks_flow_changes_nothing(
    handler: type[Handler], made: MakeWorld, seeds: Seeds
) -> None:
    world = made(
        handler, seeds.first, fsync="everysec", make=ticks_of, feed_every_s=0.9 / BATCHES_PER_S
    )
    ticks_per_s = scaled(world, most=4, hold_s=3.0)
    sys.stdout.write(f"\n{ticks_per_s:,.0f} ticks/s while scaling 1 -> 4 -> 1\n")
    survives(world, Nemesis(world, seeds.first))

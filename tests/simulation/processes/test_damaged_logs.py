"""A server whose file was cut, whose streams somebody removed by hand, or whose clock jumped."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers.runtime.group import Group, TaskSpec
from consumers.workers.taking import WorkerOptions
from consumers.workers.worker import Worker
from events.log import Claim, Lane, Slot
from events.redis import RedisLog, open_log
from tests.conftest import Seeds
from tests.servers import RedisServer, redis_binaries, wait_until
from tests.simulation.groups.chains import Chain, ChainByPriority, some_entry
from tests.simulation.groups.checker import Evidence, differences
from tests.simulation.processes.faketime import FAKETIME, HOUR_S, jump, preload

pytestmark = pytest.mark.skipif(
    not redis_binaries(), reason="no Redis binary comes from pip for this system"
)
NAMESPACE, GROUP = "demo", "chain"
SOURCE = Slot(NAMESPACE, "source", 0)
LANE = SOURCE.stream(Lane.NORMAL)
LEASE_S = 0.5
TAIL_BYTES = 15_000
"""More than two commits of ten entries take in the file."""


class Bench:
    """One task on a server, worked by hand."""

    def __init__(self, log: RedisLog, handler: type[Chain], seed: int) -> None:
        self.log, self.group, self._chance = log, Group(GROUP, handler), random.Random(seed)
        self.fed = 0
        self.passed_s = 0.0
        self.begin()

    def begin(self) -> None:
        self.log.open_namespace(NAMESPACE, 1)
        [self.spec] = self.group.specs(self.log)
        self.claim: Claim = self.log.claim(SOURCE, "feed", alive_within_s=0)

    def now_s(self) -> float:
        return time.monotonic() + self.passed_s

    def feed(self, count: int) -> None:
        new = [some_entry(self._chance, self.fed + n, poison=0.02) for n in range(count)]
        self.log.append(self.claim, new)
        self.fed += count

    def worker(self, *, entries_max: int = 10) -> Worker:
        return Worker(
            self.log,
            self.group,
            WorkerOptions("by hand", lease_s=LEASE_S, entries_max=entries_max),
            monotonic=self.now_s,
        )

    def work(self, worker: Worker) -> None:
        """Until nothing is left to do, or the task is halted."""
        while not worker.owned or worker.turn():
            worker.turn()
        for run in worker.owned.values():
            run.mirror()

    def differences(self, *, complete: bool) -> list[str]:
        return differences(evidence(self.log, self.group, self.spec), complete=complete)


def evidence(log: RedisLog, group: Group, spec: TaskSpec) -> Evidence:
    return Evidence(
        handler=group.handler,
        record=log.tasks.peek(spec.slot),
        inputs={stream: log.between(stream, count_max=10**9) for stream in spec.inputs},
        outputs=[
            entry for lane in Lane for entry in log.between(spec.slot.stream(lane), count_max=10**9)
        ],
        journal=log.tasks.journal(spec.slot, count_max=10**9),
        last=log.last_states(spec.slot),
    )


@contextmanager
def served(
    folder: Path, *options: str, variables: dict[str, str] | None = None
) -> Iterator[RedisLog]:
    server = RedisServer(next(iter(redis_binaries().values())), folder, list(options))
    with environment(variables or {}):
        server.start()
    log = open_log(server.url)
    try:
        yield log
    finally:
        log.close()
        server.kill()


@contextmanager
def environment(more: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def newest_file(folder: Path) -> Path:
    """The file to which the server appends."""
    return max(folder.rglob("*.incr.aof"), key=lambda path: path.stat().st_mtime)


def cut_at(whole: Path, folder: Path, size: int) -> Path:
    """A copy of the server's folder whose file was cut by a power failure."""
    shutil.copytree(whole, folder)
    with newest_file(folder).open("r+b") as file:
        file.truncate(size)
    return folder


def torn(tmp_path: Path, handler: type[Chain], seeds: Seeds, cuts: int) -> None:
    """Cut the file within its last commits: what is left must be whole commits, and the task
    goes on from there."""
    whole = tmp_path / "whole"
    whole.mkdir()
    with served(whole, "--appendfsync", "always") as log:
        bench = Bench(log, handler, seeds.first)
        bench.feed(60)
        bench.work(bench.worker())
        assert bench.differences(complete=True) == []
    size = newest_file(whole).stat().st_size
    chance = random.Random(seeds.first)
    spans = range(size - TAIL_BYTES, size, TAIL_BYTES // cuts)
    places = [chance.randrange(begin, begin + TAIL_BYTES // cuts) for begin in spans]
    commits = set()
    for place in places[:cuts]:
        folder = cut_at(whole, tmp_path / f"cut{place}", place)
        with served(folder) as log:
            group = Group(GROUP, handler)
            [spec] = group.specs(log)
            assert differences(evidence(log, group, spec), complete=False) == [], place
            commits.add(log.tasks.peek(spec.slot).commits)
            again = Bench(log, handler, seeds.first)
            again.feed(5)
            again.work(again.worker())
            assert again.differences(complete=True) == [], place
        shutil.rmtree(folder)
    assert len(commits) > 1, "no commit was cut"


def test_a_file_cut_within_a_commit_lost_it_whole(tmp_path: Path, seeds: Seeds) -> None:
    torn(tmp_path, Chain, seeds, 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("handler", [Chain, ChainByPriority])
def test_a_file_cut_anywhere_lost_whole_commits(
    handler: type[Chain], tmp_path: Path, seeds: Seeds
) -> None:
    torn(tmp_path, handler, seeds, seeds.count(200))


def derived(bench: Bench) -> list[object]:
    lanes = bench.spec.slot.streams()
    return [entry for lane in lanes for entry in bench.log.between(lane, count_max=10**6)]


@pytest.mark.parametrize("running", [True, False], ids=["running", "taken later"])
@pytest.mark.parametrize("damage", ["DEL", "XTRIM"])
def test_streams_removed_by_hand_halt_their_task(
    damage: str, running: bool, redis_log: RedisLog
) -> None:
    """Nobody waits silently on an offset that lies ahead, or reads on behind a hole unnoticed."""
    bench = Bench(redis_log, Chain, 1)
    worker = bench.worker()
    bench.feed(30)
    bench.work(worker)
    before = derived(bench)
    if not running:
        worker.leave()
        worker = bench.worker()
    bench.feed(20)
    for stream in bench.spec.inputs:
        if damage == "DEL":
            redis_log.client.delete(str(stream))
        else:
            redis_log.client.xtrim(str(stream), maxlen=1, approximate=False)
    bench.passed_s += 60
    for _ in range(20):
        worker.turn()
    [halted] = worker.progress.halted.values()
    assert "repair" in halted
    assert redis_log.tasks.peek(bench.spec.slot).halted == halted
    if damage == "DEL" or not running:
        assert derived(bench) == before


def test_a_server_emptied_by_hand_begins_anew(redis_log: RedisLog) -> None:
    bench = Bench(redis_log, Chain, 1)
    worker = bench.worker()
    bench.feed(30)
    bench.work(worker)
    redis_log.client.flushall()
    bench.begin()
    bench.feed(20)
    bench.passed_s += 60
    for _ in range(20):
        worker.turn()
    bench.work(worker)
    assert bench.differences(complete=True) == []


@pytest.mark.slow
@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime (apt install libfaketime)")
def test_a_clock_that_jumps_an_hour_changes_nothing(tmp_path: Path) -> None:
    """Ids go on, and a dead owner is replaced in time, whatever the server's clock shows."""
    clock = tmp_path / "clock"
    jump(clock, 0)
    with served(tmp_path, variables=preload(clock)) as log:
        bench = Bench(log, Chain, 1)
        ahead_s = []
        for by_s in (0, HOUR_S, -HOUR_S, 0):
            jump(clock, by_s)
            seconds, _ = log.client.time()
            ahead_s.append(round((seconds - time.time()) / HOUR_S))
            bench.feed(20)
            worker, begun_s = bench.worker(), time.monotonic()  # the one before is dead
            wait_until(lambda: worker.turn() or bool(worker.owned), timeout_s=10, what="owner")  # noqa: B023 - called at once
            assert time.monotonic() - begun_s < 2 * LEASE_S + 1
            bench.work(worker)
            assert bench.differences(complete=True) == []
        assert ahead_s == [0, 1, -1, 0], "the clock did jump"


@pytest.mark.slow
def test_the_losing_side_of_a_split_brain_is_fenced(tmp_path: Path) -> None:
    """Two masters, an owner on each; when the loser comes back with the winner's data, its
    owner finds itself replaced, though it knows entries that nobody else does."""
    folders = [tmp_path / "loser", tmp_path / "winner"]
    for folder in folders:
        folder.mkdir()
    with served(folders[0]) as loser, served(folders[1]) as winner:
        winner.client.replicaof("127.0.0.1", loser.client.connection_pool.connection_kwargs["port"])
        bench = Bench(loser, Chain, 1)
        bench.feed(30)
        late = bench.worker()
        bench.work(late)
        wait_until(lambda: winner.info(LANE).last_id == loser.info(LANE).last_id, what="a copy")
        winner.client.replicaof("NO", "ONE")

        bench.feed(25)
        while late.turn():
            pass
        other = Bench(winner, Chain, 2)
        other.feed(20)
        heir = other.worker()
        wait_until(lambda: heir.turn() or bool(heir.owned), timeout_s=10, what="an heir")
        other.work(heir)

        loser.client.replicaof("127.0.0.1", winner.client.connection_pool.connection_kwargs["port"])
        wait_until(lambda: loser.info(LANE).last_id == winner.info(LANE).last_id, what="a copy")
        loser.client.replicaof("NO", "ONE")
        bench.begin()
        bench.feed(15)
        late.turn()
        assert late.progress.fenced == 1
        wait_until(lambda: late.turn() or bool(late.owned), timeout_s=10, what="an owner again")
        bench.work(late)
        assert bench.differences(complete=True) == []

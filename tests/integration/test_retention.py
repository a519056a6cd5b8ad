"""Trimming and spilling on real servers: bursts, races, restarts."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from events.log import BEGIN, Claim, EntryId, Lane, LogFull, NewEntry, Slot, Stream
from events.redis import RedisLog, open_log
from events.redis.retention import TRIM
from events.retention import Limits, Retention, RetentionLoop, SegmentFolder, WholeLog
from tests.servers import RedisServer, redis_binaries, wait_until

SLOT = Slot("demo", "source", 0)
NORMAL = SLOT.stream(Lane.NORMAL)
MIB = 1024 * 1024


@pytest.fixture(params=sorted(redis_binaries()))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(redis_binaries()[request.param], folder).start()
    yield server
    server.kill()


@contextmanager
def opened(server: RedisServer) -> Iterator[RedisLog]:
    log = open_log(server.url)
    try:
        yield log
    finally:
        log.close()


class MemoryWatch:
    """The most memory a server ever used, looked at every 10 ms."""

    def __init__(self, server: RedisServer) -> None:
        self._log = open_log(server.url)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.most = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._log.close()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.most = max(self.most, self._log.retained.look(SLOT).used_bytes)


class Reader:
    """A group that reads NORMAL, shows its offset, and remembers the ids it saw."""

    def __init__(self, log: WholeLog, name: str) -> None:
        self._log, self.name = log, name
        self.seen: list[EntryId] = []
        log.tasks.join(name, [NORMAL])

    def read(self, count_max: int = 500) -> int:
        at = self.seen[-1] if self.seen else BEGIN
        found = self._log.read({NORMAL: at}, count_max=count_max).get(NORMAL, [])
        self.seen += [entry.id for entry in found]
        if found:
            self._log.mirror(self.name, NORMAL, self.seen[-1], len(self.seen))
        return len(found)


def append_all(
    log: RedisLog, claim: Claim, *, total_bytes: float, bytes_per_s: float, size: int
) -> tuple[list[EntryId], int]:
    """At most at that rate; a refused append is repeated until it is taken. Returns ids and
    refusals."""
    chance = random.Random(1)
    ids: list[EntryId] = []
    refused, begun = 0, time.monotonic()
    batch = max(1, 65_536 // size)
    while len(ids) * size < total_bytes:
        if len(ids) * size > (time.monotonic() - begun) * bytes_per_s:
            time.sleep(0.002)
            continue
        entries = [NewEntry(Lane.NORMAL, "t.1", "k", chance.randbytes(size)) for _ in range(batch)]
        try:
            ids += log.append(claim, entries).ids
        except LogFull:
            refused += 1
            time.sleep(0.005)
    return ids, refused


def burst(
    server: RedisServer, folder: Path, *, budget: int, calm_bytes: int, calm_bytes_per_s: float,
    burst_bytes: int, size: int,
) -> str:  # fmt: skip
    """Ten times the usual rate while one group is stopped. Returns what was seen."""
    with opened(server) as log, opened(server) as own, opened(server) as reading:
        log.open_namespace("demo", 1)
        claim = log.claim(SLOT, "me", alive_within_s=0)
        segments = SegmentFolder(folder, bytes_max=8 << 30)
        retention = Retention(own, segments, Limits(memory_bytes_max=budget))
        whole = WholeLog(reading, segments)
        fast, stopped = Reader(whole, "fast.0"), Reader(whole, "stopped.0")
        done = threading.Event()

        def read_along() -> None:
            while not done.is_set() or fast.read():
                if not fast.read():
                    time.sleep(0.005)

        along = threading.Thread(target=read_along)
        along.start()
        loop = RetentionLoop(retention, lambda: [SLOT], look_s=0.05)
        rate = calm_bytes_per_s
        with MemoryWatch(server) as memory, loop:
            calm, _ = append_all(log, claim, total_bytes=calm_bytes, bytes_per_s=rate, size=size)
            while stopped.read():
                pass
            in_burst, refused = append_all(
                log, claim, total_bytes=burst_bytes, bytes_per_s=10 * rate, size=size
            )
            done.set()
            along.join()
            appended = calm + in_burst
            on_disk = sum(span.entries for span in own.retained.spans([SLOT]).get(NORMAL, []))
            while stopped.read():
                pass
        assert fast.seen == appended
        assert stopped.seen == appended
        assert 0 < on_disk <= loop.spilled
        assert memory.most <= budget
        return (
            f"{len(appended) * size / MIB:.0f} MiB in {len(appended)} entries, budget "
            f"{budget / MIB:.0f} MiB, most used {memory.most / MIB:.1f} MiB, {loop.spilled} "
            f"entries spilled, {refused} appends refused for a moment"
        )


def test_memory_stays_in_its_budget_while_a_group_is_stopped(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    burst(
        redis_server, tmp_path / "segments", budget=12 * MIB, calm_bytes=MIB // 2,
        calm_bytes_per_s=MIB, burst_bytes=24 * MIB, size=4_000,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_stays_in_its_budget_for_long(
    server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = burst(
        server, tmp_path / "segments", budget=128 * MIB, calm_bytes=10 * MIB,
        calm_bytes_per_s=1.5 * MIB, burst_bytes=800 * MIB, size=1_000,
    )  # fmt: skip
    with capsys.disabled():
        sys.stdout.write(f"\n{told}\n")


def test_what_comes_too_fast_has_to_wait_and_is_not_lost(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Faster than a disk can be: appends are refused while memory is over its budget."""
    with opened(redis_server) as log, opened(redis_server) as own:
        log.open_namespace("demo", 1)
        claim = log.claim(SLOT, "me", alive_within_s=0)
        segments = SegmentFolder(tmp_path / "segments", bytes_max=1 << 30)
        retention = Retention(own, segments, Limits(memory_bytes_max=8 * MIB))
        reader = Reader(WholeLog(own, segments), "stopped.0")
        fast = {"bytes_per_s": 1e12, "size": 20_000}
        ids, _ = append_all(log, claim, total_bytes=14 * MIB, **fast)
        with RetentionLoop(retention, lambda: [SLOT], look_s=0.02):
            wait_until(lambda: log.retained.look(SLOT).full != "", what="over budget noticed")
            more, refused = append_all(log, claim, total_bytes=2 * MIB, **fast)
            wait_until(lambda: log.retained.look(SLOT).used_bytes < 8 * MIB, what="room again")
        while reader.read(2_000):
            pass
        assert reader.seen == ids + more
        assert refused


def test_nothing_is_trimmed_that_the_slowest_has_not_read(server: RedisServer) -> None:
    """Offsets move, readers come and go while trims run: the first entry is never beyond them."""
    chance = random.Random(3)
    with opened(server) as log, opened(server) as own:
        log.open_namespace("demo", 1)
        claim = log.claim(SLOT, "me", alive_within_s=0)
        names = [f"g.{number}" for number in range(3)]
        log.tasks.join(names[0], [NORMAL])
        stop = threading.Event()

        def trim() -> None:
            while not stop.is_set():
                readers = own.tasks.readers("demo").get(NORMAL, frozenset())
                own.retained.trim(NORMAL, own.info(NORMAL).last_id, readers)

        trimming = threading.Thread(target=trim)
        trimming.start()
        ids: list[EntryId] = []
        places = {names[0]: 0}
        trimmed = 0
        try:
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                ids += log.append(claim, [NewEntry(Lane.NORMAL, "t.1", "k", b"x")] * 20).ids
                name = chance.choice(names)
                if name not in places:
                    log.tasks.join(name, [NORMAL])
                    first = log.info(NORMAL).first_id
                    assert first is not None
                    places[name] = ids.index(first)
                    log.mirror(name, NORMAL, first, places[name] + 1)
                elif chance.random() < 0.1 and len(places) > 1:
                    log.tasks.leave(name, [NORMAL])
                    del places[name]
                else:
                    places[name] = min(len(ids) - 1, places[name] + chance.randrange(40))
                    log.mirror(name, NORMAL, ids[places[name]], places[name] + 1)
                use = log.retained.look(SLOT).lanes[Lane.NORMAL]
                assert use.first_id is not None
                assert use.first_id <= min(use.offsets.values())
                trimmed = use.entries_added - use.length
        finally:
            stop.set()
            trimming.join()
        assert trimmed > 100, "trims ran"


def test_without_the_check_in_the_script_the_slowest_would_lose(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = TRIM.source.splitlines(keepends=True)
    check = "if need_ms < ms or"
    assert sum(check in line for line in lines) == 1
    source = "".join(line for line in lines if check not in line)
    monkeypatch.setattr(TRIM, "source", source)
    monkeypatch.setattr(TRIM, "_digest", hashlib.sha1(source.encode()).hexdigest())
    with opened(server) as log:
        claim = log.claim(SLOT, "me", alive_within_s=0)
        ids = log.append(claim, [ENTRY] * 10).ids
        log.tasks.join("slow.0", [NORMAL])
        log.mirror("slow.0", NORMAL, ids[2], 3)
        log.retained.trim(NORMAL, ids[8], ["slow.0"])
        use = log.retained.look(SLOT).lanes[Lane.NORMAL]
        assert use.first_id is not None
        assert use.first_id > min(use.offsets.values())


def lag_of(log: RedisLog, stream: Stream, group: str) -> int | None:
    return log.groups(stream)[group].lag


def test_lag_is_right_after_trims_restarts_and_rewrites(server: RedisServer) -> None:
    with opened(server) as log:
        log.open_namespace("demo", 1)
        claim = log.claim(SLOT, "me", alive_within_s=0)
        log.tasks.join("g.0", [NORMAL])
        ids = [i for _ in range(50) for i in log.append(claim, [ENTRY] * 20).ids]
        log.mirror("g.0", NORMAL, ids[599], 600)
        log.retained.trim(NORMAL, ids[500], ["g.0"])
        assert lag_of(log, NORMAL, "g.0") == 400
        log.client.bgrewriteaof()
        wait_until(lambda: not log.client.info("persistence")["aof_rewrite_in_progress"])
        ids += log.append(claim, [ENTRY]).ids
    server.kill()
    server.start()
    with opened(server) as log:
        assert lag_of(log, NORMAL, "g.0") == 401
        assert log.info(NORMAL).entries_added == 1_001
        log.retained.trim(NORMAL, ids[900], ["g.0"])
        log.mirror("g.0", NORMAL, ids[999], 1_000)
        assert lag_of(log, NORMAL, "g.0") == 1
        log.mirror("g.0", NORMAL, ids[1_000], 1_001)
        log.retained.trim(NORMAL, ids[1_000].next(), ["g.0"])
        log.mirror("g.0", NORMAL, ids[1_000], 1_001)
        assert lag_of(log, NORMAL, "g.0") == 0


ENTRY = NewEntry(Lane.NORMAL, "t.1", "k", b"x")


def test_spilled_spans_outlive_the_server(server: RedisServer, tmp_path: Path) -> None:
    """Killed right after a spill: the registration and the trim are one step on disk, too."""
    folder = SegmentFolder(tmp_path / "segments", bytes_max=1 << 30)
    with opened(server) as log:
        log.open_namespace("demo", 1)
        claim = log.claim(SLOT, "me", alive_within_s=0)
        ids = log.append(claim, [NewEntry(Lane.NORMAL, "t.1", "k", b"x" * 4_000)] * 1_000).ids
        Reader(WholeLog(log, folder), "stopped.0")
        retention = Retention(log, folder, Limits(memory_bytes_max=4 * MIB))
        assert retention.keep(SLOT).spilled
    server.kill()
    server.start()
    with opened(server) as log:
        found = WholeLog(log, folder).between(NORMAL, count_max=2_000)
        assert [entry.id for entry in found] == list(ids)


def killed_while_spilling(
    server: RedisServer, folder: Path, *, kills: int, seed: int
) -> tuple[int, int]:
    """Kill -9 at random moments while entries come in. Returns entries and those on disk."""
    chance = random.Random(seed)
    with opened(server) as log:
        log.open_namespace("demo", 1)
        claim = log.claim(SLOT, "me", alive_within_s=0)
        segments = SegmentFolder(folder, bytes_max=1 << 40)
        whole = WholeLog(log, segments)
        log.tasks.join("stopped.0", [NORMAL])
        ids: list[EntryId] = []
        arguments = [server.url, str(folder), str(6 * MIB)]
        for _ in range(kills):
            command = [sys.executable, "-m", "tests.integration.retention_child", *arguments]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == b"ready\n"
                on_disk = len(log.retained.spans([SLOT]).get(NORMAL, []))
                wanted = on_disk + chance.randrange(3)
                deadline = time.monotonic() + 20
                while len(log.retained.spans([SLOT]).get(NORMAL, [])) <= wanted:
                    assert time.monotonic() < deadline, "nothing was spilled"
                    entries = [NewEntry(Lane.NORMAL, "t.1", "k", chance.randbytes(3_000))] * 40
                    with suppress(LogFull):
                        ids += log.append(claim, entries).ids
                time.sleep(chance.random() * 0.05)
                child.kill()
            found = [entry.id for entry in whole.between(NORMAL, count_max=10**6)]
            assert found == ids, f"seed {seed}"
        spans = log.retained.spans([SLOT])[NORMAL]
        return len(ids), sum(span.entries for span in spans)


def test_killed_anywhere_every_entry_is_in_the_log_or_on_disk(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    entries, on_disk = killed_while_spilling(redis_server, tmp_path, kills=2, seed=5)
    assert 0 < on_disk < entries


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4))
def test_killed_often_every_entry_is_in_the_log_or_on_disk(
    redis_server: RedisServer, tmp_path: Path, seed: int
) -> None:
    killed_while_spilling(redis_server, tmp_path, kills=25, seed=seed)

"""Workers as processes, a real server behind a proxy that fails, and a feed that never stops."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.handler import Handler
from events.log import (
    BEGIN,
    Claim,
    CursorMove,
    Entry,
    Lane,
    LogError,
    LogUnavailable,
    NewEntry,
    Slot,
    StaleCursor,
    Stream,
)
from events.redis import RedisLog, open_log
from tests.servers import FaultProxy, RedisServer, wait_until
from tests.simulation.groups.chains import some_entry
from tests.simulation.groups.checker import Evidence, differences

NAMESPACE, GROUP = "demo", "chain"
LEASE_S = 0.6
DRAIN_S = 180.0
MIRROR_S = 30.0
PAGE = 10_000
MADE_AT_ONCE_MAX = 20
"""So often a feed that fell behind its pace makes entries for one append."""
REPOSITORY = str(Path(__file__).parents[3])

MakeEntries = Callable[[random.Random, int], list[NewEntry]]


def single_entries(chance: random.Random, number: int) -> list[NewEntry]:
    """One to five entries of any lane, now and then one that cannot be borne."""
    return [some_entry(chance, number + n, poison=0.01) for n in range(chance.randint(1, 5))]


class Feed:
    """Appends for ever, each entry once: after a lost reply it asks where its cursor is."""

    def __init__(
        self, url: str, partitions: int, seed: int, *, every_s: float, make: MakeEntries
    ) -> None:
        self._url, self._partitions, self._every_s, self._make = url, partitions, every_s, make
        self._chance = random.Random(seed)
        self._ended = threading.Event()
        self.entries = 0
        self.failure = ""
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(30)
        assert not self.failure, self.failure

    def _run(self) -> None:
        log = open_log(self._url)
        try:
            claims = [
                log.claim(Slot(NAMESPACE, "source", n), "feed", alive_within_s=0)
                for n in range(self._partitions)
            ]
            cursors = ["" for _ in claims]
            begun_s, made = time.monotonic(), 0
            while not self._ended.wait(self._every_s):
                place = self._chance.randrange(len(claims))
                new: list[NewEntry] = []
                due = (time.monotonic() - begun_s) / self._every_s
                for _ in range(min(MADE_AT_ONCE_MAX, max(1, int(due) - made))):
                    new += self._make(self._chance, self.entries + len(new))
                    made += 1
                cursors[place] = self._append(log, claims[place], new, cursors[place])
                self.entries += len(new)
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            log.close()

    def _append(self, log: RedisLog, claim: Claim, new: list[NewEntry], cursor: str) -> str:
        wanted = str(self.entries + len(new))
        deadline = time.monotonic() + 60
        while True:
            try:
                done = log.append(claim, new, [CursorMove("feed", cursor, wanted)])
                return done.cursors["feed"]
            except StaleCursor as stale:
                if stale.found.partition("@")[0] != wanted:
                    raise
                return stale.found
            except LogError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


@dataclass
class ProcessWorld:
    """One run: server, proxy, feed and workers. Everything a fault can be done to."""

    folder: Path
    server: RedisServer
    proxies: Sequence[FaultProxy]
    """The ways to the server; workers are spread over them as over hosts."""
    handler: type[Handler]
    seed: int
    partitions: int = 4
    batch: int = 100
    feed_every_s: float = 0.01
    make: MakeEntries = single_entries
    more: Sequence[str] = ()
    """Further options of each worker."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further variables of its environment."""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0
    _paused: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = open_log(self.server.url)
        self.log.open_namespace(NAMESPACE, self.partitions)
        self.feed = Feed(
            self.server.url, self.partitions, self.seed, every_s=self.feed_every_s, make=self.make
        )
        self.specs: tuple[TaskSpec, ...] = Group(GROUP, self.handler).specs(self.log)

    def start_worker(self) -> None:
        self.started += 1
        proxy = self.proxies[self.started % len(self.proxies)]
        environment = {
            **{name: text for name, text in os.environ.items() if "MT5" not in name},
            "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0",
            "BRIDGE_STATE_DIR": str(self.folder / "state"),
            "PYTHONPATH": REPOSITORY,
            "PYTHONHASHSEED": str(self.started),
            **self.variables,
        }
        command = [
            sys.executable, "-m", "bridgectl", "consume", "--as-worker", str(self.started),
            "--group", GROUP, "--handler", f"{self.handler.__module__}:{self.handler.__name__}",
            "--lease", str(LEASE_S), "--batch", str(self.batch), *self.more,
        ]  # fmt: skip
        with (self.folder / "workers.err").open("ab") as errors:
            self.workers.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=environment,
                    cwd=self.folder,
                )
            )

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        self.workers.remove(worker)
        self._paused.pop(worker.pid, None)
        worker.kill()
        worker.wait()

    def end(self, worker: subprocess.Popen[bytes]) -> None:
        """SIGTERM: it must hand everything over and say that all is well."""
        wait_until(lambda: self.takes_part(worker), what=f"a worker up: {self.told()}")
        self.workers.remove(worker)
        worker.terminate()
        try:
            assert worker.wait(30) == 0, self.told()
        finally:
            worker.kill()
            worker.wait()

    def stopped(self) -> list[subprocess.Popen[bytes]]:
        """Those that stand still, whoever stopped them."""
        return [
            worker
            for worker in self.workers
            if Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        ]

    def replayed(self) -> str:
        """What `replay --verify` says of the group: empty when every byte is derived again."""
        path = f"{self.handler.__module__}:{self.handler.__name__}"
        done = subprocess.run(
            [sys.executable, "-m", "bridgectl", "replay", "--verify", "--group", GROUP,
             "--handler", path, "--json"],
            env={**os.environ, "REDIS_URL": self.server.url, "PYTHONPATH": REPOSITORY,
                 "BRIDGE_STATE_DIR": str(self.folder / "state")},
            cwd=self.folder, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        return "" if done.returncode == 0 else f"{done.returncode}: {done.stdout} {done.stderr}"

    def takes_part(self, worker: subprocess.Popen[bytes]) -> bool:
        """Whether it is up; one that pauses, or met the server away, is so a little later."""
        with suppress(LogUnavailable):
            members = self.log.tasks.workers(GROUP)
            return any(re.search(rf":{worker.pid}\b", name) for name in members)
        return False

    def pause(self, worker: subprocess.Popen[bytes], for_s: float) -> None:
        worker.send_signal(signal.SIGSTOP)
        self._paused[worker.pid] = time.monotonic() + for_s

    def tend(self) -> None:
        """Wake who stood still for long enough, and replace who died unasked."""
        for worker in list(self.workers):
            if time.monotonic() >= self._paused.get(worker.pid, float("inf")):
                worker.send_signal(signal.SIGCONT)
                del self._paused[worker.pid]
            if worker.poll() is not None:
                raise AssertionError(f"a worker ended with {worker.returncode}: {self.told()}")

    def awake(self) -> list[subprocess.Popen[bytes]]:
        return [worker for worker in self.workers if worker.pid not in self._paused]

    def heal(self) -> None:
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)
        self._paused.clear()
        for proxy in self.proxies:
            proxy.thaw()

    def commits(self) -> int:
        return sum(self.log.tasks.peek(spec.slot).commits for spec in self.specs)

    def owners(self) -> int:
        """Tasks that are held by anybody."""
        return sum(bool(one.token) for one in self.log.tasks.look([s.slot for s in self.specs]))

    def told(self) -> str:
        return self.everything_told()[-4000:]

    def everything_told(self) -> str:
        return (self.folder / "workers.err").read_text()

    def drain(self) -> None:
        """Stop the feed and wait until everything was read and is shown so."""
        self.feed.stop()
        self.heal()
        wait_until(self._all_read, timeout_s=DRAIN_S, what="reading to the end")
        wait_until(self._all_shown, timeout_s=MIRROR_S, what="right lags")

    def _all_read(self) -> bool:
        self.tend()
        self.heal()
        return all(
            self.log.info(stream).last_id <= offsets[stream].last if stream in offsets
            else self.log.info(stream).last_id == BEGIN
            for spec in self.specs
            for offsets in [self.log.tasks.peek(spec.slot).offsets]
            for stream in spec.inputs
        )  # fmt: skip

    def _all_shown(self) -> bool:
        self.tend()
        return all(
            self.log.groups(stream)[spec.reader].lag == 0
            for spec in self.specs
            for stream in spec.inputs
            if self.log.info(stream).length
        )

    def differences(self) -> list[str]:
        """What the checker finds in all tasks, and whether every entry fed is there once."""
        streams = {stream for spec in self.specs for stream in spec.inputs}
        inputs = {stream: self._all(stream) for stream in sorted(streams)}
        found = []
        there = sum(map(len, inputs.values()))
        if there != self.feed.entries:
            found.append(f"{self.feed.entries} entries were fed, {there} are there")
        for spec in self.specs:
            found += [f"{spec.slot}: {one}" for one in differences(self._evidence(spec, inputs))]
        return found

    def _evidence(self, spec: TaskSpec, inputs: dict[Stream, list[Entry]]) -> Evidence:
        shown = {stream: self.log.groups(stream).get(spec.reader) for stream in spec.inputs}
        return Evidence(
            handler=self.handler,
            record=self.log.tasks.peek(spec.slot),
            inputs={stream: inputs[stream] for stream in spec.inputs},
            outputs=[entry for lane in Lane for entry in self._all(spec.slot.stream(lane))],
            journal=self.log.tasks.journal(spec.slot, count_max=10**9),
            mirrored={stream: info for stream, info in shown.items() if info},
            last=self.log.last_states(spec.slot),
        )

    def _all(self, stream: Stream) -> list[Entry]:
        found: list[Entry] = []
        while page := self.log.between(
            stream, found[-1].id.next() if found else BEGIN, count_max=PAGE
        ):
            found += page
        return found

    def close(self) -> None:
        with suppress(AssertionError):
            self.feed.stop()
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.log.close()

"""Several workers over a log in memory, stepped by one seeded scheduler on a virtual clock.

Every call of a worker to the log can go wrong: the worker dies before or after it, request or
reply is lost, the request is carried out late or twice, or the worker stands still in the middle
while the others go on for longer than its lease.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.handler import Handler
from consumers.runtime.task import MIRROR_ALL_EVERY
from consumers.workers.taking import AnyGroup
from events.log import Entry, EntryId, Fenced, Lane, Log, LogError, NewEntry, Slot, Stream
from events.memory_log import MemoryLog
from events.tasks import Commit, JournalRow, StaleOffset, StaleOutput
from tests.simulation.groups.chains import some_entry
from tests.simulation.groups.checker import Evidence, differences
from tests.simulation.groups.faulty_worker import GROUP, Choose, Fault, SimWorker, SteppedWorker

NAMESPACE = "demo"
LEASE_S = 1.0
NESTED_MAX = 3
"""So many workers may stand still at once, each inside a call of another's pause."""
DRAIN_TURNS_MAX = 2_000
TRIM_AGE_MS = 100


@dataclass
class Witness:
    """Everything that was ever durable, trimmed since or not."""

    inputs: dict[Stream, list[Entry]] = field(default_factory=dict)
    journal: dict[Slot, list[JournalRow]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """What a run is made of."""

    handler: type[Handler]
    partitions: int = 2
    workers: int = 2
    entries: int = 40
    entries_max: int = 5
    poison: float = 0.04
    fault_share: float = 0.05
    """Of calls; five times as many of commits and of what sinks write."""
    lease_s: float = LEASE_S
    log: Callable[..., Log] = MemoryLog
    worker: type[SteppedWorker] = SteppedWorker
    trims: bool = False
    """Whether what everybody read leaves the log soon."""


def no_faults(worker: SimWorker, name: str) -> Fault | None:
    return None


class World:
    """One seeded run."""

    def __init__(self, scene: Scene, seed: int, choose: Choose | None = None) -> None:
        self.scene, self.seed = scene, seed
        self.chance = random.Random(seed)
        self.choose: Choose = choose or self._at_random
        self.now_ms = 1_000
        self.started = 0
        self.counts: Counter[str] = Counter()
        self.delayed: list[tuple[str, Callable[[], Any]]] = []
        self.log: Log = scene.log(now_ms=lambda: self.now_ms, monotonic=self.now_s)
        self.log.open_namespace(NAMESPACE, scene.partitions)
        self.group = self.made_group()
        self.specs = self.group.specs(self.log)
        self.log.tasks.open_group(NAMESPACE, GROUP, len(self.specs))
        self.witness = Witness({s: [] for spec in self.specs for s in spec.inputs})
        self._sources = [
            self.log.claim(Slot(NAMESPACE, "source", n), "feed", alive_within_s=0)
            for n in range(scene.partitions)
        ]
        self._watch_commits()
        self.fed = 0
        self.acting: SimWorker | None = None
        """Who makes the calls right now."""
        self.workers = [SimWorker(self, f"w{n}") for n in range(scene.workers)]
        self._nested = 0

    def made_group(self) -> AnyGroup:
        return Group(GROUP, self.scene.handler)

    def now_s(self) -> float:
        return self.now_ms / 1000

    def sleep(self, for_s: float) -> None:
        self.now_ms += int(for_s * 1000)

    def carried_out(self, name: str, effect: Callable[[], Any]) -> Any:
        """Do it, and count commits that the log refuses."""
        try:
            return effect()
        except (Fenced, StaleOffset, StaleOutput) as refused:
            self.counts[type(refused).__name__] += name == "commit"
            raise

    def feed(self) -> None:
        """Append one to five entries to one partition, sometimes in the same millisecond."""
        count = min(self.chance.randint(1, 5), self.scene.entries - self.fed)
        new = [some_entry(self.chance, self.fed + n, poison=self.scene.poison)
               for n in range(count)]  # fmt: skip
        self.append(self.chance.randrange(len(self._sources)), new)

    def append(self, partition: int, new: list[NewEntry]) -> None:
        claim = self._sources[partition]
        done = self.log.append(claim, new)
        self.fed += len(new)
        for id_, entry in zip(done.ids, new, strict=True):
            stream = claim.slot.stream(entry.lane)
            placed = Entry(stream, id_, entry.type, entry.key, entry.data, entry.cause)
            self.witness.inputs.setdefault(stream, []).append(placed)

    def pass_time(self) -> None:
        self.now_ms += self.chance.choice((0, 1, 20, 100, 300))

    def pause(self, worker: SimWorker) -> None:
        """This worker stands still while the others go on; it may find itself replaced."""
        if self._nested >= NESTED_MAX:
            return
        self._nested += 1
        worker.paused = True
        for _ in range(self.chance.randint(1, 12)):
            self.turn()
        worker.paused = False
        self._nested -= 1

    def turn(self) -> None:
        """One step of anybody."""
        self.pass_time()
        if self.delayed and self.chance.random() < 0.2:
            self.deliver()
        if self.fed < self.scene.entries and self.chance.random() < 0.12:
            self.feed()
        if self.scene.trims and self.chance.random() < 0.1:
            self.trim()
        awake = [worker for worker in self.workers if not worker.paused]
        if not awake:
            return
        worker = self.chance.choice(awake)
        if self.chance.random() < 0.01:
            worker.stop()
        else:
            worker.turn()

    def trim(self) -> None:
        """Let go what is older than a moment and read by all who registered."""
        readers = self.log.tasks.readers(NAMESPACE)
        for spec in self.specs:
            for stream in spec.inputs:
                if spec.reader in readers.get(stream, ()):
                    below = EntryId(self.now_ms - TRIM_AGE_MS, 0)
                    done = self.log.retained.trim(stream, below, readers[stream])
                    self.counts["trimmed"] += done.entries

    def deliver(self) -> None:
        """Carry out a request whose sender gave up on it long ago."""
        name, effect = self.delayed.pop(self.chance.randrange(len(self.delayed)))
        with suppress(LogError):
            self.carried_out(name, effect)

    def run(self, *, looks: int = 1) -> list[str]:
        """Faults until everything was fed, then peace until everything is read."""
        marks = {self.scene.entries * (n + 1) // (looks + 1) for n in range(looks)}
        while self.fed < self.scene.entries:
            self.turn()
            if any(mark <= self.fed for mark in marks):
                marks = {mark for mark in marks if mark > self.fed}
                if found := self.differences(complete=False):
                    return found
        return self.drain()

    def drain(self) -> list[str]:
        faulty, self.choose = self.choose, no_faults
        self.fed = max(self.fed, self.scene.entries)  # nothing more comes
        for _ in range(DRAIN_TURNS_MAX):
            if not self.delayed and self._idle():
                break
            self.turn()
        if not self._idle():
            return [f"never came to an end: {self.counts}"]
        for _ in range(MIRROR_ALL_EVERY + 1):  # a quiet while: offsets are shown again and again
            self.now_ms += 1_100
            for worker in self.workers:
                worker.worker.beater.round()
                worker.worker.turn()
        self.choose = faulty
        return self.differences(complete=True)

    def differences(self, *, complete: bool) -> list[str]:
        return [
            f"{spec.slot}: {one}"
            for spec in self.specs
            for one in differences(self.evidence(spec, mirrored=complete), complete=complete)
        ]

    def evidence(self, spec: TaskSpec, *, mirrored: bool) -> Evidence:
        seen = {stream: self.log.groups(stream).get(spec.reader) for stream in spec.inputs}
        return Evidence(
            handler=self.scene.handler,
            record=self.log.tasks.peek(spec.slot),
            inputs={stream: self.witness.inputs[stream] for stream in spec.inputs},
            outputs=[
                entry
                for lane in Lane
                for entry in self.log.between(spec.slot.stream(lane), count_max=10**9)
            ],
            journal=self.witness.journal.get(spec.slot, []),
            mirrored={s: info for s, info in seen.items() if info} if mirrored else {},
            last=self.log.last_states(spec.slot),
        )

    def _idle(self) -> bool:
        for spec in self.specs:
            offsets = self.log.tasks.peek(spec.slot).offsets
            for stream in spec.inputs:
                entries = self.witness.inputs[stream]
                if entries and (stream not in offsets or offsets[stream].last < entries[-1].id):
                    return False
        owned = {slot for worker in self.workers for slot in worker.worker.owned}
        return owned == {spec.slot for spec in self.specs}

    def _at_random(self, worker: SimWorker, name: str) -> Fault | None:
        share = self.scene.fault_share * (5 if name in ("commit", "write") else 1)
        if self.chance.random() >= share:
            return None
        return self.chance.choice(list(Fault))

    def _watch_commits(self) -> None:
        """Keep every journal row that was ever written."""
        commit = self.log.tasks.commit

        def watched(change: Commit) -> None:
            commit(change)
            if change.journal is not None:
                slot = change.claim.slot
                row = JournalRow(self.log.tasks.peek(slot).commits, change.journal)
                self.witness.journal.setdefault(slot, []).append(row)

        self.log.tasks.commit = watched  # type: ignore[method-assign, assignment]  # a witness

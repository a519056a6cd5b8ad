"""Sinks under the same crashes: their effects, and what another owner may have written since."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from consumers.sinks import Batch, Sink, SinkGroup, WrittenElsewhere
from consumers.workers.taking import AnyGroup
from events.log import Entry, LogUnavailable, Slot
from events.operations import HandlerFailed
from events.tasks import TaskRecord
from tests.conftest import Seeds
from tests.simulation.groups.chains import ALL_LANES, Chain
from tests.simulation.groups.faulty_worker import GROUP
from tests.simulation.groups.memory_world import Scene, World

RUNS = 20


@dataclass
class Ledger:
    """What sinks wrote, and the offset beside it, as one database would keep both."""

    world: World
    written: dict[Slot, list[Entry]] = field(default_factory=dict)
    offsets: dict[Slot, str] = field(default_factory=dict)
    refused: int = 0

    def write(self, batch: Batch, *, compare: bool) -> None:
        if compare and self.offsets.get(batch.task, "") != batch.before:
            self.refused += 1
            raise WrittenElsewhere(f"{batch.task}: not at {batch.before!r}")
        self.written.setdefault(batch.task, []).extend(batch.entries)
        self.offsets[batch.task] = batch.after


class LedgerSink(Sink):
    """Every effect exactly once: the ledger compares the offset."""

    inputs = ALL_LANES
    compares = True

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def offset_of(self, task: Slot) -> str | None:
        return self._ledger.offsets.get(task, "")

    def write(self, batch: Batch) -> None:
        """The database is as far away as the log, and fails as it does."""
        sim = self._ledger.world.acting
        assert sim is not None
        try:
            sim.call("write", lambda: self._ledger.write(batch, compare=self.compares))
        except LogUnavailable as error:
            raise ConnectionError("the database does not answer") from error


class Comparing(LedgerSink):
    """As it should be."""


class Careless(LedgerSink):
    """Keeps its offset, but writes wherever it was."""

    compares = False


class Forgetful(LedgerSink):
    """Keeps no offset: the log keeps it, after the effect."""

    compares = False

    def offset_of(self, task: Slot) -> str | None:
        return None


class SinkWorld(World):
    """A world whose group is a sink; the ledger is what has to be right."""

    sink: type[LedgerSink]

    def __init__(self, scene: Scene, seed: int, sink: type[LedgerSink]) -> None:
        self.sink, self.ledger = sink, Ledger(self)
        super().__init__(scene, seed)

    def made_group(self) -> AnyGroup:
        return SinkGroup(GROUP, self.sink, {"ledger": self.ledger})

    def differences(self, *, complete: bool) -> list[str]:
        found = []
        for spec in self.specs:
            wanted = sorted(
                (e for stream in spec.inputs for e in self.witness.inputs[stream]),
                key=lambda entry: entry.id,
            )
            readable = [entry for entry in wanted if not entry.type.startswith("later")]
            written = self.ledger.written.get(spec.slot, [])
            if self.sink is Forgetful:
                written = list(dict.fromkeys(written))
            if written != readable[: len(written)]:
                at = next(n for n, e in enumerate(written) if [e] != readable[n : n + 1])
                found.append(f"{spec.slot}: {written[at].place} was written in place {at}")
            if complete and len(written) < len(readable):
                found.append(f"{spec.slot}: {len(readable) - len(written)} were never written")
            if complete:
                found += self._letters(spec.slot, wanted)
        return found

    def _letters(self, slot: Slot, wanted: list[Entry]) -> list[str]:
        record: TaskRecord = self.log.tasks.peek(slot)
        dead = [entry.place for entry in wanted if entry.type.startswith("later")]
        stream = slot.stream(HandlerFailed.LANE)
        causes = [entry.cause for entry in self.log.between(stream, count_max=10**6)]
        if set(causes) != set(dead) or (self.sink is not Forgetful and causes != dead):
            return [f"{slot}: dead letters of {causes}, not of {dead}"]
        return [] if record.newest.seq == len(causes) else [f"{slot}: ordinals are not whole"]


def lived(sink: type[LedgerSink], seed: int, **more: Any) -> SinkWorld:
    world = SinkWorld(Scene(Chain, workers=3, partitions=1, poison=0.1, **more), seed, sink)
    assert world.run() == [], (sink, seed, world.counts)
    return world


def test_a_sink_that_keeps_its_offset_has_every_effect_once(seeds: Seeds) -> None:
    refused = sum(lived(Comparing, seed).ledger.refused for seed in seeds.take(RUNS))
    if seeds.count(RUNS) >= RUNS:
        assert refused > 0, "effects of owners that were replaced were refused"


def test_a_sink_that_keeps_none_has_every_effect_at_least_once(seeds: Seeds) -> None:
    for seed in seeds.take(RUNS):
        lived(Forgetful, seed)


def test_a_sink_that_does_not_compare_is_found_out(seeds: Seeds) -> None:
    def all_lived() -> None:
        for seed in seeds.take(10 * RUNS):
            lived(Careless, seed, fault_share=0.1)

    with pytest.raises(AssertionError, match="was written in place"):
        all_lived()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sink", [Comparing, Forgetful])
def test_sinks_survive_thousands_of_runs(sink: type[LedgerSink], seeds: Seeds) -> None:
    for seed in seeds.take(3_000):
        lived(sink, seed, trims=seed % 3 == 0, fault_share=(seed % 5) / 30)

"""Tasks that halt in front of an entry, and who lets them go on, under the same crashes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgpack
import pytest

from consumers.failures.request import Action, Outcome, Request
from consumers.runtime.handler import Handler
from events.codec import decode, encode
from events.log import Entry, Slot
from events.operations import HandlerFailed, OperatorAnswered
from tests.conftest import Seeds
from tests.simulation.groups.chains import Chain, ChainByPriority
from tests.simulation.groups.checker import Evidence, handled_entries
from tests.simulation.groups.memory_world import Scene, World

RUNS = 8
ANSWERED = f"{OperatorAnswered.TYPE}.{OperatorAnswered.VERSION}"
FAILED = f"{HandlerFailed.TYPE}.{HandlerFailed.VERSION}"
STRICT: frozenset[str] = frozenset({"gap_healed"})
Told = tuple[str, str, bytes]
"""Type, cause and data of an output."""


class Strict(Chain):
    """Halts in front of a gap that it cannot bear."""

    halts_on: ClassVar[frozenset[str]] = STRICT


class StrictByPriority(ChainByPriority):
    halts_on: ClassVar[frozenset[str]] = STRICT


class AttendedWorld(World):
    """A world with an operator, who drops whatever a task halts in front of."""

    def turn(self) -> None:
        super().turn()
        for spec in self.specs:
            halted = self.log.tasks.peek(spec.slot).halted
            if halted and not self.log.tasks.requests(spec.slot) and self.chance.random() < 0.3:
                place = halted.partition(" ")[0]
                asked = Request(f"drop {place}", Action.DROP, place, "operator", "test", 1)
                self.log.tasks.ask(spec.slot, asked.id, asked.to_bytes())
                self.counts["asked"] += 1

    def differences(self, *, complete: bool) -> list[str]:
        if not complete:
            return []
        found = []
        for spec in self.specs:
            evidence = self.evidence(spec, mirrored=False)
            handled, wrong = handled_entries(evidence)
            told, state = expected(evidence, handled)
            found += wrong + compared(spec.slot, told, evidence.outputs)
            if state != dict(evidence.record.state):
                found.append(f"{spec.slot}: state is not what follows from the inputs")
        return found


def expected(evidence: Evidence, handled: Sequence[Entry]) -> tuple[list[Told], dict[str, bytes]]:
    """What must stand in the lanes, dead letters and answers by their types alone."""
    handler, told = evidence.handler(), []
    state: dict[str, object] = {}
    for entry in handled:
        trial = msgpack.unpackb(msgpack.packb(state))
        handler.state = trial
        try:
            new = [encode(event) for event in handler.handle(decode(entry))]
        except Exception:
            told.append((FAILED, entry.place, b""))
            if entry.type.rpartition(".")[0] in STRICT:
                told.append((ANSWERED, "", b""))
        else:
            state = trial
            told += [(one.type, entry.place, one.data) for one in new]
    return told, {key: msgpack.packb(value) for key, value in state.items()}


def compared(slot: Slot, told: Sequence[Told], outputs: Sequence[Entry]) -> list[str]:
    ordered = sorted(outputs, key=lambda entry: entry.id.seq)
    if [entry.id.seq for entry in ordered] != list(range(1, len(told) + 1)):
        return [f"{slot}: {len(ordered)} outputs, not {len(told)}, or ordinals with a gap"]
    for entry, (type_, cause, data) in zip(ordered, told, strict=True):
        event = decode(entry)
        if isinstance(event, OperatorAnswered):
            if type_ != ANSWERED or event.outcome != Outcome.SKIPPED:
                return [f"{slot}: {entry.place} is an answer: {event}"]
        elif entry.type != type_ or entry.cause != cause:
            return [f"{slot}: {entry.place} is {entry.type} of {entry.cause}, not {type_} {cause}"]
        elif data and entry.data != data:
            return [f"{slot}: {entry.place} is {entry.data!r}, not {data!r}"]
    return []


def attended(handler: type[Handler], seed: int) -> AttendedWorld:
    world = AttendedWorld(Scene(handler, workers=1 + seed % 3, poison=0.2), seed)
    assert world.run() == [], (handler, seed, world.counts)
    return world


@pytest.mark.parametrize("handler", [Strict, StrictByPriority])
def test_halts_and_their_answers_survive_crashes(handler: type[Handler], seeds: Seeds) -> None:
    """Each halt tells once, is answered once, and leaves no trace but that."""
    asked = sum(attended(handler, seed).counts["asked"] for seed in seeds.take(RUNS))
    assert asked > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("handler", [Strict, StrictByPriority])
def test_halts_survive_thousands_of_runs(handler: type[Handler], seeds: Seeds) -> None:
    for seed in seeds.take(3_000):
        attended(handler, seed)

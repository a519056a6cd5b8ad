"""Groups over a log in memory: a fault at every call, then many faults at random places."""

from __future__ import annotations

from collections import Counter

import pytest

import consumers.workers.ownership
from consumers.runtime.handler import Handler
from tests.conftest import Seeds
from tests.simulation.groups.chains import Chain, ChainByPriority, ChainOfAll
from tests.simulation.groups.faulty_worker import Fault, SimWorker
from tests.simulation.groups.memory_world import Scene, World

CHAINS = (Chain, ChainByPriority, ChainOfAll)
CALLS = frozenset(
    {"acquire", "join", "look", "info", "read", "entry", "commit", "mirror", "beat", "release"}
)
"""Calls that move a task; membership is at stake in the random runs."""


class NthCall:
    """Lets exactly one call go wrong: number `place` of those in CALLS."""

    def __init__(self, place: int, fault: Fault | None) -> None:
        self._place, self._fault = place, fault
        self.calls = 0
        self.struck = ""

    def __call__(self, worker: SimWorker, name: str) -> Fault | None:
        if name not in CALLS:
            return None
        self.calls += 1
        if self.calls != self._place:
            return None
        self.struck = name
        return self._fault


def one_fault(handler: type[Handler], place: int, fault: Fault | None, seed: int) -> NthCall:
    scene = Scene(handler, partitions=1, entries=10, entries_max=4, poison=0.1)
    choose = NthCall(place, fault)
    world = World(scene, seed, choose)
    assert world.run() == [], (handler, seed, place, fault, choose.struck)
    return choose


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_at_any_single_call_changes_nothing(fault: Fault, seeds: Seeds) -> None:
    """Die, lose, delay, repeat or pause before and after every step there is."""
    calls = one_fault(Chain, 0, None, seeds.first).calls
    struck = Counter(
        one_fault(Chain, place, fault, seeds.first).struck for place in range(1, calls + 1)
    )
    assert {"acquire", "read", "entry", "commit"} <= struck.keys(), struck


@pytest.mark.parametrize("handler", CHAINS)
def test_many_faults_at_random_places_change_nothing(handler: type[Handler], seeds: Seeds) -> None:
    """The seed of a run that fails is in its message; `--seed N --runs 1` repeats it."""
    counts: Counter[str] = Counter()
    for seed in seeds.take(25):
        scene = Scene(
            handler, workers=1 + seed % 3, partitions=1 + seed % 2, trims=seed % 3 == 0
        )  # fmt: skip
        world = World(scene, seed)
        assert world.run(looks=2) == [], (handler, seed, world.counts)
        counts += world.counts
    if seeds.count(25) >= 25:
        assert counts["crash"] > 25
        assert counts["StaleOffset"] > 0
        assert counts["trimmed"] > 0


@pytest.mark.parametrize("handler", CHAINS)
def test_leases_that_always_seem_over_change_nothing(
    handler: type[Handler], seeds: Seeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody ever waits for anybody: two owners at once are the rule."""
    monkeypatch.setattr(consumers.workers.ownership, "LEASE_S_MIN", 0.0)
    refused: Counter[str] = Counter()
    for seed in seeds.take(15):
        scene = Scene(handler, workers=3, partitions=1, lease_s=0.0, fault_share=0.02)
        world = World(scene, seed)
        assert world.run() == [], (handler, seed, world.counts)
        refused += world.counts
    if seeds.count(15) >= 15:
        assert refused["Fenced"] > 0, refused


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("handler", CHAINS)
def test_tens_of_thousands_of_runs_change_nothing(handler: type[Handler], seeds: Seeds) -> None:
    for seed in seeds.take(10_000):
        scene = Scene(
            handler, workers=1 + seed % 4, partitions=1 + seed % 3, entries=20 + seed % 60,
            entries_max=1 + seed % 12, fault_share=(seed % 7) / 50,
            lease_s=(0.5, 1.0)[seed % 2], trims=seed % 5 == 0,
        )  # fmt: skip
        world = World(scene, seed)
        assert world.run() == [], (handler, seed, world.counts)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("handler", [ChainByPriority, ChainOfAll])
@pytest.mark.parametrize("fault", Fault)
def test_a_fault_at_any_single_call_changes_nothing_where_a_journal_is_kept(
    handler: type[Handler], fault: Fault, seeds: Seeds
) -> None:
    for seed in seeds.take(5):
        calls = one_fault(handler, 0, None, seed).calls
        for place in range(1, calls + 1):
            one_fault(handler, place, fault, seed)

"""Hypothesis looks for the shortest story in which a group loses, doubles or swaps anything."""

from __future__ import annotations

from collections import deque

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.simulation.groups.chains import Chain, ChainByPriority, ChainOfAll
from tests.simulation.groups.faulty_worker import Fault, SimWorker
from tests.simulation.groups.memory_world import Scene, World

WORKERS = 3


class GroupMachine(RuleBasedStateMachine):
    """Workers take turns, any call of which may go wrong; the log grows; late requests arrive."""

    world: World

    @initialize(
        handler=st.sampled_from([Chain, ChainByPriority, ChainOfAll]),
        partitions=st.integers(1, 2),
        seed=st.integers(0, 2**16),
    )
    def begin(self, handler: type[Chain], partitions: int, seed: int) -> None:
        self._faults: deque[tuple[int, Fault]] = deque()
        self._calls = 0
        scene = Scene(handler, partitions=partitions, workers=WORKERS, entries=10**6, poison=0.05)
        self.world = World(scene, seed, self._choose)

    def _choose(self, worker: SimWorker, name: str) -> Fault | None:
        self._calls += 1
        if self._faults and self._faults[0][0] <= self._calls:
            return self._faults.popleft()[1]
        return None

    @rule(times=st.integers(1, 4))
    def feed(self, times: int) -> None:
        for _ in range(times):
            self.world.feed()

    @rule(who=st.integers(0, WORKERS - 1), turns=st.integers(1, 5))
    def work(self, who: int, turns: int) -> None:
        for _ in range(turns):
            self.world.now_ms += 50
            self.world.workers[who].turn()

    @rule(fault=st.sampled_from(Fault), ahead=st.integers(1, 12), who=st.integers(0, WORKERS - 1))
    def fail(self, fault: Fault, ahead: int, who: int) -> None:
        """The call that comes `ahead` calls from now goes wrong."""
        self._faults.append((self._calls + ahead, fault))
        self.world.workers[who].turn()

    @rule(who=st.integers(0, WORKERS - 1))
    def end(self, who: int) -> None:
        self.world.workers[who].stop()

    @rule(ms=st.sampled_from([1, 100, 1_500]))
    def wait(self, ms: int) -> None:
        self.world.now_ms += ms

    @precondition(lambda self: self.world.delayed)
    @rule()
    def deliver(self) -> None:
        self.world.deliver()

    @invariant()
    def nothing_is_wrong_so_far(self) -> None:
        if hasattr(self, "world"):
            assert self.world.differences(complete=False) == []

    def teardown(self) -> None:
        if hasattr(self, "world"):
            assert self.world.drain() == []


def test_no_story_loses_doubles_or_swaps_anything() -> None:
    run_state_machine_as_test(
        GroupMachine,
        settings=settings(
            max_examples=15, stateful_step_count=25, deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip

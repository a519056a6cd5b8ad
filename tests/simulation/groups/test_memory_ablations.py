"""Every guard and rule taken away alone and together: the checker must see what they are for.

A checker that stays green without any guard proves nothing; so these runs must turn red.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

import consumers.runtime.reading
import consumers.workers.taking
from consumers.runtime.task import TaskRun
from events.log import Claim, Entry, EntryId, Log, LogUnavailable, Stream
from events.memory_log import MemoryLog
from events.memory_tasks import MemoryTasks
from events.offset import Offset, checksum_of
from events.tasks import Commit, Output, TaskRecord
from tests.conftest import Seeds
from tests.simulation.groups.chains import Chain, ChainOfAll
from tests.simulation.groups.faulty_worker import Choose, Fault, SimWorker, SteppedWorker
from tests.simulation.groups.memory_world import Scene, World

RUNS = 9
ZOMBIES = (Fault.PAUSE_BEFORE, Fault.PAUSE_BEFORE, Fault.DELAY)
"""Commits of owners that were replaced meanwhile."""
REPEATS = (Fault.REPEAT,)
"""A client that sends again by itself what it got no answer to."""


class Unguarded(MemoryTasks):
    """Tasks of which some guards are taken away."""

    def __init__(self, log: MemoryLog, off: frozenset[str], *, own_ids: bool = False) -> None:
        super().__init__(log)
        self._off, self._own_ids = off, own_ids

    def check_token(self, claim: Claim) -> None:
        if "token" not in self._off:
            super().check_token(claim)

    def check_offsets(self, commit: Commit, record: TaskRecord) -> None:
        if "offsets" not in self._off:
            super().check_offsets(commit, record)

    def check_output_ids(self, commit: Commit, record: TaskRecord) -> None:
        if self._own_ids:  # as `*` does: whatever comes gets the next place
            ids = [EntryId(max(record.newest.ms, output.id.ms), record.newest.seq + 1 + n)
                   for n, output in enumerate(commit.outputs)]  # fmt: skip
            commit.outputs[:] = [  # type: ignore[index]  # TaskRun gives a list
                Output(id_, output.entry) for id_, output in zip(ids, commit.outputs, strict=True)
            ]
        elif "ids" not in self._off:
            super().check_output_ids(commit, record)


def log_without(*off: str, own_ids: bool = False) -> Callable[..., MemoryLog]:
    def make(**clock: Any) -> MemoryLog:
        log = MemoryLog(**clock)
        log.tasks = Unguarded(log, frozenset(off), own_ids=own_ids)
        return log

    return make


def at_commits(faults: Sequence[Fault], share: float = 0.3) -> Callable[[World], Choose]:
    """Only commits go wrong, and only so."""

    def of(world: World) -> Choose:
        def choose(worker: SimWorker, name: str) -> Fault | None:
            if name == "commit" and world.chance.random() < share:
                return world.chance.choice(faults)
            return None

        return choose

    return of


def seen(scene: Scene, faults: Sequence[Fault], seeds: Seeds) -> tuple[list[str], Counter[str]]:
    """The first difference in some runs, and what was refused until then."""
    counts: Counter[str] = Counter()
    for seed in seeds.take(RUNS):
        world = World(scene, seed)
        world.choose = at_commits(faults)(world)
        found = world.run()
        counts += world.counts
        if found:
            return [f"seed {seed}", *found], counts
    return [], counts


def refused(counts: Counter[str]) -> set[str]:
    names = ("Fenced", "StaleOffset", "StaleOutput")
    return {name for name in names if counts[name]}


def scene(*off: str, own_ids: bool = False, handler: type[Chain] = Chain, **more: Any) -> Scene:
    return Scene(
        handler, partitions=1, workers=3, lease_s=0.5, poison=0.0,
        log=log_without(*off, own_ids=own_ids), **more,
    )  # fmt: skip


def test_with_all_guards_a_zombie_is_fenced(seeds: Seeds) -> None:
    found, counts = seen(scene(), ZOMBIES, seeds)
    assert found == []
    assert refused(counts) == {"Fenced"}


@pytest.mark.parametrize(
    ("off", "catches"),
    [
        (("token",), "StaleOffset"),
        (("token", "ids"), "StaleOffset"),
        (("token", "offsets"), "StaleOutput"),
        (("offsets", "ids"), "Fenced"),
    ],
)
def test_each_guard_alone_stops_a_zombie(off: tuple[str, ...], catches: str, seeds: Seeds) -> None:
    found, counts = seen(scene(*off), ZOMBIES, seeds)
    assert found == []
    assert catches in refused(counts), counts


def test_without_any_guard_a_zombie_is_seen(seeds: Seeds) -> None:
    found, _ = seen(scene("token", "offsets", "ids"), ZOMBIES, seeds)
    assert found


def test_ids_given_by_the_server_would_let_a_zombie_in(seeds: Seeds) -> None:
    found, _ = seen(scene("token", "offsets", own_ids=True), ZOMBIES, seeds)
    assert found
    found, _ = seen(scene("token", own_ids=True), ZOMBIES, seeds)
    assert found == []


@pytest.mark.parametrize(
    ("off", "catches"),
    [((), "StaleOffset"), (("offsets",), "StaleOutput"), (("ids",), "StaleOffset")],
)
def test_a_client_that_repeats_is_refused(off: tuple[str, ...], catches: str, seeds: Seeds) -> None:
    found, counts = seen(scene(*off), REPEATS, seeds)
    assert found == []
    assert refused(counts) == {catches}


def test_the_token_alone_does_not_stop_a_client_that_repeats(seeds: Seeds) -> None:
    found, _ = seen(scene("offsets", "ids"), REPEATS, seeds)
    assert found


def from_the_mirror(log: Log, group: Any, spec: Any, claim: Claim, record: TaskRecord,
                    **more: Any) -> TaskRun:  # fmt: skip
    """A task that believes what is only shown to operators."""
    offsets = {}
    for stream in spec.inputs:
        if shown := log.groups(stream).get(spec.reader):
            for entry in log.between(stream, shown.offset, shown.offset, count_max=1):
                offsets[stream] = Offset(entry.id, shown.entries_read, checksum_of(entry))
    return TaskRun(log, group, spec, claim, dataclasses.replace(record, offsets=offsets), **more)


def test_the_mirror_is_no_offset(seeds: Seeds, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the guards nothing is spoiled, but nothing gets on either; without them it is."""
    dying = (Fault.DIE_AFTER,)
    monkeypatch.setattr(consumers.workers.taking, "TaskRun", from_the_mirror)
    found, _ = seen(scene(), dying, seeds)
    assert any("never came to an end" in one for one in found)
    found, _ = seen(scene("offsets", "ids"), dying, seeds)
    assert not any("never came to an end" in one for one in found)
    assert found


class Believing(SteppedWorker):
    """A worker that goes on with what it remembers after a call without an answer."""

    def _lose(self, error: LogUnavailable) -> None:
        """Nothing is dropped."""


def test_memory_is_wrong_after_a_commit_without_an_answer(seeds: Seeds) -> None:
    """Even all guards do not help one who does not reload: what was handled is handled again."""
    losing = (Fault.LOSE_REQUEST,)
    found, _ = seen(scene(worker=Believing), losing, seeds)
    assert found
    found, _ = seen(scene(), losing, seeds)
    assert found == []


class OneLaneAtATime(MemoryLog):
    """Replies of blocking reads as Redis up to 7.0 gives them: the lane that woke, no other."""

    def read(
        self, after: Mapping[Stream, EntryId], *, count_max: int = 10_000,
        block_ms: int | None = None,
    ) -> dict[Stream, list[Entry]]:  # fmt: skip
        found = super().read(after, count_max=count_max, block_ms=block_ms)
        return dict([max(found.items())]) if found else {}


@pytest.mark.parametrize("handler", [Chain, ChainOfAll])
def test_replies_of_blocking_reads_are_no_order(handler: type[Chain], seeds: Seeds) -> None:
    blocking = Scene(handler, partitions=1, workers=1, poison=0.0, log=OneLaneAtATime)
    if handler is ChainOfAll:  # journalled: any order can be repeated, so nothing is wrong
        blocking = dataclasses.replace(blocking, partitions=2)
        assert seen(blocking, (Fault.DIE_BEFORE,), seeds)[0] == []
        return
    found, _ = seen(blocking, (Fault.DIE_BEFORE,), seeds)
    assert found


def test_lanes_that_filled_their_count_bound_the_merge(
    seeds: Seeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = consumers.runtime.reading.in_log_order
    small = Scene(Chain, partitions=1, workers=1, poison=0.0, entries_max=3)
    assert seen(small, (Fault.DIE_BEFORE,), seeds)[0] == []
    monkeypatch.setattr(
        consumers.runtime.reading, "in_log_order", lambda found, count: merge(found, 2**63)
    )
    found, _ = seen(small, (Fault.DIE_BEFORE,), seeds)
    assert found

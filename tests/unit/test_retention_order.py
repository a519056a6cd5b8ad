"""A task whose inputs are spilled under it derives what it would have derived without."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from events.log import Lane, Stream
from events.memory_log import MemoryLog
from events.retention import SegmentFolder, WholeLog
from tests.unit.test_runtime import SOURCE, Chain, clock, derived, expected, gap, world

LANES = (SOURCE.stream(Lane.HIGH), SOURCE.stream(Lane.NORMAL))


def spill(log: MemoryLog, folder: SegmentFolder, stream: Stream, count: int) -> int:
    """The oldest entries of a stream into a segment, whoever is reading them."""
    lane = log.retained.look(SOURCE).lanes[stream.lane]
    entries = MemoryLog.between(log, stream, count_max=count)
    if not entries or lane.first_id is None:
        return 0
    before = lane.entries_added - lane.length
    span = folder.write(stream, entries, first=lane.first_id, before=before)
    assert log.retained.spill(span)
    return span.entries


def owned(whole: WholeLog, log: MemoryLog, entries_max: int) -> TaskRun:
    group = Group("chain", Chain)
    [spec] = group.specs(log)
    taken = log.tasks.acquire(spec.slot, "me", seen=log.tasks.look([spec.slot])[0].token)
    assert taken is not None
    return TaskRun(whole, group, spec, *taken, entries_max=entries_max)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_spilled_under_a_task_changes_nothing_it_derives(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    log, claim = world()
    folder = SegmentFolder(tmp_path, bytes_max=1 << 30)
    whole = WholeLog(log, folder)
    bare = log.read
    spilled = 0

    def read(after: Any, **more: Any) -> Any:
        nonlocal spilled
        if chance.random() < 0.3:
            spilled += spill(log, folder, chance.choice(LANES), chance.randrange(1, 9))
        return bare(after, **more)

    monkeypatch.setattr(log, "read", read)
    number = 0
    task = owned(whole, log, 5)
    for _ in range(60):
        count = chance.randrange(12)
        log.append(
            claim, [(clock if chance.random() < 0.7 else gap)(number + n) for n in range(count)]
        )
        number += count
        if chance.random() < 0.1:
            spilled += spill(log, folder, chance.choice(LANES), 50)
        if chance.random() < 0.2:
            task = owned(whole, log, chance.randrange(1, 12))
        if chance.random() < 0.7:
            task.step()
    while task.step().entries:
        pass
    assert spilled > 20
    assert derived(log) == expected(range(number))

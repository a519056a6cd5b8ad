"""How the tasks of a group fare, seen from outside: holders, lag, halts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consumers.workers.taking import AnyGroup
from events.log import Lane, Log, Slot


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task. `lag` is in entries by lane; None where it is not known (yet)."""

    slot: Slot
    holder: str
    halted: str
    lag: Mapping[Lane, int | None]
    idle: bool
    """Everything that was in its inputs is handled."""
    asked: int = 0
    """Requests of operators that it did not answer yet."""


def look(log: Log, group: AnyGroup) -> list[TaskStatus]:
    """Every task of a group. Raises LogError."""
    specs = group.specs(log)
    found = []
    for spec, holding in zip(specs, log.tasks.look([s.slot for s in specs]), strict=True):
        lag: dict[Lane, int | None] = {}
        idle = True
        for stream in spec.inputs:
            info = log.info(stream)
            mirrored = log.groups(stream).get(spec.reader)
            behind = mirrored.lag if mirrored is not None else info.length
            if behind is not None and behind < 0:  # the stream is another one by now
                behind = None
            before = lag.get(stream.lane, 0)
            lag[stream.lane] = None if behind is None or before is None else before + behind
            if info.length and (mirrored is None or mirrored.offset < info.last_id):
                idle = False
            if mirrored is not None and mirrored.pending:
                idle = False
        asked = len(log.tasks.requests(spec.slot))
        found.append(TaskStatus(spec.slot, holding.holder, holding.halted, lag, idle, asked))
    return found


def is_done(tasks: list[TaskStatus]) -> bool:
    """Whether nothing is left to do: every task has handled all there is, or stands still, and
    has answered what operators asked."""
    return all((task.idle or task.halted) and not task.asked for task in tasks)

"""`replay` without --verify: what a handler would derive from the log, written nowhere."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from consumers.runtime.deriving import Batch, Deriving, Halting
from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.rederive.feed import TURN_ENTRIES_MAX, Feed
from events.log import BEGIN, Entry, Log
from events.operations import HandlerFailed
from events.tasks import NOTHING_DERIVED, TaskRecord

PAUSE_S_MAX = 60.0
"""Longest wait between two entries, however far they lie apart."""


@dataclass(slots=True)
class Trial:
    """What came of one task."""

    task: str
    entries: int = 0
    outputs: dict[str, int] = field(default_factory=dict)
    """Derived events by type."""
    failed: int = 0


def try_task(
    log: Log,
    group: Group,
    spec: TaskSpec,
    *,
    emit: Callable[[Entry], None] = lambda _: None,
    told: Callable[[int, int], None] = lambda _done, _all: None,
    speed: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Trial:
    """Handle everything that the log keeps of a task's inputs up to now, by entry id.

    `emit` gets each derived event as the entry it would be. `speed` is how many times faster than
    the entries came; None is as fast as possible. Raises LogUnavailable.
    """
    found = Trial(spec.reader)
    infos = {stream: log.info(stream) for stream in spec.inputs}
    feeds = [Feed(log, stream, BEGIN).up_to(info.last_id) for stream, info in infos.items()]
    entries: Iterator[Entry] = heapq.merge(*feeds, key=lambda entry: (entry.id, entry.stream))
    length = sum(info.length for info in infos.values())
    deriving = Deriving(group, TaskRecord(spec.slot, {}, {}, NOTHING_DERIVED, 0, ""))
    before_ms: int | None = None
    for turn in _turns(entries, 1 if speed else TURN_ENTRIES_MAX):
        if speed and before_ms is not None:
            sleep(min(PAUSE_S_MAX, max(0, turn[0].id.ms - before_ms) / 1000 / speed))
        before_ms = turn[-1].id.ms
        for batch in _derived(deriving, turn):
            _count(found, batch, spec, emit)
        found.entries += len(turn)
        told(found.entries, length)
    return found


def _turns(entries: Iterator[Entry], count: int) -> Iterator[list[Entry]]:
    turn: list[Entry] = []
    for entry in entries:
        turn.append(entry)
        if len(turn) >= count:
            yield turn
            turn = []
    if turn:
        yield turn


def _derived(deriving: Deriving, entries: list[Entry]) -> Iterator[Batch]:
    at = 0
    while at < len(entries):
        batch = deriving.handle(entries[at:], halting=Halting.NEVER)
        changed, removed = deriving.changes()
        deriving.settle(batch, changed, removed)
        at += max(1, batch.handled)
        yield batch


def _count(found: Trial, batch: Batch, spec: TaskSpec, emit: Callable[[Entry], None]) -> None:
    for id_, new in batch.outputs:
        found.outputs[new.type] = found.outputs.get(new.type, 0) + 1
        found.failed += new.type.rpartition(".")[0] == HandlerFailed.TYPE
        stream = spec.slot.stream(new.lane)
        emit(Entry(stream, id_, new.type, new.key, new.data, new.cause))

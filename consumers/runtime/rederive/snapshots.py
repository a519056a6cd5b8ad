"""When a task takes a snapshot, which one it replaces, and how far back its journal is kept.

A snapshot goes with a commit of the task, so that it costs no step of its own. The oldest one from
which everything is still kept stays: it is how far back a replay can reach. A journal is trimmed
only below a snapshot, and never below the beginning while a replay can begin there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from consumers.runtime.group import TaskSpec
from consumers.runtime.handler import Order
from consumers.runtime.rederive.starts import beginning, missing, starts_of_version
from events.log import Log
from events.tasks import SNAPSHOTS_MAX, SnapshotInfo, TaskRecord

SNAPSHOT_S = 600.0
"""A task that commits takes a snapshot so often."""
LOOK_S = 30.0
"""How often it looks whether a replay could still begin somewhere; if not, it takes one at once."""
JOURNAL_ROWS_MAX = 100_000
"""Rows of a journal that are kept at most, in tasks that write one with every commit."""
SNAPSHOT_COMMITS = JOURNAL_ROWS_MAX // SNAPSHOTS_MAX
"""Such a task takes one with every so manieth commit too."""


class Place(NamedTuple):
    """Where a snapshot goes, and the first commit whose journal row stays (0: all stay)."""

    place: int
    journal_from: int


class Snapshots:
    """Decides for one owned task."""

    def __init__(
        self,
        log: Log,
        spec: TaskSpec,
        order: Order,
        version: str,
        *,
        every_s: float = SNAPSHOT_S,
        every_commits: int = SNAPSHOT_COMMITS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._spec, self._slot, self._version = log, spec, spec.slot, version
        self._journals = spec.journals(order)
        self._rows_max = every_commits * SNAPSHOTS_MAX
        self._every_s, self._every_commits = every_s, every_commits
        self._monotonic = monotonic
        self._due_at = monotonic() + every_s
        self._look_at = monotonic() + LOOK_S
        self._newest: TaskRecord | None = None

    def due(self, commit: int) -> Place | None:
        """Where a snapshot goes with commit number `commit`, when it is time for one."""
        now = self._monotonic()
        by_count = self._journals and commit % self._every_commits == 0
        if not by_count and now < self._due_at and not self._lost(now):
            return None
        self._due_at, self._look_at = now + self._every_s, now + LOOK_S
        self._newest = None
        return self.place(commit)

    def _lost(self, now: float) -> bool:
        """Whether what was read left the log so soon that a replay can begin nowhere."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_S
        if self._newest is None:
            starts = starts_of_version(self._log, self._slot, self._version, newest=True)
            self._newest = starts[-1].record if starts else None
        newest = self._newest
        return newest is None or bool(missing(self._log, newest, self._spec.inputs))

    def place(self, commit: int) -> Place:
        """Where a snapshot with this commit goes."""
        there = self._log.tasks.snapshots(self._slot)
        free = set(range(SNAPSHOTS_MAX)) - {info.place for info in there}
        place = min(free) if free else self._least_needed(there, commit).place
        staying = [info.commit for info in there if info.place != place]
        return Place(place, self._journal_from(min([*staying, commit]), commit))

    def _least_needed(self, there: Sequence[SnapshotInfo], commit: int) -> SnapshotInfo:
        """Of other code; too old for what is kept; else the one that leaves the smallest gap."""
        for info in there:
            if info.version != self._version:
                return info
        oldest = there[0]
        if self._journals and commit - oldest.commit >= self._rows_max:
            return oldest
        record = self._log.tasks.snapshot(self._slot, oldest.place)
        if missing(self._log, record, self._spec.inputs):
            return oldest
        commits = [*(info.commit for info in there), commit]
        return min(there[1:], key=lambda info: _gap(commits, info.commit))

    def _journal_from(self, oldest: int, commit: int) -> int:
        if self._journals and commit > self._rows_max:
            return oldest
        first = beginning(self._log, self._slot)
        kept = first is not None and not missing(self._log, first.record, self._spec.inputs)
        return 0 if kept else oldest


def _gap(commits: Sequence[int], commit: int) -> int:
    """How far its neighbours would lie apart without this one."""
    at = commits.index(commit)
    return commits[at + 1] - commits[at - 1]

"""Noticing, in the middle of a batch, that something critical arrived."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from events.ahead import AskedRead, ReadsAhead
from events.log import EntryId, Log, LogUnavailable, Stream

LOOK_S = 0.0005
"""How often it is looked whether something came, while a batch is handled."""
BLOCK_MS = 2_000
"""How long one question to the log stays open."""


class Reaching(Protocol):
    """A task as the watch sees it."""

    @property
    def reached(self) -> Mapping[Stream, EntryId]:
        """How far its critical lanes were read; empty for a task that follows no priority."""
        ...


class CriticalWatch:
    """Asks the log for what is critical on a connection of its own, and looks for the answer.

    So neither a thread nor the reply of a large batch stands between a critical entry and the
    task that waits for it: `urgent` tells that one came which no batch holds yet. A log that
    cannot be asked in advance is never urgent: there one batch may lie before a critical entry.
    """

    def __init__(self, log: Log, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._log, self._monotonic = log, monotonic
        self._asked: AskedRead | None = None
        self._streams: frozenset[Stream] = frozenset()
        self._came: dict[Stream, EntryId] = {}
        self._next_look = 0.0

    def urgent(self, tasks: Iterable[Reaching]) -> bool:
        """Whether something critical lies before one of these tasks. Asked between entries."""
        now = self._monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_S
        reached = {s: at for task in tasks for s, at in task.reached.items()}
        try:
            self._look(reached)
        except LogUnavailable:  # whoever commits next is told, and drops everything
            self.close()
        return any(id_ > reached.get(stream, id_) for stream, id_ in self._came.items())

    def close(self) -> None:
        if self._asked is not None:
            self._asked.drop()
        self._asked = None

    def _look(self, reached: Mapping[Stream, EntryId]) -> None:
        if self._streams != reached.keys():
            self.close()
            self._streams, self._came = frozenset(reached), {}
        if self._asked is not None and self._asked.ready():
            asked, self._asked = self._asked, None
            self._came |= {stream: found[-1].id for stream, found in asked.take().items()}
        if self._asked is None and reached and isinstance(self._log, ReadsAhead):
            after = {s: max(at, self._came.get(s, at)) for s, at in reached.items()}
            self._asked = self._log.read_ahead(after, count_max=1, block_ms=BLOCK_MS)

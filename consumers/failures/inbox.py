"""The requests that operators left for a task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from consumers.failures.letters import why_not_open
from consumers.failures.request import Request, parse_place
from events.log import EntryId, Log, Slot, Stream
from events.tasks import TaskRecord

LOOK_S = 1.0
"""How often a task looks for requests."""


class Inbox:
    """What is asked of one task, while this worker owns it."""

    def __init__(
        self,
        log: Log,
        record: TaskRecord,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._slot, self._monotonic = log, record.slot, monotonic
        self._waiting = dict(record.requests)
        self._looked_at = monotonic()

    def next(self) -> tuple[str, bytes] | None:
        """The next request, if there is one. Looks into the log about once a second."""
        now = self._monotonic()
        if not self._waiting and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._waiting = dict(self._log.tasks.requests(self._slot))
        return min(self._waiting.items(), default=None)

    def done(self, request: str) -> None:
        """Its answer is committed."""
        self._waiting.pop(request, None)


def why_refused(log: Log, slot: Slot, request: Request, ends: Mapping[Stream, EntryId]) -> str:
    """Why a request about an entry that was passed over cannot be carried out, or "". `ends` is
    how far the task has come."""
    stream, id_ = parse_place(request.place)
    if stream not in ends:
        return f"{stream} is no input of {slot.writer}"
    if id_ > ends[stream]:
        return "it was not read yet"
    return why_not_open(log, slot, request.place)

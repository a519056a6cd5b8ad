"""What a task derived at the time, as its lanes hold it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from consumers.runtime.rederive.feed import Feed
from consumers.runtime.rederive.starts import removed
from events.log import Entry, EntryId, Lane, Log, Slot
from events.operations import HandlerFailed, HandlerUpgraded, OperatorAnswered

GIVEN = frozenset({HandlerUpgraded.TYPE, OperatorAnswered.TYPE})
"""Events that the runtime adds when people or other code act: no handler derives them."""


class Recorded:
    """Outputs behind `after` up to `until`, by their ordinal (the second number of their ids)."""

    def __init__(self, log: Log, slot: Slot, after: EntryId, until: EntryId) -> None:
        feeds = [Feed(log, slot.stream(lane), after).up_to(until) for lane in Lane]
        self._merged: Iterator[Entry] = heapq.merge(*feeds, key=lambda entry: entry.id)
        self._next = next(self._merged, None)
        self._kept_from = {lane: _kept_from(log, slot, lane) for lane in Lane}

    def before(self, ordinal: int) -> list[Entry]:
        """Take all with a smaller ordinal."""
        found = []
        while self._next is not None and self._next.id.seq < ordinal:
            found.append(self._take())
        return found

    def at(self, ordinal: int) -> Entry | None:
        """Take the one with this ordinal, where it is there."""
        return self._take() if self._next is not None and self._next.id.seq == ordinal else None

    def given_at(self, ordinal: int, failure_of: str) -> Entry | None:
        """Take the one with this ordinal if no handler derives such a thing."""
        entry = self._next
        if entry is None or entry.id.seq != ordinal:
            return None
        name = entry.type.rpartition(".")[0]
        failure = name == HandlerFailed.TYPE and failure_of and entry.cause == failure_of
        return self._take() if name in GIVEN or failure else None

    def was_trimmed(self, lane: Lane, id_: EntryId) -> bool:
        """Whether an output with this id would no longer be kept."""
        kept_from = self._kept_from[lane]
        return kept_from is not None and id_ < kept_from

    def _take(self) -> Entry:
        entry = self._next
        if entry is None:
            raise StopIteration("nothing is left to take")
        self._next = next(self._merged, None)
        return entry


def _kept_from(log: Log, slot: Slot, lane: Lane) -> EntryId | None:
    """The first id that a lane still holds where its beginning was trimmed."""
    stream = slot.stream(lane)
    if not removed(log, stream):
        return None
    first = log.between(stream, count_max=1)
    return first[0].id if first else log.info(stream).last_id.next()

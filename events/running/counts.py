"""What a run appended to the log, counted in the log itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from events.codec import TICKS, TICKS_HISTORY, decode
from events.log import BEGIN, SOURCE, EntryId, Lane, Log, Slot, Stream
from events.ticks import TickBatch

PAGE_ENTRIES_MAX = 50
"""Tick entries may hold megabytes each."""


@dataclass(frozen=True, slots=True)
class LogEnds:
    """Where the streams of some namespaces ended, and how many entries they ever had."""

    last_ids: Mapping[Stream, EntryId]
    entries_added: Mapping[Stream, int]

    def added_by_lane(self, before: LogEnds) -> dict[str, int]:
        """Entries appended since `before`, by lane."""
        added = {lane.label: 0 for lane in Lane}
        for stream, count in self.entries_added.items():
            added[stream.lane.label] += count - before.entries_added.get(stream, 0)
        return added


def log_ends(log: Log, names: Sequence[str]) -> LogEnds:
    """The ends of every stream of these namespaces; those not there yet have none."""
    known = log.namespaces()
    last_ids, entries_added = {}, {}
    for name in names:
        for partition in range(known.get(name, 0)):
            for stream in Slot(name, SOURCE, partition).streams():
                info = log.info(stream)
                last_ids[stream] = info.last_id
                entries_added[stream] = info.entries_added
    return LogEnds(last_ids, entries_added)


def count_appended(log: Log, name: str, before: LogEnds) -> dict[str, int]:
    """Ticks that were appended to a namespace since `before`, by symbol."""
    counts: dict[str, int] = {}
    for partition in range(log.namespaces().get(name, 0)):
        slot = Slot(name, SOURCE, partition)
        for lane in (Lane.NORMAL, Lane.LOW):
            _count_stream(log, slot.stream(lane), before, counts)
    return dict(sorted(counts.items()))


def _count_stream(log: Log, stream: Stream, before: LogEnds, counts: dict[str, int]) -> None:
    after = before.last_ids.get(stream, BEGIN)
    while page := log.read({stream: after}, count_max=PAGE_ENTRIES_MAX).get(stream):
        for entry in page:
            if entry.type.rpartition(".")[0] in (TICKS, TICKS_HISTORY):
                batch = decode(entry)
                assert isinstance(batch, TickBatch), "tick types decode to tick batches"
                counts[batch.symbol] = counts.get(batch.symbol, 0) + len(batch)
        after = page[-1].id

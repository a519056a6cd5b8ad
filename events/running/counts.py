"""What a run appended to the log, counted in the log itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from events.codec import TICKS, TICKS_HISTORY, decode
from events.log import BEGIN, SOURCE, EntryId, Lane, Log, LogUnavailable, Slot, Stream
from events.operations import TerminalUp
from events.postgres import DatabaseUnavailable, connect, read_offsets
from events.ticks import TickBatch

PAGE_ENTRIES_MAX = 50
"""Tick entries may hold megabytes each."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Ticks of one symbol that were appended, and the span they lie in (server ms, both ends
    included; None without a tick that has a time)."""

    ticks: int = 0
    first_server_ms: int | None = None
    last_server_ms: int | None = None

    @property
    def span(self) -> tuple[int, int] | None:
        """From the first to before the last millisecond: more ticks may share the last one."""
        if self.first_server_ms is None or self.last_server_ms is None:
            return None
        return self.first_server_ms, self.last_server_ms

    def with_batch(self, batch: TickBatch) -> Appended:
        times = batch.ticks["time_msc"]
        times = times[times > 0]
        count = self.ticks + len(batch)
        if not len(times):
            return replace(self, ticks=count)
        first, last = int(times.min()), int(times.max())
        if self.first_server_ms is not None and self.last_server_ms is not None:
            first, last = min(first, self.first_server_ms), max(last, self.last_server_ms)
        return Appended(count, first, last)


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
        writers = log.tasks.writers(name) if name in known else {}
        slots = [Slot(name, writer, n) for writer, count in writers.items() for n in range(count)]
        for stream in (stream for slot in slots for stream in slot.streams()):
            info = log.info(stream)
            last_ids[stream] = info.last_id
            entries_added[stream] = info.entries_added
    return LogEnds(last_ids, entries_added)


def appended_since(log: Log, name: str, before: LogEnds) -> dict[str, Appended]:
    """What was appended to a namespace since `before`, by symbol."""
    counts: dict[str, Appended] = {}
    for partition in range(log.namespaces().get(name, 0)):
        slot = Slot(name, SOURCE, partition)
        for lane in (Lane.NORMAL, Lane.LOW):
            _count_stream(log, slot.stream(lane), before, counts)
    return dict(sorted(counts.items()))


def came_up(log: Log, name: str, before: LogEnds) -> bool:
    """Whether the terminal was attached at least once since `before`."""
    partitions = log.namespaces().get(name, 0)
    for partition in range(partitions):
        stream = Slot(name, SOURCE, partition).stream(Lane.CRITICAL)
        after = before.last_ids.get(stream, BEGIN)
        while page := log.read({stream: after}, count_max=PAGE_ENTRIES_MAX).get(stream):
            if any(entry.type.rpartition(".")[0] == TerminalUp.TYPE for entry in page):
                return True
            after = page[-1].id
    return False


def _count_stream(log: Log, stream: Stream, before: LogEnds, counts: dict[str, Appended]) -> None:
    after = before.last_ids.get(stream, BEGIN)
    while page := log.read({stream: after}, count_max=PAGE_ENTRIES_MAX).get(stream):
        for entry in page:
            if entry.type.rpartition(".")[0] in (TICKS, TICKS_HISTORY):
                batch = decode(entry)
                assert isinstance(batch, TickBatch), "tick types decode to tick batches"
                counts[batch.symbol] = counts.get(batch.symbol, Appended()).with_batch(batch)
        after = page[-1].id


def everything_stored(log: Log, dsn: str, names: Sequence[str], group: str) -> bool:
    """Whether the database holds every entry of these namespaces. False when either does not
    answer: then nobody knows."""
    try:
        with connect(dsn, application="bridge up") as connection:
            stored = {row.stream: row.last for row in read_offsets(connection, group)}
        ends = log_ends(log, names)
    except (DatabaseUnavailable, LogUnavailable):
        return False
    return all(
        last == BEGIN or stored.get(str(stream), BEGIN) >= last
        for stream, last in ends.last_ids.items()
    )

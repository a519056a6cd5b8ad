"""What a terminal's log holds as a source: the recorded batches, in the log's own order."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

from consumers.backtest.sources.merging import PORTION_TICKS_MAX
from consumers.backtest.sources.source import NoTicks, Portion, SourceError, Span
from consumers.runtime.rederive.feed import Feed
from events.codec import AnyEvent, BadEvent, UnknownEvent, decode, decode_data
from events.log import (
    ACCOUNT_PARTITION,
    BEGIN,
    SOURCE,
    Entry,
    EntryId,
    Lane,
    Log,
    Slot,
    Stream,
    partition_of,
)
from events.operations import ClockTick
from events.ticks import TickBatch

FACTS = ("account", "contracts", "instrument")
APPENDED_AHEAD_MS_MAX = 3_600_000
"""Nothing is appended before it happened; clocks of hosts differ by less than this."""
BATCHES_MAX = 20_000
"""Entries of one portion; at one tick per entry it is cut here."""

Entries = Callable[[Sequence[Stream], EntryId], Iterable[Entry]]
"""(streams, after) -> their entries behind an id, merged by id."""


class LogSource:
    """Ticks of some symbols as they lie in the log of one terminal.

    In log order, as live consumers saw them: late ticks come where they came then. `entries`
    reads the log; the default spans what Redis holds and what was spilled to this machine.
    """

    def __init__(
        self,
        log: Log,
        namespace: str,
        symbols: Sequence[str],
        span: Span,
        *,
        entries: Entries | None = None,
        told: str = "log",
    ) -> None:
        known = log.namespaces()
        if namespace not in known:
            held = ", ".join(sorted(known)) or "none"
            raise SourceError(f"the log holds no terminal {namespace!r}; there is: {held}")
        self._log, self._namespace, self._span = log, namespace, span
        self._partitions = known[namespace]
        self._symbols = tuple(symbols)
        self._entries = entries or self._from_log
        self._told = told
        self._ends: dict[Stream, EntryId] = {}
        self.warnings: list[str] = []

    @property
    def name(self) -> str:
        return f"{self._told} of {self._namespace}"

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    def facts(self) -> list[AnyEvent]:
        """The newest account, contracts and instruments that the log remembers."""
        found: list[AnyEvent] = []
        for partition in range(self._partitions):
            states = self._log.last_states(Slot(self._namespace, SOURCE, partition))
            for (type_, key), packed in sorted(states.items()):
                name = type_.rpartition(".")[0]
                if name not in FACTS or (name != "instrument" and partition != ACCOUNT_PARTITION):
                    continue
                try:
                    found.append(decode_data(type_, key, packed))
                except (BadEvent, UnknownEvent) as error:
                    self.warnings.append(f"{name} {key} of the log cannot be read: {error}")
        return found

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        """See `Source.portions`. Raises SourceError, LogUnavailable."""
        wanted, seen = set(self._symbols), False
        held: list[TickBatch] = []
        count = 0
        for entry in self._entries(self._streams(), self._first()):
            kind = entry.type.rpartition(".")[0]
            if kind == "ticks" and entry.key in wanted:
                batch = self._batch(entry)
                if batch is None:
                    continue
                seen = True
                held.append(batch)
                count += len(batch)
                if count >= PORTION_TICKS_MAX or len(held) >= BATCHES_MAX:
                    yield Portion(tuple(held))
                    held, count = [], 0
            elif clock and kind == "clock":
                event = decode(entry)
                if isinstance(event, ClockTick) and self._within(event):
                    if held:
                        yield Portion(tuple(held))
                        held, count = [], 0
                    yield event
        if held:
            yield Portion(tuple(held))
        if not seen:
            raise NoTicks(self._nothing())

    def _batch(self, entry: Entry) -> TickBatch | None:
        try:
            batch = decode(entry)
        except (BadEvent, UnknownEvent) as error:
            self.warnings.append(f"passed over: {error}")
            return None
        return self._span.cut(batch) if isinstance(batch, TickBatch) else None

    def _within(self, event: ClockTick) -> bool:
        begin, end = self._span.from_ms, self._span.to_ms
        at = event.event_time_ms
        return (begin is None or at >= begin) and (end is None or at < end)

    def _streams(self) -> tuple[Stream, ...]:
        partitions = sorted({partition_of(one, self._partitions) for one in self._symbols})
        return tuple(
            Slot(self._namespace, SOURCE, partition).stream(Lane.NORMAL) for partition in partitions
        )

    def _first(self) -> EntryId:
        if self._span.from_ms is None:
            return BEGIN
        return EntryId(max(0, self._span.from_ms - APPENDED_AHEAD_MS_MAX), 0)

    def _from_log(self, streams: Sequence[Stream], after: EntryId) -> Iterator[Entry]:
        """Up to what is there now."""
        feeds = [
            Feed(self._log, stream, after).up_to(self._log.info(stream).last_id)
            for stream in streams
        ]
        return heapq.merge(*feeds, key=lambda entry: (entry.id, entry.stream))

    def _nothing(self) -> str:
        """What there is in place of what was asked for."""
        found: dict[str, tuple[int, int]] = {}
        for stream in self._streams():
            edges = [
                *self._log.between(stream, count_max=200),
                *self._log.newest(stream, count_max=200),
            ]
            for entry in edges:
                if entry.type.partition(".")[0] != "ticks":
                    continue
                batch = decode(entry)
                assert isinstance(batch, TickBatch)
                at = batch.event_time_ms
                first, last = found.get(entry.key, (at, at))
                found[entry.key] = (min(first, at), max(last, at))
        held = "; ".join(
            f"{symbol} {Span(first, last)}" for symbol, (first, last) in sorted(found.items())
        )
        return (
            f"no tick of {', '.join(self._symbols)} from {self._span} in {self.name}; "
            f"there is: {held or 'nothing of their partitions'}"
        )

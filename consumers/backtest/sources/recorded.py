"""What was recorded of a terminal as a source: log, segments, archive and database as one.

First the history that was fetched or imported behind the live stream, by time; then the live
stream in the log's own order, late ticks where they came, as live consumers saw it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from consumers.backtest.sources.merging import PORTION_TICKS_MAX, merged
from consumers.backtest.sources.source import NoTicks, Portion, SourceError, Span
from events.archive.source import MARKET_WRITERS, EntrySource, Wanted
from events.archive.times import times_of
from events.codec import TICKS, TICKS_HISTORY, AnyEvent, BadEvent, UnknownEvent, decode, decode_data
from events.log import ACCOUNT_PARTITION, SOURCE, Entry, EntryId, Lane, Slot, Stream, partition_of
from events.market import Contracts, Instrument
from events.operations import ClockTick
from events.ticks import TickBatch
from events.trading import Deal

FACTS = ("account", "contracts", "instrument")
FACTS_AND_DEALS = (*FACTS, Deal.TYPE)
CLOCK = ClockTick.TYPE
BATCHES_MAX = 20_000
"""Entries of one portion; at one tick per entry it is cut here."""
WARNINGS_MAX = 20
DEALS_LOOKED_AT = 5_000
"""Newest account entries among which deals are looked for."""


class _Ascent(NamedTuple):
    """Entries of one symbol's history that follow each other in time."""

    stream: Stream
    first: EntryId
    last: EntryId
    first_ms: int
    last_ms: int


class RecordedSource:
    """Ticks of some symbols of one terminal. `told` names the places, for the result."""

    def __init__(
        self,
        source: EntrySource,
        namespace: str,
        symbols: Sequence[str],
        span: Span,
        *,
        told: str = "log",
    ) -> None:
        self._partitions = source.partitions(namespace)
        if not self._partitions and not source.streams(Wanted(namespace)):
            raise SourceError(
                f"nothing is recorded of a terminal {namespace!r}: look at `bridgectl status`, "
                "or give tick files with --source"
            )
        self._source, self._namespace, self._span = source, namespace, span
        self._symbols, self._told = tuple(symbols), told
        self.warnings: list[str] = []

    @property
    def name(self) -> str:
        return f"{self._told} of {self._namespace}"

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    def facts(self) -> list[AnyEvent]:
        """The newest account, contracts and instruments; newest deals tell the commission."""
        log = self._source.log
        if log is None or self._namespace not in log.namespaces():
            return self._archived_facts()
        found: list[AnyEvent] = []
        for partition in range(self._partitions):
            states = log.last_states(Slot(self._namespace, SOURCE, partition))
            for (type_, key), packed in sorted(states.items()):
                if type_.rpartition(".")[0] in FACTS:
                    try:
                        found.append(decode_data(type_, key, packed))
                    except (BadEvent, UnknownEvent) as error:
                        self._warn(f"{key} cannot be read: {error}")
        deals = log.newest(
            Slot(self._namespace, SOURCE, ACCOUNT_PARTITION).stream(Lane.HIGH),
            count_max=DEALS_LOOKED_AT,
        )
        return found + [decode(one) for one in deals if one.type.rpartition(".")[0] == Deal.TYPE]

    def _archived_facts(self) -> list[AnyEvent]:
        """The newest of each that entries tell; without a log nobody else knows them. The account's
        entries tell all of them where the symbols were followed: then no tick is read for it."""
        newest: dict[tuple[str, str], AnyEvent] = {}
        deals: deque[AnyEvent] = deque(maxlen=DEALS_LOOKED_AT)
        account = {ACCOUNT_PARTITION}
        for entry in self._entries_of(FACTS_AND_DEALS, Lane.HIGH, account):
            event = decode(entry)
            if isinstance(event, Deal):
                deals.append(event)
            else:
                newest[entry.type, entry.key] = event
        known = {
            one.symbol for event in newest.values() if isinstance(event, Contracts)
            for one in event.instruments
        }  # fmt: skip
        if not known.issuperset(self._symbols):
            for entry in self._entries_of({Instrument.TYPE}, Lane.NORMAL, self._own_partitions()):
                newest[entry.type, entry.key] = decode(entry)
        return [*newest.values(), *deals]

    def _entries_of(
        self, names: Collection[str], lane: Lane, partitions: Collection[int] | None
    ) -> Iterator[Entry]:
        wanted = Wanted(self._namespace, writers=(SOURCE,), lanes=(lane,), partitions=partitions)
        for entry in self._source.entries(wanted):
            if entry.type.rpartition(".")[0] in names:
                yield entry

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        """See `Source.portions`. Raises SourceError, LogUnavailable, ArchiveError."""
        seen = False
        for portion in self._history():
            seen = True
            yield portion
        for found in self._live(clock=clock):
            seen = seen or isinstance(found, Portion)
            yield found
        self._tell_holes()
        if not seen:
            raise NoTicks(self._nothing())

    # --- the live stream

    def _live(self, *, clock: bool) -> Iterator[Portion | ClockTick]:
        symbols = set(self._symbols)
        held: list[TickBatch] = []
        count = 0
        for entry in self._source.entries(self._wanted(Lane.NORMAL)):
            kind = entry.type.rpartition(".")[0]
            if kind == TICKS and entry.key in symbols:
                batch = self._batch(entry)
                if batch is not None:
                    held.append(batch)
                    count += len(batch)
            elif clock and kind == CLOCK:
                event = decode(entry)
                if held:
                    yield Portion(tuple(held))
                    held, count = [], 0
                if isinstance(event, ClockTick):
                    yield event
            if count >= PORTION_TICKS_MAX or len(held) >= BATCHES_MAX:
                yield Portion(tuple(held))
                held, count = [], 0
        if held:
            yield Portion(tuple(held))

    def _batch(self, entry: Entry) -> TickBatch | None:
        try:
            batch = decode(entry)
        except (BadEvent, UnknownEvent) as error:
            self._warn(f"passed over: {error}")
            return None
        return self._span.cut(batch) if isinstance(batch, TickBatch) else None

    # --- history behind it

    def _history(self) -> Iterator[Portion]:
        ascents: dict[str, list[_Ascent]] = {symbol: [] for symbol in self._symbols}
        wanted = self._wanted(Lane.LOW)
        for stream in self._source.streams(wanted):
            self._look_through(stream, wanted, ascents)
        if any(ascents.values()):
            begins = self._live_begins()
            yield from merged(
                [
                    self._of_symbol(symbol, found, begins.get(symbol))
                    for symbol, found in ascents.items()
                ]
            )

    def _look_through(
        self, stream: Stream, wanted: Wanted, ascents: dict[str, list[_Ascent]]
    ) -> None:
        """Note where each symbol's history lies; what goes back in time begins another ascent."""
        going: dict[str, _Ascent] = {}
        for entry in self._source.of_stream(stream, wanted):
            if entry.type.rpartition(".")[0] != TICKS_HISTORY or entry.key not in ascents:
                continue
            times = times_of(entry.type, entry.data)
            if times is None:
                continue
            before = going.get(entry.key)
            if before is not None and times.oldest_ms >= before.last_ms:
                going[entry.key] = before._replace(last=entry.id, last_ms=times.newest_ms)
                continue
            if before is not None:
                ascents[entry.key].append(before)
            going[entry.key] = _Ascent(stream, entry.id, entry.id, times.oldest_ms, times.newest_ms)
        for symbol, ascent in going.items():
            ascents[symbol].append(ascent)

    def _of_symbol(
        self, symbol: str, ascents: list[_Ascent], live_from_ms: int | None
    ) -> Iterator[TickBatch]:
        """One symbol's history by time, up to where its live stream begins."""
        span = Span(self._span.from_ms, _earlier(self._span.to_ms, live_from_ms))
        wanted = self._wanted(Lane.LOW)
        dropped = 0
        for ascent in sorted(ascents, key=lambda one: (one.first_ms, one.stream, one.first)):
            entries = self._source.of_stream(
                ascent.stream, wanted, after=_before(ascent.first), until=ascent.last
            )
            for entry in entries:
                if entry.key != symbol or entry.type.rpartition(".")[0] != TICKS_HISTORY:
                    continue
                batch = self._batch(entry)
                if batch is None:
                    continue
                cut = span.cut(batch)
                dropped += len(batch) - (0 if cut is None else len(cut))
                if cut is not None:
                    yield cut
        if dropped:
            self._warn(
                f"{symbol}: {dropped} ticks of history lie behind the beginning of its live "
                "stream, which is used in their place"
            )

    def _live_begins(self) -> dict[str, int]:
        """Symbol -> time of its first live tick."""
        found: dict[str, int] = {}
        for entry in self._source.entries(self._wanted(Lane.NORMAL)):
            if entry.type.rpartition(".")[0] == TICKS and entry.key in self._symbols:
                times = times_of(entry.type, entry.data)
                if times is not None:
                    found.setdefault(entry.key, times.oldest_ms)
                if len(found) == len(self._symbols):
                    break
        return found

    # --- both

    def _wanted(self, lane: Lane) -> Wanted:
        return Wanted(
            self._namespace, writers=MARKET_WRITERS, lanes=(lane,),
            partitions=self._own_partitions(), from_ms=self._span.from_ms,
            until_ms=self._span.to_ms,
        )  # fmt: skip

    def _own_partitions(self) -> set[int] | None:
        """Where the symbols lie; None: a database alone does not tell of how many there are."""
        if not self._partitions:
            return None
        return {partition_of(symbol, self._partitions) for symbol in self._symbols}

    def _tell_holes(self) -> None:
        for hole in self._source.holes:
            self._warn(str(hole))

    def _warn(self, text: str) -> None:
        if len(self.warnings) < WARNINGS_MAX and text not in self.warnings:
            self.warnings.append(text)

    def _nothing(self) -> str:
        """What there is in place of what was asked for."""
        wanted = Wanted(
            self._namespace, writers=MARKET_WRITERS, lanes=(Lane.NORMAL, Lane.LOW)
        )  # fmt: skip
        found: dict[str, tuple[int, int]] = {}
        for entry in self._source.entries(wanted):
            if entry.type.rpartition(".")[0] not in (TICKS, TICKS_HISTORY):
                continue
            times = times_of(entry.type, entry.data)
            if times is not None:
                first, last = found.get(entry.key, times)
                found[entry.key] = (min(first, times.oldest_ms), max(last, times.newest_ms))
        held = "; ".join(f"{symbol} {Span(*edges)}" for symbol, edges in sorted(found.items()))
        return (
            f"no tick of {', '.join(self._symbols)} from {self._span} in the {self.name}; "
            f"there is: {held or 'no tick of any symbol'}"
        )


def _before(place: EntryId) -> EntryId:
    """The largest id below one."""
    if place.seq:
        return EntryId(place.ms, place.seq - 1)
    return EntryId(max(0, place.ms - 1), 2**64 - 1) if place.ms else EntryId(0, 0)


def _earlier(first: int | None, second: int | None) -> int | None:
    known = [one for one in (first, second) if one is not None]
    return min(known) if known else None

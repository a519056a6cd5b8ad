"""The recorded stream as a strategy's tasks went through it: a source of a backtest.

Ticks of one task come in the order in which it handled them, as its journal tells where ids alone
do not. Tasks beside each other share nothing, so theirs are merged by id.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from consumers.backtest.sources.merging import PORTION_TICKS_MAX
from consumers.backtest.sources.source import NoTicks, Portion, Span
from consumers.parity.comparing.quotes import QuotesAt
from consumers.parity.live import Live, LiveTask
from consumers.runtime.rederive.feed import Feeds
from consumers.strategies.running.tick_run import TickRun
from events.codec import TICKS, AnyEvent, decode
from events.executing import ExecutionSet
from events.log import SOURCE, Entry, EntryId, Stream, partition_of
from events.operations import ClockTick
from events.ticks import Mark, TickBatch

BATCHES_MAX = 20_000
LATE = Mark.LATE | Mark.BACKFILL


class HandledSource:
    """Every tick that the tasks of a strategy handled, up to `until_ms`.

    `by_journal` follows what the tasks wrote down; without it ids alone tell the order, as in any
    other backtest. Portions are made when they are asked for: `mute` is called between them.
    """

    def __init__(
        self,
        live: Live,
        symbols: Sequence[str],
        until_ms: int | None,
        *,
        by_journal: bool = True,
        quotes: QuotesAt | None = None,
    ) -> None:
        self._live, self._symbols = live, tuple(symbols)
        self._span, self._by_journal = Span(None, until_ms), by_journal
        self._quotes = quotes
        self.warnings: list[str] = []
        self.late_ms: list[tuple[int, int]] = []
        """(oldest, newest) of each batch that came late, or was pulled after a gap."""
        self.ticks = 0
        self._events: list[AnyEvent] = []
        self._switches = deque(live.switches)
        self._muted: bool | None = None
        self.mute: Callable[[bool], None] = lambda _: None
        """Called ahead of ticks that only warm the strategy up, and of those that do not."""

    @property
    def name(self) -> str:
        order = "" if self._by_journal else ", by id"
        return f"log of {self._live.namespace} as {self._live.group.name} read it{order}"

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    def facts(self) -> list[AnyEvent]:
        """Told by the log itself."""
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        """See `Source.portions`. Raises ReplayImpossible, NoTicks."""
        clocks = self._clocks() if clock else frozenset()
        held: list[TickBatch] = []
        count = 0
        for entry, warms in self._entries():
            second = self._second(entry) if clocks else None
            tells = second is not None and entry.stream.slot.partition in clocks
            full = count >= PORTION_TICKS_MAX or len(held) >= BATCHES_MAX
            if held and (full or tells or self._turns(entry, warms)):
                yield self._portion(held)
                held, count = [], 0
            self._turn(entry, warms)
            batch = self._ticks(entry)
            if batch is not None:
                held.append(batch)
                count += len(batch)
            elif tells and second is not None:
                yield second
        if held:
            yield self._portion(held)
        if not self.ticks:
            raise NoTicks(f"no tick of {', '.join(self._symbols)} in the {self.name}")

    def _turns(self, entry: Entry, warms: bool) -> bool:
        """Whether something changes in front of an entry that is no tick."""
        return warms is not self._muted or (
            bool(self._switches) and self._switches[0][0].ms <= entry.id.ms
        )

    def _turn(self, entry: Entry, warms: bool) -> None:
        while self._switches and self._switches[0][0].ms <= entry.id.ms:
            self._events.append(on_paper(self._switches.popleft()[1]))
        if warms is not self._muted:
            self._muted = warms
            self.mute(warms)

    def _ticks(self, entry: Entry) -> TickBatch | None:
        """Those of an entry that are asked for."""
        if entry.type.rpartition(".")[0] != TICKS or entry.key not in self._symbols:
            return None
        batch = decode(entry)
        return self._span.cut(batch) if isinstance(batch, TickBatch) else None

    def _second(self, entry: Entry) -> ClockTick | None:
        """The recorded second of an entry, within the span."""
        if entry.type.rpartition(".")[0] != ClockTick.TYPE:
            return None
        event, until_ms = decode(entry), self._span.to_ms
        assert isinstance(event, ClockTick)
        return event if until_ms is None or event.event_time_ms < until_ms else None

    def _portion(self, held: list[TickBatch]) -> Portion:
        self.ticks += sum(map(len, held))
        for batch in held:
            if batch.marks & LATE:
                times = batch.utc_ms()
                self.late_ms.append((int(times.min()), int(times.max())))
        if self._quotes is not None:
            self._quotes.pass_over(TickRun.joined(held))
        events, self._events = tuple(self._events), []
        return Portion(tuple(held), events=events)

    def _clocks(self) -> frozenset[int]:
        """Partitions whose seconds the strategy was told: those of its symbols."""
        live = self._live
        own = live.group.handler.tasks is None
        count = live.log.namespaces()[live.namespace]
        if not own:
            return frozenset(range(count))
        return frozenset(partition_of(symbol, count) for symbol in self._symbols)

    def _entries(self) -> Iterator[tuple[Entry, bool]]:
        """Entries of the terminal, and whether each only warms the strategy up."""
        each = [self._of_task(task) for task in self._live.tasks]
        if len(each) == 1:
            return each[0]
        return heapq.merge(*each, key=_by_id)

    def _of_task(self, task: LiveTask) -> Iterator[tuple[Entry, bool]]:
        own, since = self._live.group.handler.tasks is None, task.since
        for entry in handled(self._live, task, by_journal=self._by_journal):
            slot = entry.stream.slot
            if slot.writer == SOURCE and (not own or slot.partition == task.spec.slot.partition):
                yield entry, entry.id <= since


def on_paper(switch: ExecutionSet) -> ExecutionSet:
    """What an operator switched on, for a broker that is a model."""
    return switch if switch.mode == "off" else switch.model_copy(update={"mode": "paper"})


def handled(live: Live, task: LiveTask, *, by_journal: bool) -> Iterator[Entry]:
    """The entries of a task from its start on, in the order of handling."""
    feeds = Feeds(
        live.log, task.spec, live.group.handler.order, task.start.record, task.record,
        journal_wanted=by_journal,
    )  # fmt: skip
    for turn in feeds.turns():
        yield from turn.entries


def _by_id(found: tuple[Entry, bool]) -> tuple[EntryId, Stream]:
    entry, _ = found
    return entry.id, entry.stream

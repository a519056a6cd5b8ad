"""The recorded stream as a strategy's tasks went through it: a source of a backtest.

Ticks of one task come in the order in which it handled them, as its journal tells where ids alone
do not. Tasks beside each other share nothing, so theirs are merged by id.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from consumers.backtest.sources.merging import PORTION_TICKS_MAX
from consumers.backtest.sources.source import NoTicks, Portion, Span
from consumers.parity.comparing.quotes import QuotesAt
from consumers.parity.live import Live, LiveTask
from consumers.runtime.rederive.feed import Feeds
from consumers.strategies.running.tick_run import TickRun
from events.codec import TICKS, AnyEvent, decode
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
        wanted = frozenset(self._symbols)
        clocks = self._clocks() if clock else frozenset()
        held: list[TickBatch] = []
        count, muted = 0, None
        for entry, warms in self._entries():
            kind = entry.type.rpartition(".")[0]
            tells = kind == ClockTick.TYPE and entry.stream.slot.partition in clocks
            full = count >= PORTION_TICKS_MAX or len(held) >= BATCHES_MAX
            if held and (full or tells or warms is not muted):
                yield self._portion(held)
                held, count = [], 0
            if warms is not muted:
                muted = warms
                self.mute(warms)
            if kind == TICKS and entry.key in wanted:
                batch = decode(entry)
                cut = self._span.cut(batch) if isinstance(batch, TickBatch) else None
                if cut is not None:
                    held.append(cut)
                    count += len(cut)
            elif tells:
                event = decode(entry)
                if isinstance(event, ClockTick) and self._takes(event):
                    yield event
        if held:
            yield self._portion(held)
        if not self.ticks:
            raise NoTicks(f"no tick of {', '.join(self._symbols)} in the {self.name}")

    def _portion(self, held: list[TickBatch]) -> Portion:
        self.ticks += sum(map(len, held))
        for batch in held:
            if batch.marks & LATE:
                times = batch.utc_ms()
                self.late_ms.append((int(times.min()), int(times.max())))
        if self._quotes is not None:
            self._quotes.pass_over(TickRun.joined(held))
        return Portion(tuple(held))

    def _takes(self, event: ClockTick) -> bool:
        until_ms = self._span.to_ms
        return until_ms is None or event.event_time_ms < until_ms

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

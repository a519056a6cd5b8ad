"""A backtest's own story, event by event, to be told again to groups that run live."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from consumers.backtest import running, trading
from consumers.backtest.guarding import GUARD
from consumers.backtest.handling import NAMESPACE, Driven, Round, type_of
from consumers.backtest.result import BacktestResult
from consumers.backtest.running import Plan, run_backtest
from consumers.backtest.sources.source import Portion
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.executing import OrderIntent
from events.log import ACCOUNT_PARTITION, SOURCE, Entry, EntryId, Lane, Slot, Stream
from events.operations import ClockTick
from events.ticks import TickArray, TickBatch
from tests.made_ticks import batch_of

STRATEGY = "strategy"
ACCOUNT = Stream(Slot(NAMESPACE, SOURCE, ACCOUNT_PARTITION), Lane.HIGH)


@dataclass(frozen=True, slots=True)
class Happened:
    """An event behind `ticks` ticks, and the handler it came from; empty: from outside."""

    ticks: int
    event: AnyEvent
    by: str = ""


@dataclass
class Trace:
    """Everything in the order in which it took effect."""

    happened: list[Happened] = field(default_factory=list)
    result: BacktestResult | None = None

    def derived(self, by: str) -> list[AnyEvent]:
        return [one.event for one in self.happened if one.by == by]


class Interleaved:
    """Ticks of some symbols in the order of their times, as batches of consecutive ones."""

    name = "made"

    def __init__(self, rows: dict[str, TickArray]) -> None:
        self.symbols = tuple(rows)
        self._rows = rows
        order = sorted(
            (int(time), place, index)
            for place, symbol in enumerate(rows)
            for index, time in enumerate(rows[symbol]["time_msc"])
        )
        self.places = [(self.symbols[place], index) for _, place, index in order]
        self.warnings: list[str] = []

    def __len__(self) -> int:
        return len(self.places)

    def batches(self, first: int, stop: int) -> Iterator[TickBatch]:
        """Ticks `first` to `stop`, cut where the symbol changes."""
        begin = first
        for at in range(first + 1, stop + 1):
            if at == stop or self.places[at][0] != self.places[begin][0]:
                symbol, index = self.places[begin]
                yield batch_of(self._rows[symbol][index : index + at - begin], symbol)
                begin = at

    def facts(self) -> list[AnyEvent]:
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        for first in range(0, len(self), 500):
            yield Portion(tuple(self.batches(first, min(first + 500, len(self)))))


def traced(plan: Plan) -> Trace:
    """Run it, and write down what every handler was told and said."""
    trace = Trace()
    counting: list[TickCounting] = []

    class Traced(Round):
        """Writes down every event when its turn comes, and which handler it came from."""

        def __init__(self, handlers: Sequence[Driven], **more: Any) -> None:
            super().__init__(handlers, **more)
            self.handlers, self.count = handlers, 0

        def take(self, events: Iterable[AnyEvent]) -> None:
            waiting = deque((event, "") for event in events)
            while waiting:
                event, by = waiting.popleft()
                if isinstance(event, TradeSignal):
                    by = STRATEGY
                elif isinstance(event, OrderIntent) and event.strategy == GUARD:
                    by = GUARD
                trace.happened.append(Happened(counting[0].told, event, by))
                waiting.extend((one, "") for one in self._react(event))
                name = type_of(event)
                self.count += 1
                place = EntryId(event.event_time_ms, self.count)
                for driven in self.handlers:
                    if name in driven.types:
                        entry = Entry(ACCOUNT, place, f"{name}.1", "", b"")
                        waiting.extend((one, driven.name) for one in driven.handle(event, entry))

    class TickCounting(trading.Trading):
        """Knows how many ticks the strategy was told: what signals lead to lies behind theirs."""

        told = 0

        def take(self, events: Iterable[AnyEvent]) -> None:
            found = list(events)
            counting[:] = [self]
            behind = any(isinstance(one, TradeSignal) for one in found)
            self.told = self.passed + self._index + behind
            super().take(found)

    with (
        mock.patch.object(trading, "Round", Traced),
        mock.patch.object(running, "Trading", TickCounting),
    ):
        trace.result = run_backtest(plan)
    return trace

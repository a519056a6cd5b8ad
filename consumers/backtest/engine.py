"""The engine: ticks walk past the strategy and the broker model, in the order of the source.

Only the walk is tight. Between two moments at which the broker has something to do the strategy
sees every tick, and the engine sees none; it gets control back behind each tick with a signal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from consumers.backtest.chart import ChartRecorder
from consumers.backtest.curve import CurveRecorder, OffsetRecorder
from consumers.backtest.quality import Quality
from consumers.backtest.sources.source import Portion
from consumers.backtest.trading import Broker, Trading
from consumers.strategies.running.tick_run import TickRun
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.operations import ClockTick

NEVER_MS = np.iinfo(np.int64).max
IDLE_LOOKS = 60
"""With nothing open a look is taken after so many intervals."""


class Runnable(Protocol):
    """The strategy objects of a run: `consumers.strategies.running.Instances`."""

    def run(self, run: TickRun, first: int, stop: int) -> tuple[int, Sequence[TradeSignal]]:
        """Handle ticks from `first`; stops behind the first that signals, or at `stop`."""
        ...

    def deliver(self, event: AnyEvent) -> Iterable[TradeSignal]: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """What happens by time. Intervals in ms of market time; None: never."""

    looks_ms: int | None = None
    """Between two looks at the account while something is open, for risk rules and on_account."""
    waits_ms: int = 1_000
    """Between two looks while a target waits to be carried out."""
    timer_ms: int | None = None
    """Between two clock events that are made up, until the source gives recorded ones."""


class Engine:
    """One pass over the ticks. `told` gets (ticks so far, time of the newest)."""

    def __init__(
        self,
        strategy: Runnable,
        broker: Broker,
        trading: Trading,
        *,
        pace: Pace,
        told: Callable[[int, int], None] = lambda _ticks, _time_ms: None,
    ) -> None:
        self._strategy, self._broker, self._trading = strategy, broker, trading
        self._pace, self._told = pace, told
        self.curve = CurveRecorder()
        self.offsets = OffsetRecorder()
        self.quality = Quality()
        self.charts: dict[str, ChartRecorder] = {}
        self.ticks = 0
        self.first_ms: int | None = None
        self.last_ms = 0
        self._looked_ms: int | None = None
        self._timer_ms: int | None = None
        self._last_run: TickRun | None = None

    def pass_over(self, portions: Iterable[Portion | ClockTick], begin: Sequence[AnyEvent]) -> None:
        """Walk over everything. `begin` is told to the handlers with the first tick.

        Raises whatever the strategy raises, SourceError, Endless.
        """
        waiting: list[AnyEvent] = []
        for portion in portions:
            if isinstance(portion, ClockTick):
                self._clock(portion)
                continue
            batches = portion.batches
            run = TickRun.merged(batches) if portion.by_time else TickRun.joined(batches)
            self.quality.left_out(run.unpriced)
            if not len(run):
                waiting += portion.events
                continue
            events, waiting = [*waiting, *portion.events], []
            before, self._last_run = self._last_run, run
            self._observe(run)
            if before is None:
                self._begin(run, [*begin, *events])
            elif events:
                self._trading.move(before, len(before) - 1)
                self._trading.take(events)
            self._walk(run)
            self._told(self.ticks, self.last_ms)
        self.close()

    def _begin(self, run: TickRun, events: Sequence[AnyEvent]) -> None:
        self._trading.move(run, 0)
        self._trading.take([*events, *self._broker.look(run, 0)])
        self._looked_ms = int(run.time_ms[0])
        if self._pace.timer_ms is not None:
            step = self._pace.timer_ms
            self._timer_ms = -(-int(run.time_ms[0]) // step) * step

    def _walk(self, run: TickRun) -> None:
        """One run of ticks. See the top of this file."""
        stop = len(run)
        clock = run.clock_ms
        trading, broker, strategy = self._trading, self._broker, self._strategy
        trading.passed = self.ticks
        at = recorded = 0
        quiet = broker.quiet_until(run, 0, stop)
        timed = self._next_timed(clock, 0)
        while True:
            if at == quiet and at < stop:
                recorded = self._record(run, recorded, at)
                trading.move(run, at)
                trading.happen()
                quiet = broker.quiet_until(run, at + 1, stop)
                timed = self._next_timed(clock, at)
            if at == timed and at < stop:
                recorded = self._record(run, recorded, at)
                trading.move(run, at)
                self._by_time(int(clock[at]))
                quiet = broker.quiet_until(run, at + 1, stop)
                timed = self._next_timed(clock, at + 1)
            if at >= stop:
                break
            at, signals = strategy.run(run, at, min(quiet, timed, stop))
            if signals:
                recorded = self._record(run, recorded, at)
                trading.move(run, at - 1)
                trading.signals(signals)
                quiet = broker.quiet_until(run, at, stop)
                timed = self._next_timed(clock, at)
        self._record(run, recorded, stop)
        trading.leave(run)
        self.ticks += stop
        self.last_ms = max(self.last_ms, int(clock[-1]))

    def _next_timed(self, clock: npt.NDArray[np.int64], first: int) -> int:
        """Index of the first tick from `first` on at which something is due by time."""
        due = min(self._look_due_ms(), NEVER_MS if self._timer_ms is None else self._timer_ms)
        if due == NEVER_MS:
            return len(clock)
        return max(first, int(np.searchsorted(clock, due, side="left")))

    def _look_due_ms(self) -> int:
        trading, pace = self._trading, self._pace
        if self._looked_ms is None:
            return NEVER_MS
        if trading.waits:
            return self._looked_ms + pace.waits_ms
        if pace.looks_ms is None:
            return NEVER_MS
        return self._looked_ms + pace.looks_ms * (1 if trading.positions else IDLE_LOOKS)

    def _by_time(self, now_ms: int) -> None:
        """Timers and looks that are due at this tick."""
        while self._timer_ms is not None and self._timer_ms <= now_ms:
            self._trading.take([ClockTick(event_time_ms=self._timer_ms)])
            self._timer_ms += self._pace.timer_ms or NEVER_MS
        if self._look_due_ms() <= now_ms:
            self._looked_ms = now_ms
            self._trading.look()

    def _clock(self, event: ClockTick) -> None:
        """A recorded second, between two ticks: none need be made up any more."""
        self._timer_ms = None
        if self._last_run is not None:
            self._trading.move(self._last_run, len(self._last_run) - 1)
            self._trading.take([event])

    def _record(self, run: TickRun, first: int, stop: int) -> int:
        """Equity of the ticks up to `stop`, before something changes there."""
        if stop <= first:
            return first
        trading = self._trading
        if trading.positions:
            equity = self._broker.equity(run, first, stop)
            self.curve.stretch(
                run.time_ms[first:stop], equity, balance=trading.balance,
                positions=len(trading.positions),
            )  # fmt: skip
        else:
            self.curve.still(int(run.time_ms[first]), trading.balance)
        return stop

    def _observe(self, run: TickRun) -> None:
        """What a run is like, apart from anything that trades in it."""
        if self.first_ms is None:
            self.first_ms = int(run.time_ms[0])
        self.offsets.look(run.time_ms, run.time_server_ms)
        for symbol in run.symbols:
            rows = run.indexes_of(symbol)
            chosen = slice(None) if rows is None else rows
            times, bid, ask = run.time_ms[chosen], run.bid[chosen], run.ask[chosen]
            self.quality.look(symbol, times, bid, ask)
            self.charts.setdefault(symbol, ChartRecorder()).add(times, bid)

    def close(self) -> None:
        """The last row of the curve, also of a run that ended early."""
        run = self._last_run
        if run is None:
            return
        last = len(run) - 1
        trading = self._trading
        trading.move(run, last)
        equity = float(self._broker.equity(run, last, last + 1)[0])
        self.curve.ended(self.last_ms, trading.balance, equity, len(trading.positions))

"""Everything of a backtest that happens at the rate of accounts, not of ticks: signals to orders,
fills to trades, looks to risk rules. The handlers are the live ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from consumers.backtest.costs import CostRecorder
from consumers.backtest.guarding import GUARD, SimulatedGuard, Standing
from consumers.backtest.handling import Driven, Round
from consumers.strategies.running.tick_run import TickRun
from events.codec import AnyEvent
from events.decisions import Command, LimitBreach, TradeSignal
from events.event import Event
from events.executing import OrderAnswer, OrderIntent, TargetState
from events.marks import Marks
from events.trading import Account, Book, Deal, Order, Orders, Position, Trade, TradeUpdate

TARGETS_MAX = 10_000
RISK_MAX = 10_000
"""So many refusals, and so much of what risk rules said, is kept."""
WAITING = frozenset({"wanted", "unknown"})
NO_TRADE = 10_017
"""MT5's retcode for "trade is disabled": what the guard's order gate answers."""


class Broker(Protocol):
    """What the engine asks of a broker model. Indexes count the ticks of a run."""

    def quiet_until(self, run: TickRun, first: int, stop: int) -> int:
        """The first tick of first..stop at which something may happen; `stop` when nothing can."""
        ...

    def at(self, run: TickRun, index: int) -> Sequence[AnyEvent]:
        """What happens at that tick: deals, orders that are done, and the levels they change."""
        ...

    def submit(self, intent: OrderIntent, run: TickRun, index: int) -> Sequence[AnyEvent]:
        """An order reaches the broker at that tick, or later by its latency."""
        ...

    def look(self, run: TickRun, index: int) -> Sequence[AnyEvent]:
        """The account, its book, marks and quotes at that tick."""
        ...

    def equity(self, run: TickRun, first: int, stop: int) -> npt.NDArray[np.float64]:
        """Equity at each of those ticks, with what is open now."""
        ...


class Deliverable(Protocol):
    """A strategy's objects, as far as events reach them."""

    def deliver(self, event: AnyEvent) -> Iterable[TradeSignal]: ...


@dataclass(slots=True)
class Recorded:
    """What a run leaves behind."""

    signals: list[TradeSignal] = field(default_factory=list)
    signal_ticks: list[int] = field(default_factory=list)
    """Of each signal the tick it was given at, counted over the whole run."""
    deals: list[Deal] = field(default_factory=list)
    trades: dict[tuple[int, int], Trade] = field(default_factory=dict)
    targets: list[TargetState] = field(default_factory=list)
    risk: list[Event] = field(default_factory=list)


class Trading:
    """Handlers, guard and broker model of one run, at the tick `run`, `index`."""

    def __init__(
        self,
        broker: Broker,
        handlers: Sequence[Driven],
        guard: SimulatedGuard,
        costs: CostRecorder,
        *,
        strategy: Deliverable,
        strategy_wants: frozenset[str],
    ) -> None:
        self._broker, self._guard, self._costs = broker, guard, costs
        self._strategy, self._strategy_wants = strategy, strategy_wants
        self._round = Round(handlers, react=self._react)
        self.recorded = Recorded()
        self.balance = 0.0
        self.positions: tuple[Position, ...] = ()
        self._orders: tuple[Order, ...] = ()
        self._profits: dict[int, float] = {}
        self._waiting: set[str] = set()
        self.passed = 0
        """Ticks of the runs before this one."""
        self._run: TickRun | None = None
        self._index = 0

    @property
    def waits(self) -> bool:
        """Whether a target is not what it shall be, so that time alone may change something."""
        return bool(self._waiting) or self._guard.holds

    def move(self, run: TickRun, index: int) -> None:
        """The tick at which what follows happens."""
        self._run, self._index = run, index

    def take(self, events: Iterable[AnyEvent]) -> None:
        """Events and everything that follows from them at this tick. Raises Endless."""
        self._round.take(events)

    def happen(self) -> None:
        """What the broker model does at this tick by itself."""
        run = self._here()
        self.take(self._broker.at(run, self._index))

    def look(self) -> None:
        """A look at the account, as the producer takes it; and what the guard does by time."""
        run = self._here()
        self.take(self._broker.look(run, self._index))
        if self._guard.holds:
            done = self._guard.at(self._standing())
            self.take([*done.events, *done.intents])

    def signals(self, signals: Sequence[TradeSignal]) -> None:
        """Targets of the strategy; behind the account and prices that size them, where they are
        sized by these."""
        run = self._here()
        sized = any(one.risk_percent or one.notional for one in signals)
        self.take([*(self._broker.look(run, self._index) if sized else ()), *signals])

    def leave(self, run: TickRun) -> None:
        """A run of ticks ends."""
        self._costs.leave(run)

    def _here(self) -> TickRun:
        assert self._run is not None, "move() comes before everything else"
        return self._run

    def _standing(self) -> Standing:
        now_ms = int(self._here().time_ms[self._index])
        return Standing(now_ms, self.positions, self._orders, self._profits)

    def _react(self, event: AnyEvent) -> Sequence[AnyEvent]:
        """Keep what is to be kept of an event, and carry out what it asks for."""
        follows: list[AnyEvent] = []
        if isinstance(event, OrderIntent):
            follows += self._send(event)
        elif isinstance(event, Command):
            self._keep_risk(event)
            done = self._guard.obey(event, self._standing())
            follows += [*done.events, *done.intents]
        else:
            self._keep(event)
        name = event.TYPE if isinstance(event, Event) else ""
        if name in self._strategy_wants:
            follows += self._strategy.deliver(event)
        return follows

    def _keep(self, event: AnyEvent) -> None:
        kept = self.recorded
        if isinstance(event, Account):
            self.balance = event.balance
        elif isinstance(event, Book):
            self.positions = event.positions
        elif isinstance(event, Orders):
            self._orders = event.orders
        elif isinstance(event, Marks):
            self._profits = {row[0]: row[2] for row in event.rows.tolist()}
        elif isinstance(event, Deal):
            kept.deals.append(event)
            self._costs.deal(event, self._here(), self._index)
        elif isinstance(event, TradeUpdate):
            self._keep_trade(event)
        elif isinstance(event, TradeSignal):
            kept.signals.append(event)
            kept.signal_ticks.append(self.passed + self._index)
        elif isinstance(event, TargetState):
            self._keep_target(event)
        elif isinstance(event, LimitBreach):
            self._keep_risk(event)

    def _keep_trade(self, update: TradeUpdate) -> None:
        key = update.trade.position_id, update.trade.leg
        if update.state == "withdrawn":
            self.recorded.trades.pop(key, None)
        else:
            self.recorded.trades[key] = update.trade

    def _keep_target(self, target: TargetState) -> None:
        if target.state in WAITING:
            self._waiting.add(target.key)
            return
        self._waiting.discard(target.key)
        if target.state != "reached" and len(self.recorded.targets) < TARGETS_MAX:
            self.recorded.targets.append(target)

    def _keep_risk(self, event: Event) -> None:
        if len(self.recorded.risk) < RISK_MAX:
            self.recorded.risk.append(event)

    def _send(self, intent: OrderIntent) -> Sequence[AnyEvent]:
        """What the order sender does: the guard's gate is asked last."""
        run = self._here()
        if intent.verb == "open" and intent.strategy != GUARD:
            why = self._guard.refuses(intent.symbol)
            if why:
                return [self._refused(intent, why)]
        self._costs.intent(intent, run, self._index)
        return self._broker.submit(intent, run, self._index)

    def _refused(self, intent: OrderIntent, why: str) -> OrderAnswer:
        now_ms = int(self._here().time_ms[self._index])
        names: dict[str, Any] = {
            name: getattr(intent, name) for name in ("intent_id", "login", "strategy", "symbol")
        }
        return OrderAnswer(
            event_time_ms=now_ms, leg=intent.leg, state="refused", retcode=NO_TRADE, detail=why,
            answered_ms=now_ms, **names,
        )  # fmt: skip

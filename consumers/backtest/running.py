"""One run, from what it is made of to its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from consumers.backtest.broker import AccountSpec, BrokerModel, BrokerOptions
from consumers.backtest.costs import CostRecorder
from consumers.backtest.engine import Engine, Pace
from consumers.backtest.guarding import SimulatedGuard
from consumers.backtest.handling import NAMESPACE, Driven, Endless
from consumers.backtest.looking_ahead.arrays import CheckedInstances
from consumers.backtest.result import BacktestResult
from consumers.backtest.sources.source import NoTicks, Source, Span
from consumers.backtest.trading import Trading
from consumers.execute import ExecuteHandler
from consumers.risk.handler import RiskHandler
from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.walking import StrategyFailed
from consumers.trades.handler import TradesHandler
from events.codec import AnyEvent
from events.decisions import RulesSet, TradeSignal
from events.executing import ExecutionSet, OrderIntent
from events.market import Instrument
from events.rules import Rules

SET_BY = "backtest"
TOLD = frozenset({"account", "deal", "clock", "contracts", "instrument"})
"""Types of the events that reach the strategy beside ticks."""
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made of. `looks_ms` is the market time between two looks at the account."""

    casting: Casting
    code: str
    source: Source
    account: AccountSpec
    instruments: Mapping[str, Instrument]
    broker: BrokerOptions = field(default_factory=BrokerOptions)
    seed: int = 0
    rules: Rules | None = None
    rules_name: str = ""
    looks_ms: int = 1_000
    span: Span = field(default_factory=Span)
    warnings: tuple[str, ...] = ()
    """Of its making."""
    assumptions: tuple[str, ...] = ()
    """Of its source."""
    execution: ExecutionSet | None = None
    """What an operator switched on; None: everything is acted on."""
    instances: Instances | None = None
    """The strategy's objects, where they do not begin with nothing behind them."""
    latency_of: Callable[[OrderIntent, int], int] | None = None
    """How long an order that leaves at a time (UTC ms) is under way (ms), in place of what `broker`
    draws."""


def run_backtest(
    plan: Plan,
    *,
    told: Callable[[int, int], None] = lambda _ticks, _time_ms: None,
    signalled: Callable[[int, TradeSignal], None] | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> BacktestResult:
    """Walk over every tick of the plan. `told` gets (ticks so far, time of the newest) now and
    then, `signalled` in the end each signal with the number of ticks before the one it was given
    at. A strategy that fails ends the run: the result says so.

    Raises NoTicks, SourceError, LogUnavailable.
    """
    begun = monotonic()
    run = _Run(plan, told)
    stopped = ""
    try:
        run.engine.pass_over(run.portions(), run.begin())
    except (StrategyFailed, Endless) as error:
        stopped = str(error)
        run.engine.close()
    if not run.engine.ticks and not stopped:
        raise NoTicks(
            f"no tick of {', '.join(plan.source.symbols)} from {plan.span} in {plan.source.name}"
        )
    if signalled is not None:
        run.tell_signals(signalled)
    return run.result(monotonic() - begun, stopped)


class _Run:
    """The parts of a run, put together."""

    def __init__(self, plan: Plan, told: Callable[[int, int], None]) -> None:
        self._plan = plan
        account = plan.account
        self._instances = plan.instances or CheckedInstances(plan.casting)
        self._broker = BrokerModel(
            account, plan.instruments, plan.broker, plan.seed, latency_of=plan.latency_of
        )
        self._costs = CostRecorder(plan.instruments, account.currency, rates=plan.broker.rates)
        handlers = [Driven("execute", ExecuteHandler()), Driven("trades", TradesHandler())]
        if plan.rules is not None:
            handlers.append(Driven("risk", RiskHandler()))
        guard = SimulatedGuard(account.login, NAMESPACE, dict(plan.instruments))
        traits = self._instances.traits
        self._trading = Trading(
            self._broker, handlers, guard, self._costs,
            strategy=self._instances, strategy_wants=TOLD,
        )  # fmt: skip
        watches = plan.rules is not None or traits.account
        self._recorded_clock = bool(traits.timer_ms)
        pace = Pace(
            looks_ms=plan.looks_ms if watches else None,
            waits_ms=plan.looks_ms,
            timer_ms=traits.timer_ms or None,
        )
        self.engine = Engine(self._instances, self._broker, self._trading, pace=pace, told=told)

    def portions(self) -> Any:
        return self._plan.source.portions(clock=self._recorded_clock)

    def begin(self) -> list[AnyEvent]:
        """What handlers must know before the first tick; times are set by the engine's start."""
        login = self._plan.account.login
        found: list[AnyEvent] = [
            self._plan.execution
            or ExecutionSet(
                event_time_ms=0, login=login, mode="paper", set_by=SET_BY, set_id=SET_BY
            )
        ]
        rules = self._plan.rules
        if rules is not None:
            found.insert(
                0,
                RulesSet(
                    event_time_ms=0, login=login, rules=rules.model_dump(mode="json"),
                    source=self._plan.rules_name, checksum=rules.checksum,
                ),
            )  # fmt: skip
        return found

    def tell_signals(self, signalled: Callable[[int, TradeSignal], None]) -> None:
        recorded = self._trading.recorded
        for tick, signal in zip(recorded.signal_ticks, recorded.signals, strict=True):
            signalled(tick, signal)

    def result(self, seconds: float, stopped: str) -> BacktestResult:
        plan, engine, recorded = self._plan, self.engine, self._trading.recorded
        return BacktestResult(
            strategy=plan.casting.name,
            code=plan.code,
            parameters=self._parameters(),
            symbols=tuple(plan.source.symbols),
            from_ms=engine.first_ms or 0,
            to_ms=engine.last_ms,
            source=plan.source.name,
            ticks=engine.ticks,
            seconds=seconds,
            currency=plan.account.currency,
            balance_initial=plan.account.balance + plan.account.credit,
            assumptions=tuple(self._assumptions()),
            warnings=(*plan.warnings, *plan.source.warnings, *engine.quality.warnings()),
            signals=tuple(recorded.signals),
            trades=tuple(sorted(recorded.trades.values(), key=lambda one: one.open_time_ms)),
            deals=tuple(recorded.deals),
            equity=engine.curve.curve(),
            costs=self._costs.costs(),
            targets=tuple(recorded.targets),
            risk=tuple(recorded.risk),
            bars={symbol: chart.bars() for symbol, chart in engine.charts.items()},
            stopped=stopped,
            deal_values=tuple(self._costs.values),
            offsets=engine.offsets.changes(),
        )

    def _parameters(self) -> dict[str, Any]:
        """Every parameter with the value it had."""
        from consumers.strategies.authoring.parameters import parameters_of
        from consumers.strategies.authoring.strategy import Strategy

        casting = self._plan.casting
        known = parameters_of(casting.strategy, Strategy) | dict(casting.parameters)
        return {
            name: value if isinstance(value, PLAIN) else str(value) for name, value in known.items()
        }

    def _assumptions(self) -> list[str]:
        plan = self._plan
        found = [*plan.assumptions, *self._broker.assumptions()]
        found.append("positions open at the end are valued at the last tick, not closed")
        if plan.rules is not None:
            found.append(
                f"risk rules {plan.rules_name or 'as given'}: the account is looked at every "
                f"{plan.looks_ms / 1000:g} s of market time while something is open; what they "
                "ask for is done at that tick"
            )
        return found

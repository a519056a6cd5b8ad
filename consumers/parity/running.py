"""One comparison: what live did, and a backtest of the same strategy over what it read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from consumers.backtest.broker import AccountSpec, Amount, BrokerOptions
from consumers.backtest.broker.spec.facts import Spec, spec_of
from consumers.backtest.result import BacktestResult
from consumers.backtest.running import Plan, run_backtest
from consumers.backtest.sources.recorded import RecordedSource
from consumers.backtest.sources.source import Span
from consumers.parity.again import DerivedAgain, derived_again, instances_of
from consumers.parity.comparing import fills, signals
from consumers.parity.comparing.quotes import QuotesAt
from consumers.parity.latency import ObservedLatency
from consumers.parity.live import Live, LiveSignal, NoParity, live_of
from consumers.parity.result import ParityResult
from consumers.parity.stream import HandledSource
from consumers.runtime.group import Group
from consumers.strategies.running.handler import StrategyHandler
from consumers.strategies.running.instances import Casting, Instances
from events.archive.source import EntrySource
from events.decisions import TradeSignal
from events.executing import ExecutionSet
from events.log import Log
from events.trading import Deal

MODEL = "parity"
LATE_MS = 60_000
"""A signal so soon behind ticks that came late may follow from them."""
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ParityRequest:
    """What is compared: a group that runs a strategy, on one terminal, over a span (UTC ms)."""

    namespace: str
    group: Group
    code: str = ""
    span: Span = field(default_factory=Span)
    spec: Spec | None = None
    """Facts that go before the recorded ones."""
    latency: Amount | None = None
    """Of every order in the model; None: what was seen live of each."""

    @property
    def handler(self) -> type[StrategyHandler]:
        handler = self.group.handler
        if not issubclass(handler, StrategyHandler):
            raise NoParity(f"{self.group.name} runs no strategy: parity compares signals")
        return handler


def compared(
    log: Log, request: ParityRequest, *, told: Told = lambda _ticks, _time_ms: None
) -> ParityResult:
    """Compare. `told` gets (ticks so far, time of the newest) of the backtest.

    Raises NoParity, ReplayImpossible, NoTicks, NoFacts, LogUnavailable.
    """
    handler = request.handler
    live = live_of(log, request.namespace, request.group)
    quotes = QuotesAt((deal.symbol, deal.event_time_ms) for deal in live.deals)
    run = _Backtest(request, live, handler, quotes)
    result = run.result(told)
    found = ParityResult(
        strategy=handler.casting.name, namespace=request.namespace, span=request.span,
        version=handler.version, versions_live=live.versions, ticks=result.ticks,
        began=" and ".join(dict.fromkeys(task.start.told for task in live.tasks)),
        notes=[*live.notes, *result.warnings], assumptions=list(result.assumptions),
    )  # fmt: skip
    if set(live.versions) != {handler.version}:
        found.notes.append(
            f"live ran {' and '.join(live.versions)} at last, and this is {handler.version}: the "
            "file, its parameters or symbols were changed (--code and --set name others)"
        )
    if result.stopped:
        found.notes.append(f"the backtest ended early: {result.stopped}")
    _compare_signals(found, live, result, run)
    _compare_fills(found, live, result, run)
    if not found.signals.compared:
        found.notes.append(f"neither gave a signal from {request.span}: nothing is compared")
    return found


class _Backtest:
    """The model's side of a comparison."""

    def __init__(
        self, request: ParityRequest, live: Live, handler: type[StrategyHandler], quotes: QuotesAt
    ) -> None:
        self.live, self._request, self._handler, self.quotes = live, request, handler, quotes
        self.spec = self._facts()
        self.symbols = tuple(sorted(self.spec.instruments))
        self.account = self._account()
        self.latency = ObservedLatency(live)
        self.source = self._source(by_journal=True)
        self.instances = instances_of(live, self.casting)

    @property
    def journals(self) -> bool:
        """Whether the order of lanes had to be written down."""
        order = self._handler.order
        return any(task.spec.journals(order) for task in self.live.tasks)

    def result(self, told: Told) -> BacktestResult:
        """Of the strategy over what it read, in the order in which it did."""
        return self._run(self.source, self.instances, told)

    def by_ids(self) -> tuple[TradeSignal, ...]:
        """Signals when ids alone order the lanes."""
        source, instances = self._source(by_journal=False), instances_of(self.live, self.casting)
        return self._run(source, instances, lambda _ticks, _time_ms: None).signals

    def _run(self, source: HandledSource, instances: Instances, told: Told) -> BacktestResult:
        source.mute = functools.partial(setattr, instances, "mute")
        options = self.spec.options(BrokerOptions(latency_ms=self._request.latency or Amount()))
        plan = Plan(
            self.casting, self._request.code, source, self.account, self.spec.instruments, options,
            execution=self._off(), instances=instances,
            latency_of=self.latency if self._request.latency is None else None,
        )  # fmt: skip
        return run_backtest(plan, told=told)

    def _off(self) -> ExecutionSet:
        """Until the stream tells of an operator who switched it on."""
        return ExecutionSet(
            event_time_ms=0, login=self.account.login, mode="off", set_by=MODEL, set_id=MODEL
        )

    @property
    def casting(self) -> Casting:
        of = self._handler.casting
        return Casting(of.strategy, of.name, of.symbols, of.parameters, self.spec.instruments)

    def _source(self, *, by_journal: bool) -> HandledSource:
        return HandledSource(
            self.live, self.symbols, self._request.span.to_ms, by_journal=by_journal,
            quotes=self.quotes if by_journal else None,
        )  # fmt: skip

    def _facts(self) -> Spec:
        source = RecordedSource(EntrySource(self.live.log), self.live.namespace, (), Span())
        recorded = spec_of(source.facts(), source=f"the log of {self.live.namespace}")
        given = self._request.spec
        return recorded if given is None else given.over(recorded)

    def _account(self) -> AccountSpec:
        account = self.spec.require(self.symbols)
        known = self.live.account
        return account if known is None else account.opened_with(known.balance + known.credit)


def _compare_signals(
    found: ParityResult, live: Live, result: BacktestResult, run: _Backtest
) -> None:
    of_live = [one for one in live.signals if _within(one.event.event_time_ms, found.span)]
    of_model = [one for one in result.signals if _within(one.event_time_ms, found.span)]
    again = _Again(live)
    evidence = signals.Evidence(
        derived_again=again.said,
        problem=again.problem,
        other_version=functools.partial(_other_version, live, found.version),
        looks_at_account=run.instances.traits.looks_at_account,
        late=functools.partial(_near, run.source.late_ms),
    )
    found.signals = signals.compare(of_live, of_model, evidence)
    if run.journals:
        usual = {
            signals.told(one) for one in run.by_ids() if _within(one.event_time_ms, found.span)
        }
        found.changed_by_order = len(usual ^ {signals.told(one) for one in of_model})
    found.late_batches = len(run.source.late_ms)


class _Again:
    """What the same code derives of the same entries; only asked for where something differs."""

    def __init__(self, live: Live) -> None:
        self._live = live

    @functools.cached_property
    def _found(self) -> DerivedAgain:
        return derived_again(self._live)

    @functools.cached_property
    def _said(self) -> frozenset[str]:
        return frozenset(map(signals.told, self._found.signals))

    def said(self) -> frozenset[str]:
        return self._said

    def problem(self) -> str:
        return self._found.problem


def _other_version(live: Live, version: str, one: signals.SignalDifference) -> str:
    """Whether other code, or other parameters, were at work at the time of a difference."""
    found = one.live.version if one.live is not None else _version_at(live, one.event)
    if found == version:
        return ""
    return f"live ran version {found or 'unknown'}, the backtest {version}"


def _version_at(live: Live, event: TradeSignal) -> str:
    """The version that gave the next signal, or that runs now."""
    later = (s.version for s in live.signals if s.event.event_time_ms >= event.event_time_ms)
    return next(later, live.versions[-1] if live.versions else "")


def _compare_fills(found: ParityResult, live: Live, result: BacktestResult, run: _Backtest) -> None:
    moments = live.moments()
    of_live = list(fills.keyed(live.deals, live.intents, lambda intent: moments.get(intent.signal)))
    of_model = list(fills.keyed(_own(result.deals), run.latency.intents, run.latency.signal_ms))
    differ = {
        (one.event.symbol, one.event.leg, one.event.event_time_ms)
        for one in found.signals.differences
    }
    by_key = _targets(live.signals)
    waiting = {
        (one.event.symbol, one.event.leg, one.event.event_time_ms)
        for one in live.signals
        if one.event.price_limit is not None or one.event.price_stop is not None
    }

    def refused(key: fills.Key) -> str:
        for place in by_key.get(key[:3], ()):
            state = live.targets.get(place)
            if state is None:
                return "execution never looked at its signal"
            if state.state in ("refused", "expired", "unknown", "wanted"):
                return f"{state.state}: {state.reason}"
        return ""

    evidence = fills.FillEvidence(
        quotes=run.quotes.at,
        point=lambda symbol: run.spec.instruments[symbol].point,
        signals_differ=lambda key: key[:3] in differ,
        refused=refused,
        pending=lambda key: key[:3] in waiting and key.kind == "open",
    )
    found.executed = live.executed
    if not live.executed:
        return
    span, ends = found.span, result.to_ms  # what the model had under way then is not filled
    found.fills = fills.compare(
        [one for one in of_live if _within(one[0].signal_ms, span) and one[1].event_time_ms < ends],
        [one for one in of_model if _within(one[0].signal_ms, span)],
        evidence,
    )


def _targets(of: Sequence[LiveSignal]) -> dict[tuple[str, str, int], list[str]]:
    """Symbol, leg and time -> places of the signals."""
    found: dict[tuple[str, str, int], list[str]] = {}
    for one in of:
        key = one.event.symbol, one.event.leg, one.event.event_time_ms
        found.setdefault(key, []).append(one.place)
    return found


def _own(deals: Sequence[Deal]) -> list[Deal]:
    return [deal for deal in deals if deal.symbol]


def _within(time_ms: int, span: Span) -> bool:
    return (span.from_ms is None or time_ms >= span.from_ms) and (
        span.to_ms is None or time_ms < span.to_ms
    )


def _near(late: Sequence[tuple[int, int]], time_ms: int) -> bool:
    return any(begin <= time_ms <= end + LATE_MS for begin, end in late)

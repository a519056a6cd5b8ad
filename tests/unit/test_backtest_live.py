"""What a backtest tells its handlers, told to live groups through a log: they say the same.

Here handlers run as `consume` runs them: entries are decoded, state is packed and committed, tasks
are given up and taken over anywhere. In a backtest they are called directly, without all that.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from consumers.backtest.broker import AccountSpec
from consumers.backtest.broker.spec.writing import example_spec
from consumers.backtest.running import Plan
from consumers.execute import ExecuteHandler
from consumers.risk.handler import RiskHandler
from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from consumers.strategies.running.handler import handler_of
from consumers.strategies.running.instances import Casting
from consumers.strategies.running.loading import load_strategy
from consumers.trades import TradesHandler
from consumers.workers.taking import WorkerOptions, load
from events.codec import AnyEvent, decode, encode
from events.decisions import Command, RulesSet, TradeSignal
from events.event import Event
from events.executing import ExecutionSet
from events.log import OPERATOR, SOURCE, Lane, Log, Slot
from events.memory_log import MemoryLog
from events.rules import Action, Limit, Rules
from events.ticks import TickArray
from tests.made_ticks import random_walk
from tests.unit.backtest_trace import Happened, Interleaved, Trace, traced

START_MS = 1_772_409_600_000  # Monday, 2 March 2026, 00:00 UTC
TERMINAL = "demo"
FIRST, SECOND = "AUDUSD", "NZDUSD"
PLACE = re.compile(r"\{[a-z]+:[a-z.]+:\d+\}:[a-z]+@\d+-\d+")
"""Names an entry of a log. Here there are two logs."""


def rows(symbol: str, *, count: int, step_ms: int, move: float = 6e-5) -> TickArray:
    seed = sum(map(ord, symbol))
    return random_walk(count, start_ms=START_MS, step_ms=step_ms, seed=seed, price=0.65, move=move)


CASES: dict[str, tuple[str, dict[str, Any], dict[str, TickArray]]] = {
    "ema_cross": (
        "ema_cross:EmaCross",
        {"fast": 40, "slow": 120, "stop_percent": 0.05},
        {FIRST: rows(FIRST, count=2_000, step_ms=2_000)},
    ),
    "breakout": (
        "breakout:Breakout",
        {"timeframes": ("M5",), "entry": 6, "leave": 3, "warm_up": 7, "stop_ranges": 1.0},
        {FIRST: rows(FIRST, count=4_000, step_ms=15_000)},
    ),
    "mean_reversion": (
        "mean_reversion:MeanReversion",
        {"timeframes": ("M1",), "period": 10, "warm_up": 10, "enter_score": 1.2, "rsi_edge": 45.0,
         "stop_ranges": 1.0},
        {FIRST: rows(FIRST, count=1_500, step_ms=7_000)},
    ),
    "pair": (
        "pair:Pair",
        {"timeframes": ("M1",), "period": 8, "warm_up": 8, "enter_score": 1.0,
         "correlation_min": -1.0, "stop_percent": 0.05},
        {FIRST: rows(FIRST, count=600, step_ms=9_000),
         SECOND: rows(SECOND, count=270, step_ms=20_000)},
    ),
    "crypto_momentum": (
        "crypto_momentum:CryptoMomentum",
        {"timeframes": ("M5",), "bars": 12, "warm_up": 20, "enter_score": 0.5, "adx_min": 5.0,
         "stop_ranges": 1.0},
        {FIRST: rows(FIRST, count=4_000, step_ms=15_000)},
    ),
}  # fmt: skip


def plan(name: str, rules: Rules | None = None) -> Plan:
    code, parameters, ticks = CASES[name]
    facts = example_spec(tuple(ticks)).instruments
    loaded = load_strategy(code, parameters)
    casting = Casting(loaded.strategy, "tried", tuple(ticks), loaded.parameters, facts)
    account = AccountSpec("USD", 100, 10_000.0, 2)
    return Plan(
        casting, code, Interleaved(ticks), account, facts, rules=rules, rules_name="tried",
        looks_ms=60_000,
    )  # fmt: skip


class Live:
    """Groups over a log, each event appended when the backtest told it."""

    def __init__(self, made: Plan, *, seed: int) -> None:
        self._clock_ms = START_MS
        self.log: Log = MemoryLog(now_ms=lambda: self._clock_ms)
        self.log.open_namespace(TERMINAL, 1)
        slots = {writer: Slot(TERMINAL, writer, 0) for writer in (SOURCE, OPERATOR)}
        self._claims = {
            writer: self.log.claim(slot, "test", alive_within_s=0.0)
            for writer, slot in slots.items()
        }
        assert isinstance(made.source, Interleaved)
        self._ticks, self._appended = made.source, 0
        casting = made.casting
        loaded = load_strategy(made.code, casting.parameters)
        self.strategy = "strategy.tried"
        self._groups = {
            self.strategy: handler_of(loaded, name=casting.name, symbols=casting.symbols),
            "execute": ExecuteHandler, "trades": TradesHandler, "risk": RiskHandler,
        }  # fmt: skip
        for name in self._groups:
            self.log.tasks.open_group(TERMINAL, name, 1)
        self._runs = {name: self._taken(name) for name in self._groups}
        self._chance = random.Random(seed)
        for one in made.instruments.values():
            self._append(SOURCE, one)

    def _taken(self, name: str) -> TaskRun:
        """A task as whoever takes it over finds it."""
        group = Group(name, self._groups[name], namespaces=(TERMINAL,))
        [spec] = group.specs(self.log)
        taken = self.log.tasks.acquire(spec.slot, "test", seen="")
        assert taken is not None
        made = load(self.log, group, spec, *taken, WorkerOptions("test"), moved=lambda: None)
        assert isinstance(made, TaskRun)
        return made

    def take_over(self) -> None:
        """Some task dies and is begun again from what it committed."""
        name = self._chance.choice(sorted(self._runs))
        self._runs.pop(name).release()
        self._runs[name] = self._taken(name)

    def _append(self, writer: str, event: AnyEvent) -> None:
        self._clock_ms += 1
        self.log.append(self._claims[writer], [encode(event)])

    def pump(self) -> None:
        """Until nobody has anything to do."""
        while any([run.step().entries for run in self._runs.values()]):
            for run in self._runs.values():
                assert not run.halted, run.halted

    def tell(self, happened: Happened, *, next_is_derived: bool) -> None:
        """An event from outside, behind the ticks that came before it."""
        self.ticks_up_to(happened.ticks)
        operator = isinstance(happened.event, RulesSet | ExecutionSet)
        self._append(OPERATOR if operator else SOURCE, happened.event)
        if next_is_derived:
            self.pump()

    def ticks_up_to(self, count: int) -> None:
        if count > self._appended:
            self.pump()
            for batch in self._ticks.batches(self._appended, count):
                self._append(SOURCE, batch)
            self._appended = count
            self.pump()
            if self._chance.random() < 0.1:
                self.take_over()

    def said(self, name: str) -> Iterator[AnyEvent]:
        """What a group derived, in order."""
        entries = []
        for lane in Lane:
            stream = Slot(TERMINAL, name, 0).stream(lane)
            entries += self.log.between(stream, count_max=1_000_000)
        return (decode(one) for one in sorted(entries, key=lambda one: one.id))


def told_live(trace: Trace, live: Live, ticks: int) -> None:
    """The same story: ticks, what came from outside, and time for what follows."""
    happened = [one for one in trace.happened if one.by != "guard"]
    for index, one in enumerate(happened):
        if one.by:
            live.ticks_up_to(one.ticks)
            continue
        following = happened[index + 1] if index + 1 < len(happened) else None
        live.tell(one, next_is_derived=following is None or bool(following.by))
    live.ticks_up_to(ticks)
    live.pump()


def essence(events: Iterator[AnyEvent] | list[AnyEvent], *kinds: type[Event]) -> list[str]:
    """Events as text, without the names of entries they stand on."""
    return [
        f"{event.TYPE} {PLACE.sub('(entry)', event.model_dump_json())}"
        for event in events
        if isinstance(event, Event) and (not kinds or isinstance(event, kinds))
    ]


QUICK = ("breakout", "ema_cross", "pair")
"""Tried in every run of the tests: by bars, by ticks, over two symbols."""


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(CASES)
    ],
)
def test_groups_say_what_the_backtest_said(name: str) -> None:
    made = plan(name)
    trace = traced(made)
    assert trace.result is not None
    live = Live(made, seed=1)
    told_live(trace, live, trace.result.ticks)
    signals = essence(live.said(live.strategy), TradeSignal)
    assert signals == essence(list(trace.result.signals))
    assert len(signals) >= 6
    assert any(deal.reason == 4 for deal in trace.result.deals), "a stop-loss was to be reached"
    for group in ("execute", "trades"):
        assert essence(live.said(group)) == essence(trace.derived(group)), group


@pytest.mark.parametrize(
    "action",
    [
        Action.FLATTEN,
        *(pytest.param(a, marks=pytest.mark.slow) for a in (Action.BLOCK, Action.REDUCE)),
    ],
    ids=str,
)
def test_risk_rules_act_in_a_backtest_as_they_do_live(action: Action) -> None:
    limit = Limit(name="loss", figure="daily_loss", limit=40.0, of="money", action=action)
    rules = Rules.model_validate(
        {"limits": [limit.model_dump()], "account": {"initial_balance": 10_000.0}}
    )
    made = plan("ema_cross", rules)
    trace = traced(made)
    assert trace.result is not None
    live = Live(made, seed=2)
    told_live(trace, live, trace.result.ticks)
    assert essence(live.said(live.strategy), TradeSignal) == essence(list(trace.result.signals))
    for group in ("execute", "trades", "risk"):
        assert essence(live.said(group)) == essence(trace.derived(group)), group
    commands = [one for one in trace.derived("risk") if isinstance(one, Command)]
    assert action.value in {one.verb for one in commands}

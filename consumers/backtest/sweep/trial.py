"""One combination of parameters as a backtest, made from plain values that every process has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from consumers.backtest.broker import AccountSpec, BrokerOptions
from consumers.backtest.report.figures import Figure, figures
from consumers.backtest.result import BacktestResult
from consumers.backtest.running import Plan, run_backtest
from consumers.backtest.sources.source import Portion, Span
from consumers.backtest.sweep.shared_ticks import SharedTicks
from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.loading import load_strategy
from consumers.strategies.running.tick_run import TickRun
from consumers.strategies.running.walking import StrategyFailed
from events.market import Instrument
from events.rules import Rules

ERROR_TEXT_MAX = 500


@dataclass(frozen=True, slots=True)
class Setting:
    """What all trials of a sweep share."""

    code: str
    name: str
    parameters: Mapping[str, str]
    """Those that are the same in every trial."""
    symbols: tuple[str, ...]
    account: AccountSpec
    instruments: Mapping[str, Instrument]
    broker: BrokerOptions
    seed: int
    rules: Rules | None
    rules_name: str
    looks_ms: int
    warnings: tuple[str, ...]
    assumptions: tuple[str, ...]
    folder: Path
    """Folder of the ticks."""
    source: str

    @classmethod
    def of(cls, plan: Plan, parameters: Mapping[str, str], folder: Path) -> Setting:
        """Of a plan whose ticks are shared. `parameters`: texts it was loaded with."""
        return cls(
            plan.code, plan.casting.name, dict(parameters), plan.casting.symbols, plan.account,
            dict(plan.instruments), plan.broker, plan.seed, plan.rules, plan.rules_name,
            plan.looks_ms, (*plan.warnings, *plan.source.warnings), plan.assumptions, folder,
            plan.source.name,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep: parameters over a span."""

    parameters: Mapping[str, str]
    span: Span = field(default_factory=Span)
    window: int = 0
    """Of a walk-forward run: which one it belongs to."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial brought: figures, or why it has none."""

    trial: Trial
    figures: Mapping[str, Figure]
    error: str = ""


class Workshop:
    """Runs trials of one setting, one after the other, on ticks that are mapped once.

    `asked` is called now and then while one runs; what it raises ends the trial.
    """

    def __init__(self, setting: Setting, *, asked: Callable[[], None] = lambda: None) -> None:
        self._setting, self._asked = setting, asked
        self._ticks = SharedTicks(setting.folder, Span(), name=setting.source)

    @property
    def shared_ticks(self) -> SharedTicks:
        return self._ticks

    def outcome(self, trial: Trial) -> Outcome:
        """Figures of a trial. One that fails says why; nothing of it is raised."""
        try:
            result = self.result(trial)
        except Exception as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            return Outcome(trial, {}, f"{kind}{' '.join(str(error).split())}"[:ERROR_TEXT_MAX])
        if result.stopped:
            return Outcome(trial, {}, result.stopped[:ERROR_TEXT_MAX])
        return Outcome(trial, figures(result))

    def result(
        self, trial: Trial, *, balance: float | None = None, warm_from_ms: int | None = None
    ) -> BacktestResult:
        """All of one trial. `warm_from_ms`: what lies between that and its span is shown to the
        strategy before, without any trading. Raises BadStrategy, NoTicks and what a run raises."""
        setting = self._setting
        loaded = load_strategy(setting.code, {**setting.parameters, **trial.parameters})
        casting = Casting(
            loaded.strategy, setting.name, setting.symbols, loaded.parameters, setting.instruments
        )
        account = setting.account if balance is None else setting.account.opened_with(balance)
        instances = None
        if warm_from_ms is not None:
            instances = self._warmed(casting, Span(warm_from_ms, trial.span.from_ms))
        plan = Plan(
            casting, setting.code, self._ticks.part(trial.span), account, setting.instruments,
            setting.broker, setting.seed, setting.rules, setting.rules_name, setting.looks_ms,
            trial.span, setting.warnings, setting.assumptions, instances=instances,
        )  # fmt: skip
        return run_backtest(plan, told=lambda _ticks, _time_ms: self._asked())

    def _warmed(self, casting: Casting, span: Span) -> Instances | None:
        """The strategy's objects after they saw a span and said nothing. None: they cannot bear
        it (they ask for an account that is not there), and begin cold."""
        instances = Instances(casting)
        instances.mute = True
        try:
            for portion in self._ticks.part(span).portions():
                if isinstance(portion, Portion):
                    batches = portion.batches
                    run = TickRun.merged(batches) if portion.by_time else TickRun.joined(batches)
                    instances.run_all(run)
                self._asked()
        except StrategyFailed:
            return None
        instances.mute = False
        return instances

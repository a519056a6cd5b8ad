"""A grid or a walk-forward run from beginning to end: ticks on disk, trials over all cores."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from consumers.backtest.planning import BacktestRequest, planned
from consumers.backtest.result import BacktestResult
from consumers.backtest.running import Plan
from consumers.backtest.sources.source import NoTicks, Portion, Source
from consumers.backtest.sweep.grid import Axis, combinations
from consumers.backtest.sweep.pool import SweepStopped, outcomes
from consumers.backtest.sweep.ranking import best, ranked
from consumers.backtest.sweep.shared_ticks import SharedTicks, shared
from consumers.backtest.sweep.stitching import stitched
from consumers.backtest.sweep.trial import Outcome, Setting, Trial, Workshop
from consumers.backtest.sweep.walk_forward import BadWalk, Step, windows_of
from consumers.strategies.authoring.parameters import parameters_of
from consumers.strategies.authoring.strategy import Strategy
from consumers.strategies.running.loading import load_strategy
from events.codec import AnyEvent
from events.operations import ClockTick
from events.settings import Settings

TRIALS_MAX = 200_000
TOLD_TRIALS, TOLD_TICKS = "combinations", "ticks read"


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """What is to be tried, and by which figure it is judged."""

    backtest: BacktestRequest
    axes: tuple[Axis, ...]
    figure: str
    processes: int

    @property
    def count(self) -> int:
        return math.prod(len(axis.values) for axis in self.axes)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a grid brought: every outcome, the best first, and the best one whole."""

    axes: tuple[Axis, ...]
    figure: str
    outcomes: tuple[Outcome, ...]
    best: BacktestResult | None
    """None: it was stopped before its end."""


@dataclass(frozen=True, slots=True)
class Walk:
    """What a walk-forward run brought: its windows, and all that traded as one result."""

    axes: tuple[Axis, ...]
    figure: str
    steps: tuple[Step, ...]
    result: BacktestResult


@dataclass(frozen=True, slots=True)
class Watch:
    """Who watches: `told` gets (what, done, of how many), `stop` ends it."""

    stop: threading.Event
    told: Callable[[str, int, int | None], None] = lambda _what, _done, _total: None

    def ask(self) -> None:
        """Raises SweepStopped when it shall end."""
        if self.stop.is_set():
            raise SweepStopped


def run_grid(request: SweepRequest, settings: Settings, watch: Watch) -> Sweep:
    """Try every combination. Stopped early, it gives what is there by then.

    Raises what `planned` raises, BadStrategy, SharingError, SweepFailed, ValueError where every
    combination failed, SweepStopped while ticks are still being read.
    """
    with _folder() as folder:
        return _grid(request, settings, watch, folder)


def run_walk(
    request: SweepRequest, settings: Settings, watch: Watch, *, count: int, in_sample: int
) -> Walk:
    """Choose on each window, trade on the next. Raises BadWalk, SweepStopped, and as `run_grid`."""
    with _folder() as folder:
        return _walk(request, settings, watch, folder, (count, in_sample))


def _folder() -> TemporaryDirectory[str]:
    """Where ticks lie for the time of a sweep. Who maps them has returned before it is removed:
    Windows removes no file that is mapped."""
    return TemporaryDirectory(prefix="bridgectl-sweep-", ignore_cleanup_errors=True)


def _grid(request: SweepRequest, settings: Settings, watch: Watch, folder: str) -> Sweep:
    with _setting(request, settings, watch, folder) as (setting, _):
        trials = [Trial(one) for one in combinations(request.axes)]
        found: list[Outcome] = []
        stopped = _tried(found, setting, trials, request.processes, watch)
        # As the trials stand, whatever came first: equals keep the order of the grid.
        rows = ranked(_in_order(found, trials), request.figure)
        if stopped:
            return Sweep(request.axes, request.figure, tuple(rows), None)
        chosen = best(rows, request.figure)
        whole: BacktestResult | None = None
        with suppress(SweepStopped):  # the figures of all are there
            whole = Workshop(setting, asked=watch.ask).result(chosen.trial)
    return Sweep(request.axes, request.figure, tuple(rows), whole)


def _walk(
    request: SweepRequest, settings: Settings, watch: Watch, folder: str, shape: tuple[int, int]
) -> Walk:
    """`shape`: how many windows, and how many times longer those to choose on are."""
    with _setting(request, settings, watch, folder) as (setting, shared_ticks):
        reach = shared_ticks.reach
        assert reach is not None, "ticks were found"
        windows = windows_of(reach, *shape)
        if request.count * len(windows) > TRIALS_MAX:
            raise BadWalk(
                f"--walk-forward: {request.count:,} combinations on {len(windows)} windows are "
                f"more than {TRIALS_MAX:,} runs: ask for fewer of them"
            )
        grid = list(combinations(request.axes))
        trials = [Trial(one, window.chosen, window.number) for window in windows for one in grid]
        found: list[Outcome] = []
        if _tried(found, setting, trials, request.processes, watch):
            raise SweepStopped
        ordered = _in_order(found, trials)
        workshop = Workshop(setting, asked=watch.ask)
        balance = setting.account.balance
        steps: list[Step] = []
        for index, window in enumerate(windows):
            tried = ordered[index * len(grid) : (index + 1) * len(grid)]
            choice = best(tried, request.figure)
            result = workshop.result(
                Trial(choice.trial.parameters, window.traded, window.number),
                balance=balance, warm_from_ms=window.chosen.from_ms,
            )  # fmt: skip
            steps.append(Step(window, choice, balance, result))
            balance = result.equity_final
            if result.stopped or balance <= 0:
                break
        names = [axis.name for axis in request.axes]
        whole = stitched([step.result for step in steps], workshop.shared_ticks, chosen=names)
    return Walk(request.axes, request.figure, tuple(steps), whole)


def _tried(
    found: list[Outcome], setting: Setting, trials: Sequence[Trial], processes: int, watch: Watch
) -> bool:
    """Add the outcome of every trial to `found`; whether it was stopped before all were there."""
    watch.told(TOLD_TRIALS, 0, len(trials))
    wanted = max(1, min(processes, len(trials)))
    try:
        for outcome in outcomes(setting, trials, processes=wanted, stop=watch.stop):
            found.append(outcome)
            watch.told(TOLD_TRIALS, len(found), len(trials))
    except SweepStopped:
        return True
    return False


def _in_order(found: Sequence[Outcome], trials: Sequence[Trial]) -> list[Outcome]:
    """Outcomes in the order of their trials."""
    by_trial = {_key(outcome.trial): outcome for outcome in found}
    return [by_trial[_key(trial)] for trial in trials if _key(trial) in by_trial]


def _key(trial: Trial) -> tuple[int, tuple[tuple[str, str], ...]]:
    return trial.window, tuple(trial.parameters.items())


@contextmanager
def _setting(
    request: SweepRequest, settings: Settings, watch: Watch, folder: str
) -> Iterator[tuple[Setting, SharedTicks]]:
    """What all trials share, with the ticks on disk."""
    asked = request.backtest
    _check_names(asked, request.axes)
    with planned(asked, settings) as plan:
        place = Path(folder)
        shared_ticks = shared(_Watched(plan.source, watch), place, clock=_has_timer(plan))
        if shared_ticks.reach is None:
            raise NoTicks(
                f"no tick of {', '.join(plan.source.symbols)} from {asked.span} in "
                f"{plan.source.name}"
            )
        yield Setting.of(plan, asked.parameters, place), shared_ticks


def _check_names(request: BacktestRequest, axes: Iterable[Axis]) -> None:
    """A parameter that does not exist would fail in every trial. Raises BadStrategy."""
    loaded = load_strategy(request.code, request.parameters)
    known = parameters_of(loaded.strategy, Strategy)
    for axis in axes:
        if axis.name not in known:
            load_strategy(request.code, {axis.name: axis.values[0]})


def _has_timer(plan: Plan) -> bool:
    return plan.casting.strategy.on_timer is not Strategy.on_timer


class _Watched:
    """A source that tells how far it is read, and ends when it shall."""

    def __init__(self, source: Source, watch: Watch) -> None:
        self._source, self._watch = source, watch
        self.warnings = source.warnings

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._source.symbols

    def facts(self) -> list[AnyEvent]:
        return self._source.facts()

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        """See `Source.portions`. Raises SweepStopped."""
        count = 0
        for item in self._source.portions(clock=clock):
            self._watch.ask()
            if isinstance(item, Portion):
                count += sum(len(batch) for batch in item.batches)
                self._watch.told(TOLD_TICKS, count, None)
            yield item


__all__ = ["Sweep", "SweepRequest", "Walk", "Watch", "run_grid", "run_walk"]

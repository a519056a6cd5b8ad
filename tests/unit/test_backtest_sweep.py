"""Sweeps and walk-forward runs: equal to single runs, bounded, ended cleanly, without leakage."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.backtest.broker.spec.writing import example_spec, spec_text
from consumers.backtest.cli import backtest
from consumers.backtest.planning import BacktestRequest, planned
from consumers.backtest.report.figures import figures
from consumers.backtest.running import run_backtest
from consumers.backtest.sources.source import Portion, Span
from consumers.backtest.sweep.grid import Axis, BadGrid, axes_of, combinations
from consumers.backtest.sweep.pool import SweepFailed, SweepStopped
from consumers.backtest.sweep.ranking import BadFigure, checked_figure, ranked
from consumers.backtest.sweep.shared_ticks import shared
from consumers.backtest.sweep.showing import sweep_section
from consumers.backtest.sweep.sweeping import SweepRequest, Walk, Watch, run_grid, run_walk
from consumers.backtest.sweep.trial import Outcome, Setting, Trial, Workshop
from consumers.backtest.sweep.walk_forward import BadWalk, efficiency, windows_of
from consumers.strategies import Signal
from consumers.strategies.ema_cross import EmaCross
from consumers.strategies.running.loading import BadStrategy
from events.operations import ClockTick
from events.settings import load
from events.ticks import TickArray
from tests.unit.test_backtest import Made, plan, story, ticks

TICKS = 1_500
DEADLY = """
import os
from consumers.strategies.ema_cross import EmaCross


class Deadly(EmaCross):
    def setup(self):
        if self.fast == 11:
            os._exit(9)
        super().setup()
"""


def csv(path: Path, rows: TickArray) -> Path:
    lines = ["time_msc,bid,ask"]
    lines += [f"{row['time_msc']},{row['bid']:.5f},{row['ask']:.5f}" for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def request(folder: Path, rows: TickArray, code: str = "ema_cross:EmaCross") -> BacktestRequest:
    spec = folder / "spec.toml"
    spec.write_text(spec_text(example_spec(("EURUSD",))), encoding="utf-8")
    source = csv(folder / "EURUSD.csv", rows)
    return BacktestRequest(
        code, sources=(str(source),), spec=str(spec), clock="UTC", parameters={"slow": "90"}
    )


def asked(backtest: BacktestRequest, *grid: str, processes: int = 1) -> SweepRequest:
    return SweepRequest(backtest, axes_of(grid), "net_profit", processes)


def watch() -> Watch:
    return Watch(threading.Event())


# --- what is to be tried


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("fast=5:20:5", ("5", "10", "15", "20")),
        ("fast=5:19:5", ("5", "10", "15")),
        ("stop=0.1:0.3:0.1", ("0.1", "0.2", "0.3")),
        ("fast=3:5", ("3", "4", "5")),
        ("fast=-1:1:1", ("-1", "0", "1")),
        ("step=100:300:100", ("100", "200", "300")),
        ("slow=30, 50,30", ("30", "50")),
        ("mode=long", ("long",)),
    ],
)
def test_an_axis_is_a_range_or_a_list(text: str, values: tuple[str, ...]) -> None:
    assert Axis.parse(text).values == values


@pytest.mark.parametrize(
    "text",
    ["fast", "fast=", "=1,2", "fast=5:1:1", "fast=1:5:0", "fast=1:5:-1", "fast=a:b:c",
     "fast=1:2:3:4", "fast=1:nan:1", "fast=0:1e9:1", "symbols=A,B", "fast=,"],
)  # fmt: skip
def test_a_bad_grid_is_one_line(text: str) -> None:
    with pytest.raises(BadGrid) as error:
        axes_of([text])
    assert "\n" not in str(error.value)


def test_grids_that_are_too_large_or_named_twice_are_refused() -> None:
    with pytest.raises(BadGrid, match="at most 100,000"):
        axes_of(["a=1:1000:1", "b=1:1000:1"])
    with pytest.raises(BadGrid, match="twice"):
        axes_of(["a=1,2", "a=3"])
    assert len(list(combinations(axes_of(["a=1,2", "b=1:3:1"])))) == 6


def test_the_best_comes_first_the_unknown_behind_it_and_failures_last() -> None:
    def outcome(value: float | None, error: str = "") -> Outcome:
        return Outcome(Trial({"x": str(value)}), {"sharpe": value, "drawdown_max": value}, error)

    rows = [outcome(1.0), outcome(None), outcome(9.0, "broken"), outcome(3.0)]
    by_sharpe = [one.figures["sharpe"] for one in ranked(rows, "sharpe")]
    assert by_sharpe == [3.0, 1.0, None, 9.0]
    assert ranked(rows, "drawdown_max")[0].figures["drawdown_max"] == 1.0
    assert checked_figure("Profit-Factor") == "profit_factor"
    with pytest.raises(BadFigure, match="did you mean sharpe"):
        checked_figure("sharp")


# --- ticks on disk


@pytest.mark.parametrize("portion", [60, 400])
def test_a_run_over_shared_ticks_is_the_run_over_its_source(tmp_path: Path, portion: int) -> None:
    rows = ticks(TICKS)
    whole = plan(rows, portion)
    shared_ticks = shared(whole.source, tmp_path, clock=False)
    again = run_backtest(replace(whole, source=shared_ticks))
    assert again.trades
    assert story(again) == story(run_backtest(whole))
    begin_ms, middle_ms = int(rows["time_msc"][0]), int(rows["time_msc"][700])
    assert shared_ticks.reach == Span(begin_ms, int(rows["time_msc"][-1]) + 1)
    part = run_backtest(replace(whole, source=shared_ticks.part(Span(begin_ms, middle_ms))))
    assert part.deals == run_backtest(plan(rows[:700], portion)).deals


# --- grids


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> BacktestRequest:
    return request(tmp_path_factory.mktemp("sweep"), ticks(TICKS))


def test_a_grid_over_processes_is_equal_to_single_runs(source: BacktestRequest) -> None:
    found = run_grid(asked(source, "fast=20,30,0", processes=2), load(), watch())
    assert [one.trial.parameters["fast"] for one in found.outcomes][-1] == "0"
    assert "period must lie between" in found.outcomes[-1].error
    for outcome in found.outcomes[:-1]:
        single = source.with_parameters(outcome.trial.parameters)
        with planned(single, load()) as alone:
            result = run_backtest(alone)
        assert dict(outcome.figures) == figures(result)
    assert found.best is not None
    assert figures(found.best) == dict(found.outcomes[0].figures)
    best, other = (one.figures["net_profit"] for one in found.outcomes[:2])
    assert best is not None
    assert other is not None
    assert best > other
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_sweep_that_is_stopped_ends_its_processes_and_keeps_what_is_there(
    source: BacktestRequest, processes: int
) -> None:
    stop = threading.Event()

    def told(what: str, done: int, _: int | None) -> None:
        if what == "combinations" and done:
            stop.set()

    grid = asked(source, "fast=5:80:1", processes=processes)
    found = run_grid(grid, load(), Watch(stop, told))
    assert found.best is None
    assert 1 <= len(found.outcomes) < 76
    assert not multiprocessing.active_children()
    with pytest.raises(SweepStopped):
        run_grid(asked(source, "fast=5"), load(), Watch(stop))


@pytest.mark.slow
def test_a_process_that_dies_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "deadly.py"
    file.write_text(DEADLY, encoding="utf-8")
    code = f"{file}:Deadly"
    with pytest.raises(SweepFailed, match="a process of the sweep died"):
        run_grid(
            asked(request(tmp_path, ticks(50), code), "fast=11,12", processes=2), load(), watch()
        )
    assert not multiprocessing.active_children()


def test_an_unknown_parameter_is_told_at_once_and_every_failure_in_the_end(
    source: BacktestRequest,
) -> None:
    with pytest.raises(BadStrategy, match="did you mean fast"):
        run_grid(asked(source, "fasst=1,2"), load(), watch())
    with pytest.raises(ValueError, match=r"every combination failed; the first one: .*whole"):
        run_grid(asked(source, "fast=x,y"), load(), watch())


def test_a_map_has_every_figure_in_its_place(source: BacktestRequest) -> None:
    found = run_grid(asked(source, "fast=20,30,0", "stop_percent=0.5,1"), load(), watch())
    section = sweep_section(found)
    heat = section.map.data[0]
    for outcome in found.outcomes:
        across = list(heat.x).index(outcome.trial.parameters["fast"])
        down = list(heat.y).index(outcome.trial.parameters["stop_percent"])
        assert heat.z[down][across] == outcome.figures.get("net_profit")
    assert [one.text for one in section.rows[-1]][:2] == ["0", "1"]
    assert "period must lie" in section.rows[-1][-1].text
    assert sweep_section(replace(found, axes=found.axes[:1])).map is None


def test_the_command_tries_a_grid_and_tells_it_as_json(source: BacktestRequest) -> None:
    words = ["ema_cross:EmaCross", "--source", source.sources[0], "--spec", source.spec]
    words += ["--clock", "UTC", "--set", "slow=90", "--jobs", "1", "--json"]
    done = CliRunner().invoke(backtest, [*words, "--grid", "fast=20,30", "--sort", "trades"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["format"], told["sorted_by"]) == ("mt5-bridge sweep", "trades")
    assert [len(told["rows"]), told["complete"]] == [2, True]
    page = Path(source.spec).with_name("page.html")
    words += ["--report", str(page)]
    done = CliRunner().invoke(backtest, [*words, "--grid", "fast=20,30", "--walk-forward", "2"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["format"] == "mt5-bridge walk-forward"
    assert [one["window"] for one in told["windows"]] == [1, 2]
    assert "Walk-forward efficiency" in page.read_text(encoding="utf-8")
    for bad, line in ((["--walk-forward", "2"], "name some with --grid"),
                      (["--grid", "fast=1", "--sort", "x"], "there is no figure"),
                      (["--grid", "fast=1", "--check-look-ahead"], "for one run")):  # fmt: skip
        done = CliRunner().invoke(backtest, [*words, *bad])
        assert done.exit_code in (1, 2)
        assert line in done.output


# --- walk-forward


@settings(max_examples=60)
@given(
    begin=st.integers(0, 10**12), length=st.integers(10**8, 10**11),
    count=st.integers(1, 40), in_sample=st.integers(1, 10),
)  # fmt: skip
def test_windows_follow_each_other_and_none_sees_what_it_trades(
    begin: int, length: int, count: int, in_sample: int
) -> None:
    windows = windows_of(Span(begin, begin + length), count, in_sample)
    assert len(windows) == count
    assert windows[0].chosen.from_ms == begin
    assert windows[-1].traded.to_ms == begin + length
    for window in windows:
        assert window.chosen.to_ms == window.traded.from_ms
    for one, other in itertools.pairwise(windows):
        assert one.traded.to_ms == other.traded.from_ms


def test_windows_of_less_than_a_minute_are_refused() -> None:
    with pytest.raises(BadWalk, match="shorter than a minute"):
        windows_of(Span(0, 100_000), 3, 3)


def test_more_runs_than_anyone_waits_for_are_refused(source: BacktestRequest) -> None:
    grid = asked(source, "fast=1:200:1", "slow=1:400:1")
    with pytest.raises(BadWalk, match="80,000 combinations on 3 windows"):
        run_walk(grid, load(), watch(), count=3, in_sample=1)


def walked(folder: Path, rows: TickArray) -> Walk:
    return run_walk(
        asked(request(folder, rows), "fast=10,20,30"), load(), watch(), count=2, in_sample=2
    )


def test_nothing_of_what_is_traded_leaks_into_what_was_chosen(tmp_path: Path) -> None:
    rows = ticks(TICKS, seed=11)
    whole = walked(tmp_path, rows)
    assert len(whole.steps) == 2
    assert whole.result.trades
    first, second = whole.steps
    turn_ms = first.window.traded.from_ms
    assert turn_ms is not None
    # Other prices behind the first window's turn: its choice stays, and so does all of it.
    other = rows.copy()
    behind = other["time_msc"] >= turn_ms
    other["bid"][behind] = ticks(TICKS, seed=12)["bid"][behind] + 0.02
    other["ask"][behind] = other["bid"][behind] + 1e-4
    changed = walked(tmp_path, other)
    assert dict(changed.steps[0].choice.figures) == dict(first.choice.figures)
    assert changed.steps[0].parameters == first.parameters
    assert changed.steps[0].result.deals != first.result.deals
    # Other prices behind its end: what it traded stays too.
    later = rows.copy()
    later["bid"][later["time_msc"] >= first.window.traded.to_ms] += 0.01
    later["ask"] = later["bid"] + 1e-4
    kept = walked(tmp_path, later)
    assert kept.steps[0].result.deals == first.result.deals
    assert kept.steps[1].result.deals != second.result.deals


def test_windows_stitched_together_are_one_account(tmp_path: Path) -> None:
    found = walked(tmp_path, ticks(TICKS, seed=11))
    result = found.result
    assert result.balance_initial == 10_000.0
    assert found.steps[1].balance == found.steps[0].result.equity_final
    assert result.equity_final == found.steps[-1].result.equity_final
    assert bool((np.diff(result.equity.time_ms) > 0).all())
    assert result.from_ms == found.steps[0].result.from_ms
    assert len(result.deals) == len(result.deal_values)
    assert result.parameters["fast"] == "chosen for each window"
    nets = sum(one.result.equity_final - one.balance for one in found.steps)
    assert nets == pytest.approx(result.equity_final - 10_000.0)
    ratio = efficiency(found.steps)
    gained = [step.choice.figures["return_percent"] for step in found.steps]
    inside = sum(one for one in gained if one is not None)
    outside = sum(step.return_percent for step in found.steps)
    # Windows to choose on are twice as long here.
    assert ratio is None if inside <= 0 else ratio == pytest.approx(outside / inside * 2, rel=1e-3)


def test_a_window_begins_warm_with_what_it_was_chosen_on(tmp_path: Path) -> None:
    rows = ticks(TICKS, seed=11)
    made = plan(rows)
    shared(Made(rows), tmp_path, clock=False)
    shop = Workshop(Setting.of(made, {"fast": "30", "slow": "90"}, tmp_path))
    turn_ms = int(rows["time_msc"][700])
    span = Span(turn_ms, None)
    warm = shop.result(Trial({}, span), warm_from_ms=int(rows["time_msc"][0]))
    cold = shop.result(Trial({}, span))
    whole = shop.result(Trial({}))
    assert [one.event_time_ms for one in warm.signals] == [
        one.event_time_ms for one in whole.signals if one.event_time_ms >= turn_ms
    ]
    assert cold.signals[0].event_time_ms > warm.signals[0].event_time_ms


# --- recorded seconds


class Counting(EmaCross):
    """Turns around by the clock."""

    timer_s = 60.0

    def setup(self) -> None:
        super().setup()
        self.seconds = 0

    def on_timer(self, time_ms: int) -> Signal | None:
        self.seconds += 1
        side = "long" if self.seconds % 2 else "short"
        return self.target(side, lots=0.1, stop_loss=0.5 if side == "long" else 2.0)


class Recorded(Made):
    """Ticks with the seconds that a producer recorded between them."""

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        for number, portion in enumerate(super().portions()):
            assert isinstance(portion, Portion)
            yield portion
            if clock:
                yield ClockTick(event_time_ms=portion.batches[-1].event_time_ms + 500, offset_s=0)
            assert number < TICKS


@pytest.mark.parametrize("timed", [True, False])
def test_recorded_seconds_are_shared_where_a_strategy_has_a_timer(
    tmp_path: Path, timed: bool
) -> None:
    rows = ticks(600)
    made = plan(rows, 60)
    casting = replace(made.casting, strategy=Counting if timed else EmaCross)
    whole = replace(made, casting=casting, source=Recorded(rows, 60))
    again = replace(whole, source=shared(whole.source, tmp_path, clock=True))
    result = run_backtest(again)
    assert result.signals
    assert story(result) == story(run_backtest(whole))

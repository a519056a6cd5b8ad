"""Sweeps and walk-forward runs for people and programs: tables, sections of the report, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from consumers.backtest.report.figures import figures
from consumers.backtest.report.labels import label_of, shown
from consumers.backtest.report.tables import Cell
from consumers.backtest.sources.source import Span
from consumers.backtest.sweep.ranking import LOW_IS_GOOD
from consumers.backtest.sweep.sweeping import Sweep, Walk
from consumers.backtest.sweep.trial import Outcome
from consumers.backtest.sweep.walk_forward import Step, efficiency
from events.views.moments import utc_text

ROWS_SHOWN = 20
ROWS_IN_PAGE_MAX = 2_000
FIGURES = (
    "net_profit", "return_percent", "drawdown_max_percent", "sharpe", "profit_factor", "trades",
    "win_rate_percent",
)  # fmt: skip
FORMAT_SWEEP, FORMAT_WALK = "mt5-bridge sweep", "mt5-bridge walk-forward"
VERSION = 1
TO_THE_MINUTE = len("2026-11-23 14:05")
WALK_HEAD = (
    "window", "chosen on (UTC)", "traded on (UTC)", "parameters", "in sample", "return in sample",
    "return", "net", "drawdown", "trades",
)  # fmt: skip


def print_sweep(console: Console, sweep: Sweep) -> None:
    """The best combinations, and why others failed."""
    columns = figure_names(sweep.figure)
    table = Table(*(axis.name for axis in sweep.axes), *(label_of(name) for name in columns))
    good = [outcome for outcome in sweep.outcomes if not outcome.error]
    for outcome in good[:ROWS_SHOWN]:
        values = [outcome.trial.parameters[axis.name] for axis in sweep.axes]
        table.add_row(*values, *(shown(name, outcome.figures[name]) for name in columns))
    console.print(table)
    if len(good) > ROWS_SHOWN:
        console.print(f"... and {len(good) - ROWS_SHOWN:,} more combinations (--json has all)")
    failed = [outcome for outcome in sweep.outcomes if outcome.error]
    for outcome in failed[:ROWS_SHOWN]:
        told = ", ".join(f"{name}={value}" for name, value in outcome.trial.parameters.items())
        console.print(f"failed: {told}: {outcome.error}", markup=False)
    if len(failed) > ROWS_SHOWN:
        console.print(f"... and {len(failed) - ROWS_SHOWN:,} more that failed")


def print_walk(console: Console, walk: Walk) -> None:
    """Every window, and the efficiency."""
    table = Table(*WALK_HEAD)
    for step in walk.steps:
        table.add_row(*_walk_row(walk, step))
    console.print(table)
    for line in walk_notes(walk):
        console.print(line, markup=False)


def sweep_json(sweep: Sweep) -> str:
    """Every combination with its figures or its error, the best first."""
    return json.dumps(
        {
            "format": FORMAT_SWEEP,
            "version": VERSION,
            "sorted_by": sweep.figure,
            "grid": {axis.name: axis.values for axis in sweep.axes},
            "complete": sweep.best is not None,
            "rows": [
                {
                    "parameters": dict(outcome.trial.parameters),
                    "figures": dict(outcome.figures),
                    "error": outcome.error,
                }
                for outcome in sweep.outcomes
            ],
        }
    )


def walk_json(walk: Walk) -> str:
    """Every window with what was chosen and what it brought, and the figures of all together."""
    return json.dumps(
        {
            "format": FORMAT_WALK,
            "version": VERSION,
            "sorted_by": walk.figure,
            "grid": {axis.name: axis.values for axis in walk.axes},
            "efficiency": efficiency(walk.steps),
            "figures": figures(walk.result),
            "windows": [_window_json(step) for step in walk.steps],
        }
    )


def sweep_section(sweep: Sweep) -> Any:
    """For the report. Needs the extra `report`."""
    from consumers.backtest.report.page import SweepSection

    columns = figure_names(sweep.figure)
    head = (*(axis.name for axis in sweep.axes), *(label_of(name) for name in columns), "failed")
    rows = [_cells(sweep, outcome, columns) for outcome in sweep.outcomes[:ROWS_IN_PAGE_MAX]]
    notes = [f"{len(sweep.outcomes):,} combinations, sorted by {label_of(sweep.figure).lower()}."]
    if len(sweep.outcomes) > ROWS_IN_PAGE_MAX:
        notes.append(f"The first {ROWS_IN_PAGE_MAX:,} are listed; --json has all.")
    if len(sweep.axes) > 2:
        notes.append("The map shows the best over all other parameters.")
    notes.append(
        "The best of many combinations owes part of its result to chance: try it on ticks it was "
        "not chosen on (--walk-forward)."
    )
    return SweepSection(head, rows, _map(sweep), tuple(notes))


def walk_section(walk: Walk) -> Any:
    """For the report. Needs the extra `report`."""
    from consumers.backtest.report.page import WalkSection

    rows = [_walk_row(walk, step) for step in walk.steps]
    turns = tuple(step.result.from_ms for step in walk.steps[1:])
    return WalkSection(WALK_HEAD, rows, frozenset({3}), tuple(walk_notes(walk)), turns)


def walk_notes(walk: Walk) -> list[str]:
    """What holds for all windows together."""
    ratio = efficiency(walk.steps)
    told = "unknown (nothing was earned in sample)" if ratio is None else f"{ratio:.2f}"
    return [
        f"Walk-forward efficiency: {told}. It is the return per time out of sample by that in "
        "sample.",
        f"In sample: {label_of(walk.figure).lower()} of the combination that was chosen, over the "
        "window it was chosen on. All other results are those of windows nothing was chosen on.",
    ]


def figure_names(figure: str) -> tuple[str, ...]:
    """What is shown of each combination: what it is sorted by comes first."""
    return (figure, *(name for name in FIGURES if name != figure))


def _cells(sweep: Sweep, outcome: Outcome, columns: Sequence[str]) -> list[Cell]:
    cells = []
    for axis in sweep.axes:
        cells.append(Cell(outcome.trial.parameters[axis.name]))
    for name in columns:
        value = outcome.figures.get(name)
        cells.append(Cell(shown(name, value), value))
    return [*cells, Cell(outcome.error, tone="wrap")]


def _map(sweep: Sweep) -> Any:
    """Over the first two parameters with more than one value; None where there are not two."""
    from consumers.backtest.report.charts import heat_map

    axes = [axis for axis in sweep.axes if len(axis.values) > 1][:2]
    if len(axes) < 2:
        return None
    across, down = axes
    values: dict[tuple[str, str], float] = {}
    for outcome in sweep.outcomes:  # the best first
        value = outcome.figures.get(sweep.figure)
        key = outcome.trial.parameters[down.name], outcome.trial.parameters[across.name]
        if value is not None and key not in values:
            values[key] = float(value)
    rows = [[values.get((one, other)) for other in across.values] for one in down.values]
    return heat_map(
        (across.name, down.name), across.values, down.values, rows, label_of(sweep.figure),
        low_is_good=sweep.figure in LOW_IS_GOOD,
    )  # fmt: skip


def _walk_row(walk: Walk, step: Step) -> list[str]:
    found = figures(step.result)
    return [
        str(step.window.number),
        _between(step.window.chosen),
        _between(step.window.traded),
        ", ".join(f"{name}={value}" for name, value in step.parameters.items()),
        shown(walk.figure, step.choice.figures[walk.figure]),
        shown("return_percent", step.choice.figures["return_percent"]),
        shown("return_percent", step.return_percent),
        shown("net_profit", found["net_profit"]),
        shown("drawdown_max_percent", found["drawdown_max_percent"]),
        shown("trades", found["trades"]),
    ]


def _window_json(step: Step) -> dict[str, Any]:
    return {
        "window": step.window.number,
        "chosen_from_ms": step.window.chosen.from_ms,
        "chosen_to_ms": step.window.chosen.to_ms,
        "traded_from_ms": step.window.traded.from_ms,
        "traded_to_ms": step.window.traded.to_ms,
        "parameters": dict(step.parameters),
        "in_sample": dict(step.choice.figures),
        "out_of_sample": figures(step.result),
        "balance_initial": step.balance,
    }


def _between(span: Span) -> str:
    """Both ends, the year only once where it is the same."""
    begin, end = _moment(span.from_ms), _moment(span.to_ms)
    return f"{begin} – {end[5:] if end[:5] == begin[:5] else end}"


def _moment(time_ms: int | None) -> str:
    return utc_text(time_ms)[:TO_THE_MINUTE]

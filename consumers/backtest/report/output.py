"""Where a result goes: a JSON file, a page, the terminal. Checked before a run, not behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from consumers.backtest.report.figures import figures
from consumers.backtest.report.labels import GROUPS, label_of, shown
from consumers.backtest.result import BacktestResult
from events.views.moments import utc_text

TARGETS_SHOWN = 5


class BadOutput(ValueError):
    """A file cannot be written, or what it needs is not installed. Names cause and cure."""


@dataclass(frozen=True, slots=True)
class Output:
    """Which files are wanted; None: not this one."""

    save: Path | None = None
    report: Path | None = None

    def check(self) -> None:
        """Raises BadOutput where a file could not be written in the end."""
        for option, path in (("--save", self.save), ("--report", self.report)):
            if path is not None and not path.absolute().parent.is_dir():
                raise BadOutput(f"{option} {path}: there is no folder {path.absolute().parent}")
            if path is not None and path.is_dir():
                raise BadOutput(f"{option} {path} is a folder: name a file in it")
        if self.report is not None:
            _require_report()

    def write(self, result: BacktestResult, **sections: Any) -> None:
        """Write what is wanted. `sections` are those of `report.page.report_html`. Raises
        BadOutput."""
        try:
            if self.save is not None:
                self.save.write_text(result_json(result), encoding="utf-8")
            if self.report is not None:
                from consumers.backtest.report.page import write_report

                write_report(self.report, result, made=_made(), **sections)
        except OSError as error:
            name = error.filename or self.report or self.save
            raise BadOutput(f"{name} cannot be written: {error.strerror or error}") from error


def result_json(result: BacktestResult) -> str:
    """A result with its figures, as one JSON document that `BacktestResult.from_json` reads."""
    return f'{result.to_json()[:-1]}, "figures": {json.dumps(figures(result))}}}'


def print_result(console: Console, result: BacktestResult) -> None:
    """Figures, assumptions, warnings and what was refused, for a terminal window."""
    console.print(
        f"{result.strategy} on {', '.join(result.symbols)}: {utc_text(result.from_ms)} to "
        f"{utc_text(result.to_ms)} UTC, {result.ticks:,} ticks in {result.seconds:.1f} s "
        f"({result.source})",
        markup=False,
    )
    found = figures(result)
    # Two groups stand side by side, so that all figures fit into one window.
    columns = [
        [row for title in titles for row in [(title, ""), *_rows(title, found)]]
        for titles in (("Result", "Risk"), ("Trades", "Costs"))
    ]
    table = Table("figure", result.currency, "figure", result.currency, box=None)
    for column in (1, 3):
        table.columns[column].justify = "right"
    for index in range(max(len(column) for column in columns)):
        cells = [column[index] if index < len(column) else ("", "") for column in columns]
        table.add_row(*cells[0], *cells[1])
    console.print(table)
    for line in result.assumptions:
        console.print(f"assumed: {line}", markup=False)
    for line in result.warnings:
        console.print(f"warning: {line}", markup=False)
    for target in result.targets[:TARGETS_SHOWN]:
        console.print(
            f"{target.state}: {target.target} {target.symbol}, {target.reason}", markup=False
        )
    if len(result.targets) > TARGETS_SHOWN:
        console.print(f"... and {len(result.targets) - TARGETS_SHOWN} more such targets")
    if result.stopped:
        console.print(f"stopped: {result.stopped}", markup=False)


def _rows(title: str, found: Any) -> list[tuple[str, str]]:
    return [(f"  {label_of(name)}", shown(name, found[name])) for name in GROUPS[title]]


def _require_report() -> None:
    missing = [name for name in ("jinja2", "plotly") if find_spec(name) is None]
    if missing:
        raise BadOutput(
            f"--report needs {' and '.join(missing)}: pip install 'mt5-stream-bridge[report]'"
        )


def _made() -> str:
    try:
        return f"Made by mt5-stream-bridge {version('mt5-stream-bridge')}."
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "Made by mt5-stream-bridge."

"""`backtest --grid` and `--walk-forward`: what the command does with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumers.backtest.planning import BacktestRequest
from consumers.backtest.report.output import Output
from consumers.backtest.sweep import showing
from consumers.backtest.sweep.grid import BadGrid, axes_of
from consumers.backtest.sweep.pool import SweepStopped, cores
from consumers.backtest.sweep.ranking import checked_figure
from consumers.backtest.sweep.sweeping import SweepRequest, Watch, run_grid, run_walk
from events.processes import stopped_by_signals
from events.settings import load
from events.views.tables import page

EXIT_STOPPED = 130


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """What the command line says about trying more than one combination."""

    grids: Sequence[str] = ()
    figure: str = "net_profit"
    windows: int | None = None
    """Of a walk-forward run; None: a plain grid."""
    in_sample: int = 3
    jobs: int | None = None
    """None: a process per core."""

    @property
    def asked(self) -> bool:
        return bool(self.grids) or self.windows is not None


def sweep(
    request: BacktestRequest, options: SweepOptions, output: Output, *, as_json: bool
) -> None:
    """Try combinations and show what came of it. Raises ValueError with one line for people, and
    click's Exit when a human stopped it."""
    if not options.grids:
        raise BadGrid("--walk-forward chooses among parameters: name some with --grid")
    asked = SweepRequest(
        request, axes_of(options.grids), checked_figure(options.figure), options.jobs or cores()
    )
    with stopped_by_signals() as stop, _told(hush=as_json) as told:
        watch = Watch(stop, told)
        try:
            show = (
                _grid(asked, watch, output)
                if options.windows is None
                else _walk(asked, watch, output, options)
            )
        except SweepStopped:
            show = None
    if show is None:
        click.echo("stopped: nothing was finished", err=True)
        raise click.exceptions.Exit(EXIT_STOPPED)
    show(as_json)


def _grid(asked: SweepRequest, watch: Watch, output: Output) -> Callable[[bool], None]:
    found = run_grid(asked, load(), watch)
    if found.best is not None:
        sections = {"sweep": showing.sweep_section(found)} if output.report else {}
        output.write(found.best, **sections)

    def show(as_json: bool) -> None:
        if as_json:
            click.echo(showing.sweep_json(found))
        else:
            showing.print_sweep(page(), found)
        if found.best is None:
            click.echo(
                f"stopped: {len(found.outcomes)} of {asked.count} combinations were tried", err=True
            )
            raise click.exceptions.Exit(EXIT_STOPPED)

    return show


def _walk(
    asked: SweepRequest, watch: Watch, output: Output, options: SweepOptions
) -> Callable[[bool], None]:
    assert options.windows is not None, "asked for"
    found = run_walk(asked, load(), watch, count=options.windows, in_sample=options.in_sample)
    sections = {"walk": showing.walk_section(found)} if output.report else {}
    output.write(found.result, **sections)

    def show(as_json: bool) -> None:
        if as_json:
            click.echo(showing.walk_json(found))
        else:
            showing.print_walk(page(), found)

    return show


@contextmanager
def _told(*, hush: bool) -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar that tells what is done, on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    quiet = hush or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        bars = {}

        def told(what: str, done: int, total: int | None) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done, total=total)

        yield told

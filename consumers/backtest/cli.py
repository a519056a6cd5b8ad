"""The command `backtest`."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from consumers.backtest.broker.spec.writing import example_spec, spec_text
from consumers.backtest.planning import BacktestRequest, planned
from consumers.backtest.report.output import Output, print_result, result_json
from consumers.backtest.result import BacktestResult
from consumers.backtest.running import run_backtest
from consumers.backtest.sweep.commands import SweepOptions, sweep
from consumers.backtest.sweep.cutting import LookAhead, check_look_ahead
from events.instants import instant_option
from events.settings import load
from events.views.moments import utc_text
from events.views.tables import page

EXIT_FAILED = 1


@click.command()
@click.argument("strategy", metavar="MODULE:CLASS", required=False)
@click.option("--symbol", "symbols", multiple=True, metavar="NAME", help="To trade; repeat.")
@click.option("--from", "from_ms", callback=instant_option, metavar="TIME", help="First moment.")
@click.option("--to", "to_ms", callback=instant_option, metavar="TIME", help="End (not included).")
@click.option(
    "--source", "sources", multiple=True, metavar="WHAT",
    help="redis, archive, database, all, or files of ticks or M1 bars; repeat.  [default: all]",
)  # fmt: skip
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="A parameter; repeat.")
@click.option("--risk", "rules", default="", metavar="RULES", help="Risk rules: file or pack.")
@click.option("--spec", default="", metavar="FILE", help="Account and instruments (TOML).")
@click.option("--write-spec", metavar="FILE", help="Write a spec to fill in, and end.")
@click.option("--terminal", default="", metavar="NAME", help="Whose recording.")
@click.option("--balance", type=click.FloatRange(min=0, min_open=True), help="To begin with.")
@click.option("--latency", default="", metavar="MS", help="50, 20-80, or 50/200 (median/95 %).")
@click.option("--slippage", default="", metavar="POINTS", help="Written as --latency.")
@click.option("--clock", default="", metavar="RULE", help="The broker's clock, of files.")
@click.option("--file-clock", default="", metavar="RULE", help="Clock of the times in files.")
@click.option("--bars", is_flag=True, help="Recorded M1 bars in place of ticks.")
@click.option(
    "--account-interval", "looks_s", type=click.FloatRange(min=0.1), default=1.0,
    show_default=True, metavar="SECONDS",
    help="Market time between looks at the account, for risk rules and on_account.",
)  # fmt: skip
@click.option(
    "--check-look-ahead", "checks", is_flag=True,
    help="Run it again with its input cut behind signals: they must be the same.",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Of drawn latencies.")
@click.option(
    "--grid", "grids", multiple=True, metavar="NAME=FROM:TO:STEP",
    help="Values of a parameter to try, or NAME=A,B,C; repeat.",
)  # fmt: skip
@click.option(
    "--sort", "figure", default="net_profit", show_default=True, metavar="FIGURE",
    help="By what combinations are judged.",
)  # fmt: skip
@click.option(
    "--walk-forward", "windows", type=click.IntRange(1, 500), metavar="N",
    help="Choose on one window, trade on the next, N times.",
)  # fmt: skip
@click.option(
    "--in-sample", type=click.IntRange(1, 100), default=3, show_default=True, metavar="TIMES",
    help="How much longer the windows to choose on are.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 60), metavar="N",
    help="Processes of a grid.  [default: one per core]",
)  # fmt: skip
@click.option("--report", metavar="FILE.html", help="Draw it: one page that needs no network.")
@click.option("--save", metavar="FILE.json", help="Write the whole result.")
@click.option("--json", "as_json", is_flag=True, help="The whole result on stdout.")
def backtest(strategy: str | None, write_spec: str | None, as_json: bool, sets: tuple[str, ...],
             checks: bool, **asked: Any) -> None:  # fmt: skip
    """Run a strategy over recorded ticks, files of ticks, or M1 bars.

    The broker model fills at bid and ask, with margin, stop-out, swap and costs; the handlers of
    execution, trades and risk are the live ones. Facts come from the recording or --spec: without
    them nothing is run. Leaves with 1 when the strategy failed, or looks ahead. With --grid the
    files are those of the best combination, with --walk-forward of all windows that were traded.

    \b
    bridgectl backtest ema_cross:EmaCross --symbol EURUSD --from 2026-11-01 --to 2026-11-20
    bridgectl backtest my.py:Mine --source EURUSD_202401.csv.gz --spec demo.toml --set fast=10
    bridgectl backtest my.py --symbol EURUSD --risk ftmo-1-step --report result.html
    bridgectl backtest my.py --symbol EURUSD --grid fast=5:20:5 --grid slow=30,50 --sort sharpe
    bridgectl backtest my.py --symbol EURUSD --grid fast=5:20:5 --walk-forward 6
    """
    if write_spec is not None:
        _write_spec(Path(write_spec), asked["symbols"])
        return
    if strategy is None:
        raise click.UsageError("which strategy? Write it as MODULE:CLASS or FILE.py:CLASS")
    if checks and (asked["grids"] or asked["windows"]):
        raise click.UsageError("--check-look-ahead is for one run: leave out --grid")
    unread = [text for text in sets if "=" not in text]
    if unread:
        raise click.UsageError(f"--set {unread[0]!r}: write NAME=VALUE")
    output = Output(*(Path(path) if path else None for path in map(asked.pop, ("save", "report"))))
    options = SweepOptions(**{one.name: asked.pop(one.name) for one in fields(SweepOptions)})
    request = BacktestRequest(
        strategy, parameters=dict(text.partition("=")[::2] for text in sets), **asked
    )
    try:
        output.check()
        if options.asked:
            sweep(request, options, output, as_json=as_json)
            return
        result = _run(request, hush=as_json)
        ahead = _checked(request, hush=as_json) if checks and not result.stopped else None
        output.write(result)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(result_json(result))
    else:
        print_result(page(), result)
    if ahead is not None:
        click.echo("\n".join((str(ahead), *ahead.differences)), err=as_json)
    if result.stopped or (ahead is not None and ahead.differences):
        raise click.exceptions.Exit(EXIT_FAILED)


def _write_spec(target: Path, symbols: tuple[str, ...]) -> None:
    if target.exists():
        raise click.UsageError(f"{target} is there already: name another file")
    target.write_text(spec_text(example_spec(symbols or ("EURUSD",))), encoding="utf-8")
    click.echo(f"written: {target}; compare every line with your account")


def _progress(hush: bool) -> Progress:
    return Progress(console=Console(stderr=True), disable=hush or not sys.stderr.isatty())


def _run(request: BacktestRequest, *, hush: bool) -> BacktestResult:
    """One run, with a bar that knows how far it is where the span is known."""
    begin, end = request.from_ms, request.to_ms
    total = None if begin is None or end is None else end - begin
    with planned(request, load()) as plan, _progress(hush) as progress:
        bar = progress.add_task("ticks", total=total)

        def told(ticks: int, time_ms: int) -> None:
            text = f"{ticks:,} ticks, {utc_text(time_ms)[:16]}"
            done = ticks if begin is None or end is None else time_ms - begin
            progress.update(bar, completed=done, description=text)

        return run_backtest(plan, told=told)


def _checked(request: BacktestRequest, *, hush: bool) -> LookAhead:
    with _progress(hush) as progress:
        bar = progress.add_task("looking for a look ahead", total=None)
        return check_look_ahead(
            request, told=lambda done, all_: progress.update(bar, completed=done, total=all_)
        )

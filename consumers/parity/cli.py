"""The command `parity`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from consumers.backtest.broker import Amount
from consumers.backtest.broker.spec.file import load_spec
from consumers.backtest.sources.source import Span
from consumers.parity.finding import group_of, terminal_of
from consumers.parity.page import told as page_of
from consumers.parity.running import ParityRequest, compared
from events.cli import opened_log
from events.instants import instant_option
from events.log import LogError
from events.retention.opening import whole_log
from events.settings import load
from events.views.moments import utc_text
from events.views.tables import page

EXIT_DIFFERS = 1


@click.command()
@click.option("--strategy", "name", required=True, metavar="NAME", help="As it is enabled.")
@click.option("--from", "from_ms", callback=instant_option, metavar="TIME", help="First moment.")
@click.option("--to", "to_ms", callback=instant_option, metavar="TIME", help="End (not included).")
@click.option("--terminal", default="", metavar="NAME", help="Where it ran.")
@click.option("--code", default="", metavar="FILE:CLASS", help="Compare with this code.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="A parameter; repeat.")
@click.option("--spec", default="", metavar="FILE", help="Facts that go before recorded ones.")
@click.option(
    "--latency", default="", metavar="MS",
    help="Of every order in the model: 50, 20-80, or 50/200.  [default: as seen live, per order]",
)  # fmt: skip
@click.option(
    "--tolerance", type=click.FloatRange(0, 100), default=0.0, show_default=True,
    metavar="PERCENT", help="Share of signals, and of fills, that may differ.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def parity(
    name: str,
    from_ms: int | None,
    to_ms: int | None,
    terminal: str,
    code: str,
    sets: tuple[str, ...],
    spec: str,
    latency: str,
    tolerance: float,
    as_json: bool,
) -> None:
    """Compare what a strategy did live with a backtest of it over the same recorded ticks.

    The backtest begins where the strategy began, with its parameters, and reads what it read in
    the order in which it did. Signals are compared one by one, then fills with the broker model's;
    every difference has a cause. Leaves with 1 when more differs than --tolerance allows.

    \b
    bridgectl parity --strategy ema-cross --from 2026-11-01 --to 2026-11-20
    bridgectl parity --strategy ema-cross --terminal demo --tolerance 1 --json
    """
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise click.UsageError("--from lies behind --to")
    unread = [text for text in sets if "=" not in text]
    if unread:
        raise click.UsageError(f"--set {unread[0]!r}: write NAME=VALUE")
    settings = load()
    try:
        with opened_log(settings) as bare:
            log = whole_log(bare, settings)
            namespace = terminal_of(log, name, terminal)
            group, ran = group_of(
                log, namespace, name, code=code,
                parameters=dict(text.partition("=")[::2] for text in sets),
                configured=tuple(settings.strategies),
            )  # fmt: skip
            request = ParityRequest(
                namespace, group, ran, Span(from_ms, to_ms),
                spec=load_spec(Path(spec)) if spec else None,
                latency=Amount.parse(latency, what="--latency") if latency else None,
            )  # fmt: skip
            with Progress(
                console=Console(stderr=True), disable=as_json or not sys.stderr.isatty()
            ) as progress:
                bar = progress.add_task("ticks", total=None)

                def shown(ticks: int, time_ms: int) -> None:
                    text = f"{ticks:,} ticks, {utc_text(time_ms)[:16]}"
                    progress.update(bar, completed=ticks, description=text)

                result = compared(log, request, told=shown)
    except (ValueError, LogError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(result.as_json(), allow_nan=False))
    else:
        console = page()
        for part in page_of(result):
            console.print(part, markup=False)
    if not result.within(tolerance):
        raise click.exceptions.Exit(EXIT_DIFFERS)

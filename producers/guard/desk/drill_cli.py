"""The command `drill`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Literal

import click

from producers.guard.desk.drill import POSITIONS_MAX, DrillResult, run_drill


@click.command()
@click.option("--positions", type=click.IntRange(1, POSITIONS_MAX), default=20, show_default=True,
              help="How many positions are opened and must be closed.")  # fmt: skip
@click.option("--latency", type=click.Choice(["native", "none"]), default="native",
              show_default=True,
              help="native: an order takes 250 ms at the broker, as published.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def drill(
    ctx: click.Context, positions: int, latency: Literal["native", "none"], as_json: bool
) -> None:
    """Rehearse a breach: positions, a fall in price, latch, flatten, verification.

    Runs on a simulated account of its own and touches nothing else. Leaves with 0 when the
    account ended FLAT and an order after the latch was refused.

    \b
    bridgectl drill
    bridgectl drill --positions 200 --latency none --json
    """

    def tell(line: str) -> None:
        click.echo(line, err=as_json)

    with tempfile.TemporaryDirectory(prefix="mt5-bridge-drill-") as folder:
        result = run_drill(Path(folder), positions=positions, latency=latency, tell=tell)
    if as_json:
        click.echo(json.dumps(result.to_json()))
    else:
        _show(result)
    ctx.exit(0 if result.good else 1)


def _show(result: DrillResult) -> None:
    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value:9.0f} ms"

    click.echo(f"breach -> seen by the guard    {ms(result.breach_to_seen_ms)}")
    click.echo(f"breach -> latched              {ms(result.breach_to_latch_ms)}")
    click.echo(f"seen   -> last close confirmed {ms(result.breach_to_flat_ms)}")
    click.echo(f"seen   -> verified, three looks{ms(result.verified_ms)}")
    click.echo(f"{result.requests} requests for {result.positions} positions")
    after = "refused" if result.orders_refused else "TAKEN"
    click.secho(
        f"{result.state}; orders after the latch are {after}",
        fg="green" if result.good else "red",
    )

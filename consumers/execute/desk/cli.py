"""The commands `execution on`, `execution off` and `execution status`."""

from __future__ import annotations

import json
import time
import uuid
from typing import Literal

import click

from consumers.execute.desk.page import page_of
from consumers.execute.desk.standing import login_of, standings
from consumers.failures.request import operator_name
from events.cli import opened_log
from events.codec import encode
from events.executing import ExecutionSet
from events.log import ACCOUNT_PARTITION, OPERATOR, Log, LogError, Slot
from events.origin import refuse_unless_live
from events.settings import load
from events.views.tables import page

ORDERS_PER_MINUTE = 30
_terminal_option = click.option(
    "--terminal", "name", required=True, metavar="NAME", help="Of which terminal."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.command()
@_terminal_option
@click.option("--live", is_flag=True, help="Send to a real terminal; without: paper only.")
@click.option(
    "--strategy", "strategies", multiple=True, metavar="NAME", help="Only this one; repeat."
)
@click.option(
    "--lots-max",
    type=click.FloatRange(min=0, min_open=True),
    metavar="LOTS",
    help="Largest volume of one order.",
)
@click.option(
    "--orders-per-minute",
    type=click.IntRange(min=1, max=600),
    default=ORDERS_PER_MINUTE,
    show_default=True,
    help="Largest rate of orders.",
)
@_json_option
def switch_on(
    name: str,
    live: bool,
    strategies: tuple[str, ...],
    lots_max: float | None,
    orders_per_minute: int,
    as_json: bool,
) -> None:
    """Act on signals from now on: on paper, or with --live at the real terminal.

    Paper orders go to simulated terminals only. Live ones also need `execution = "live"` in the
    settings of the machine where the terminal's producer runs. Signals that came before are not
    made up for.

    \b
    bridgectl execution on --terminal demo
    bridgectl execution on --terminal ftmo --live --strategy ema-cross --lots-max 0.5
    """
    mode: Literal["paper", "live"] = "live" if live else "paper"
    with opened_log(load()) as log:
        refuse_unless_live(log, name, who="acting on signals") if name in log.namespaces() else None
        switch = _switch(
            log, name, mode, strategies=strategies, lots_max=lots_max, rate=orders_per_minute
        )
    if as_json:
        click.echo(switch.model_dump_json())
        return
    click.echo(f"{name}, account {switch.login}: signals are acted on, {mode}")
    click.echo(f"follow it: bridgectl execution status --terminal {name}")


@click.command()
@_terminal_option
@_json_option
def switch_off(name: str, as_json: bool) -> None:
    """Act on no signals any more. Positions and pending orders stay as they are.

    \b
    bridgectl execution off --terminal demo
    bridgectl halt --terminal demo      (stops everything, not only signals)
    """
    with opened_log(load()) as log:
        switch = _switch(log, name, "off")
    if as_json:
        click.echo(switch.model_dump_json())
    else:
        click.echo(f"{name}, account {switch.login}: signals are not acted on; positions stay")


def _switch(
    log: Log,
    name: str,
    mode: Literal["off", "paper", "live"],
    *,
    strategies: tuple[str, ...] = (),
    lots_max: float | None = None,
    rate: int = ORDERS_PER_MINUTE,
) -> ExecutionSet:
    """Post the switch of a terminal's account. Raises LogError."""
    known = log.namespaces()
    if name not in known:
        there = ", ".join(sorted(known)) or "none yet"
        raise LogError(f"the log holds no terminal {name!r}; there is: {there}")
    login = login_of(log, name)
    if login is None:
        raise LogError(f"no account of {name} was seen yet: start it with `bridgectl up`")
    switch = ExecutionSet(
        event_time_ms=int(time.time() * 1000), login=login, mode=mode, strategies=strategies,
        volume_lots_max=lots_max, orders_per_minute_max=rate, set_by=operator_name(),
        set_id=uuid.uuid4().hex,
    )  # fmt: skip
    log.post(Slot(name, OPERATOR, ACCOUNT_PARTITION), encode(switch), once=switch.set_id)
    return switch


@click.command()
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only of these; repeat.")
@_json_option
def status(names: tuple[str, ...], as_json: bool) -> None:
    """Show the switch, the latch, targets, intents under way, and the last answers.

    \b
    bridgectl execution status
    bridgectl execution status --terminal demo --json | jq .terminals[0].targets
    """
    with opened_log(load()) as log:
        found = standings(log, names)
    now_ms = int(time.time() * 1000)
    if as_json:
        each = [one.as_json() for one in found]
        click.echo(json.dumps({"now_ms": now_ms, "terminals": each}))
        return
    if not found:
        click.echo("the log holds no terminal yet: start one with `bridgectl up`")
    for one in found:
        page().print(page_of(one, now_ms=now_ms))

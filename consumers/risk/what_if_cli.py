"""The command `risk what-if`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from consumers.risk.what_if import WhatIf
from consumers.risk.what_if import what_if as tried
from events.cli import opened_log
from events.log import LogError
from events.retention.opening import whole_log
from events.rules import Rules
from events.rules.files import load_rules, pack_names, rules_of_text
from events.settings import load
from events.views.moments import utc_text
from events.views.tables import BAD, GOOD, page


class NoTerminal(LogError):
    """There is nothing to run over. The message names the cure."""


def _moment(ctx: click.Context, param: click.Parameter, given: str | None) -> int | None:
    """A date or a time in ISO 8601 as UTC milliseconds; without a zone it is UTC."""
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise click.BadParameter(
            f"{given!r} is no moment: write 2026-11-20 or 2026-11-20T08:30 (UTC)",
            ctx=ctx, param=param,
        ) from error  # fmt: skip
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int(moment.timestamp() * 1000)


def read_rules(given: str, initial: float | None) -> Rules:
    """A rule file, or a pack by its name. Raises BadRules."""
    if given in pack_names() and not Path(given).exists():
        rules = rules_of_text(f'extends = "{given}"\n', where=given, folder=Path())
    else:
        rules = load_rules(Path(given))
    if initial is None:
        return rules
    known = {"initial_balance": initial, "high_water": rules.account.high_water or initial}
    account = rules.account.model_copy(update=known)
    return rules.model_copy(update={"account": account})


@click.command("what-if")
@click.argument("rules", metavar="RULES")
@click.option("--from", "from_ms", callback=_moment, metavar="TIME", help="Tell of what follows.")
@click.option(
    "--to", "until_ms", callback=_moment, metavar="TIME", help="Tell of what came before."
)
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only of these; repeat.")
@click.option(
    "--initial", type=click.FloatRange(min=0, min_open=True), metavar="MONEY",
    help="Initial balance, where the rules do not say it.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def what_if(
    rules: str,
    from_ms: int | None,
    until_ms: int | None,
    names: tuple[str, ...],
    initial: float | None,
    as_json: bool,
) -> None:
    """Run other rules over what the log keeps: what would have tripped, when, saved or cost.

    RULES is a rule file, or the name of a pack. Nothing is written to the log and nobody is told.
    Saved is what would have been left after closing, less what the account came to by the end of
    the lock; deposits and withdrawals count as neither.

    \b
    bridgectl risk what-if stricter.toml
    bridgectl risk what-if ftmo-1-step --initial 100000 --from 2026-11-01 --to 2026-11-20
    bridgectl risk what-if stricter.toml --terminal demo --json
    """
    wanted = read_rules(rules, initial)
    settings = load()
    found: list[WhatIf] = []
    with opened_log(settings) as bare, Progress(
        console=Console(stderr=True), disable=as_json or not sys.stderr.isatty()
    ) as progress:  # fmt: skip
        log = whole_log(bare, settings)
        chosen = names or tuple(sorted(log.namespaces()))
        if not chosen:
            raise NoTerminal("the log holds no terminal yet: start one with `bridgectl up`")
        for name in chosen:
            bar = progress.add_task(name, total=None)

            def told(done: int, total: int, bar: TaskID = bar) -> None:
                progress.update(bar, completed=done, total=total)

            found.append(tried(log, name, wanted, from_ms=from_ms, until_ms=until_ms, told=told))
    if as_json:
        each = [one.as_json() for one in found]
        click.echo(json.dumps({"terminals": each}, allow_nan=False))
        return
    for one in found:
        _show(one)


def _show(found: WhatIf) -> None:
    console = page()
    span = f"{utc_text(found.first_ms)} to {utc_text(found.last_ms)}"
    console.print(Text(f"{found.namespace} under {found.rules}: {span} UTC", style="bold"))
    if found.unknown:
        names = ", ".join(found.unknown)
        console.print(f"unknown, so a worst case was taken: {names} (try --initial)")
    if not found.trips:
        console.print(f"nothing would have tripped ({found.warnings} warnings)")
        return
    table = Table()
    for name in ("when (UTC)", "limit", "action", "value", "acts at", "equity", "worst after",
                 "last after", "saved"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("limit", "action") else "right")
    for trip in found.trips:
        saved = trip.saved
        shown = "-" if saved is None else f"{saved:+,.2f}"
        table.add_row(
            utc_text(trip.at_ms), trip.limit, trip.action,
            "unknown" if trip.value is None else f"{trip.value:,.2f}", f"{trip.threshold:,.2f}",
            f"{trip.equity:,.2f}", f"{trip.worst_equity:,.2f}", f"{trip.last_equity:,.2f}",
            Text(shown, style="" if saved is None else GOOD if saved >= 0 else BAD),
        )  # fmt: skip
    console.print(table)
    console.print(f"saved in all: {found.saved:+,.2f}; {found.warnings} warnings before")

"""The command `analytics`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import click

from consumers.analytics.adding import BY, BY_TIME, AccountRows, added
from consumers.analytics.page import analytics_page
from consumers.analytics.recorded import ANALYTICS, KINDS, Levels, Wanted, recorded
from consumers.trades.asked import END_MS, midnight_ms, opened_archive, terminals_of
from events.cli import opened_log
from events.instants import instant_option
from events.log import Log
from events.retention.opening import whole_log
from events.settings import load
from events.views.state import collect
from events.views.tables import page

CURE = "run `bridgectl consume --group analytics` (beside `--group trades`, which `up` runs)"
Currencies = dict[tuple[str, int | None], str]


def zone_option(ctx: click.Context, param: click.Parameter, value: str) -> ZoneInfo:
    """A click callback: a name of the IANA database as its zone."""
    try:
        return ZoneInfo(value)
    except (ValueError, OSError, LookupError):  # a path, a folder, an unknown name
        raise click.BadParameter(
            f"{value!r} is no time zone: write UTC, Europe/London or America/New_York",
            ctx=ctx,
            param=param,
        ) from None


@click.command()
@click.option("--by", type=click.Choice(BY), default="hour", show_default=True, help="Rows.")
@click.option("--today", is_flag=True, help="Since the broker's midnight.")
@click.option("--from", "from_ms", callback=instant_option, metavar="TIME", help="Hours since.")
@click.option("--to", "until_ms", callback=instant_option, metavar="TIME", help="Hours before.")
@click.option(
    "--zone", callback=zone_option, default="UTC", show_default=True, metavar="IANA",
    help="Whose hours, weekdays and months.",
)  # fmt: skip
@click.option("--symbol", "symbols", multiple=True, help="Only this symbol; repeat.")
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def analytics(
    by: str,
    today: bool,
    from_ms: int | None,
    until_ms: int | None,
    zone: ZoneInfo,
    symbols: tuple[str, ...],
    names: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what trading brought and cost, by hour, weekday, month, symbol or strategy.

    Closed trades with their net result, costs, slippage and half spreads, and how wide spreads
    were, as group `analytics` derived them; trades count in the hour in which they were closed.
    Without a span: everything there is, in the log and in the database, where there is one.

    TIME is 2026-11-23 or 2026-11-23T14:05, in UTC unless it names a zone (+02:00).

    \b
    bridgectl analytics
    bridgectl analytics --by weekday --zone America/New_York
    bridgectl analytics --by strategy --from 2026-11-01 --to 2026-12-01
    bridgectl analytics --by symbol --today --json
    """
    if today and (from_ms is not None or until_ms is not None):
        raise click.UsageError("--today is a span of its own: leave --from and --to out")
    settings = load()
    kinds = [kind.TYPE for kind in KINDS]
    with opened_log(settings) as bare, opened_archive(settings, *kinds) as stored:
        log = whole_log(bare, settings)
        found = []
        for name in terminals_of(log, names, ANALYTICS, cure=CURE):
            begin_ms = midnight_ms(log, name) if today else from_ms or 0
            end_ms = END_MS if until_ms is None else until_ms
            wanted = Wanted(begin_ms, end_ms, symbols=frozenset(symbols))
            levels = recorded(log, name, wanted, stored=stored)
            found.append((levels, added(levels, by, zone)))
        currencies = _currencies(log, [levels.terminal for levels, _ in found])
    if as_json:
        told = [_as_json(levels, accounts, currencies) for levels, accounts in found]
        click.echo(json.dumps({"by": by, "zone": zone.key, "terminals": told}))
    else:
        title = f"{by} ({zone.key})" if by in BY_TIME else by
        console = page()
        console.print(
            analytics_page(found, title=title, currencies=currencies, width=console.width)
        )


def _currencies(log: Log, names: Sequence[str]) -> Currencies:
    """By terminal and login, of the accounts that are logged in."""
    return {
        (name, one.account.login): one.account.currency
        for name in names
        for one in collect(log, only=name)
        if one.account is not None
    }


def _as_json(
    levels: Levels, accounts: Sequence[AccountRows], currencies: Currencies
) -> dict[str, Any]:
    return {
        "terminal": levels.terminal,
        "cut": levels.cut,
        "accounts": [
            {
                "login": one.login,
                "currency": currencies.get((levels.terminal, one.login)),
                "total": one.total.as_json(),
                "rows": [row.as_json() for row in one.rows],
            }
            for one in accounts
        ],
    }

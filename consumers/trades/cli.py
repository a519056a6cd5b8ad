"""The commands `positions` and `trades`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import click

from consumers.trades.asked import END_MS, midnight_ms, opened_archive, terminals_of
from consumers.trades.holdings import holdings
from consumers.trades.page import holdings_page, trades_page
from consumers.trades.recorded import TRADES, Found, Wanted, recorded
from events.cli import opened_log
from events.instants import instant_option
from events.log import Log
from events.retention.opening import whole_log
from events.settings import load
from events.trading import TradeUpdate
from events.views.tables import page

CURE = "run `bridgectl consume --group trades` (`up` does)"


@click.command()
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def positions(names: tuple[str, ...], as_json: bool) -> None:
    """Show open positions: price, floating profit, swap, age, stops, strategy.

    They are as the newest look that was appended told them; how old that is stands beside them.

    \b
    bridgectl positions
    bridgectl positions --terminal ftmo
    bridgectl positions --json | jq '.terminals[].positions[].ticket'
    """
    with opened_log(load()) as log:
        found = holdings(log, names)
    now_ms = _now_ms()
    if as_json:
        shown = {"now_ms": now_ms, "terminals": [one.as_json() for one in found]}
        click.echo(json.dumps(shown))
    else:
        page().print(holdings_page(found, now_ms=now_ms))


@click.command()
@click.option("--today", is_flag=True, help="Since the broker's midnight (this is the default).")
@click.option("--from", "from_ms", callback=instant_option, metavar="TIME", help="Closed since.")
@click.option("--to", "until_ms", callback=instant_option, metavar="TIME", help="Closed before.")
@click.option("--symbol", "symbols", multiple=True, help="Only this symbol; repeat.")
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option("--open", "open_too", is_flag=True, help="Also trades that are open.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def trades(
    today: bool,
    from_ms: int | None,
    until_ms: int | None,
    symbols: tuple[str, ...],
    names: tuple[str, ...],
    open_too: bool,
    as_json: bool,
) -> None:
    """List closed trades with their net result, as group `trades` derived them.

    TIME is 2026-11-23 or 2026-11-23T14:05, in UTC unless it names a zone (+02:00). What left the
    log is read from the database, where there is one.

    \b
    bridgectl trades --today
    bridgectl trades --from 2026-11-01 --to 2026-12-01 --symbol EURUSD
    bridgectl trades --today --open --json
    """
    if today and (from_ms is not None or until_ms is not None):
        raise click.UsageError("--today is a span of its own: leave --from and --to out")
    settings = load()
    with opened_log(settings) as bare, opened_archive(settings, TradeUpdate.TYPE) as stored:
        log = whole_log(bare, settings)
        found = []
        for name in terminals_of(log, names, TRADES, cure=CURE):
            begin_ms = _begin_of(log, name, from_ms, until_ms)
            end_ms = END_MS if until_ms is None else until_ms
            wanted = Wanted(begin_ms, end_ms, symbols=frozenset(symbols), open_too=open_too)
            found.append(recorded(log, name, wanted, stored=stored))
    _tell(found, as_json=as_json)


def _tell(found: Sequence[Found], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"terminals": [one.as_json() for one in found]}))
    else:
        page().print(trades_page(found))


def _begin_of(log: Log, name: str, from_ms: int | None, until_ms: int | None) -> int:
    """The broker's midnight, unless a span is given."""
    if from_ms is not None:
        return from_ms
    return midnight_ms(log, name) if until_ms is None else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

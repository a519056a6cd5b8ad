"""The commands `risk status`, `risk headroom` and `risk reference set`."""

from __future__ import annotations

import json
import math
import time
import uuid
from typing import Any

import click

from consumers.failures.request import operator_name
from consumers.risk.status import AccountRisk, accounts, limits_page, lots_page, whole_page
from events.cli import opened_log
from events.codec import encode
from events.decisions import ReferenceSet
from events.log import ACCOUNT_PARTITION, OPERATOR, Log, LogError, Slot
from events.settings import load
from events.views.tables import page

terminals_option = click.option(
    "--terminal", "names", multiple=True, metavar="NAME", help="Only of these; repeat."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
_MONEY = click.FloatRange(min=0, min_open=True)


class NoAccount(LogError):
    """There is no such account in the log. The message names those there are."""


def _found(log: Log, names: tuple[str, ...]) -> list[AccountRisk]:
    found = accounts(log, names)
    if not found:
        known = ", ".join(sorted(log.namespaces())) or "none"
        raise NoAccount(
            f"no account was seen yet; terminals in the log: {known}. Start one with `bridgectl up`"
        )
    return found


@click.command()
@terminals_option
@json_option
def status(names: tuple[str, ...], as_json: bool) -> None:
    """Show every risk figure, headroom, locks, what is unknown, the guard and its latch.

    \b
    bridgectl risk status
    bridgectl risk status --terminal demo --json | jq .accounts[0].metrics.headroom
    """
    with opened_log(load()) as log:
        found = _found(log, names)
    now_ms = int(time.time() * 1000)
    if as_json:
        each = [one.as_json() for one in found]
        click.echo(json.dumps({"now_ms": now_ms, "accounts": each}))
        return
    for one in found:
        page().print(whole_page(one, now_ms=now_ms))


@click.command()
@terminals_option
@click.option("--symbol", "symbols", multiple=True, metavar="NAME", help="Only these; repeat.")
@json_option
def headroom(names: tuple[str, ...], symbols: tuple[str, ...], as_json: bool) -> None:
    """Show how far each limit is from acting, and the largest lot that could be opened now.

    The largest lot has its stop one daily standard deviation away (1 % of the price where too
    little is known of the symbol), and reaches no limit even there.

    \b
    bridgectl risk headroom
    bridgectl risk headroom --symbol EURUSD --json
    """
    with opened_log(load()) as log:
        found = [one for one in _found(log, names) if one.metrics is not None]
    if not found:
        raise NoAccount("there are no figures yet: run `bridgectl consume --group risk`")
    if as_json:
        each: list[dict[str, Any]] = []
        for one in found:
            assert one.metrics is not None
            lots = one.metrics.largest_lot
            each.append(
                {
                    "terminal": one.namespace, "login": one.login,
                    "headroom": one.metrics.headroom, "locks": one.metrics.locks,
                    "largest_lot": {s: v for s, v in lots.items() if not symbols or s in symbols},
                }
            )  # fmt: skip
        click.echo(json.dumps({"accounts": each}))
        return
    for one in found:
        assert one.metrics is not None
        page().print(f"{one.namespace}, account {one.login}")
        page().print(limits_page(one.metrics), lots_page(one.metrics, symbols))


@click.group()
def reference() -> None:
    """What losses are measured from: state what the bridge cannot know."""


@reference.command("set")
@click.option("--terminal", "name", required=True, metavar="NAME", help="Of which terminal.")
@click.option("--login", type=int, help="Of which account, where the terminal had several.")
@click.option("--initial", type=_MONEY, metavar="MONEY", help="Initial balance of the account.")
@click.option("--high-water", type=_MONEY, metavar="MONEY", help="Highest equity it ever had.")
@click.option("--day", type=_MONEY, metavar="MONEY", help="Reference of the day that runs.")
@click.option("--reason", required=True, metavar="TEXT", help="How you know; kept with it.")
@json_option
def reference_set(
    name: str,
    login: int | None,
    initial: float | None,
    high_water: float | None,
    day: float | None,
    reason: str,
    as_json: bool,
) -> None:
    """State what drawdown and daily loss are measured from, in account currency.

    New trades are blocked while a limit rests on something nobody knows, such as after a first
    start, or when a reset was missed. The firm's dashboard shows these figures.

    \b
    bridgectl risk reference set --terminal demo --initial 100000 --high-water 104250 --reason "..."
    bridgectl risk reference set --terminal demo --day 101800 --reason "firm's dashboard at 00:01"
    """
    if initial is None and high_water is None and day is None:
        raise click.UsageError("state at least one of --initial, --high-water and --day")
    if not all(math.isfinite(given) for given in (initial, high_water, day) if given is not None):
        raise click.UsageError("nan and inf are no sums of money: give numbers, such as 100000")
    with opened_log(load()) as log:
        known = _found(log, (name,))
        logins = [one.login for one in known]
        if login is None and len(logins) > 1:
            shown = ", ".join(map(str, logins))
            raise click.UsageError(f"{name} had several accounts: add --login, one of {shown}")
        if login is not None and login not in logins:
            raise NoAccount(f"{name} never had account {login}; it had {logins}")
        stated = ReferenceSet(
            event_time_ms=int(time.time() * 1000),
            login=logins[0] if login is None else login,
            set_by=operator_name(),
            reason=reason,
            initial_balance=initial,
            high_water=high_water,
            day_reference=day,
            set_id=uuid.uuid4().hex,
        )
        place = log.post(Slot(name, OPERATOR, ACCOUNT_PARTITION), encode(stated))
    if as_json:
        click.echo(json.dumps({"posted": str(place), **stated.model_dump(mode="json")}))
    else:
        click.echo(f"stated for account {stated.login}: `bridgectl risk status` shows what holds")

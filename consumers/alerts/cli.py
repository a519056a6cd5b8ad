"""The commands `alerts list` and `alerts test`."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence

import click
from rich.table import Table
from rich.text import Text

from consumers.alerts.newest import Told, newest_alerts
from events.alerts import Alert
from events.cli import opened_log
from events.notify import BadTarget, Message, deliver, target_names, targets_of
from events.settings import load
from events.views.moments import utc_text
from events.views.tables import BAD, DIM, GOOD, page

COUNT_MAX = 1_000
STYLES = {"info": "", "warning": "yellow", "critical": BAD}


@click.command("list")
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="Only of these; repeat.")
@click.option("--open", "only_open", is_flag=True, help="Only what is not over.")
@click.option(
    "--count", type=click.IntRange(1, COUNT_MAX), default=20, show_default=True, help="At most."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def alerts_list(names: tuple[str, ...], only_open: bool, count: int, as_json: bool) -> None:
    """Show the newest alerts, whether they were delivered to anybody or not.

    Group `watch` finds them: `bridgectl up` runs it, or `bridgectl consume --group watch`.

    \b
    bridgectl alerts list
    bridgectl alerts list --open
    bridgectl alerts list --terminal demo --count 100 --json
    """
    with opened_log(load()) as log:
        told = newest_alerts(log, namespaces=names, count_max=count, only_open=only_open)
    if as_json:
        click.echo(json.dumps({"alerts": [one.to_json() for one in told]}))
    elif not told:
        click.echo("nothing is open" if only_open else "no alerts")
    else:
        page().print(_table(told))


@click.command("test")
@click.option("--target", "names", multiple=True, metavar="NAME", help="Only these; repeat.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def alerts_test(names: tuple[str, ...], as_json: bool) -> None:
    """Send a test alert to every target in ALERT_WEBHOOK and ALERT_URLS, past the log.

    Leaves with 1 when one of them did not take it.

    \b
    bridgectl alerts test
    bridgectl alerts test --target tgram --json
    """
    settings = load()
    known = target_names(settings)
    if not known:
        raise click.UsageError("no target is configured: set ALERT_WEBHOOK or ALERT_URLS")
    for name in names:
        if name not in known:
            raise click.UsageError(f"no target is called {name!r}: there is {', '.join(known)}")
    try:
        targets = targets_of(settings, names)
    except BadTarget as error:
        raise click.UsageError(str(error)) from error
    now_ms = int(time.time() * 1000)
    host = socket.gethostname()
    alert = Alert(
        event_time_ms=now_ms, severity="info", topic="test", subject=host,
        text=f"A test by somebody at {host}: alerts arrive here.",
    )  # fmt: skip
    outcomes = deliver(
        Message((alert,), place=f"test-{now_ms}", now_ms=now_ms), targets, settings.alert_timeout_s
    )
    if as_json:
        rows = [
            {"target": one.target, "result": one.result.value, "detail": one.detail,
             "took_ms": round(one.took_ms, 1)}
            for one in outcomes
        ]  # fmt: skip
        click.echo(json.dumps({"targets": rows}))
    for one in () if as_json else outcomes:
        why = f": {one.detail}" if one.detail else f" in {one.took_ms:.0f} ms"
        click.secho(f"{one.target} {one.result.value}{why}", fg="green" if one.delivered else "red")
    if not all(one.delivered for one in outcomes):
        raise click.exceptions.Exit(1)


def _table(told: Sequence[Told]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("UTC", "terminal", "severity", "topic", "subject", "text"):
        table.add_column(name, overflow="fold")
    for one in told:
        alert = one.alert
        state = Text("over", GOOD) if alert.resolved else Text(
            alert.severity, STYLES[alert.severity]
        )  # fmt: skip
        text = Text(alert.text, DIM if alert.resolved else "")
        if alert.count > 1:
            text.append(f" ({alert.count} times)", DIM)
        table.add_row(
            utc_text(alert.event_time_ms)[:19], one.terminal, state, alert.topic, alert.subject,
            text,
        )  # fmt: skip
    return table

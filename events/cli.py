"""Commands that only look: status, tail, doctor."""

from __future__ import annotations

import difflib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.live import Live

from events.codec import EVENT_TYPES, PACKED_VERSIONS
from events.log import OPERATOR, SOURCE, Lane, Log, LogUnavailable
from events.settings import Settings, load
from events.views import lines
from events.views.state import NamespaceState, collect, with_stored
from events.views.tables import page, status_view

REFRESH_S = 1.0
TAIL_MAX = 100_000
PERSIST = "persist"
"""The group whose offsets the database holds."""
_LANES = click.Choice([lane.label for lane in Lane])


class NoServer(RuntimeError):
    """There is no log to look at. The message names cause and cure."""


def _known_types(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    """Names of events; with a version (`ticks.2`) also those of a newer program."""
    known = sorted({*EVENT_TYPES, *PACKED_VERSIONS})
    for name in given:
        if name not in known and "." not in name:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise click.BadParameter(
                f"no event is called {name!r}: {hint}allowed: {', '.join(known)}"
            )
    return given


@contextmanager
def opened_log(settings: Settings) -> Iterator[Log]:
    """The log of the settings. Raises NoServer, LogUnavailable, LogError."""
    url = settings.redis_url()
    if url is None:
        raise NoServer(
            "no Redis is configured and no embedded one runs: "
            "start `bridgectl up`, or set REDIS_URL"
        )
    from events.redis import open_log

    log = open_log(url)
    try:
        yield log
    finally:
        log.close()


def confirm(question: str, *, yes: bool) -> None:
    """Go on only with a person's word. Raises click.UsageError."""
    try:
        agreed = yes or click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():  # somebody is there, and pressed Ctrl-C
            raise
        raise click.UsageError("nothing was changed: nobody answers here, so add --yes") from None
    if not agreed:
        raise click.UsageError("nothing was changed")


@click.command()
@click.option("--terminal", "name", metavar="NAME", help="Only this terminal.")
@click.option("--watch", is_flag=True, help="Stay, and look again every second.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def status(name: str | None, watch: bool, as_json: bool) -> None:
    """Show terminals, account, clock, prices, lanes, groups, lag and the last error.

    \b
    bridgectl status
    bridgectl status --watch
    bridgectl status --json | jq .namespaces[0].lag_by_group
    """
    settings = load()
    with opened_log(settings) as log:

        def look() -> tuple[NamespaceState, ...]:
            return _with_database(settings, _found(log, name))

        if as_json:
            found = [namespace.to_json() for namespace in look()]
            click.echo(json.dumps({"now_ms": _now_ms(), "namespaces": found}, allow_nan=False))
            return
        console = page()
        if not watch:
            console.print(status_view(look(), now_ms=_now_ms()))
            return
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(status_view(look(), now_ms=_now_ms()), refresh=True)
                time.sleep(REFRESH_S)


@click.command()
@click.option("--terminal", "name", metavar="NAME", help="Only this terminal.")
@click.option("--lane", "lane_names", type=_LANES, multiple=True, help="Only this lane; repeat.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="NAME",
    callback=_known_types,
    help="Only this event; repeat.",
)
@click.option("--key", "keys", multiple=True, help="Only this symbol, account, ticket; repeat.")
@click.option("--writer", "writers", multiple=True,
              help="Whose events: source, operator or a group; repeat. Default: source, operator; "
              "with --type everybody's.")  # fmt: skip
@click.option("-n", "count", type=click.IntRange(0, TAIL_MAX), default=20, show_default=True,
              help="So many of the newest entries.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on as new entries come.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def tail(
    name: str | None,
    lane_names: tuple[str, ...],
    types: tuple[str, ...],
    keys: tuple[str, ...],
    writers: tuple[str, ...],
    count: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the newest events of the log, decoded, times as server, UTC and local.

    \b
    bridgectl tail -f --type ticks --key EURUSD
    bridgectl tail --lane critical -n 100 --json
    bridgectl tail --type trade_signal
    """
    unnamed = None if types else (SOURCE, OPERATOR)
    chosen = [Lane[lane.upper()] for lane in lane_names] or list(Lane)
    with opened_log(load()) as log:
        streams = lines.streams_of(log, namespace=name, writers=writers or unnamed, lanes=chosen)
        if not streams:
            raise NoServer(_nothing_called(log, name))
        wanted = lines.Wanted(frozenset(types), frozenset(keys))
        ends = {stream: log.info(stream).last_id for stream in streams}
        for entry in lines.newest(log, ends, count_max=count, wanted=wanted):
            click.echo(json.dumps(lines.as_json(entry)) if as_json else lines.line(entry))
        for entry in lines.follow(log, ends) if follow else ():
            if wanted.takes(entry):
                click.echo(json.dumps(lines.as_json(entry)) if as_json else lines.line(entry))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check everything the bridge depends on: a line each, ok or cause and cure.

    Leaves with 1 when something keeps the bridge from working.

    \b
    bridgectl doctor
    bridgectl doctor --json
    """
    from events.health import Finding, Verdict, machine_findings, server_findings, windows_findings

    settings = load()
    findings: list[Finding] = []
    for source in (machine_findings(settings), windows_findings(), server_findings(settings)):
        for finding in source:
            findings.append(finding)
            if not as_json:
                colour = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.BAD: "red"}
                click.secho(finding.line(), fg=colour[finding.verdict])
    worst_is_bad = any(finding.verdict is Verdict.BAD for finding in findings)
    if as_json:
        rows = [
            {"subject": one.subject, "verdict": one.verdict, "fact": one.fact, "cure": one.cure}
            for one in findings
        ]
        click.echo(json.dumps({"healthy": not worst_is_bad, "findings": rows}))
    ctx.exit(1 if worst_is_bad else 0)


def _found(log: Log, name: str | None) -> tuple[NamespaceState, ...]:
    found = collect(log, only=name)
    if name is not None and not found:
        raise NoServer(_nothing_called(log, name))
    return found


def _with_database(
    settings: Settings, found: tuple[NamespaceState, ...]
) -> tuple[NamespaceState, ...]:
    """With the database's own offsets, where there is a database with our tables."""
    from events.postgres import DatabaseError, connect, read_offsets

    dsn = settings.postgres_url()
    if dsn is None:
        return found
    try:
        with connect(dsn, application="bridge status") as connection:
            return with_stored(found, read_offsets(connection, PERSIST))
    except DatabaseError as error:
        click.echo(f"the database is not shown: {error}", err=True)
        return found


def _nothing_called(log: Log, name: str | None) -> str:
    try:
        names = ", ".join(sorted(log.namespaces())) or "none yet (start `bridgectl up`)"
    except LogUnavailable:
        names = "not to be told"
    return f"the log holds no terminal called {name!r}: there is {names}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

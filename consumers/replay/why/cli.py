"""The command `why`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from consumers.replay.places import LAST, newest_of_type, read_place
from consumers.replay.why.causes import Archive, Why, why
from consumers.replay.why.causes_page import tree
from consumers.replay.why.ticket import FOUND_MAX, evidence
from consumers.replay.why.ticket import Archive as TicketArchive
from consumers.replay.why.ticket_page import as_json as as_plain
from consumers.replay.why.ticket_page import tree as ticket_tree
from events.cli import opened_log
from events.log import Entry, EntryId, Stream
from events.postgres import DatabaseError, connect, places_of_ticket, read_entries
from events.postgres.connection import Connection, translated
from events.retention.opening import whole_log
from events.settings import Settings, load
from events.views.tables import page


@click.command("why")
@click.argument("entry", required=False)
@click.option("--ticket", type=click.IntRange(1, 2**64 - 1), help="Of a position, order or deal.")
@click.option("--terminal", "names", multiple=True, metavar="NAME",
              help="For last:TYPE and --ticket; repeat.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def why_command(
    entry: str | None, ticket: int | None, names: tuple[str, ...], as_json: bool
) -> None:
    """Show what led to an entry and what followed from it, as a tree with times and delays.

    ENTRY is its place as `tail --json` and `dlq` print it, or last:TYPE for the
    newest of a type. Entries that left the log are looked up in segments on this machine and in
    the database.

    With --ticket: everything about a position, an order or a deal: orders with their deals, the
    trade, and the breach, command, latch and steps with which a guard closed it.

    \b
    bridgectl why last:trade_signal
    bridgectl why last:limit_breach --json
    bridgectl why demo:risk:0:high@1795408609110-12
    bridgectl why --ticket 5250012
    """
    if (entry is None) == (ticket is None):
        raise click.UsageError("name one: an ENTRY, or a ticket with --ticket")
    settings = load()
    if ticket is not None:
        _tell_ticket(ticket, names, settings, as_json=as_json)
        return
    assert entry is not None
    with opened_log(settings) as bare, _archive(settings) as archive:
        log = whole_log(bare, settings)
        if entry.startswith(LAST):
            newest = newest_of_type(log, entry.removeprefix(LAST), names)
            stream, id_ = newest.stream, newest.id
        else:
            stream, id_ = read_place(entry)
        found = why(log, stream, id_, archive=archive)
    _tell(found, as_json=as_json)


def _tell(found: Why, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        page().print(tree(found))
    if found.chain[-1].entry is None:
        raise click.exceptions.Exit(1)


def _tell_ticket(ticket: int, names: tuple[str, ...], settings: Settings, *, as_json: bool) -> None:
    with opened_log(settings) as bare, _connected(settings) as connection:
        log = whole_log(bare, settings)
        archive = (
            None
            if connection is None
            else ticket_archive(connection, settings.postgres_url() or "")
        )
        found = [
            one
            for name in sorted(names or log.namespaces())
            if (one := evidence(log, name, ticket, archive=archive)) is not None
        ]
    if as_json:
        click.echo(json.dumps({"ticket": str(ticket), "found": as_plain(found)}))
    else:
        for one in found:
            page().print(ticket_tree(one))
    if not found:
        where = f"the log of {', '.join(names)}" if names else "the log of any terminal"
        click.echo(f"bridgectl: nothing in {where} names ticket {ticket}", err=True)
        raise click.exceptions.Exit(1)


def ticket_archive(connection: Connection, dsn: str) -> TicketArchive:
    """Entries of the database that name a ticket; what cannot be read there is told, once."""

    def look_up(namespace: str, ticket: int) -> list[Entry]:
        try:
            with translated(dsn):
                places = places_of_ticket(connection, namespace, ticket, rows_max=FOUND_MAX)
                return [
                    entry
                    for stream, id_ in places
                    for entry in read_entries(connection, stream, first=id_, last=id_)
                ]
        except (DatabaseError, LookupError) as error:
            click.echo(f"the database is not asked: {error}", err=True)
            return []

    return look_up


@contextmanager
def _connected(settings: Settings) -> Iterator[Connection | None]:
    """The database, where there is one that answers."""
    dsn = settings.postgres_url()
    if dsn is None:
        yield None
        return
    try:
        connection = connect(dsn, application="bridge why")
    except DatabaseError as error:
        click.echo(f"the database is not asked: {error}", err=True)
        yield None
        return
    with connection:
        yield connection


@contextmanager
def _archive(settings: Settings) -> Iterator[Archive | None]:
    """The database as a place to look entries up, where there is one that answers."""
    dsn = settings.postgres_url() or ""
    with _connected(settings) as connection:
        if connection is None:
            yield None
            return

        def look_up(stream: Stream, id_: EntryId) -> Entry | None:
            try:
                with translated(dsn):
                    found = read_entries(connection, stream, first=id_, last=id_)
            except (DatabaseError, LookupError) as error:
                click.echo(f"{stream}@{id_} is not found in the database: {error}", err=True)
                return None
            return found[0] if found else None

        yield look_up

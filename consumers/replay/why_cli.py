"""The command `why`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from consumers.replay.causes import Archive, Why, why
from consumers.replay.causes_page import tree
from consumers.replay.places import LAST, newest_of_type, read_place
from events.cli import opened_log
from events.log import Entry, EntryId, Stream
from events.postgres import DatabaseError, connect, read_entries
from events.postgres.connection import translated
from events.retention.opening import whole_log
from events.settings import Settings, load
from events.views.tables import page


@click.command("why")
@click.argument("entry")
@click.option("--terminal", "names", multiple=True, metavar="NAME", help="For last:TYPE; repeat.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def why_command(entry: str, names: tuple[str, ...], as_json: bool) -> None:
    """Show what led to an entry and what followed from it, as a tree with times and delays.

    ENTRY is its place as `tail --json` and `dlq` print it, or last:TYPE for the
    newest of a type. Entries that left the log are looked up in segments on this machine and in
    the database.

    \b
    bridgectl why last:trade_signal
    bridgectl why last:limit_breach --json
    bridgectl why demo:risk:0:high@1795408609110-12
    """
    settings = load()
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


@contextmanager
def _archive(settings: Settings) -> Iterator[Archive | None]:
    """The database as a place to look entries up, where there is one that answers."""
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

        def look_up(stream: Stream, id_: EntryId) -> Entry | None:
            try:
                with translated(dsn):
                    found = read_entries(connection, stream, first=id_, last=id_)
            except (DatabaseError, LookupError) as error:
                click.echo(f"{stream}@{id_} is not found in the database: {error}", err=True)
                return None
            return found[0] if found else None

        yield look_up

"""What a command asks about: terminals that a group derived for, a span, the database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from consumers.trades.recorded import Stored
from events.log import Entry, Log, Stream
from events.postgres import DatabaseError, connect, read_newest
from events.postgres.connection import translated
from events.settings import Settings
from events.views.state import collect

DAY_MS = 86_400_000
END_MS = 2**62


class NothingDerived(RuntimeError):
    """There is nothing to show. The message names cause and cure."""


def terminals_of(log: Log, names: Sequence[str], group: str, *, cure: str) -> list[str]:
    """Every terminal that is asked for and that `group` derived something for. Raises
    NothingDerived, with `cure` where it never ran."""
    known = log.namespaces()
    unknown = sorted(set(names) - known.keys())
    if unknown:
        there = ", ".join(sorted(known)) or "none yet"
        raise NothingDerived(f"the log holds no terminal {unknown[0]!r}; there is: {there}")
    chosen = [name for name in sorted(names or known) if group in log.tasks.writers(name)]
    if not chosen:
        raise NothingDerived(f"no {group} were derived yet: {cure}")
    return chosen


def midnight_ms(log: Log, name: str) -> int:
    """The broker's last midnight (UTC ms); that of UTC where its clock is unknown."""
    account = next((one.account for one in collect(log, only=name)), None)
    offset_ms = account.offset_s * 1000 if account is not None else 0
    return (time.time_ns() // 1_000_000 + offset_ms) // DAY_MS * DAY_MS - offset_ms


@contextmanager
def opened_archive(settings: Settings, *names: str) -> Iterator[Stored | None]:
    """The database as a place to find older events called so, where there is one that answers."""
    dsn = settings.postgres_url()
    if dsn is None:
        yield None
        return
    try:
        connection = connect(dsn, application=f"bridge {names[0]}")
    except DatabaseError as error:
        click.echo(f"the database is not asked: {error}", err=True)
        yield None
        return
    with connection:

        def newest(stream: Stream, since_ms: int) -> list[Entry]:
            try:
                with translated(dsn):
                    return [
                        entry
                        for name in names
                        for entry in read_newest(connection, stream, name, since_ms=since_ms)
                    ]
            except DatabaseError as error:
                click.echo(f"the database is not asked: {error}", err=True)
                return []

        yield newest

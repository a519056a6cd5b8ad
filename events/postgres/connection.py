"""Connections to PostgreSQL: how they are opened, and what its errors mean to us.

Everything else in the bridge sees four errors: DatabaseUnavailable (wait and try again),
DatabaseRefused (a person must change something), RowsRejected (these rows can never be stored)
and, from the sink, SinkFenced.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import conninfo

Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 120
LOCK_TIMEOUT_S = 60
IDLE_IN_TRANSACTION_S = 60
TCP_USER_TIMEOUT_MS = 30_000
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 15.0

_UNAVAILABLE_CLASSES = ("08", "53", "57", "58", "40", "55", "25P", "25006", "XX")
"""SQLSTATE classes that pass: connection, resources (53100 is a full disk), operator
intervention and crash, system error, rollback, object in use, a transaction that took too long,
a standby that is not promoted yet, internal error."""
_REJECTED_CLASSES = ("22", "23")
"""Data exception and constraint violation."""


class DatabaseError(Exception):
    """PostgreSQL could not do what was asked. The message names cause and cure."""


class DatabaseUnavailable(DatabaseError):
    """No answer, or none now; the outcome of a commit is unknown. Connect again and look."""


class DatabaseRefused(DatabaseError):
    """The server answers, but will not let us work until a person changes something."""


class RowsRejected(DatabaseError):
    """The server will never take these rows."""


def connect(dsn: str, *, application: str, autocommit: bool = True) -> Connection:
    """A connection in UTC with deadlines. Raises DatabaseUnavailable or DatabaseRefused."""
    with translated(dsn):
        connection = psycopg.connect(dsn, **_link_options(dsn, application), autocommit=True)
        try:
            _prepare(connection)
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection


def wait_until_ready(
    dsn: str,
    *,
    tell: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], object] = time.sleep,
    chance: random.Random | None = None,
) -> bool:
    """Wait with back-off until the database answers; `tell` hears of it once, and of the end.

    Returns False when `stopped` became true first. Raises DatabaseRefused.
    """
    waits = backoff_s(chance or random.Random())  # noqa: S311 - spreads retries, no secret
    told = False
    while not stopped():
        try:
            connect(dsn, application="bridge wait").close()
        except DatabaseUnavailable as error:
            if not told:
                tell(f"{error}: waiting for it")
            told = True
            sleep(next(waits))
        else:
            if told:
                tell(f"database {where(dsn)} answers again")
            return True
    return False


def backoff_s(chance: random.Random) -> Iterator[float]:
    """Waits that double from RETRY_FIRST_S to RETRY_MAX_S, each shortened by up to a quarter."""
    wait_s = RETRY_FIRST_S
    while True:
        yield wait_s * (1 - chance.random() / 4)
        wait_s = min(wait_s * 2, RETRY_MAX_S)


@contextmanager
def translated(dsn: str) -> Iterator[None]:
    """Turn the driver's errors into ours, with cause and cure and without secrets."""
    try:
        yield
    except psycopg.Error as error:
        raise _ours(error, dsn) from error


def where(dsn: str) -> str:
    """`user@host:port/database`, for people; never the password."""
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        return "(address cannot be read)"
    host = parts.get("host") or "localhost"
    return f"{parts.get('user') or ''}@{host}:{parts.get('port') or 5432}/{_database(parts)}"


def _ours(error: psycopg.Error, dsn: str) -> DatabaseError:
    place, text = where(dsn), _first_line(error)
    state = error.sqlstate or _state_of_refused_connection(str(error))
    if state is None and isinstance(error, psycopg.ProgrammingError):
        return DatabaseRefused(f"the database's address cannot be read: {text}")
    if state is None and isinstance(error, psycopg.DataError):
        return RowsRejected(f"database {place} cannot take the rows: {text}")
    if state is None or state.startswith(_UNAVAILABLE_CLASSES):
        full = " (its disk is full: free some space)" if state == "53100" else ""
        return DatabaseUnavailable(f"database {place} is not available{full}: {text}{_start(text)}")
    if state.startswith(_REJECTED_CLASSES):
        return RowsRejected(f"database {place} rejected the rows: {text}")
    return DatabaseRefused(f"database {place} refused: {text}{_cure(state, dsn)}")


def _start(text: str) -> str:
    """What a person can do where nobody listens, or the name leads nowhere."""
    if "failed" not in text or "connection" not in text:
        return ""
    return " Start `bridgectl up`, or check POSTGRES_HOST and POSTGRES_PORT (or POSTGRES_URL)"


def _cure(state: str, dsn: str) -> str:
    if state in {"28P01", "28000"}:
        return ". Set the right POSTGRES_USER and POSTGRES_PASSWORD (or allow them in pg_hba.conf)"
    if state == "3D000":
        name = _database(conninfo.conninfo_to_dict(dsn))
        return f". Create it: createdb --encoding=UTF8 {name}"
    if state == "42501":
        return ". The bridge needs to own its database and to write in it"
    if state.startswith("42"):
        return ". Its tables are not those of this program: bring them up with `bridgectl migrate`"
    return ""


def _state_of_refused_connection(text: str) -> str | None:
    """libpq gives no SQLSTATE for errors while connecting; their text is all there is."""
    for part, state in (
        ("password authentication failed", "28P01"),
        ("no password supplied", "28P01"),
        ("no pg_hba.conf entry", "28000"),
        ("authentication failed", "28000"),
    ):
        if part in text:
            return state
    if 'database "' in text and "does not exist" in text:
        return "3D000"
    if 'role "' in text and "does not exist" in text:
        return "28000"
    return None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__


def _database(parts: dict[str, Any]) -> str:
    return str(parts.get("dbname") or parts.get("user") or "")


def _link_options(dsn: str, application: str) -> dict[str, Any]:
    given = conninfo.conninfo_to_dict(dsn)
    port = str(given.get("port") or "5432")
    if not all(part.isdecimal() for part in port.split(",")):
        raise DatabaseRefused(f"the database's address has port {port!r}: give a number")
    wanted: dict[str, Any] = {
        "application_name": application,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "client_encoding": "UTF8",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
    }
    return {name: value for name, value in wanted.items() if name not in given}


def _prepare(connection: Connection) -> None:
    connection.execute(
        "SELECT set_config('timezone', 'UTC', false),"
        " set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false),"
        " set_config('idle_in_transaction_session_timeout', %s, false)",
        (f"{STATEMENT_TIMEOUT_S}s", f"{LOCK_TIMEOUT_S}s", f"{IDLE_IN_TRANSACTION_S}s"),
    )

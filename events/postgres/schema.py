"""The database's schema: numbered SQL files, applied forward only.

Alembic keeps the count (table VERSION_TABLE in schema public). Every revision
runs one SQL file inside one transaction, under an advisory lock, so two starters do not collide.
Alembic and SQLAlchemy are imported only when there is something to apply: a start costs them not.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from events.postgres.connection import Connection, DatabaseRefused, connect, translated, where

FOLDER = Path(__file__).parent / "migrations"
VERSION_TABLE = "bridge_schema_version"
_LOCK_KEY = 0x6D74_3562  # "mt5b"
_one_at_a_time = threading.Lock()
"""Alembic's `op` is a global of the process."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """`current` is None for a database without our tables."""

    current: str | None
    newest: str
    timescaledb: str | None
    """Version of the extension where it is installed in this database."""

    @property
    def ready(self) -> bool:
        return self.current == self.newest


def newest() -> str:
    """The revision that this program works with."""
    return revisions()[-1]


def revisions() -> list[str]:
    """Every revision this program knows, oldest first: `vNNNN_what.py` is revision NNNN."""
    return sorted(path.name[1:5] for path in (FOLDER / "versions").glob("v[0-9]*_*.py"))


def current(dsn: str) -> SchemaState:
    """What the database has. Raises DatabaseUnavailable or DatabaseRefused."""
    with connect(dsn, application="bridge schema") as connection, translated(dsn):
        return _state(connection)


def check(dsn: str) -> SchemaState:
    """Raises DatabaseRefused unless the database has exactly the schema of this program."""
    state = current(dsn)
    if state.ready:
        return state
    if state.current is None:
        raise DatabaseRefused(f"database {where(dsn)} has no tables yet: run `bridgectl migrate`")
    if state.current in revisions():
        raise DatabaseRefused(
            f"database {where(dsn)} has schema {state.current}, this program needs {state.newest}: "
            "run `bridgectl migrate`"
        )
    raise DatabaseRefused(
        f"database {where(dsn)} has schema {state.current}, newer than this program's "
        f"{state.newest}: upgrade the program (pip install -U mt5-stream-bridge)"
    )


def migrate(dsn: str, *, to: str | None = None) -> SchemaState:
    """Bring the database up to this program's schema (or to an older revision of it, for data of
    that time); nothing to do is fine.

    Raises DatabaseRefused when it is newer, holds foreign tables of our names, or is not UTF8.
    """
    with (
        _one_at_a_time,
        connect(dsn, application="bridge migrate", autocommit=False) as connection,
        translated(dsn),
    ):
        # Of the session, not of the transaction: SQLAlchemy begins with a rollback of its own.
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        _require_utf8(connection, dsn)
        state = _state(connection)
        if not state.ready and (to is None or state.current is None):
            _refuse_unknown(state, dsn)
            _upgrade(connection, to or "head")
        connection.commit()
        return _state(connection)


def run_sql_file(name: str) -> None:
    """What a revision does: run the statements of one file of this folder."""
    from alembic import op

    sql = (FOLDER / name).read_bytes()
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(sql)


def _upgrade(connection: Connection, to: str) -> None:
    """Run the missing revisions on this very connection, inside its open transaction."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine, pool

    scripts = ScriptDirectory(str(FOLDER), version_locations=[str(FOLDER / "versions")])
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=pool.StaticPool
    )
    with engine.connect() as alchemy:
        context = MigrationContext.configure(
            alchemy,
            opts={
                "fn": lambda revision, _: scripts._upgrade_revs(to, revision),
                "version_table": VERSION_TABLE,
                "transactional_ddl": False,
            },
        )
        with Operations.context(context):
            context.run_migrations()
        alchemy.commit()


def _state(connection: Connection) -> SchemaState:
    known = connection.execute("SELECT to_regclass(%s)", (f"public.{VERSION_TABLE}",)).fetchone()
    revision = None
    if known and known[0]:
        row = connection.execute(
            f"SELECT version_num FROM public.{VERSION_TABLE}"  # noqa: S608 - our own constant
        ).fetchone()
        revision = row[0] if row else None
    extension = connection.execute(
        "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
    ).fetchone()
    return SchemaState(revision, newest(), extension[0] if extension else None)


def _refuse_unknown(state: SchemaState, dsn: str) -> None:
    if state.current is not None and state.current not in revisions():
        raise DatabaseRefused(
            f"database {where(dsn)} has schema {state.current}, newer than this program's "
            f"{state.newest}: upgrade the program (pip install -U mt5-stream-bridge)"
        )


def _require_utf8(connection: Connection, dsn: str) -> None:
    row = connection.execute("SHOW server_encoding").fetchone()
    if row and row[0] != "UTF8":
        raise DatabaseRefused(
            f"database {where(dsn)} is encoded in {row[0]}: create one with --encoding=UTF8"
        )

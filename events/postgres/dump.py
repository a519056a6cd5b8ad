"""The tables as a sequence of COPY streams, and back."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from events.log import EntryId, Stream
from events.offset import Offset
from events.postgres.connection import Connection, DatabaseRefused, connect, translated, where
from events.postgres.schema import check, current, migrate, revisions


@dataclass(frozen=True, slots=True)
class Table:
    """A table of schema `raw` with its columns."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dump:
    """The database as it was at one moment."""

    connection: Connection
    revision: str
    tables: tuple[Table, ...]

    def copy(self, table: Table) -> Generator[bytes, None, None]:
        """One table in PostgreSQL's binary COPY format."""
        query = sql.SQL("COPY (SELECT {columns} FROM {table}) TO STDOUT (FORMAT BINARY)").format(
            columns=_columns(table), table=sql.Identifier("raw", table.name)
        )
        with self.connection.cursor() as cursor, cursor.copy(query) as copy:
            for chunk in copy:
                yield bytes(chunk)

    def rows(self, table: Table) -> int:
        query = sql.SQL("SELECT count(*) FROM {table}").format(
            table=sql.Identifier("raw", table.name)
        )
        row = self.connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def offsets(self) -> dict[Stream, Offset]:
        """Every stored offset; of several groups in a stream the furthest."""
        found: dict[Stream, Offset] = {}
        for name, ms, seq, entries, checksum in self.connection.execute(
            "SELECT stream, last_ms, last_seq, entries, checksum FROM raw.offsets"
        ):
            stream, offset = Stream.parse(name), Offset(EntryId(ms, seq), entries, checksum)
            found[stream] = max(offset, found.get(stream, offset))
        return found


@contextmanager
def dump(dsn: str) -> Iterator[Dump]:
    """Everything as it is now, however long reading takes; the schema may be an older one of
    ours. Raises DatabaseRefused for tables that this program does not know."""
    revision = current(dsn).current
    if revision not in revisions():
        check(dsn)
    with connect(dsn, application="bridge backup") as connection, translated(dsn):
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield Dump(connection, str(revision), _tables(connection))


@contextmanager
def load(dsn: str, revision: str) -> Iterator[Load]:
    """Bring an empty database to the schema of a copy, let it be filled (all or nothing), and
    then to the schema of this program. Raises DatabaseRefused unless it is empty."""
    refuse_unless_empty(dsn)
    found = migrate(dsn, to=revision)
    if found.current != revision:
        raise DatabaseRefused(
            f"database {where(dsn)} has schema {found.current}, the copy {revision}: restore into "
            "a database without tables (createdb another one)"
        )
    with connect(dsn, application="bridge restore") as connection, translated(dsn):
        connection.execute("SET statement_timeout = 0")
        with connection.transaction():
            loading = Load(connection)
            loading.clear()
            yield loading
            loading.finish()
    migrate(dsn)


def refuse_unless_empty(dsn: str) -> None:
    """Raises DatabaseRefused when anything is stored there."""
    if current(dsn).current is None:
        return
    with connect(dsn, application="bridge restore") as connection, translated(dsn):
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM raw.offsets) OR EXISTS (SELECT FROM raw.streams)"
        ).fetchone()
    if row and row[0]:
        raise DatabaseRefused(
            f"database {where(dsn)} holds data already: restore into an empty one (createdb "
            "another and set POSTGRES_DB or POSTGRES_URL)"
        )


class Load:
    """Fills tables inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def clear(self) -> None:
        """What migrations wrote is in the copy too."""
        names = [sql.Identifier("raw", table.name) for table in _tables(self._connection)]
        self._connection.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(names)))

    def copy(self, table: Table, chunks: Iterable[bytes]) -> None:
        query = sql.SQL("COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)").format(
            columns=_columns(table), table=sql.Identifier("raw", table.name)
        )
        with self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for chunk in chunks:
                copy.write(chunk)

    def finish(self) -> None:
        """Numbers go on behind those that were copied; nobody holds anything."""
        for table, column in self._connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'raw' AND is_identity = 'YES'"
        ).fetchall():
            self._connection.execute(
                sql.SQL(
                    "SELECT setval(pg_get_serial_sequence(%s, %s),"
                    " (SELECT coalesce(max({column}), 0) + 1 FROM {table}), false)"
                ).format(column=sql.Identifier(column), table=sql.Identifier("raw", table)),
                (f"raw.{table}", column),
            )
        self._connection.execute(
            "UPDATE raw.offsets SET token = NULL, holder = '', backend_pid = NULL,"
            " backend_start = NULL"
        )


def _columns(table: Table) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, table.columns))


def _tables(connection: Connection) -> tuple[Table, ...]:
    """Every table, those that others refer to first."""
    columns: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = 'raw' AND table_type = 'BASE TABLE' AND is_generated = 'NEVER'"
        " ORDER BY table_name, ordinal_position"
    ):
        columns.setdefault(table, []).append(column)
    needs: dict[str, set[str]] = {table: set() for table in columns}
    for table, other in connection.execute(
        "SELECT c.conrelid::regclass::text, c.confrelid::regclass::text FROM pg_constraint c"
        " WHERE c.contype = 'f' AND c.connamespace = 'raw'::regnamespace"
    ):
        needs[table.removeprefix("raw.")].add(other.removeprefix("raw."))
    ordered: list[Table] = []
    while needs:
        free = sorted(t for t, on in needs.items() if not (on - {t}) & needs.keys())
        ordered += [Table(table, tuple(columns[table])) for table in free]
        needs = {table: on for table, on in needs.items() if table not in free}
    return tuple(ordered)

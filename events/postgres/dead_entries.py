"""Entries that could not be stored: looking at them, and storing them after all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from events.log import Entry, EntryId, Stream
from events.postgres.batch import build_batch
from events.postgres.connection import Connection, RowsRejected, connect, translated
from events.postgres.dimensions import Dimensions
from events.postgres.sink import copy_packed, copy_rows

LISTED_MAX = 10_000
_SELECT = (
    "SELECT r.name, d.entry_ms, d.entry_seq, d.type, d.key, d.cause, d.data, d.error"
    " FROM raw.dead_entries d JOIN raw.streams r ON r.id = d.stream_id"
)


@dataclass(frozen=True, slots=True)
class DeadEntry:
    """One entry with the reason. `stream` is text: a log that was begun anew renames it."""

    stream: str
    entry_id: EntryId
    type: str
    key: str
    cause: str
    data: bytes
    error: str

    @property
    def place(self) -> str:
        return f"{self.stream}@{self.entry_id}"

    def entry(self) -> Entry:
        """As it lay in the log. Raises ValueError when that log is gone."""
        try:
            stream = Stream.parse(self.stream)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{self.stream} belongs to a log that was begun anew") from error
        return Entry(stream, self.entry_id, self.type, self.key, self.data, self.cause)


class DeadEntries:
    """Those of one database. Every method may raise DatabaseUnavailable or DatabaseRefused."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection = connect(dsn, application="bridge dlq")
        try:
            # New names are committed beside the transaction that uses them.
            self._aside = connect(dsn, application="bridge dlq aside")
        except BaseException:
            self._connection.close()
            raise

    def listed(self, *, count_max: int = LISTED_MAX) -> list[DeadEntry]:
        """In the order of their places."""
        with translated(self._dsn):
            rows = self._connection.execute(
                f"{_SELECT} ORDER BY d.entry_ms, d.entry_seq, r.name LIMIT %s", (count_max,)
            ).fetchall()
        return [_dead(row) for row in rows]

    def store(self, dead: DeadEntry) -> str:
        """Store an entry where it belongs and take it from the dead, in one transaction.

        Returns why that is not possible, or "" when it is done.
        """
        try:
            entry = dead.entry()
        except ValueError as error:
            return str(error)
        try:
            with translated(self._dsn), self._connection.transaction():
                return _stored(self._connection, entry, Dimensions(self._aside))
        except RowsRejected as error:
            return str(error)

    def close(self) -> None:
        self._connection.close()
        self._aside.close()


def _stored(connection: Connection, entry: Entry, ids: Dimensions) -> str:
    place = (ids.stream(entry.stream), entry.id.ms, entry.id.seq)
    deleted = connection.execute(
        "DELETE FROM raw.dead_entries WHERE stream_id = %s AND entry_ms = %s AND entry_seq = %s",
        place,
    )
    if not deleted.rowcount:
        return "it was stored by somebody else meanwhile"
    batch = build_batch([entry], ids)
    for table, rows in batch.packed.values():
        copy_packed(connection, table, (rows,))
    for name, made in batch.rows.items():  # still unreadable: back to the dead, with this reason
        copy_rows(connection, name, made)
    return batch.dead[0][1] if batch.dead else ""


def _dead(row: tuple[Any, ...]) -> DeadEntry:
    stream, ms, seq, *parts, data, error = row
    type_, key, cause = (part.decode("utf-8", "surrogateescape") for part in parts)
    return DeadEntry(stream, EntryId(ms, seq), type_, key, cause, data, error)

"""One storing session: rows by COPY, the offset last, one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from events.log import Entry, EntryId, Slot, Stream
from events.postgres.batch import SinkBatch, build_batch, buried
from events.postgres.binary_copy import Array, PackedTable, copy_chunks
from events.postgres.connection import (
    Connection,
    DatabaseError,
    connect,
    translated,
)
from events.postgres.dimensions import Dimensions
from events.postgres.offsets import LEASE_S, OffsetMove, Ownership, SlotState, StoredOffset
from events.postgres.tables import ROW_TABLES, Row


class Sink:
    """A group's way into the database, on connections of its own (never a pool's).

    `write` may run in another thread than `build`, `acquire` and `beat`. After any error close
    it and open another one: what was committed is read back from the database, never assumed.
    Every method may raise DatabaseUnavailable or DatabaseRefused.
    """

    def __init__(
        self,
        dsn: str,
        group: str,
        *,
        holder: str,
        lease_s: float = LEASE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dsn = dsn
        self._connection = connect(dsn, application=f"bridge {group}")
        try:
            # New names and beats go beside the COPY that may run at the same time.
            self._aside = connect(dsn, application=f"bridge {group} aside")
        except DatabaseError:
            self._connection.close()
            raise
        self._ids = Dimensions(self._aside)
        self._ownership = Ownership(
            self._connection,
            self._aside,
            group,
            holder=holder,
            lease_s=lease_s,
            monotonic=monotonic,
        )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots held."""
        return tuple(self._ownership.tokens)

    def acquire(self, slots: Iterable[Slot]) -> dict[Slot, tuple[StoredOffset, ...]]:
        """Take those slots that nobody living holds, with their offsets lane by lane."""
        with translated(self._dsn):
            taken = self._ownership.acquire(slots)
            for slot in taken:
                self._ids.remember_streams(slot)
            return taken

    def holder_of(self, slot: Slot) -> str:
        """Who holds a slot ("" for nobody)."""
        with translated(self._dsn):
            return self._ownership.holder_of(slot)

    def holders(self) -> dict[Slot, SlotState]:
        """Every slot that was ever stored: its living holder, and why it was halted."""
        with translated(self._dsn):
            return self._ownership.holders()

    def places(self) -> dict[Stream, EntryId]:
        """How far every stream is stored, by whomever."""
        with translated(self._dsn):
            return self._ownership.places()

    def release(self, slots: Iterable[Slot]) -> None:
        """Give up some slots: whoever looks next may take them at once."""
        with translated(self._dsn):
            self._ownership.release(slots)

    def build(self, entries: Iterable[Entry]) -> SinkBatch:
        """The rows of these entries. New names get their numbers in the database here."""
        with translated(self._dsn):
            return build_batch(entries, self._ids)

    def build_buried(self, entry: Entry, error: str) -> SinkBatch:
        """The rows that keep an entry which the database would not take."""
        with translated(self._dsn):
            return buried(entry, error, self._ids)

    def write(self, batch: SinkBatch, moves: Sequence[OffsetMove]) -> None:
        """Store the rows and move the offsets, all or nothing.

        The offsets come last, so that no lock is held while rows flow. Raises SinkFenced (nothing
        stored), RowsRejected (nothing stored, the rows are at fault), DatabaseUnavailable
        (outcome unknown).
        """
        with translated(self._dsn), self._connection.transaction():
            for table, rows in batch.packed.values():
                copy_packed(self._connection, table, (rows,))
            for name, made in batch.rows.items():
                copy_rows(self._connection, name, made)
            self._ownership.advance(moves)

    def beat(self) -> None:
        """Show that we live (about once a second). Raises SinkFenced."""
        with translated(self._dsn):
            self._ownership.beat()

    def halt(self, slot: Slot, reason: str) -> None:
        """Give a slot up and leave the reason for people to read."""
        with translated(self._dsn):
            self._ownership.halt(slot, reason)

    def repaired(self, halted: Iterable[Slot]) -> list[Slot]:
        """Which of these slots, that were halted, are not any more."""
        with translated(self._dsn):
            return [slot for slot in halted if not self._ownership.halted(slot)]

    def begin_anew(self, slot: Slot) -> tuple[StoredOffset, ...]:
        """Set a held slot's offsets back to the beginning of a log that was begun anew.

        What the former log left stays stored, under stream names that tell it apart.
        """
        with translated(self._dsn):
            self._ids.retire_streams(slot)
            offsets = self._ownership.rewind(slot)
            self._ids.remember_streams(slot)
            return offsets

    def close(self) -> None:
        """Give up all slots and the connections; a dead connection is no error."""
        try:
            with translated(self._dsn):
                self._ownership.release()
        except DatabaseError:
            pass  # the successor sees that our backend is gone
        finally:
            self._connection.close()
            self._aside.close()


def copy_packed(connection: Connection, table: PackedTable, arrays: Iterable[Array]) -> None:
    """COPY packed records into their table."""
    with connection.cursor() as cursor, cursor.copy(table.copy_in) as copy:
        for chunk in copy_chunks(arrays):
            copy.write(chunk)


def copy_rows(connection: Connection, table: str, rows: Iterable[Row]) -> None:
    """COPY rows of Python values into one of ROW_TABLES."""
    columns = ROW_TABLES[table]
    names = ", ".join(f'"{column}"' for column in columns)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(list(columns.values()))
        for row in rows:
            copy.write_row(row)

"""A sink into an SQLite file: rows and offset in one transaction, so every row is there once."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from consumers.sinks.sink import Batch, Sink, WrittenElsewhere
from events.log import Slot

BUSY_S = 10.0
"""Longest wait for another task that writes into the same file."""
OFFSETS = "CREATE TABLE IF NOT EXISTS bridge_offsets (task TEXT PRIMARY KEY, place TEXT NOT NULL)"


class SqliteSink(Sink):
    """Name a file and a table, and say which rows a batch becomes."""

    path: ClassVar[str] = ""
    """The file; `SqliteSink(path=...)` takes precedence."""
    table: ClassVar[str] = ""
    """`CREATE TABLE IF NOT EXISTS ...`, run when the file is opened."""

    def __init__(self, path: str | Path = "") -> None:
        self._path = Path(path or self.path)
        if self._path == Path():
            raise ValueError(f"{type(self).__name__}: name its file, such as path = 'deals.db'")
        self._connection: sqlite3.Connection | None = None

    @abstractmethod
    def store(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Execute statements; they are committed together with the offset, or not at all."""
        raise TypeError(f"{type(self).__name__} does not say what it stores")

    def open(self, task: Slot) -> None:
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(OFFSETS)
        if self.table:
            connection.execute(self.table)

    def offset_of(self, task: Slot) -> str | None:
        row = self._opened.execute(
            "SELECT place FROM bridge_offsets WHERE task = ?", (str(task),)
        ).fetchone()
        return str(row[0]) if row else ""

    def write(self, batch: Batch) -> None:
        connection = self._opened
        connection.execute("BEGIN IMMEDIATE")
        try:
            if self.offset_of(batch.task) != batch.before:
                raise WrittenElsewhere(f"{batch.task}: another program wrote to {self._path}")
            self.store(connection, batch)
            connection.execute(
                "INSERT OR REPLACE INTO bridge_offsets VALUES (?, ?)",
                (str(batch.task), batch.after),
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError(f"{self._path} is not open")
        return self._connection

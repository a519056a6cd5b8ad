"""One SQLite file that is on disk before anything counts: what the journals of guard and orders
stand on. It holds JSON values by name; whoever keeps more adds tables of his own.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from events.log import LogError

BUSY_TIMEOUT_S = 5.0
_FACTS = (
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
)


class JournalUnusable(LogError):
    """The journal cannot be opened or written. The message names cause and cure."""

    def __init__(self, text: str, *, damaged: bool = False) -> None:
        """`damaged`: what the file holds is no database any more."""
        super().__init__(text)
        self.damaged = damaged


class JournalFile:
    """Threads may share it, and several processes may open the same file. Everything is durable
    when a call returns."""

    SCHEMA: ClassVar[str]
    """Of the tables beside the facts."""
    NAMED: ClassVar[str]
    """For people, as "the guard's journal"."""
    CURE: ClassVar[str]
    """What to do when it cannot be opened."""
    UNUSABLE: ClassVar[type[JournalUnusable]] = JournalUnusable

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        """Raises JournalUnusable."""
        self.path = path
        self._wall = wall
        self._lock = threading.RLock()
        self.told = threading.Condition()
        """Notified when there is something new to hear."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_FACTS + self.SCHEMA)
            self.id = self._identity()
        except (OSError, sqlite3.Error, JournalUnusable) as error:
            if hasattr(self, "_db"):
                self._db.close()
            raise self.UNUSABLE(
                f"{self.NAMED} {path} cannot be opened: {error}; {self.CURE}",
                damaged=_damaged(error) or _damaged(error.__cause__),
            ) from error

    def fact(self, name: str) -> Any:
        """A JSON value by name; None when it was never set."""
        found = self._rows("SELECT value FROM facts WHERE name = ?", (name,))
        return json.loads(found[0][0]) if found else None

    def close(self) -> None:
        """Close the file; what it holds waits for the next start."""
        with self._lock:
            self._db.close()

    def _identity(self) -> str:
        with self._transaction() as db:
            fresh = json.dumps(secrets.token_hex(4))
            db.execute("INSERT OR IGNORE INTO facts VALUES ('journal_id', ?)", (fresh,))
            found = db.execute("SELECT value FROM facts WHERE name = 'journal_id'").fetchone()
        return str(json.loads(found[0]))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Raises JournalUnusable; then nothing of it was written."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self.UNUSABLE(
                    f"{self.NAMED} {self.path}: {error}; check the disk and its free space",
                    damaged=_damaged(error),
                ) from error

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Raises JournalUnusable."""
        with self._lock:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                text = f"{self.NAMED} {self.path}: {error}"
                raise self.UNUSABLE(text, damaged=_damaged(error)) from error

    def _now_ms(self) -> int:
        """By the computer's clock."""
        return int(self._wall() * 1000)


def put_facts(db: sqlite3.Connection, facts: Mapping[str, Any]) -> None:
    """Write JSON values within a transaction; None removes one."""
    for name, value in facts.items():
        if value is None:
            db.execute("DELETE FROM facts WHERE name = ?", (name,))
        else:
            db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))


def _damaged(error: BaseException | None) -> bool:
    """Malformed, or no database at all; full disks and locks are OperationalErrors."""
    return type(error) is sqlite3.DatabaseError

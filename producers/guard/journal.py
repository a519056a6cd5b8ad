"""What a guard must not forget, in one SQLite file that is on disk before anything counts.

The latch, the references losses are measured from, each command that was obeyed, each request of
a flatten before and after it was made, and the events that tell of all that. Several processes
may open the same file (a guard, and one that took over from it).
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from events.codec import AnyEvent, encode
from events.latch import Latch, unreadable_latch
from producers.spool.journal_file import JournalFile, JournalUnusable, put_facts

EVENTS_KEPT_MAX = 200_000
"""Events beyond so many are forgotten, oldest first, whether anybody heard them or not."""
COMMANDS_KEPT_MAX = 20_000
PRUNE_EVERY = 2_000
HEAR_ROWS_MAX = 500
IN_MEMORY = Path(":memory:")
"""A journal that dies with its process."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
    command_id TEXT PRIMARY KEY, verb TEXT NOT NULL, issued_by TEXT NOT NULL,
    at_ms INTEGER NOT NULL, accepted INTEGER NOT NULL, text TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS intents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, flatten_id TEXT NOT NULL, at_ms INTEGER NOT NULL,
    step TEXT NOT NULL, ticket TEXT NOT NULL, symbol TEXT NOT NULL, volume_lots REAL NOT NULL,
    request TEXT NOT NULL, outcome TEXT, retcode INTEGER, detail TEXT, done_ms INTEGER
);
CREATE INDEX IF NOT EXISTS intents_by_flatten ON intents (flatten_id, id);
CREATE TABLE IF NOT EXISTS events (
    row INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, type TEXT NOT NULL,
    key TEXT NOT NULL, data BLOB NOT NULL, keep_last INTEGER NOT NULL, at_ms INTEGER NOT NULL
);
"""
_INTEND = (
    "INSERT INTO intents (flatten_id, at_ms, step, ticket, symbol, volume_lots, request) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SETTLE = "UPDATE intents SET outcome = ?, retcode = ?, detail = ?, done_ms = ? WHERE id = ?"
_ALL = ("SELECT * FROM facts", "SELECT * FROM commands", "SELECT * FROM intents")
_TELL = "INSERT INTO events (lane, type, key, data, keep_last, at_ms) VALUES (?, ?, ?, ?, ?, ?)"
_INTENTS = (
    "SELECT id, flatten_id, at_ms, step, ticket, symbol, volume_lots, request, outcome, retcode, "
    "detail FROM intents WHERE flatten_id = ? ORDER BY id"
)


class HeardRow(NamedTuple):
    """An event of the journal as it goes to the log: plain values that may cross a wire."""

    row: int
    lane: int
    type: str
    key: str
    data: bytes
    keep_last: bool


class Intent(NamedTuple):
    """One request of a flatten. `outcome` None: it was begun, what became of it nobody knows."""

    id: int
    flatten_id: str
    at_ms: int
    step: str
    ticket: int
    symbol: str
    volume_lots: float
    request: dict[str, Any]
    outcome: str | None
    retcode: int | None
    detail: str


class IntentJournal(Protocol):
    """What a flatten needs of a journal. Every method is durable when it returns."""

    def intend(
        self,
        flatten_id: str,
        step: str,
        *,
        ticket: int = 0,
        symbol: str = "",
        volume_lots: float = 0.0,
        request: Mapping[str, Any] | None = None,
    ) -> int:
        """Write down a request before it is made; returns its number."""
        ...

    def outcome(
        self,
        intent_id: int,
        outcome: str,
        *,
        retcode: int | None = None,
        detail: str = "",
        events: Sequence[AnyEvent] = (),
    ) -> None:
        """Write down what became of it, and what is told of it, in one step."""
        ...

    def intents(self, flatten_id: str) -> tuple[Intent, ...]:
        """Every request of a flatten, oldest first."""
        ...

    def emit(self, *events: AnyEvent) -> int:
        """Tell events; returns the row of the last one."""
        ...

    def fact(self, name: str) -> Any:
        """A JSON value by name; None when it was never set."""
        ...

    def set_facts(self, facts: Mapping[str, Any], *, events: Sequence[AnyEvent] = ()) -> None:
        """Write JSON values (None removes one) and tell events, in one step."""
        ...


class Journal(JournalFile):
    """One account's journal. Threads may share it. Implements IntentJournal and LatchStore."""

    SCHEMA = _SCHEMA
    NAMED = "the guard's journal"
    CURE = (
        "check the folder's rights and free space (moving the file aside forgets a latch kept in "
        "it)"
    )

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        """Raises JournalUnusable."""
        super().__init__(path, wall=wall)
        self._told = 0

    def set_facts(self, facts: Mapping[str, Any], *, events: Sequence[AnyEvent] = ()) -> None:
        with self._transaction() as db:
            put_facts(db, facts)
            self._tell(db, events)
        self._heard_now(events)

    def read(self, login: int) -> Latch | None:
        """One that cannot be read latches too."""
        try:
            found = self.fact(f"latch:{login}")
            return None if found is None else Latch.model_validate(found)
        except ValueError:
            return unreadable_latch(login, str(self.path))

    def set(self, latch: Latch, *, events: Sequence[AnyEvent] = ()) -> None:
        self.set_facts({f"latch:{latch.login}": latch.model_dump(mode="json")}, events=events)

    def clear(self, login: int, latch_id: str, *, events: Sequence[AnyEvent] = ()) -> bool:
        with self._transaction() as db:
            found = self.read(login)
            if found is not None and found.latch_id != latch_id:
                return False
            put_facts(db, {f"latch:{login}": None})
            self._tell(db, events)
        self._heard_now(events)
        return True

    def read_all(self) -> None:
        """Look at every page that decides. Raises JournalUnusable."""
        for statement in _ALL:
            self._rows(statement)

    def command(self, command_id: str) -> tuple[bool, str] | None:
        """Whether a command was accepted, and what was answered; None: never seen."""
        found = self._rows(
            "SELECT accepted, text FROM commands WHERE command_id = ?", (command_id,)
        )
        return (bool(found[0][0]), str(found[0][1])) if found else None

    def take_command(
        self, command_id: str, *, verb: str, by: str, accepted: bool, text: str
    ) -> None:
        """Remember that a command was answered, so that it is obeyed once."""
        with self._transaction() as db:
            row = (command_id, verb, by, self._now_ms(), accepted, text)
            db.execute("INSERT OR IGNORE INTO commands VALUES (?, ?, ?, ?, ?, ?)", row)
            db.execute(
                "DELETE FROM commands WHERE rowid <= (SELECT max(rowid) FROM commands) - ?",
                (COMMANDS_KEPT_MAX,),
            )

    def intend(
        self,
        flatten_id: str,
        step: str,
        *,
        ticket: int = 0,
        symbol: str = "",
        volume_lots: float = 0.0,
        request: Mapping[str, Any] | None = None,
    ) -> int:
        row = (flatten_id, self._now_ms(), step, str(ticket), symbol, volume_lots,
               json.dumps(dict(request or {})))  # fmt: skip
        with self._transaction() as db:
            return int(db.execute(_INTEND, row).lastrowid or 0)

    def outcome(
        self,
        intent_id: int,
        outcome: str,
        *,
        retcode: int | None = None,
        detail: str = "",
        events: Sequence[AnyEvent] = (),
    ) -> None:
        with self._transaction() as db:
            db.execute(_SETTLE, (outcome, retcode, detail, self._now_ms(), intent_id))
            self._tell(db, events)
        self._heard_now(events)

    def intents(self, flatten_id: str) -> tuple[Intent, ...]:
        return tuple(_intent(row) for row in self._rows(_INTENTS, (flatten_id,)))

    def emit(self, *events: AnyEvent) -> int:
        with self._transaction() as db:
            row = self._tell(db, events)
        self._heard_now(events)
        return row

    def hear(self, after_row: int, count_max: int = HEAR_ROWS_MAX) -> list[HeardRow]:
        """Events behind `after_row`, oldest first."""
        found = self._rows(
            "SELECT row, lane, type, key, data, keep_last FROM events WHERE row > ? "
            "ORDER BY row LIMIT ?",
            (after_row, min(count_max, HEAR_ROWS_MAX)),
        )
        return [HeardRow._make((*row[:5], bool(row[5]))) for row in found]

    def told_at_ms(self, type_name: str) -> int | None:
        """When the newest event of a type was told, by the computer's clock (UTC)."""
        found = self._rows(
            "SELECT at_ms FROM events WHERE type LIKE ? ORDER BY row DESC LIMIT 1",
            (f"{type_name}.%",),
        )
        return int(found[0][0]) if found else None

    @property
    def newest_row(self) -> int:
        """The row of the newest event, 0 when there is none."""
        return int(self._rows("SELECT coalesce(max(row), 0) FROM events")[0][0])

    def _tell(self, db: sqlite3.Connection, events: Sequence[AnyEvent]) -> int:
        row = 0
        for event in events:
            entry = encode(event)
            values = (int(entry.lane), entry.type, entry.key, entry.data,
                      entry.last is not None, self._now_ms())  # fmt: skip
            row = int(db.execute(_TELL, values).lastrowid or 0)
            self._told += 1
        if row and self._told >= PRUNE_EVERY:
            self._told = 0
            db.execute("DELETE FROM events WHERE row <= ?", (row - EVENTS_KEPT_MAX,))
        return row

    def _heard_now(self, events: Sequence[AnyEvent]) -> None:
        if events:
            with self.told:
                self.told.notify_all()


def open_journal(path: Path) -> tuple[Journal, str]:
    """The journal of an account, and what was wrong with it, if anything.

    One that is damaged is moved aside, one that cannot be written is replaced by memory alone: a
    guard that can close is worth more than one that remembers. What was forgotten then (a latch,
    perhaps) the caller must assume.
    """
    journal = None
    try:
        journal = Journal(path)
        journal.read_all()
        return journal, ""
    except JournalUnusable as error:
        trouble = str(error)
        if journal is not None:
            journal.close()
        if error.damaged:
            with suppress(OSError, JournalUnusable):
                aside = _move_aside(path)
                return Journal(path), f"{trouble}; the damaged file is kept as {aside}"
    return Journal(IN_MEMORY), trouble


def _move_aside(path: Path) -> Path:
    """Raises OSError."""
    aside = path.with_name(f"{path.name}.broken-{time.time_ns() // 1_000_000}")
    path.replace(aside)
    for ending in ("-wal", "-shm"):
        beside = path.with_name(path.name + ending)
        if beside.exists():
            beside.replace(aside.with_name(aside.name + ending))
    return aside


def _intent(row: Sequence[Any]) -> Intent:
    fixed = {4: int(row[4]), 7: json.loads(row[7]), 10: row[10] or ""}
    return Intent._make(fixed.get(place, value) for place, value in enumerate(row))

"""What a sender of orders must not forget, in one SQLite file that is on disk before it is sent.

Each intent with how far it came, the place in the log up to which intents were taken, and the
answers that are on their way to the log: what belongs together changes in one transaction. An
intent whose row says `sending` may have reached the broker; only the account can tell.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from events.codec import encode
from events.executing import OrderAnswer, OrderIntent
from producers.spool.journal_file import JournalFile, JournalUnusable, put_facts

INTENTS_KEPT_MAX = 200_000
"""Settled ones beyond so many are forgotten, oldest first; the place in the log stays."""
PRUNE_EVERY = 1_000
HEAR_ROWS_MAX = 500
ANSWERS_KEPT_MAX = 1_000
SENDING = "sending"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS intents (
    intent_id TEXT PRIMARY KEY, place TEXT NOT NULL, intent BLOB NOT NULL, state TEXT NOT NULL,
    request TEXT NOT NULL, attempts INTEGER NOT NULL, before_lots REAL, sent_ms INTEGER NOT NULL,
    order_ticket TEXT NOT NULL, retcode INTEGER NOT NULL, detail TEXT NOT NULL,
    at_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS intents_by_state ON intents (state);
CREATE TABLE IF NOT EXISTS attempts (
    row INTEGER PRIMARY KEY AUTOINCREMENT, intent_id TEXT NOT NULL, request TEXT NOT NULL,
    at_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
    row INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, type TEXT NOT NULL,
    key TEXT NOT NULL, data BLOB NOT NULL, cause TEXT NOT NULL
);
"""
_TAKE = (
    "INSERT INTO intents (intent_id, place, intent, state, request, attempts, before_lots, "
    "sent_ms, order_ticket, retcode, detail, at_ms) VALUES (?, ?, ?, ?, '{}', 0, NULL, 0, '0', 0, "
    "'', ?)"
)
_SEND = (
    "UPDATE intents SET request = ?, attempts = attempts + 1, before_lots = ?, sent_ms = ?, "
    "at_ms = ? WHERE intent_id = ?"
)
_SETTLE = (
    "UPDATE intents SET state = ?, retcode = ?, detail = ?, order_ticket = ?, at_ms = ? "
    "WHERE intent_id = ?"
)
_OPEN = (
    "SELECT intent, place, request, attempts, before_lots, sent_ms, order_ticket, at_ms "
    "FROM intents WHERE state = ? ORDER BY rowid"
)
_ANSWER = "INSERT INTO answers (lane, type, key, data, cause) VALUES (?, ?, ?, ?, ?)"


class OrderJournalUnusable(JournalUnusable):
    """The journal cannot be opened or written: nothing may be sent. Names cause and cure."""


class Begun(NamedTuple):
    """An intent that may have reached the broker."""

    intent: OrderIntent
    place: str
    """Of the intent's entry in the log."""
    request: dict[str, Any]
    attempts: int
    before_lots: float | None
    """Net volume of its symbol right before it was sent first; None: not known."""
    sent_ms: int
    """UTC by the terminal's clock; 0: it was never handed over."""
    order: int
    """Ticket of the order, as far as it is known."""
    at_ms: int
    """When the row was written last, by the computer's clock."""


class AnswerRow(NamedTuple):
    """An answer as it goes to the log."""

    row: int
    lane: int
    type: str
    key: str
    data: bytes
    cause: str


class OrderJournal(JournalFile):
    """One account's journal. Threads may share it. Everything is durable when a call returns."""

    SCHEMA = _SCHEMA
    NAMED = "the journal of orders"
    CURE = "check the folder's rights and free space. Nothing is sent without it"
    UNUSABLE = OrderJournalUnusable

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        """Raises OrderJournalUnusable."""
        super().__init__(path, wall=wall)
        self._settled = 0
        self.told_count = 0
        """Grows with every answer."""

    def state_of(self, intent_id: int) -> str | None:
        """How far an intent came; None: it was never taken."""
        found = self._rows("SELECT state FROM intents WHERE intent_id = ?", (str(intent_id),))
        return str(found[0][0]) if found else None

    def send(
        self,
        intent: OrderIntent,
        place: str,
        *,
        request: Mapping[str, Any],
        before_lots: float | None,
        sent_ms: int,
        facts: Mapping[str, Any],
        answer: OrderAnswer,
    ) -> None:
        """Write an intent down right before it is handed to the terminal, the first time or
        again, with the facts (places) and the answer that belong to it."""
        wall_ms, intent_id = self._now_ms(), str(intent.intent_id)
        text = json.dumps(dict(request))
        with self._transaction() as db:
            self._take(db, intent, place, wall_ms)
            db.execute(_SEND, (text, before_lots, sent_ms, wall_ms, intent_id))
            db.execute(
                "INSERT INTO attempts (intent_id, request, at_ms) VALUES (?, ?, ?)",
                (intent_id, text, wall_ms),
            )
            put_facts(db, facts)
            _tell(db, answer, place)
        self._heard_now()

    def inherit(self, intent: OrderIntent, place: str, facts: Mapping[str, Any]) -> None:
        """Take an intent over that somebody else may have sent: it is reconciled, never sent."""
        with self._transaction() as db:
            self._take(db, intent, place, self._now_ms())
            put_facts(db, facts)

    def _take(self, db: sqlite3.Connection, intent: OrderIntent, place: str, now_ms: int) -> None:
        known = db.execute(
            "SELECT 1 FROM intents WHERE intent_id = ?", (str(intent.intent_id),)
        ).fetchone()
        if not known:
            body = intent.model_dump_json().encode()
            db.execute(_TAKE, (str(intent.intent_id), place, body, SENDING, now_ms))

    def tell(self, answer: OrderAnswer, place: str) -> None:
        """An answer that settles nothing yet."""
        with self._transaction() as db:
            _tell(db, answer, place)
        self._heard_now()

    def settle(
        self,
        intent: OrderIntent,
        place: str,
        answer: OrderAnswer,
        *,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """What became of an intent for good, and the answer that says so."""
        now_ms = self._now_ms()
        row = (answer.state, answer.retcode, answer.detail, str(answer.order), now_ms,
               str(intent.intent_id))  # fmt: skip
        with self._transaction() as db:
            self._take(db, intent, place, now_ms)
            db.execute(_SETTLE, row)
            put_facts(db, facts or {})
            _tell(db, answer, place)
            self._settled += 1
            if self._settled % PRUNE_EVERY == 0:
                _prune(db)
        self._heard_now()

    def know_order(self, intent_id: int, order: int) -> None:
        """The ticket of an intent's order, for whoever must reconcile it."""
        with self._transaction() as db:
            db.execute(
                "UPDATE intents SET order_ticket = ? WHERE intent_id = ?",
                (str(order), str(intent_id)),
            )

    def begun(self) -> tuple[Begun, ...]:
        """Every intent that may have reached the broker and is not settled, oldest first."""
        found = []
        for body, place, request, attempts, before, sent_ms, order, at_ms in self._rows(
            _OPEN, (SENDING,)
        ):
            intent = OrderIntent.model_validate_json(body)
            found.append(
                Begun(intent, place, json.loads(request), attempts, before, sent_ms, int(order),
                      at_ms)
            )  # fmt: skip
        return tuple(found)

    def attempts_since(self, at_ms: int) -> list[int]:
        """When requests were handed over since a moment (computer's clock, ms), oldest first."""
        rows = self._rows("SELECT at_ms FROM attempts WHERE at_ms > ? ORDER BY row", (at_ms,))
        return [int(row[0]) for row in rows]

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Write JSON values."""
        with self._transaction() as db:
            put_facts(db, facts)

    def hear(self, after_row: int, count_max: int = HEAR_ROWS_MAX) -> list[AnswerRow]:
        """Answers behind `after_row`, oldest first."""
        found = self._rows(
            "SELECT row, lane, type, key, data, cause FROM answers WHERE row > ? ORDER BY row "
            "LIMIT ?",
            (after_row, min(count_max, HEAR_ROWS_MAX)),
        )
        return [AnswerRow._make(row) for row in found]

    def heard(self, row: int) -> None:
        """Answers up to `row` lie in the spool. The newest are kept: a spool that was lost gets
        them again, and who reads the log knows an answer that is there already."""
        with self._transaction() as db:
            db.execute("DELETE FROM answers WHERE row <= ?", (row - ANSWERS_KEPT_MAX,))

    def _heard_now(self) -> None:
        with self.told:
            self.told_count += 1
            self.told.notify_all()


def _tell(db: sqlite3.Connection, answer: OrderAnswer, place: str) -> None:
    entry = encode(answer, cause=place)
    db.execute(_ANSWER, (int(entry.lane), entry.type, entry.key, entry.data, entry.cause))


def _prune(db: sqlite3.Connection) -> None:
    db.execute(
        "DELETE FROM intents WHERE state <> ? AND rowid <= (SELECT max(rowid) FROM intents) - ?",
        (SENDING, INTENTS_KEPT_MAX),
    )
    db.execute(
        "DELETE FROM attempts WHERE row <= (SELECT max(row) FROM attempts) - ?",
        (INTENTS_KEPT_MAX,),
    )

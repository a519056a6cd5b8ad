"""What the tests of unordered groups run in worker processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import ClassVar

from consumers.runtime.handler import Handler
from consumers.sinks import Batch, SqliteSink
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.operations import ClockTick


class Note(Handler):
    """One output for each clock tick."""

    types: ClassVar[frozenset[str]] = frozenset({ClockTick.TYPE})

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        assert isinstance(event, ClockTick)
        yield TradeSignal(
            event_time_ms=event.event_time_ms, strategy="note", symbol="X", target="flat",
            reason=str(event.event_time_ms),
        )  # fmt: skip


class Seen(SqliteSink):
    """One row for each clock tick that it is given."""

    types: ClassVar[frozenset[str]] = frozenset({ClockTick.TYPE})
    path = "seen.db"
    table = "CREATE TABLE IF NOT EXISTS seen (number INTEGER)"

    def store(self, connection: sqlite3.Connection, batch: Batch) -> None:
        rows = [(event.event_time_ms,) for event in batch.events]
        connection.executemany("INSERT INTO seen VALUES (?)", rows)

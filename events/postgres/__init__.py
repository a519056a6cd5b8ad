"""PostgreSQL: where what was captured is stored. The only room that knows its driver."""

from events.postgres.archive import (
    count_ticks,
    places_of_ticket,
    read_entries,
    read_last_before,
    read_newest,
    read_ticks,
)
from events.postgres.batch import SinkBatch
from events.postgres.connection import (
    DatabaseError,
    DatabaseRefused,
    DatabaseUnavailable,
    RowsRejected,
    connect,
    wait_until_ready,
    where,
)
from events.postgres.offsets import (
    OffsetMove,
    OffsetRow,
    SinkFenced,
    StoredOffset,
    read_offsets,
)
from events.postgres.schema import SchemaState, check, current, migrate
from events.postgres.sink import Sink

__all__ = [
    "DatabaseError",
    "DatabaseRefused",
    "DatabaseUnavailable",
    "OffsetMove",
    "OffsetRow",
    "RowsRejected",
    "SchemaState",
    "Sink",
    "SinkBatch",
    "SinkFenced",
    "StoredOffset",
    "check",
    "connect",
    "count_ticks",
    "current",
    "migrate",
    "places_of_ticket",
    "read_entries",
    "read_last_before",
    "read_newest",
    "read_offsets",
    "read_ticks",
    "wait_until_ready",
    "where",
]

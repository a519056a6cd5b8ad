"""What a database holds of a stream, page by page, for spans that nothing else has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from events.log import Entry, EntryId, Stream

if TYPE_CHECKING:
    from events.postgres.connection import Connection

WINDOW_MS_MIN, WINDOW_MS_FIRST, WINDOW_MS_MAX = 1, 64, 24 * 3_600_000
WINDOW_BYTES_AIM = 4 * 1024 * 1024
LOOK_MS_FIRST, LOOK_TIMES = 3_600_000, 8
"""How far is looked for the next entry, and how much further each time: rows are found by blocks
that hold a span of ids, so a look without an end would read all that follows."""
_TABLES = ("events", "exact_entries", "dead_entries", "candles", "marks")
_OF_FEEDS = "feed_id IN (SELECT f.id FROM raw.feeds f JOIN raw.streams s ON s.id = f.stream_id"
_NEXT = " UNION ALL ".join(
    [
        f"(SELECT min(entry_ms) AS ms FROM raw.ticks WHERE {_OF_FEEDS}"  # noqa: S608 - constants
        " WHERE s.name = %(stream)s) AND entry_ms BETWEEN %(ms)s AND %(last_ms)s)",
        *(
            f"(SELECT min(entry_ms) AS ms FROM raw.{table} WHERE stream_id ="  # noqa: S608 - constants
            " (SELECT id FROM raw.streams WHERE name = %(stream)s)"
            " AND entry_ms BETWEEN %(ms)s AND %(last_ms)s)"
            for table in _TABLES
        ),
    ]
)
_INT8_MAX = 2**63 - 1


class Stored(Protocol):
    """Another place that holds entries."""

    def streams(self, namespace: str) -> list[Stream]:
        """Streams of which there may be entries."""
        ...

    def between(self, stream: Stream, after: EntryId, before: EntryId) -> Iterator[Entry]:
        """Entries with after < id < before, oldest first."""
        ...


class DatabaseEntries:
    """Entries rebuilt from the rows of a database. The connection is the caller's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def streams(self, namespace: str) -> list[Stream]:
        rows = self._connection.execute(
            "SELECT s.name FROM raw.streams s JOIN raw.terminals t ON t.id = s.terminal_id"
            " WHERE t.name = %s AND s.name NOT LIKE %s",
            (namespace, "% until %"),  # of a log that is no more
        )
        return [Stream.parse(name) for (name,) in rows.fetchall()]

    def between(self, stream: Stream, after: EntryId, before: EntryId) -> Iterator[Entry]:
        """Windows of ids grow and shrink so that one holds about WINDOW_BYTES_AIM.

        Raises DatabaseError, LookupError when rows of a batch are missing.
        """
        from events.postgres import read_entries

        first, window_ms = after.next(), WINDOW_MS_FIRST
        found_ms = self._next_ms(stream, first.ms, before.ms)
        while found_ms is not None and found_ms <= before.ms:
            first = max(first, EntryId(found_ms, 0))
            last = min(EntryId(first.ms + window_ms, 0), before)
            page = [
                entry
                for entry in read_entries(self._connection, stream, first=first, last=last)
                if first <= entry.id < last
            ]
            yield from page
            size = sum(len(entry.data) for entry in page)
            window_ms = _next_window_ms(window_ms, size)
            first = last
            if last >= before:
                return
            found_ms = first.ms if page else self._next_ms(stream, first.ms, before.ms)

    def _next_ms(self, stream: Stream, ms: int, last_ms: int) -> int | None:
        """The first part of the first id from `ms` to `last_ms`."""
        begin, end, reach_ms = min(ms, _INT8_MAX), min(last_ms, _INT8_MAX), LOOK_MS_FIRST
        while begin <= end:
            looked = min(begin + reach_ms, end)
            row = self._connection.execute(
                f"SELECT min(ms) FROM ({_NEXT}) places",  # noqa: S608 - our own constants
                {"stream": str(stream), "ms": begin, "last_ms": looked},
            ).fetchone()
            if row is not None and row[0] is not None:
                return int(row[0])
            begin, reach_ms = looked + 1, reach_ms * LOOK_TIMES
        return None


def _next_window_ms(window_ms: int, size_bytes: int) -> int:
    if size_bytes > WINDOW_BYTES_AIM:
        return max(WINDOW_MS_MIN, window_ms // 2)
    if size_bytes < WINDOW_BYTES_AIM // 4:
        return min(WINDOW_MS_MAX, window_ms * 2)
    return window_ms

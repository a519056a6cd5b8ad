"""Reading back: ticks as arrays, and log entries to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from events.candles import TIMEFRAME_SECONDS, CandleBatch
from events.log import BEGIN, END, Entry, EntryId, Lane, Stream
from events.marks import MARK_DTYPE, Marks
from events.postgres.binary_copy import Array, PackedTable
from events.postgres.connection import Connection
from events.postgres.tables import CANDLES, MARKS, TICKS
from events.ticks import RATE_DTYPE, TICK_DTYPE, Mark, OffsetSource, TickArray, TickBatch

SERVER_TO_UTC_MAX_S = 26 * 3600
"""No broker's clock is further from UTC."""
_INT8_MAX = 2**63 - 1
_AT_PLACES = (
    "r.stream_id = %s AND r.entry_ms BETWEEN %s AND %s"
    " AND (r.entry_ms, r.entry_seq) >= (%s, %s) AND (r.entry_ms, r.entry_seq) <= (%s, %s)"
)
# The statements below are made of constants of this file alone.
_SELECT_EVENTS = (
    "SELECT entry_ms, entry_seq, type, key,"  # noqa: S608 - constants
    f" coalesce(original, convert_to(body::text, 'UTF8')), cause FROM raw.events r"
    f" WHERE {_AT_PLACES}"
)
_SELECT_EXACT = (
    "SELECT entry_ms, entry_seq, type, key, data, cause"  # noqa: S608 - constants
    f" FROM raw.exact_entries r WHERE {_AT_PLACES}"
)
_SELECT_DEAD = (
    "SELECT entry_ms, entry_seq, type, key, data, cause"  # noqa: S608 - constants
    f" FROM raw.dead_entries r WHERE {_AT_PLACES}"
)
_TIMEFRAMES = {seconds: name for name, seconds in TIMEFRAME_SECONDS.items()}


def read_ticks(
    connection: Connection,
    namespace: str,
    symbol: str,
    *,
    from_server_ms: int = -(2**62),
    until_server_ms: int = 2**62,
) -> TickArray:
    """Stored ticks of a symbol with from <= time_msc < until (server clock), as stored.

    Rows that were stored twice come twice. The order is that of the log.
    """
    margin_ms = SERVER_TO_UTC_MAX_S * 1000
    rows = _copy_out(
        connection,
        TICKS,
        "JOIN raw.symbols s ON s.id = r.symbol_id JOIN raw.terminals m ON m.id = s.terminal_id"
        " WHERE m.name = %s AND s.name = %s AND r.time_msc >= %s AND r.time_msc < %s"
        ' AND r."time" >= raw.utc_time(%s) AND r."time" <= raw.utc_time(%s)'
        " ORDER BY r.entry_ms, r.entry_seq, r.idx",
        (
            namespace,
            symbol,
            from_server_ms,
            until_server_ms,
            from_server_ms - margin_ms,
            until_server_ms + margin_ms,
        ),
    )
    return _tick_array(rows)


def count_ticks(connection: Connection, namespace: str) -> dict[str, int]:
    """Stored ticks by symbol."""
    rows = connection.execute(
        "SELECT s.name, count(*) FROM raw.ticks t JOIN raw.symbols s ON s.id = t.symbol_id"
        " JOIN raw.terminals m ON m.id = s.terminal_id WHERE m.name = %s GROUP BY s.name"
        " ORDER BY s.name",
        (namespace,),
    )
    return dict(rows.fetchall())


def read_entries(
    connection: Connection, stream: Stream, *, first: EntryId = BEGIN, last: EntryId = END
) -> list[Entry]:
    """Stored entries of a stream with first <= id <= last, oldest first, equal to the byte.

    Raises LookupError when rows of a batch are missing.
    """
    found = connection.execute("SELECT id FROM raw.streams WHERE name = %s", (str(stream),))
    row = found.fetchone()
    if row is None:
        return []
    entries = {entry.id: entry for entry in _verbatim(connection, stream, row[0], first, last)}
    for table, rebuild in ((TICKS, _tick_entry), (CANDLES, _candle_entry), (MARKS, _mark_entry)):
        for batch in _batches(connection, table, row[0], first, last):
            place = EntryId(int(batch["entry_ms"][0]), int(batch["entry_seq"][0]))
            if place not in entries:
                entries[place] = rebuild(connection, stream, place, batch)
    return [entries[place] for place in sorted(entries)]


def _verbatim(
    connection: Connection, stream: Stream, stream_id: int, first: EntryId, last: EntryId
) -> Iterator[Entry]:
    arguments = _place_arguments(stream_id, first, last)
    rows = connection.execute(_SELECT_EVENTS, arguments).fetchall()
    rows += connection.execute(_SELECT_EXACT, arguments).fetchall()
    for ms, seq, type_, key, data, cause in connection.execute(_SELECT_DEAD, arguments):
        type_text, key_text, cause_text = map(_foreign_text, (type_, key, cause))
        rows.append((ms, seq, type_text, key_text, data, cause_text))
    for ms, seq, type_, key, data, cause in rows:
        yield Entry(stream, EntryId(ms, seq), type_, key, bytes(data), cause)


def _batches(
    connection: Connection, table: PackedTable, stream_id: int, first: EntryId, last: EntryId
) -> Iterator[Array]:
    """Rows of one entry at a time, in order."""
    rows = _copy_out(
        connection,
        table,
        f"WHERE {_AT_PLACES} ORDER BY r.entry_ms, r.entry_seq, r.idx",
        _place_arguments(stream_id, first, last),
    )
    if not len(rows):
        return
    changed = (np.diff(rows["entry_ms"]) != 0) | (np.diff(rows["entry_seq"]) != 0)
    for batch in np.split(rows, np.flatnonzero(changed) + 1):
        if not (batch["idx"] == np.arange(len(batch))).all():
            raise LookupError(
                f"{table.name}: rows of entry {batch['entry_ms'][0]}-{batch['entry_seq'][0]}"
                " are missing or doubled"
            )
        yield batch


def _tick_entry(connection: Connection, stream: Stream, place: EntryId, rows: Array) -> Entry:
    symbol = _symbol(connection, int(rows["symbol_id"][0]))
    batch = TickBatch(symbol, _tick_array(rows), *_header(rows), Mark(int(rows["marks"][0])))
    kind = "ticks_history.1" if stream.lane is Lane.LOW else "ticks.1"
    return Entry(stream, place, kind, symbol, batch.to_bytes())


def _candle_entry(connection: Connection, stream: Stream, place: EntryId, rows: Array) -> Entry:
    symbol = _symbol(connection, int(rows["symbol_id"][0]))
    candles = np.zeros(len(rows), RATE_DTYPE)
    candles["time"] = rows["time_s"]
    for name in ("open", "high", "low", "close", "spread"):
        candles[name] = rows[name]
    for name in ("tick_volume", "real_volume"):
        candles[name] = _unsigned(rows[name])
    batch = CandleBatch(symbol, _TIMEFRAMES[int(rows["timeframe_s"][0])], candles, *_header(rows))
    return Entry(stream, place, "candles.1", f"{symbol}:{batch.timeframe}", batch.to_bytes())


def _mark_entry(_: Connection, stream: Stream, place: EntryId, rows: Array) -> Entry:
    marks = np.zeros(len(rows), MARK_DTYPE)
    marks["ticket"] = _unsigned(rows["ticket"])
    for name in ("price_current", "profit", "swap"):
        marks[name] = rows[name]
    offset_s, source, event_ms, recv_ms = _header(rows)
    login = int(rows["login"][0])
    event = Marks(login, marks, event_ms, recv_ms, offset_s, source)
    return Entry(stream, place, "marks.1", str(login), event.to_bytes())


def _header(rows: Array) -> tuple[int, OffsetSource, int, int]:
    return (
        int(rows["offset_s"][0]),
        OffsetSource(int(rows["offset_source"][0])),
        int(rows["event_ms"][0]),
        int(rows["recv_ms"][0]),
    )


def _tick_array(rows: Array) -> TickArray:
    ticks = np.zeros(len(rows), TICK_DTYPE)
    for name in ("bid", "ask", "last", "volume_real", "time_msc"):
        ticks[name] = rows[name]
    for name in ("volume", "flags"):
        ticks[name] = _unsigned(rows[name])
    ticks["time"] = ticks["time_msc"] // 1000
    return ticks


def _unsigned(values: Array) -> Array:
    native = values.astype(values.dtype.newbyteorder("="))
    return native.view(native.dtype.str.replace("i", "u", 1))


def _symbol(connection: Connection, symbol_id: int) -> str:
    row = connection.execute("SELECT name FROM raw.symbols WHERE id = %s", (symbol_id,)).fetchone()
    assert row is not None, "symbols are never deleted"
    return str(row[0])


def _place_arguments(stream_id: int, first: EntryId, last: EntryId) -> tuple[int, ...]:
    numbers = [min(number, _INT8_MAX) for number in (*first, *last)]
    return (stream_id, numbers[0], numbers[2], *numbers)


def _foreign_text(part: bytes) -> str:
    return part.decode("utf-8", "surrogateescape")


def _copy_out(
    connection: Connection, table: PackedTable, rest: str, arguments: tuple[Any, ...]
) -> Array:
    columns = ", ".join(f'r."{column}"' for column in table.columns)
    query = (
        f"COPY (SELECT {columns} FROM {table.name} r {rest})"  # noqa: S608 - our own constants
        " TO STDOUT (FORMAT BINARY)"
    )
    with connection.cursor() as cursor, cursor.copy(query, arguments) as copy:
        return table.unpack(b"".join(copy))

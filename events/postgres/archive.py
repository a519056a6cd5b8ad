"""Reading back: ticks as arrays, and log entries to the byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from events.candles import TIMEFRAME_SECONDS, CandleBatch
from events.log import BEGIN, END, Entry, EntryId, Lane, Stream
from events.marks import MARK_DTYPE, Marks
from events.postgres.binary_copy import Array, PackedTable, utc_ms_of
from events.postgres.connection import Connection
from events.postgres.tables import CANDLES, MARKS, TICKS
from events.ticks import RATE_DTYPE, TICK_DTYPE, Mark, OffsetSource, TickArray, TickBatch

Names = Mapping[int, str]

SERVER_TO_UTC_MAX_S = 26 * 3600
"""No broker's clock is further from UTC."""
_INT8_MAX = 2**63 - 1
_BETWEEN = (
    " AND r.entry_ms BETWEEN %s AND %s"
    " AND (r.entry_ms, r.entry_seq) >= (%s, %s) AND (r.entry_ms, r.entry_seq) <= (%s, %s)"
)
_AT_PLACES = "r.stream_id = %s" + _BETWEEN
_FEEDS_AT_PLACES = (
    "r.feed_id IN (SELECT id FROM raw.feeds WHERE stream_id = %s)"  # noqa: S608 - constants
    + _BETWEEN
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
_SELECT_NEWEST = (
    "SELECT DISTINCT ON (key) entry_ms, entry_seq, type, key,"
    " coalesce(original, convert_to(body::text, 'UTF8')), cause FROM raw.events"
    ' WHERE stream_id = %s AND type LIKE %s AND "time" >= raw.utc_time(%s)'
    " ORDER BY key, entry_ms DESC, entry_seq DESC"
)
_SELECT_LAST_BEFORE = (
    "SELECT entry_ms, entry_seq, type, key,"
    " coalesce(original, convert_to(body::text, 'UTF8')), cause FROM raw.events"
    ' WHERE stream_id = %s AND type LIKE %s AND key = %s AND "time" < raw.utc_time(%s)'
    ' ORDER BY "time" DESC, entry_ms DESC, entry_seq DESC LIMIT 1'
)
_SELECT_OF_TICKET = (
    "SELECT r.name, f.entry_ms, f.entry_seq FROM ("
    "SELECT stream_id, entry_ms, entry_seq FROM raw.deals"
    " WHERE ticket = %(ticket)s OR order_ticket = %(ticket)s OR position_id = %(ticket)s"
    " UNION SELECT stream_id, entry_ms, entry_seq FROM raw.orders"
    " WHERE done AND (ticket = %(ticket)s OR position_id = %(ticket)s"
    " OR position_by_id = %(ticket)s)"
    " UNION SELECT stream_id, entry_ms, entry_seq FROM raw.events WHERE type LIKE 'trade.%%'"
    " AND body -> 'trade' ->> 'position_id' = %(ticket)s::text"
    " UNION SELECT stream_id, entry_ms, entry_seq FROM raw.events WHERE type = 'flatten_step.1'"
    " AND body ->> 'ticket' = %(ticket)s::text"
    ") f JOIN raw.streams r ON r.id = f.stream_id JOIN raw.terminals m ON m.id = r.terminal_id"
    " WHERE m.name = %(terminal)s ORDER BY 2, 3 LIMIT %(rows_max)s"
)
_TIMEFRAMES = {seconds: name for name, seconds in TIMEFRAME_SECONDS.items()}


def read_ticks(
    connection: Connection,
    namespace: str,
    symbol: str,
    *,
    from_server_ms: int = -(2**62),
    until_server_ms: int = 2**62,
    after: Mapping[Stream, EntryId] | None = None,
) -> TickArray:
    """Stored ticks of a symbol with from <= time_msc < until (server clock), as stored.

    Rows that were stored twice come twice. The order is that of the log. With `after`, only
    ticks behind those places of their streams.
    """
    margin_ms = SERVER_TO_UTC_MAX_S * 1000
    rows = _copy_out(
        connection,
        TICKS,
        "JOIN raw.feeds f ON f.id = r.feed_id JOIN raw.symbols s ON s.id = f.symbol_id"
        " JOIN raw.terminals m ON m.id = s.terminal_id"
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
    return _tick_array(rows[_behind(connection, rows, after)] if after else rows)


def _behind(connection: Connection, rows: Array, after: Mapping[Stream, EntryId]) -> Array:
    """Which rows come from entries behind these places."""
    behind: Array = np.ones(len(rows), np.bool_)
    for stream, place in after.items():
        feeds = connection.execute(
            "SELECT f.id FROM raw.feeds f JOIN raw.streams r ON r.id = f.stream_id"
            " WHERE r.name = %s",
            (str(stream),),
        ).fetchall()
        ms, seq = rows["entry_ms"], rows["entry_seq"]
        later = (ms > place.ms) | ((ms == place.ms) & (seq > place.seq))
        behind &= ~np.isin(rows["feed_id"], [feed for (feed,) in feeds]) | later
    return behind


def count_ticks(connection: Connection, namespace: str) -> dict[str, int]:
    """Stored ticks by symbol."""
    rows = connection.execute(
        "SELECT s.name, count(*) FROM raw.ticks t JOIN raw.feeds f ON f.id = t.feed_id"
        " JOIN raw.symbols s ON s.id = f.symbol_id"
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
    stream_id = _stream_id(connection, stream)
    if stream_id is None:
        return []
    entries = {entry.id: entry for entry in _verbatim(connection, stream, stream_id, first, last)}
    for table, rebuild in ((TICKS, _tick_entry), (CANDLES, _candle_entry), (MARKS, _mark_entry)):
        names = _symbols(connection, table, stream_id)
        for batch in _batches(connection, table, stream_id, first, last):
            place = EntryId(int(batch["entry_ms"][0]), int(batch["entry_seq"][0]))
            if place not in entries:
                entries[place] = rebuild(names, stream, place, batch)
    return [entries[place] for place in sorted(entries)]


def read_newest(connection: Connection, stream: Stream, name: str, *, since_ms: int) -> list[Entry]:
    """The newest stored entry of each key, of JSON events called `name` (without a version) whose
    event time is not before `since_ms`."""
    stream_id = _stream_id(connection, stream)
    pattern = name.replace("_", r"\_") + ".%"
    rows = connection.execute(_SELECT_NEWEST, (stream_id, pattern, since_ms)).fetchall()
    return [
        Entry(stream, EntryId(ms, seq), type_, key, bytes(data), cause)
        for ms, seq, type_, key, data, cause in rows
    ]


def read_last_before(
    connection: Connection, stream: Stream, name: str, key: str, *, before_ms: int
) -> Entry | None:
    """The newest stored entry of a key, of JSON events called `name` (without a version) whose
    event time lies before `before_ms`; None where there is none."""
    stream_id = _stream_id(connection, stream)
    pattern = name.replace("_", r"\_") + ".%"
    arguments = (stream_id, pattern, key, before_ms)
    row = connection.execute(_SELECT_LAST_BEFORE, arguments).fetchone()
    if row is None:
        return None
    ms, seq, type_, key, data, cause = row
    return Entry(stream, EntryId(ms, seq), type_, key, bytes(data), cause)


def places_of_ticket(
    connection: Connection, namespace: str, ticket: int, *, rows_max: int
) -> list[tuple[Stream, EntryId]]:
    """Where stored deals, finished orders, trades and steps of a flatten lie that name a ticket:
    their own, their order's or their position's."""
    arguments = {"ticket": Decimal(ticket), "terminal": namespace, "rows_max": rows_max}
    rows = connection.execute(_SELECT_OF_TICKET, arguments).fetchall()
    return [(Stream.parse(name), EntryId(ms, seq)) for name, ms, seq in rows]


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
    places = _FEEDS_AT_PLACES if table is TICKS else _AT_PLACES
    rows = _copy_out(
        connection,
        table,
        f"WHERE {places} ORDER BY r.entry_ms, r.entry_seq, r.idx",
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


def _tick_entry(names: Names, stream: Stream, place: EntryId, rows: Array) -> Entry:
    symbol = names[int(rows["feed_id"][0])]
    utc_ms = utc_ms_of(rows["time"])
    source, marks = divmod(int(rows["batch_bits"][0]), 256)
    batch = TickBatch(
        symbol,
        _tick_array(rows),
        offset_s=(int(rows["time_msc"][0]) - int(utc_ms[0])) // 1000,
        offset_source=OffsetSource(source),
        event_time_ms=int(utc_ms.max()),
        recv_time_ms=int(rows["recv_ms"][0]),
        marks=Mark(marks),
    )
    kind = "ticks_history.1" if stream.lane is Lane.LOW else "ticks.1"
    return Entry(stream, place, kind, symbol, batch.to_bytes())


def _candle_entry(names: Names, stream: Stream, place: EntryId, rows: Array) -> Entry:
    symbol = names[int(rows["symbol_id"][0])]
    candles = np.zeros(len(rows), RATE_DTYPE)
    candles["time"] = rows["time_s"]
    for name in ("open", "high", "low", "close", "spread"):
        candles[name] = rows[name]
    for name in ("tick_volume", "real_volume"):
        candles[name] = _unsigned(rows[name])
    batch = CandleBatch(symbol, _TIMEFRAMES[int(rows["timeframe_s"][0])], candles, *_header(rows))
    return Entry(stream, place, "candles.1", f"{symbol}:{batch.timeframe}", batch.to_bytes())


def _mark_entry(_: Names, stream: Stream, place: EntryId, rows: Array) -> Entry:
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


def _stream_id(connection: Connection, stream: Stream) -> int | None:
    row = connection.execute(
        "SELECT id FROM raw.streams WHERE name = %s", (str(stream),)
    ).fetchone()
    return None if row is None else int(row[0])


def _symbols(connection: Connection, table: PackedTable, stream_id: int) -> dict[int, str]:
    """Names by the number that rows of a table carry: a feed for ticks, else a symbol."""
    if table is TICKS:
        return dict(
            connection.execute(
                "SELECT f.id, s.name FROM raw.feeds f JOIN raw.symbols s ON s.id = f.symbol_id"
                " WHERE f.stream_id = %s",
                (stream_id,),
            ).fetchall()
        )
    return dict(connection.execute("SELECT id, name FROM raw.symbols").fetchall())


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

"""Rows of a log that is no more: finding offsets that lead nowhere, and taking such rows away.

Every row names the entry it came from, so what was stored after an entry can be removed, and the
offset set back to it, in one transaction. Nobody's token survives that: a group that still stores
finds itself fenced and reads its offsets again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from events.log import EntryId, Slot, Stream
from events.postgres.connection import Connection
from events.postgres.offsets import SinkFenced, StoredOffset

TICKS = "ticks"
_COLUMNS = "stream, last_ms, last_seq, entries, ticks, checksum"


@dataclass(frozen=True, slots=True)
class GroupOffset:
    """An offset and whose it is."""

    group: str
    offset: StoredOffset


@dataclass(frozen=True, slots=True)
class Since:
    """Rows that the log begun anew holds again: of one symbol, from a time on."""

    table: str
    """`ticks` or `candles`."""
    symbol: str
    from_time: int
    """`time_msc` of ticks, `time_s` of candles."""
    timeframe_s: int = 0


def stored_offsets(connection: Connection) -> list[GroupOffset]:
    """Every offset of every group, by group and stream."""
    return [
        GroupOffset(group, _offset(*row))
        for group, *row in connection.execute(
            f"SELECT sink_group, {_COLUMNS} FROM raw.offsets ORDER BY sink_group, stream"  # noqa: S608 - our own constant
        ).fetchall()
    ]


def stored_offset(connection: Connection, group: str, stream: Stream) -> StoredOffset:
    """One offset as it is now. Raises SinkFenced when there is none any more."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM raw.offsets WHERE sink_group = %s AND stream = %s",  # noqa: S608 - our own constant
        (group, str(stream)),
    ).fetchone()
    if row is None:
        raise SinkFenced(f"{group} stores {stream} no more")
    return _offset(*row)


def fence(connection: Connection, group: str, slot: Slot) -> None:
    """Take a slot from whoever stores it: it reads its offsets anew, and looks at them."""
    connection.execute(
        "UPDATE raw.offsets SET token = NULL WHERE sink_group = %s AND slot = %s",
        (group, str(slot)),
    )


def set_back(
    connection: Connection, group: str, before: StoredOffset, to: StoredOffset
) -> dict[str, int]:
    """Remove every row stored after `to.last` and set the offset there, all or nothing.

    `to.ticks` is put right by what is removed. Returns rows removed by table. Raises SinkFenced
    when the offset is not `before` any more: look again.
    """
    with connection.transaction():
        _take(connection, group, before)
        removed = {
            table: count
            for table, column in _tables(connection).items()
            if (count := _remove_after(connection, table, column, before.stream, to.last))
        }
        _set(connection, group, to, before.ticks - removed.get(TICKS, 0))
    return removed


def retire(
    connection: Connection,
    group: str,
    before: StoredOffset,
    *,
    again: Iterable[Since],
    entries_again: Iterable[EntryId],
) -> dict[str, int]:
    """Keep what was stored of a stream under a name that tells it apart, without what the new
    log holds again, and set the offset to the beginning, all or nothing."""
    with connection.transaction():
        _take(connection, group, before)
        removed: dict[str, int] = {}
        for since in again:
            count = _remove_since(connection, before.stream, since)
            removed[since.table] = removed.get(since.table, 0) + count
        places = sorted(entries_again)
        for table, column in _tables(connection).items():
            count = _remove_entries(connection, table, column, before.stream, places)
            removed[table] = removed.get(table, 0) + count
        connection.execute(
            "UPDATE raw.streams SET name = name || ' until ' || clock_timestamp() WHERE name = %s",
            (str(before.stream),),
        )
        _set(connection, group, StoredOffset(before.stream, EntryId(0, 0), 0, 0, 0), 0)
    return {table: count for table, count in removed.items() if count}


def put(connection: Connection, group: str, before: StoredOffset, to: StoredOffset) -> None:
    """Change an offset alone (entries that no log has any more are passed over)."""
    with connection.transaction():
        _take(connection, group, before)
        _set(connection, group, to, to.ticks)


def _offset(
    stream: str, ms: int, seq: int, entries: int, ticks: int, checksum: int
) -> StoredOffset:
    return StoredOffset(Stream.parse(stream), EntryId(ms, seq), entries, ticks, checksum)


def _take(connection: Connection, group: str, before: StoredOffset) -> None:
    found = connection.execute(
        "SELECT last_ms, last_seq, entries, checksum FROM raw.offsets"
        " WHERE sink_group = %s AND stream = %s FOR UPDATE",
        (group, str(before.stream)),
    ).fetchone()
    if found != (before.last.ms, before.last.seq, before.entries, before.checksum):
        raise SinkFenced(f"{before.stream}: the offset of {group} moved meanwhile: look again")


def _set(connection: Connection, group: str, to: StoredOffset, ticks: int) -> None:
    connection.execute(
        "UPDATE raw.offsets SET last_ms = %s, last_seq = %s, entries = %s, ticks = %s,"
        " checksum = %s WHERE sink_group = %s AND stream = %s",
        (to.last.ms, to.last.seq, to.entries, ticks, to.checksum, group, str(to.stream)),
    )
    connection.execute(
        "UPDATE raw.offsets SET token = NULL, holder = '', backend_pid = NULL,"
        " backend_start = NULL, halted = '' WHERE sink_group = %s AND slot = %s",
        (group, str(to.stream.slot)),
    )


def _tables(connection: Connection) -> Mapping[str, str]:
    """Tables whose rows name their entry -> the column that names its stream."""
    rows = connection.execute(
        "SELECT c.table_name, min(c.column_name) FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name)"
        " WHERE c.table_schema = 'raw' AND c.column_name IN ('feed_id', 'stream_id')"
        " AND t.table_type = 'BASE TABLE' AND EXISTS (SELECT FROM information_schema.columns e"
        " WHERE e.table_schema = 'raw' AND e.table_name = c.table_name"
        " AND e.column_name = 'entry_seq') GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return dict(rows)


def _of_stream(column: str) -> sql.Composable:
    """The condition that a row came from the stream that is the first argument."""
    if column == "feed_id":
        return sql.SQL(
            "feed_id IN (SELECT f.id FROM raw.feeds f JOIN raw.streams s ON s.id = f.stream_id"
            " WHERE s.name = %s)"
        )
    return sql.SQL("stream_id = (SELECT id FROM raw.streams WHERE name = %s)")


def _remove_after(
    connection: Connection, table: str, column: str, stream: Stream, last: EntryId
) -> int:
    query = sql.SQL(
        "DELETE FROM {table} WHERE {of_stream}"
        " AND entry_ms >= %s AND (entry_ms, entry_seq) > (%s, %s)"
    ).format(table=sql.Identifier("raw", table), of_stream=_of_stream(column))
    return connection.execute(query, (str(stream), last.ms, last.ms, last.seq)).rowcount


def _remove_entries(
    connection: Connection, table: str, column: str, stream: Stream, places: Sequence[EntryId]
) -> int:
    if not places:
        return 0
    query = sql.SQL(
        "DELETE FROM {table} WHERE {of_stream} AND entry_ms BETWEEN %s AND %s"
        " AND (entry_ms, entry_seq) IN (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))"
    ).format(table=sql.Identifier("raw", table), of_stream=_of_stream(column))
    ms, seq = [place.ms for place in places], [place.seq for place in places]
    return connection.execute(query, (str(stream), ms[0], ms[-1], ms, seq)).rowcount


def _remove_since(connection: Connection, stream: Stream, since: Since) -> int:
    symbol = "(SELECT y.id FROM raw.symbols y JOIN raw.streams s USING (terminal_id)"
    if since.table == TICKS:
        return connection.execute(
            "DELETE FROM raw.ticks WHERE time_msc >= %s AND feed_id IN (SELECT f.id FROM raw.feeds"  # noqa: S608 - constants of this function
            f" f JOIN raw.streams s ON s.id = f.stream_id WHERE s.name = %s AND f.symbol_id IN"
            f" {symbol} WHERE s.name = %s AND y.name = %s))",
            (since.from_time, str(stream), str(stream), since.symbol),
        ).rowcount
    return connection.execute(
        "DELETE FROM raw.candles WHERE time_s >= %s AND timeframe_s = %s AND stream_id ="  # noqa: S608 - as above
        f" (SELECT id FROM raw.streams WHERE name = %s) AND symbol_id IN {symbol}"
        " WHERE s.name = %s AND y.name = %s)",
        (since.from_time, since.timeframe_s, str(stream), str(stream), since.symbol),
    ).rowcount

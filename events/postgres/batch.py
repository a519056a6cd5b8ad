"""From log entries to what one transaction stores. Pure: no database, no clock.

Every entry ends in exactly one archive: rows of ticks, candles or marks that rebuild its bytes;
its text in raw.events; its bytes in raw.exact_entries where rows do not say everything; or
raw.dead_entries where it cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from events.candles import TIMEFRAME_SECONDS, CandleBatch
from events.codec import BadEvent, UnknownEvent, decode
from events.event import Event
from events.log import Entry, Lane
from events.marks import Marks
from events.postgres.binary_copy import Array, PackedTable, timestamps, within_range
from events.postgres.tables import CANDLES, MARKS, TICKS, Ids, Row, row_start, text, typed_rows
from events.ticks import TICK_DTYPE, TickBatch

Packed = TickBatch | CandleBatch | Marks

_TICK_TYPES = {Lane.NORMAL: "ticks.1", Lane.LOW: "ticks_history.1"}
"""What raw.ticks means by its lane; other combinations keep their bytes as well."""


@dataclass(slots=True)
class SinkBatch:
    """Rows of one transaction by table, and what is to be told about them."""

    packed: dict[str, tuple[PackedTable, Array]] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    dead: list[tuple[Entry, str]] = field(default_factory=list)
    """Entries that could not be read, with the reason; they are in `rows` as well."""
    ticks_by_stream: dict[str, int] = field(default_factory=dict)

    @property
    def row_count(self) -> int:
        packed = sum(len(array) for _, array in self.packed.values())
        return packed + sum(len(rows) for rows in self.rows.values())

    def add(self, table: str, row: Row) -> None:
        self.rows.setdefault(table, []).append(row)

    def bury(self, entry: Entry, error: str, ids: Ids) -> None:
        """Keep an entry that cannot become rows, with the reason."""
        self.dead.append((entry, error))
        self.add(
            "raw.dead_entries",
            (
                entry.id.ms, entry.id.seq, ids.stream(entry.stream),
                *(_bytes(part) for part in (entry.type, entry.key, entry.cause)), entry.data,
                text(error),
            ),
        )  # fmt: skip


def build_batch(entries: Iterable[Entry], ids: Ids) -> SinkBatch:
    """Rows of all entries. Never raises for what an entry holds: such entries are buried."""
    batch = SinkBatch()
    packed: dict[type, list[tuple[Entry, Any]]] = {TickBatch: [], CandleBatch: [], Marks: []}
    for entry in entries:
        try:
            event = decode(entry)
            if isinstance(event, Event):
                _add_json(batch, entry, event, ids)
            else:
                _check_packed(event)
                if not _says_all(entry, event):
                    _add_exact(batch, entry, event, ids)
                packed[type(event)].append((entry, event))
        except (UnknownEvent, BadEvent, OverflowError) as error:
            batch.bury(entry, str(error), ids)
    for build, table, pairs in (
        (_tick_rows, TICKS, packed[TickBatch]),
        (_candle_rows, CANDLES, packed[CandleBatch]),
        (_mark_rows, MARKS, packed[Marks]),
    ):
        pairs = [pair for pair in pairs if len(pair[1])]
        if pairs:
            batch.packed[table.name] = (table, build(_Joined(pairs, ids), ids))
    for entry, event in _odd_ticks(packed[TickBatch]):
        _add_exact(batch, entry, event, ids)
    for entry, event in packed[TickBatch]:
        stream = str(entry.stream)
        batch.ticks_by_stream[stream] = batch.ticks_by_stream.get(stream, 0) + len(event)
    return batch


def buried(entry: Entry, error: str, ids: Ids) -> SinkBatch:
    """A batch that only keeps one entry which the database would not take."""
    batch = SinkBatch()
    batch.bury(entry, error, ids)
    return batch


def _add_json(batch: SinkBatch, entry: Entry, event: Event, ids: Ids) -> None:
    made = list(typed_rows(entry, event, ids))
    body, original = _body(entry.data)
    names = tuple(map(text, (entry.type, entry.key, entry.cause)))
    if names != (entry.type, entry.key, entry.cause):
        raise BadEvent("its type, key or cause holds characters that a database refuses")
    batch.add("raw.events", (*row_start(entry, event.event_time_ms, ids), *names, body, original))
    for table, row in made:
        batch.add(table, row)


def _body(data: bytes) -> tuple[str, bytes | None]:
    """JSON text that PostgreSQL takes, and the bytes themselves where they differ from it."""
    unusual = b"NaN" in data or b"Infinity" in data or b"\\u0000" in data
    if not unusual:
        return data.decode(), None
    fields = json.loads(data, parse_constant=lambda _: None)
    return json.dumps(fields).replace("\\u0000", "\\ufffd"), data


def _add_exact(batch: SinkBatch, entry: Entry, event: Packed, ids: Ids) -> None:
    names = (entry.type, entry.key, entry.cause)
    if tuple(map(text, names)) != names:
        raise BadEvent("its type, key or cause holds characters that a database refuses")
    batch.add(
        "raw.exact_entries", (*row_start(entry, event.event_time_ms, ids), *names, entry.data)
    )


def _check_packed(event: Packed) -> None:
    symbol = getattr(event, "symbol", "")
    if text(symbol) != symbol:
        raise BadEvent(f"{symbol!r} holds characters that a database refuses")
    if isinstance(event, CandleBatch) and event.timeframe not in TIMEFRAME_SECONDS:
        raise BadEvent(f"{event.timeframe!r} is no timeframe")


def _says_all(entry: Entry, event: Packed) -> bool:
    """Whether the rows alone rebuild the entry to the byte (for ticks: see _odd_ticks too)."""
    if entry.cause or not len(event):
        return False
    if isinstance(event, TickBatch):
        reserved = entry.data[-len(event) * TICK_DTYPE.itemsize - 2 :][:2]
        return entry.type == _TICK_TYPES.get(entry.stream.lane) and reserved == b"\0\0"
    if isinstance(event, Marks) and entry.key != str(event.login):
        return False
    return event.to_bytes() == entry.data


def _odd_ticks(pairs: Sequence[tuple[Entry, TickBatch]]) -> Iterator[tuple[Entry, TickBatch]]:
    """Batches that raw.ticks alone would not rebuild: `time` is not the second of `time_msc`, a
    time was clamped, or the event time is not that of the newest tick."""
    pairs = [(entry, event) for entry, event in pairs if _says_all(entry, event)]
    if not pairs:
        return
    counts = np.array([len(event) for _, event in pairs])
    ends = np.cumsum(counts)
    ticks = _join([event.ticks for _, event in pairs])
    offsets_ms = np.array([event.offset_s for _, event in pairs], np.int64) * 1000
    utc_ms = ticks["time_msc"] - np.repeat(offsets_ms, counts)
    odd = (ticks["time"] != ticks["time_msc"] // 1000) | ~within_range(utc_ms)
    newest_ms = np.maximum.reduceat(utc_ms, ends - counts)
    unusual = newest_ms != np.array([event.event_time_ms for _, event in pairs], np.int64)
    unusual[np.searchsorted(ends, np.flatnonzero(odd), side="right")] = True
    for index in np.flatnonzero(unusual):
        yield pairs[index]


class _Joined:
    """Batches of one kind end to end: records, and per record what their headers say."""

    def __init__(self, pairs: Sequence[tuple[Entry, Any]], ids: Ids) -> None:
        self.pairs = pairs
        self.counts = np.array([len(event) for _, event in pairs])
        self.records = _join([_records(event) for _, event in pairs])
        starts = np.cumsum(self.counts) - self.counts
        self.values: dict[str, Array] = {
            "entry_ms": self.spread([entry.id.ms for entry, _ in pairs]),
            "entry_seq": self.spread([entry.id.seq for entry, _ in pairs]),
            "stream_id": self.spread([ids.stream(entry.stream) for entry, _ in pairs]),
            "event_ms": self.spread([event.event_time_ms for _, event in pairs]),
            "recv_ms": self.spread([event.recv_time_ms for _, event in pairs]),
            "offset_s": self.spread([event.offset_s for _, event in pairs]),
            "offset_source": self.spread([int(event.offset_source) for _, event in pairs]),
            "idx": np.arange(len(self.records)) - np.repeat(starts, self.counts),
        }

    def __len__(self) -> int:
        return len(self.records)

    def spread(self, per_entry: Sequence[int]) -> Array:
        """One value per entry -> one per record."""
        return np.repeat(np.array(per_entry, np.int64), self.counts)

    def symbols(self, ids: Ids) -> Array:
        return self.spread(
            [ids.symbol(entry.stream.slot.namespace, event.symbol) for entry, event in self.pairs]
        )


def _tick_rows(joined: _Joined, ids: Ids) -> Array:
    ticks, values = joined.records, joined.values
    names = ("bid", "ask", "last", "volume", "volume_real", "time_msc", "flags")
    values |= {name: ticks[name] for name in names}
    values["time"] = timestamps(ticks["time_msc"] - values["offset_s"] * 1000)
    values["feed_id"] = joined.spread(
        [ids.feed(entry.stream, event.symbol) for entry, event in joined.pairs]
    )
    values["batch_bits"] = joined.spread(
        [int(event.marks) | event.offset_source << 8 for _, event in joined.pairs]
    )
    return TICKS.pack(len(ticks), values)


def _candle_rows(joined: _Joined, ids: Ids) -> Array:
    candles, values = joined.records, joined.values
    names = ("open", "high", "low", "close", "tick_volume", "real_volume", "spread")
    values |= {name: candles[name] for name in names}
    values["time_s"] = candles["time"]
    # Seconds beyond the year 9999 would overflow as ms before they are clamped.
    seconds = np.clip(candles["time"], -(10**12), 10**12) - values["offset_s"]
    values["time"] = timestamps(seconds * 1000)
    values["symbol_id"] = joined.symbols(ids)
    values["timeframe_s"] = joined.spread(
        [TIMEFRAME_SECONDS[event.timeframe] for _, event in joined.pairs]
    )
    return CANDLES.pack(len(candles), values)


def _mark_rows(joined: _Joined, ids: Ids) -> Array:
    marks, values = joined.records, joined.values
    values |= {name: marks[name] for name in ("ticket", "price_current", "profit", "swap")}
    values["time"] = timestamps(values["event_ms"])
    values["login"] = joined.spread([event.login for _, event in joined.pairs])
    return MARKS.pack(len(marks), values)


def _records(event: Packed) -> Array:
    if isinstance(event, TickBatch):
        return event.ticks
    return event.candles if isinstance(event, CandleBatch) else event.rows


def _join(arrays: Sequence[Array]) -> Array:
    """`np.concatenate` for records of one dtype, which costs it much per array."""
    if len(arrays) == 1:
        return arrays[0]
    return np.frombuffer(b"".join(arrays), arrays[0].dtype)  # type: ignore[arg-type] # arrays are buffers


def _bytes(part: str) -> bytes:
    return part.encode("utf-8", "surrogateescape")

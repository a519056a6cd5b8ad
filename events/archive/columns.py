"""Entries as Arrow tables and back, to the byte.

Every entry is a row of the *entries* table. The bytes of most lie in its column `data`; those of
a tick batch lie in the *ticks* table, where any Parquet tool can read them, and the row holds
what else the batch's header says. Ticks are sorted by symbol, each symbol's in log order: the
n-th batch of a symbol is the next `ticks` rows of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from events.archive.errors import ChunkDamaged, arrow
from events.codec import TICKS, TICKS_HISTORY
from events.log import Entry, EntryId, Stream
from events.ticks import TICK_DTYPE, Mark, OffsetSource, TickArray, TickBatch

TICK_TYPES = frozenset({f"{TICKS}.1", f"{TICKS_HISTORY}.1"})
PRICES = ("bid", "ask", "last", "volume_real")
COPIED = ("time_msc", *PRICES, "volume", "flags")
DAY_MS = 86_400_000


@dataclass(slots=True)
class _Batches:
    """The tick batches of a chunk, by symbol, in log order."""

    by_symbol: dict[str, list[TickBatch]] = field(default_factory=dict)

    def take(self, batch: TickBatch) -> None:
        self.by_symbol.setdefault(batch.symbol, []).append(batch)

    @property
    def ticks(self) -> int:
        return sum(len(one) for batches in self.by_symbol.values() for one in batches)


@dataclass(frozen=True, slots=True)
class Tables:
    """A chunk's two tables; `groups` are the first rows of the ticks' row groups: by symbol and
    UTC day."""

    entries: Any
    ticks: Any
    """None without tick batches."""
    groups: tuple[int, ...]


def to_tables(entries: Sequence[Entry], *, columnar: bool) -> Tables:
    """Raises ArchiveError without pyarrow. `columnar=False` keeps every entry's bytes as they
    are: for batches that columns cannot give back."""
    pa, _ = arrow()
    batches = _Batches()
    columns: dict[str, list[Any]] = {name: [] for name in _schema(pa).names}
    for entry in entries:
        batch = _as_columns(entry) if columnar else None
        if batch is not None:
            batches.take(batch)
        row = (
            entry.id.ms, entry.id.seq, entry.type, entry.key, entry.cause,
            entry.data if batch is None else None, *_header(batch),
        )  # fmt: skip
        for values, value in zip(columns.values(), row, strict=True):
            values.append(value)
    table = pa.table(columns, schema=_schema(pa))
    if not batches.by_symbol:
        return Tables(table, None, ())
    ticks, groups = _ticks_table(pa, batches)
    return Tables(table, ticks, groups)


def _schema(pa: Any) -> Any:
    return pa.schema(
        [
            ("ms", pa.int64()), ("seq", pa.int64()), ("type", pa.string()), ("key", pa.string()),
            ("cause", pa.string()), ("data", pa.binary()), ("ticks", pa.int32()),
            ("event_time_ms", pa.int64()), ("recv_time_ms", pa.int64()), ("offset_s", pa.int32()),
            ("offset_source", pa.uint8()), ("marks", pa.uint8()),
        ]
    )  # fmt: skip


def _header(batch: TickBatch | None) -> tuple[int | None, ...]:
    if batch is None:
        return (None,) * 6
    return (
        len(batch), batch.event_time_ms, batch.recv_time_ms, batch.offset_s,
        int(batch.offset_source), int(batch.marks),
    )  # fmt: skip


def _as_columns(entry: Entry) -> TickBatch | None:
    """The batch of an entry, where columns can give its bytes back."""
    if entry.type not in TICK_TYPES:
        return None
    try:
        batch = TickBatch.from_bytes(entry.key, entry.data)
        if not len(batch) or batch.to_bytes() != entry.data:
            return None
    except ValueError:
        return None
    ticks = batch.ticks
    if (ticks["time"] != ticks["time_msc"] // 1000).any():
        return None
    for name in PRICES:  # what a dictionary of values would not tell apart
        values = ticks[name]
        if not np.isfinite(values).all() or (np.signbit(values) & (values == 0)).any():
            return None
    return batch


def _ticks_table(pa: Any, batches: _Batches) -> tuple[Any, tuple[int, ...]]:
    symbols = sorted(batches.by_symbol)
    of_symbol = [
        np.concatenate([batch.ticks for batch in batches.by_symbol[symbol]]) for symbol in symbols
    ]
    utc_ms = np.concatenate(
        [batch.utc_ms() for symbol in symbols for batch in batches.by_symbol[symbol]]
    )
    numbers = np.repeat(np.arange(len(symbols), dtype=np.int32), [len(one) for one in of_symbol])
    ticks = np.concatenate(of_symbol)
    columns = {
        "symbol": pa.DictionaryArray.from_arrays(numbers, symbols),
        "time": pa.array(utc_ms).cast(pa.timestamp("ms", tz="UTC")),
        **{name: pa.array(np.ascontiguousarray(ticks[name])) for name in COPIED},
    }
    days = utc_ms // DAY_MS
    changed = (np.diff(numbers) != 0) | (np.diff(days) > 0)
    return pa.table(columns), (0, *(int(row) for row in np.flatnonzero(changed) + 1))


def ticks_of(table: Any) -> TickArray:
    """The records of a ticks table, row by row."""
    ticks = np.zeros(table.num_rows, TICK_DTYPE)
    for name in COPIED:
        ticks[name] = table.column(name).to_numpy()
    ticks["time"] = ticks["time_msc"] // 1000
    return ticks


class TickRows:
    """The rows of a chunk's ticks, handed out batch by batch."""

    def __init__(self, table: Any | None) -> None:
        self._ticks: TickArray = np.zeros(0, TICK_DTYPE) if table is None else ticks_of(table)
        self._next: dict[str, int] = {}
        self._end: dict[str, int] = {}
        if table is not None and table.num_rows:
            self._find(table)

    def _find(self, table: Any) -> None:
        column = table.column("symbol").combine_chunks()
        names: list[str] = column.dictionary.to_pylist()
        numbers: npt.NDArray[np.int32] = column.indices.to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for first, end in pairwise(edges):
            name = names[numbers[first]]
            if name in self._next:
                raise ChunkDamaged(f"the ticks of {name} lie apart")
            self._next[name], self._end[name] = first, end

    def take(self, symbol: str, count: int) -> TickArray:
        """The next rows of a symbol. Raises ChunkDamaged when there are not so many."""
        first = self._next.get(symbol, 0)
        if count and first + count > self._end.get(symbol, 0):
            raise ChunkDamaged(f"ticks of {symbol} are missing")
        self._next[symbol] = first + count
        return self._ticks[first : first + count]

    @property
    def left(self) -> int:
        """Rows that no entry asked for."""
        return sum(end - self._next[name] for name, end in self._end.items())


def to_entries(stream: Stream, table: Any, rows: TickRows) -> Iterator[Entry]:
    """The entries of an entries table, oldest first. Raises ChunkDamaged."""
    columns = [table.column(name).to_pylist() for name in table.column_names]
    for ms, seq, type_, key, cause, data, ticks, *header in zip(*columns, strict=True):
        if data is None:
            event_ms, recv_ms, offset_s, source, marks = header
            batch = TickBatch(
                key, rows.take(key, ticks), offset_s, OffsetSource(source), event_ms, recv_ms,
                Mark(marks),
            )  # fmt: skip
            data = batch.to_bytes()
        yield Entry(stream, EntryId(ms, seq), type_, key, data, cause)

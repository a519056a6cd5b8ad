"""Ticks as MT5 gives them: 60-byte records, carried in batches of one symbol.

The record is the dtype of `copy_ticks_from` (little-endian, packed). `time` and `time_msc` are
the broker's wall clock written as if it were an epoch; the batch header carries the offset that
turns them into UTC: utc_ms = time_msc - offset_s * 1000.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

TICK_DTYPE = np.dtype(
    [
        ("time", "<i8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("last", "<f8"),
        ("volume", "<u8"),
        ("time_msc", "<i8"),
        ("flags", "<u4"),
        ("volume_real", "<f8"),
    ]
)
RATE_DTYPE = np.dtype(
    [
        ("time", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("tick_volume", "<u8"),
        ("spread", "<i4"),
        ("real_volume", "<u8"),
    ]
)
FLAGS_DOCUMENTED = 0x7E
"""BID 2, ASK 4, LAST 8, VOLUME 16, BUY 32, SELL 64. Other bits occur and mean nothing to us."""

TickArray = npt.NDArray[np.void]
RateArray = npt.NDArray[np.void]

_HEADER = struct.Struct("<qqiIIBBH")
_RECORD = struct.Struct("<qdddQqId")
"""One record of TICK_DTYPE: reading few ticks so is far cheaper than by an array."""
BATCH_TICKS_MAX = 100_000


class OffsetSource(IntEnum):
    """How the clock offset of a batch is known, weakest first."""

    UNKNOWN = 0
    ASSUMED = 1  # a rule from settings that no evidence confirms yet
    HISTORY = 2  # a rule detected in the history of bars
    LIVE = 3  # a rule confirmed by ticks seen to advance


class Mark(IntFlag):
    """What is particular about a batch."""

    NONE = 0
    LATE = 1  # holds ticks older than one already appended
    BACKFILL = 2  # pulled after a gap
    IMPORTED = 4  # from a file


_SOURCES = tuple(OffsetSource)
_MARKS = tuple(Mark(number) for number in range(8))
_new, _tuple = object.__new__, tuple.__new__


class CorruptBatch(ValueError):
    """The bytes of a batch do not fit their checksum or length."""


@dataclass(slots=True, eq=False)
class TickBatch:
    """Ticks of one symbol under one clock offset, in the order the terminal gave them.

    `event_time_ms` is the UTC time of the newest tick, `recv_time_ms` when the terminal's host
    had the answer (UTC, host clock). Nobody changes a batch that was made; it is not frozen only
    because every read makes one, and a frozen object takes far longer to make.
    """

    symbol: str
    ticks: TickArray
    offset_s: int
    offset_source: OffsetSource
    event_time_ms: int
    recv_time_ms: int
    marks: Mark = Mark.NONE
    _records: bytes | None = field(default=None, init=False, repr=False)

    def to_bytes(self) -> bytes:
        """Header and records. Raises ValueError on a wrong dtype or more than BATCH_TICKS_MAX."""
        if self.ticks.dtype != TICK_DTYPE or len(self.ticks) > BATCH_TICKS_MAX:
            raise ValueError(f"{len(self.ticks)} ticks of {self.ticks.dtype} fit no batch")
        records = self.ticks.tobytes()
        header = _HEADER.pack(
            self.event_time_ms,
            self.recv_time_ms,
            self.offset_s,
            len(self.ticks),
            crc32(records),
            self.offset_source,
            self.marks,
            0,
        )
        return header + records

    @classmethod
    def from_bytes(cls, symbol: str, data: bytes) -> TickBatch:
        """Read `to_bytes` back. Raises CorruptBatch."""
        if len(data) < _HEADER.size:
            raise CorruptBatch(f"{len(data)} bytes are no tick batch")
        event_ms, recv_ms, offset_s, count, checksum, source, marks, _ = _HEADER.unpack_from(data)
        records = data[_HEADER.size :]
        if len(records) != count * _RECORD.size or crc32(records) != checksum:
            raise CorruptBatch(f"tick batch of {symbol}: {count} ticks, checksum does not fit")
        batch = _new(cls)
        batch.symbol = symbol
        batch.offset_s = offset_s
        batch.offset_source = _SOURCES[source] if source < len(_SOURCES) else OffsetSource(source)
        batch.event_time_ms = event_ms
        batch.recv_time_ms = recv_ms
        batch.marks = _MARKS[marks] if marks < len(_MARKS) else Mark(marks)
        batch._records = records
        return batch

    def __getattr__(self, name: str) -> TickArray:
        """The array of a batch that was read, made when it is first asked for."""
        if name != "ticks" or self._records is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.ticks = np.frombuffer(self._records, TICK_DTYPE)
        return self.ticks

    def utc_ms(self) -> npt.NDArray[np.int64]:
        """UTC time of each tick in ms."""
        times: npt.NDArray[np.int64] = self.ticks["time_msc"] - self.offset_s * 1000
        return times

    def __len__(self) -> int:
        records = self._records
        return len(self.ticks) if records is None else len(records) // _RECORD.size

    def __iter__(self) -> Iterator[PriceData]:
        symbol, offset_ms = self.symbol, self.offset_s * 1000
        records = self._records
        rows = self.ticks.tolist() if records is None else _RECORD.iter_unpack(records)
        for _, bid, ask, last, _, time_msc, flags, volume_real in rows:
            price = (symbol, time_msc - offset_ms, time_msc, bid, ask, last, volume_real, flags)
            yield _tuple(PriceData, price)


class PriceData(NamedTuple):
    """One tick for people and strategies: prices of a symbol at a UTC time."""

    symbol: str
    event_time_ms: int
    server_time_ms: int
    bid: float
    ask: float
    last: float
    volume_lots: float
    flags: int

    @property
    def mid(self) -> float:
        return (self.bid + self.ask) / 2

    @property
    def spread(self) -> float:
        return self.ask - self.bid

"""Candles (OHLCV) as MT5 gives them: 60-byte records of one symbol and timeframe."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from events.ticks import RATE_DTYPE, OffsetSource, RateArray

TIMEFRAME_SECONDS = {
    "M1": 60, "M2": 120, "M3": 180, "M4": 240, "M5": 300, "M6": 360, "M10": 600, "M12": 720,
    "M15": 900, "M20": 1200, "M30": 1800, "H1": 3600, "H2": 7200, "H3": 10800, "H4": 14400,
    "H6": 21600, "H8": 28800, "H12": 43200, "D1": 86400, "W1": 604800, "MN1": 2592000,
}  # fmt: skip
"""MT5's timeframes; W1 and MN1 are nominal lengths."""

_HEADER = struct.Struct("<qqiBBHI")
_SUNDAY_S = 3 * 86_400  # 4 January 1970, the first Sunday of the epoch


def opening_times(times_s: npt.NDArray[np.int64], timeframe: str) -> npt.NDArray[np.int64]:
    """Opening time of the candle each time belongs to, both in seconds of the broker's clock.
    Weeks begin on Sunday, months on the first. Raises KeyError on an unknown timeframe."""
    length_s = TIMEFRAME_SECONDS[timeframe]
    if timeframe == "MN1":
        months = times_s.astype("datetime64[s]").astype("datetime64[M]")
        return months.astype("datetime64[s]").astype(np.int64)
    shift = _SUNDAY_S if timeframe == "W1" else 0
    opened: npt.NDArray[np.int64] = (times_s - shift) // length_s * length_s + shift
    return opened


@dataclass(frozen=True, slots=True)
class OHLCV:
    """One candle. Times are the opening; `spread` in points, volumes in lots or ticks."""

    symbol: str
    timeframe: str
    time_ms: int
    time_server_s: int
    open: float
    high: float
    low: float
    close: float
    tick_volume: int
    spread: int
    real_volume: int


@dataclass(frozen=True, slots=True)
class CandleBatch:
    """Closed candles of one symbol and timeframe under one clock offset, oldest first."""

    symbol: str
    timeframe: str
    candles: RateArray
    offset_s: int
    offset_source: OffsetSource
    event_time_ms: int
    recv_time_ms: int

    def to_bytes(self) -> bytes:
        """Raises ValueError on a wrong dtype."""
        if self.candles.dtype != RATE_DTYPE:
            raise ValueError(f"{self.candles.dtype} is not the dtype of candles")
        header = _HEADER.pack(
            self.event_time_ms,
            self.recv_time_ms,
            self.offset_s,
            self.offset_source,
            0,
            0,
            len(self.candles),
        )
        return header + self.candles.tobytes()

    @classmethod
    def from_bytes(cls, symbol: str, timeframe: str, data: bytes) -> CandleBatch:
        """Raises ValueError when the length does not fit."""
        if len(data) < _HEADER.size:
            raise ValueError(f"{len(data)} bytes are no candle batch")
        event_ms, recv_ms, offset_s, source, _, _, count = _HEADER.unpack_from(data)
        candles = np.frombuffer(data, RATE_DTYPE, offset=_HEADER.size)
        if len(candles) != count:
            raise ValueError(f"candles of {symbol}: {len(candles)} rows, header says {count}")
        return cls(symbol, timeframe, candles, offset_s, OffsetSource(source), event_ms, recv_ms)

    def __len__(self) -> int:
        return len(self.candles)

    def __iter__(self) -> Iterator[OHLCV]:
        for row in self.candles.tolist():
            time_ms = (row[0] - self.offset_s) * 1000
            yield OHLCV(self.symbol, self.timeframe, time_ms, *row)

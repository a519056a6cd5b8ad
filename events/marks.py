"""Marks: current price, profit and swap of every open position, packed, with each poll."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from events.ticks import OffsetSource

MARK_DTYPE = np.dtype(
    [("ticket", "<u8"), ("price_current", "<f8"), ("profit", "<f8"), ("swap", "<f8")]
)
_HEADER = struct.Struct("<qqqiBBHI")


@dataclass(frozen=True, slots=True)
class Marks:
    """`rows` has MARK_DTYPE, one row per open position; profit and swap in account currency."""

    login: int
    rows: npt.NDArray[np.void]
    event_time_ms: int
    recv_time_ms: int
    offset_s: int = 0
    offset_source: OffsetSource = OffsetSource.UNKNOWN

    def to_bytes(self) -> bytes:
        header = _HEADER.pack(
            self.login,
            self.event_time_ms,
            self.recv_time_ms,
            self.offset_s,
            self.offset_source,
            0,
            0,
            len(self.rows),
        )
        return header + self.rows.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Marks:
        """Raises ValueError when the length does not fit."""
        if len(data) < _HEADER.size:
            raise ValueError(f"{len(data)} bytes are no marks")
        login, event_ms, recv_ms, offset_s, source, _, _, count = _HEADER.unpack_from(data)
        rows = np.frombuffer(data, MARK_DTYPE, offset=_HEADER.size)
        if len(rows) != count:
            raise ValueError(f"marks of {login}: {len(rows)} rows, header says {count}")
        return cls(login, rows, event_ms, recv_ms, offset_s, OffsetSource(source))

    def __len__(self) -> int:
        return len(self.rows)

"""PostgreSQL's binary COPY format, built from and read into numpy arrays.

Source: PostgreSQL documentation, COPY, "Binary Format": a signature of 19 bytes, per row a
16-bit field count and per field a 32-bit length and the value, big-endian; 16-bit -1 at the end.
With columns of fixed width and no NULL every row has the same shape: a packed record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"

FIXED_TYPES = {
    "timestamptz": ">i8",
    "bigint": ">i8",
    "double precision": ">f8",
    "integer": ">i4",
    "smallint": ">i2",
}
"""PostgreSQL type -> numpy type of its binary form. timestamptz counts µs since 2000-01-01."""

POSTGRES_EPOCH_MS = 946_684_800_000
TIME_MIN_MS = -62_135_596_800_000
"""0001-01-01: earlier and later times are broken input; they are clamped, the raw time stays."""
TIME_MAX_MS = 253_402_300_799_999
"""9999-12-31."""

Array = npt.NDArray[Any]


class PackedTable:
    """A table of fixed-width columns without NULL."""

    def __init__(self, name: str, columns: Mapping[str, str]) -> None:
        self.name = name
        self.columns = tuple(columns)
        fields: list[tuple[str, str]] = [("_fields", ">i2")]
        for column, kind in columns.items():
            fields += [(f"_size_{column}", ">i4"), (column, FIXED_TYPES[kind])]
        self.row_dtype = np.dtype(fields)
        template = np.zeros(1, self.row_dtype)
        template["_fields"] = len(columns)
        for column in columns:
            template[f"_size_{column}"] = self.row_dtype[column].itemsize
        self._template = template.view(np.uint8)

    @property
    def column_list(self) -> str:
        return ", ".join(f'"{column}"' for column in self.columns)

    @property
    def copy_in(self) -> str:
        return f"COPY {self.name} ({self.column_list}) FROM STDIN (FORMAT BINARY)"

    def pack(self, count: int, values: Mapping[str, Array | int]) -> Array:
        """`count` rows ready for COPY (without signature and trailer), one per record.

        `values` has an array of `count` (or one number for all rows) per column; unsigned arrays
        keep their bits. Raises KeyError when a column is missing.
        """
        rows = np.empty((count, self.row_dtype.itemsize), np.uint8)
        rows[:] = self._template
        packed: Array = rows.reshape(-1).view(self.row_dtype)
        for column in self.columns:
            packed[column] = _signed(values[column])
        return packed

    def unpack(self, copied: bytes) -> Array:
        """The records of a whole `COPY ... TO STDOUT (FORMAT BINARY)` of these columns.

        Raises ValueError when the bytes are not that.
        """
        if not copied.startswith(SIGNATURE) or not copied.endswith(TRAILER):
            raise ValueError("these bytes are no binary COPY")
        body = memoryview(copied)[len(SIGNATURE) : -len(TRAILER)]
        if len(body) % self.row_dtype.itemsize:
            raise ValueError(f"{len(body)} bytes are no rows of {self.name}")
        packed = np.frombuffer(body, self.row_dtype)
        if not (packed["_fields"] == len(self.columns)).all():
            raise ValueError(f"these rows are not of {self.name}")
        return packed


def copy_chunks(rows: Iterable[Array]) -> Iterable[bytes | memoryview]:
    """What goes over the wire for these records, without another copy."""
    yield SIGNATURE
    for array in rows:
        if len(array):
            yield array.view(np.uint8).data
    yield TRAILER


def timestamps(utc_ms: Array) -> Array:
    """UTC in ms -> timestamptz, clamped to the years 1..9999."""
    clamped: Array = (np.clip(utc_ms, TIME_MIN_MS, TIME_MAX_MS) - POSTGRES_EPOCH_MS) * 1000
    return clamped


def within_range(utc_ms: Array) -> Array:
    """Which times `timestamps` keeps as they are."""
    kept: Array = (utc_ms >= TIME_MIN_MS) & (utc_ms <= TIME_MAX_MS)
    return kept


def utc_ms_of(stored: Array) -> Array:
    """timestamptz -> UTC in ms."""
    utc_ms: Array = stored.astype(np.int64) // 1000 + POSTGRES_EPOCH_MS
    return utc_ms


def _signed(values: Array | int) -> Array | int:
    if isinstance(values, np.ndarray) and values.dtype.kind == "u":
        return values.view(values.dtype.str.replace("u", "i", 1))
    return values

"""Parquet files of ticks, through pyarrow (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from events.tick_files.assembly import Prices, TickRows
from events.tick_files.errors import TickFileError
from events.tick_files.fields import Bools, Ints
from events.tick_files.layout import BadHeader, TimeForm, epoch_form, read_header
from events.ticks import TickArray

BATCH_ROWS = 65_536
READ_BYTES = 1 << 20
"""Read of a column at once: without it all of the file is held, packed, while it is read."""
_UNITS_PER_MS = {TimeForm.EPOCH_US: 1_000, TimeForm.EPOCH_NS: 1_000_000}


def parquet_ticks(path: Path, *, symbol: str | None) -> Iterator[TickArray]:
    """Ticks batch by batch; `line` in errors counts rows, from 1."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        cure = "install the extra: pip install 'mt5-stream-bridge[parquet]'"
        raise TickFileError(path, f"reading Parquet needs pyarrow: {cure}") from error
    builder, rows = TickRows(), 0
    try:
        with parquet.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as file:
            place = _places(path, file.schema_arrow.names)
            for batch in file.iter_batches(BATCH_ROWS, columns=list(place.values())):
                ticks = _batch_ticks(batch, place, builder, symbol=symbol)
                rows += len(ticks)
                yield ticks
    except (arrow.ArrowException, OSError, BadHeader) as error:
        reason = " ".join(str(error).split())
        raise TickFileError(
            path, f"damaged or unsuitable: {reason}", line=rows + 1, rows=rows
        ) from error


def _places(path: Path, names: list[str]) -> dict[str, str]:
    """Known column -> its name in this file."""
    try:
        place = read_header(",".join(names)).place
    except BadHeader as error:
        raise TickFileError(path, str(error)) from error
    if "date" in place:
        raise TickFileError(path, "date and time in two columns: a Parquet file needs one `time`")
    return {known: names[index] for known, index in place.items()}


def _batch_ticks(
    batch: Any, place: dict[str, str], builder: TickRows, *, symbol: str | None
) -> TickArray:
    time_ms = _times_ms(batch.column(place["time"]))
    columns: dict[str, Prices | None] = {
        name: _prices(batch.column(place[name]))
        for name in ("bid", "ask", "last", "volume")
        if name in place
    }
    flags = None
    if "flags" in place:
        filled = batch.column(place["flags"]).fill_null(0)
        flags = filled.to_numpy(zero_copy_only=False).astype(np.uint32)
    keep: Bools = np.ones(len(time_ms), np.bool_)
    if symbol is not None and "symbol" in place:
        texts = batch.column(place["symbol"]).cast("string").to_numpy(zero_copy_only=False)
        keep = texts == symbol
    rows = slice(0, len(time_ms))
    return builder.ticks(time_ms, columns, flags, rows=rows, keep=keep)


def _prices(column: Any) -> Prices:
    present = column.is_valid().to_numpy(zero_copy_only=False)
    values = column.cast("float64", safe=False).fill_null(0.0).to_numpy(zero_copy_only=False)
    return Prices(values, present & np.isfinite(values))


def _times_ms(column: Any) -> Ints:
    """Timestamps of any unit, or epochs whose unit the first value shows, as ms."""
    import pyarrow as arrow

    if column.null_count:
        raise BadHeader(f"{column.null_count} rows without a time")
    if arrow.types.is_timestamp(column.type):
        cast = column.cast(arrow.timestamp("ms"), safe=False).cast("int64")
        times: Ints = cast.to_numpy(zero_copy_only=False)
        return times
    if arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type):
        raise BadHeader("times are text: a Parquet file needs timestamps or epochs")
    numbers = column.to_numpy(zero_copy_only=False)
    if not len(numbers):
        return np.zeros(0, np.int64)
    form = epoch_form(len(str(int(abs(numbers[0])))))
    if form is TimeForm.EPOCH_S:
        times = np.floor(numbers.astype(np.float64) * 1000 + 0.5).astype(np.int64)
    else:
        times = numbers.astype(np.int64) // _UNITS_PER_MS.get(form, 1)
    return times

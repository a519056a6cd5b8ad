"""Lines of a delimited text file to ticks: MT5's own export, and CSV with named columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from events.tick_files.assembly import Prices, TickRows
from events.tick_files.errors import TickFileError
from events.tick_files.fields import (
    PAD,
    Bools,
    Column,
    Ints,
    Text,
    days_ms,
    decimals,
    equal_to,
    mantissas,
    times_of_day_ms,
    whole_numbers,
)
from events.tick_files.layout import (
    BadHeader,
    Layout,
    TimeForm,
    read_header,
    time_form,
)
from events.tick_files.source import CutOff, line_blocks
from events.ticks import TICK_DTYPE, TickArray

TIME_MS_MAX = 4_102_444_800_000
"""2100-01-01: a later time is a wrong unit or a damaged line."""

EPOCH_CHARS = 16
_EPOCH_SCALE = {  # decimal digits between the unit and a millisecond
    TimeForm.EPOCH_S: 3,
    TimeForm.EPOCH_MS: 0,
    TimeForm.EPOCH_US: -3,
    TimeForm.EPOCH_NS: -6,
}


@dataclass(slots=True)
class _Reading:
    """What must be known from one block to the next."""

    path: Path
    layout: Layout
    line: int = 1
    """Number of the last line read."""
    rows: int = 0
    form: TimeForm | None = None
    utc: bool | None = None
    """Whether times carry a zone; None before the first."""
    rows_of: TickRows = field(default_factory=TickRows)


@dataclass(slots=True)
class _Findings:
    """The first bad row of a block and why."""

    row: int
    reason: str = ""

    def mark(self, bad: Bools, column: Column, what: str) -> None:
        """Note the first marked row if it stands before what is known."""
        rows = np.flatnonzero(bad[: self.row])
        if len(rows):
            self.row = int(rows[0])
            self.reason = f"{what}: {column.row(self.row)[:40]!r}"


def delimited_ticks(path: Path, *, symbol: str | None, block_bytes: int) -> Iterator[TickArray]:
    """Ticks block by block. After the last sound row before a fault raises TickFileError."""
    blocks = line_blocks(path, block_bytes)
    reading: _Reading | None = None
    try:
        for block in blocks:
            if reading is None:
                header, _, block = block.partition(b"\n")
                reading = _Reading(path, _header(path, header))
            yield from _block_ticks(reading, block, symbol)
    except CutOff as cut:
        line, rows = (reading.line + 1, reading.rows) if reading else (1, 0)
        raise TickFileError(path, str(cut), line=line, rows=rows) from cut
    if reading is None:
        raise TickFileError(path, "the file is empty")


def first_symbol(path: Path) -> str | None:
    """What the symbol column of the first line says; None without such a column."""
    try:
        block = next(line_blocks(path), b"")
        layout = read_header(block.partition(b"\n")[0].decode("utf-8", "replace"))
    except (BadHeader, CutOff):
        return None
    place = layout.place.get("symbol")
    cells = block.split(b"\n", 2)[1:2]
    if place is None or not cells:
        return None
    values = cells[0].strip().split(layout.separator)
    return values[place].strip(b'"').decode("utf-8", "replace") if place < len(values) else None


def _header(path: Path, header: bytes) -> Layout:
    try:
        return read_header(header[:2000].decode("utf-8", "replace"))
    except BadHeader as error:
        raise TickFileError(path, str(error)) from error


def _block_ticks(reading: _Reading, block: bytes, symbol: str | None) -> Iterator[TickArray]:
    columns, fault = _split(block, reading.layout)
    count = len(columns[0].starts)
    ticks = np.zeros(0, TICK_DTYPE)
    if count:
        found = _Findings(count)
        ticks = _ticks_of(reading, columns, found, symbol)
        if found.row < count:
            fault = found.reason
            count = found.row
    reading.line += count
    reading.rows += len(ticks)
    if len(ticks):
        yield ticks
    if fault:
        raise TickFileError(reading.path, fault, line=reading.line + 1, rows=reading.rows)


def _split(block: bytes, layout: Layout) -> tuple[list[Column], str]:
    """The columns of the sound lines at the beginning, and what is wrong with the next one."""
    if block and not block.endswith(b"\n"):
        block += b"\n"
    text = Text.of(block)
    body = text.bytes1
    marks = np.flatnonzero((body == ord(layout.separator)) | (body == ord("\n")))
    width, fault = layout.columns, ""
    breaks = body[marks] == ord("\n")
    lines = len(marks) // width
    if len(marks) % width or not breaks[width - 1 :: width].all() or breaks.sum() != lines:
        grid = breaks[: lines * width].reshape(lines, width)
        regular = ~grid[:, :-1].any(axis=1) & grid[:, -1]
        lines = lines if regular.all() else int(np.argmin(regular))
        fault = _why_irregular(block, lines, layout)
    return _columns(text, marks[: lines * width].reshape(lines, width)), fault


def _why_irregular(block: bytes, line: int, layout: Layout) -> str:
    """What is wrong with a line whose separators do not fit ("" when only blank lines follow)."""
    rest = block.split(b"\n", line)[line]
    text = rest.partition(b"\n")[0]
    if not rest.strip():
        return ""
    if not text.strip():
        return "an empty line between ticks"
    count = text.count(layout.separator) + 1
    return f"{count} columns instead of {layout.columns}: {text[:60].decode('utf-8', 'replace')!r}"


def _columns(text: Text, grid: Ints) -> list[Column]:
    """Fields between the separators at `grid` (lines x columns)."""
    ends = grid.T.copy()
    starts = np.empty_like(ends)
    starts[1:] = ends[:-1] + 1
    starts[0, :1] = PAD
    starts[0, 1:] = ends[-1, :-1] + 1
    ends[-1] -= text.bytes1[ends[-1] - 1] == ord("\r")
    if b'"' in text.raw:
        quoted = (text.bytes1[starts] == ord('"')) & (text.bytes1[ends - 1] == ord('"'))
        quoted &= ends - starts >= 2
        starts, ends = starts + quoted, ends - quoted
    return [Column(text, *field) for field in zip(starts, ends, strict=True)]


def _ticks_of(
    reading: _Reading, columns: list[Column], found: _Findings, symbol: str | None
) -> TickArray:
    place = reading.layout.place
    time_ms = _times(reading, columns, found)
    prices: dict[str, Prices | None] = {}
    for name in ("bid", "ask", "last", "volume"):
        prices[name] = _prices(columns, place, name, found)
    flags = None
    if "flags" in place:
        column = columns[place["flags"]]
        numbers, bad = whole_numbers(column)
        found.mark(bad | (numbers > 0xFFFFFFFF) | (column.widths == 0), column, "flags")
        flags = numbers.astype(np.uint32)
    keep = np.ones(len(time_ms), np.bool_)
    if symbol is not None and "symbol" in place:
        keep = equal_to(columns[place["symbol"]], symbol.encode())
    rows = slice(0, found.row)
    return reading.rows_of.ticks(time_ms, prices, flags, rows=rows, keep=keep)


def _prices(
    columns: list[Column], place: dict[str, int], name: str, found: _Findings
) -> Prices | None:
    if name not in place:
        return None
    column = columns[place[name]]
    values, bad = decimals(column)
    if name == "volume":
        bad |= values < 0
    found.mark(bad, column, f"{name} is no number")
    return Prices(values, column.widths > 0)


def _times(reading: _Reading, columns: list[Column], found: _Findings) -> Ints:
    """Times in ms as the file means them; wrong ones are marked in `found`."""
    column = columns[reading.layout.place["time"]]
    if reading.form is None:
        try:
            reading.form = time_form(reading.layout, column.row(0))
        except BadHeader as error:
            found.row, found.reason = 0, str(error)
            return np.zeros(len(column.starts), np.int64)
    if reading.form is TimeForm.DATE_AND_TIME:
        dates = columns[reading.layout.place["date"]]
        days, bad_date = days_ms(dates)
        found.mark(bad_date | (dates.widths != 10), dates, "date is not YYYY.MM.DD")
        of_day, bad = times_of_day_ms(column)
        found.mark(bad, column, "time is not HH:MM:SS.mmm")
        return days + of_day
    if reading.form is TimeForm.ISO:
        times, bad = _iso_times(reading, column)
        found.mark(bad, column, "time is not YYYY-MM-DDTHH:MM:SS[.fff][Z] like those before")
        return times
    times, bad = _epoch_times(column, _EPOCH_SCALE[reading.form])
    found.mark(bad, column, f"time is no {reading.form.value} of 1970..2100")
    return times


def _iso_times(reading: _Reading, column: Column) -> tuple[Ints, Bools]:
    suffix = _zone_suffix(column.row(0))
    if reading.utc is None:
        reading.utc = bool(suffix)
    elif reading.utc != bool(suffix):
        return np.zeros(len(column.starts), np.int64), np.ones(len(column.starts), np.bool_)
    days, bad_date = days_ms(column)
    separator = column.text.bytes1[np.where(bad_date, 0, column.starts + 10)]
    tail = Column(column.text, column.ends - len(suffix), column.ends)
    clock = Column(column.text, column.starts + 11, np.maximum(tail.starts, column.starts + 11))
    of_day, bad_time = times_of_day_ms(clock)
    bad = bad_date | bad_time | ~np.isin(separator, np.frombuffer(b"T ", np.uint8))
    if suffix:
        bad |= ~equal_to(tail, suffix.encode())
    return days + of_day, bad


def _zone_suffix(first: str) -> str:
    """`Z`, `+00:00` and their like; other zones do not occur in tick files we know."""
    for suffix in ("Z", "+00:00", "+0000", "+00", " UTC"):
        if first.endswith(suffix):
            return suffix
    return ""


def _epoch_times(column: Column, scale: int) -> tuple[Ints, Bools]:
    """Epochs as ms; digits behind the sixteenth character (below a microsecond) are cut."""
    extra = np.maximum(column.widths - EPOCH_CHARS, 0)
    kept = column.ends - extra
    parts = mantissas(Column(column.text, column.starts, kept))
    _, bad = whole_numbers(Column(column.text, kept, column.ends))
    shift = scale - parts.decimals + np.where(parts.decimals > 0, 0, extra)
    up = parts.mantissa * (10 ** np.clip(shift, 0, 3)).astype(np.uint64)
    cut = up // (10 ** np.clip(-shift, 0, 16)).astype(np.uint64)
    times = np.minimum(cut, np.uint64(2**62)).astype(np.int64)
    return times, bad | parts.odd | parts.negative | (times >= TIME_MS_MAX)

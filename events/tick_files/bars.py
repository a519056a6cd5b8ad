"""Files of bars: MT5's bar export and CSV with named columns, as MT5's own bar records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from events.tick_files.errors import TickFileError
from events.tick_files.source import CutOff, is_parquet, line_blocks
from events.ticks import RATE_DTYPE, RateArray

BAR_HEADER = "<DATE> <TIME> <OPEN> <HIGH> <LOW> <CLOSE> <TICKVOL> <VOL> <SPREAD>"
CHUNK_BARS = 50_000
MINUTE_S = 60
_NAMES = {
    "date": "date", "time": "time", "timestamp": "time", "datetime": "time", "open": "open",
    "high": "high", "low": "low", "close": "close", "tickvol": "tick_volume",
    "tick_volume": "tick_volume", "volume": "tick_volume", "vol": "real_volume",
    "real_volume": "real_volume", "spread": "spread",
}  # fmt: skip
_PRICES = ("open", "high", "low", "close")

_Row = tuple[int, float, float, float, float, int, int, int]


def is_bar_file(path: Path) -> bool:
    """Whether the first line names columns of bars. Raises TickFileError when unreadable."""
    if is_parquet(path):
        return False
    try:
        first = next(line_blocks(path), b"")
    except CutOff:
        return False
    names = _names(first.partition(b"\n")[0].decode("utf-8", "replace"))[1]
    return set(_PRICES) <= set(names)


def read_bars(path: Path) -> Iterator[RateArray]:
    """Bars in the file's order and clock, in chunks. Prices must fit each other, times ascend, and
    bars open at whole minutes. Raises TickFileError behind the last sound chunk."""
    count, line_number = 0, 1
    columns: Callable[[list[str]], _Row] | None = None
    separator = ""
    rows: list[_Row] = []
    before = -1
    try:
        for line in _lines(path):
            text = line.strip()
            if columns is None:
                separator, columns = _columns(path, text)
                line_number += 1
                continue
            if text:
                try:
                    row = _checked(columns(text.split(separator)), before)
                except (ValueError, IndexError) as error:
                    reason = f"no bar in {text[:80]!r}: {error}"
                    raise TickFileError(path, reason, line=line_number, rows=count) from error
                before = row[0]
                rows.append(row)
                count += 1
            line_number += 1
            if len(rows) >= CHUNK_BARS:
                yield np.array(rows, RATE_DTYPE)
                rows = []
    except CutOff as error:
        raise TickFileError(path, str(error), line=line_number, rows=count) from error
    if columns is None:
        raise TickFileError(path, "the file is empty")
    if rows:
        yield np.array(rows, RATE_DTYPE)


def _lines(path: Path) -> Iterator[str]:
    for block in line_blocks(path):
        yield from block.decode("utf-8", "replace").splitlines()


def _names(line: str) -> tuple[str, list[str]]:
    separator = max("\t,;|", key=line.count)
    names = [name.strip().strip('"<>').strip().lower() for name in line.split(separator)]
    return separator, [_NAMES.get(name, name) for name in names]


def _columns(path: Path, header: str) -> tuple[str, Callable[[list[str]], _Row]]:
    """How a line becomes a row. Raises TickFileError."""
    separator, names = _names(header)
    missing = [name for name in ("time", *_PRICES) if name not in names]
    if missing == ["time"] and "date" in names:
        missing = []
    if missing:
        raise TickFileError(
            path, f"no column {', '.join(missing)} in {header[:80]!r} (expected {BAR_HEADER})"
        )
    place = {name: names.index(name) for name in set(names)}
    prices = [place[name] for name in _PRICES]
    counts = [place.get(name, -1) for name in ("tick_volume", "spread", "real_volume")]
    date, time = place.get("date", -1), place.get("time", -1)

    def row(parts: list[str]) -> _Row:
        text = f"{parts[date]} {parts[time]}" if date >= 0 <= time else parts[max(date, time)]
        price = [float(parts[at]) for at in prices]
        ticks, spread, real = (int(float(parts[at])) if at >= 0 else 0 for at in counts)
        return (_seconds(text), *price, ticks, spread, real)  # type: ignore[return-value] # four prices

    return separator, row


def _seconds(text: str) -> int:
    """A time of the file's clock as if it were an epoch."""
    cleaned = text.strip().strip('"')
    if cleaned.isdecimal():
        number = int(cleaned)
        return number // 1000 if len(cleaned) > 11 else number
    iso = cleaned.replace(".", "-").replace("/", "-")
    return int(datetime.fromisoformat(iso).replace(tzinfo=UTC).timestamp())


def _checked(row: _Row, before_s: int) -> _Row:
    time_s, open_, high, low, close = row[:5]
    if time_s <= before_s:
        raise ValueError("its time does not follow the one before")
    if time_s % MINUTE_S:
        raise ValueError("it opens at no whole minute")
    if not (0 < low <= min(open_, close) and max(open_, close) <= high < float("inf")):
        raise ValueError("open, high, low and close do not fit each other")
    return row

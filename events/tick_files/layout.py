"""What the header of a text file says: separator, columns, and how times are written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MT5_HEADER = "<DATE> <TIME> <BID> <ASK> <LAST> <VOLUME> <FLAGS>"
_SEPARATORS = "\t,;|"
_NAMES = {
    "date": "date", "time": "time", "timestamp": "time", "datetime": "time", "date_time": "time",
    "time_msc": "time", "time_ms": "time", "bid": "bid", "ask": "ask", "last": "last",
    "volume": "volume", "volume_real": "volume", "flags": "flags", "symbol": "symbol",
}  # fmt: skip


class TimeForm(Enum):
    """How the time column is written."""

    DATE_AND_TIME = "date and time in two columns"
    ISO = "ISO 8601"
    EPOCH_S = "epoch seconds"
    EPOCH_MS = "epoch milliseconds"
    EPOCH_US = "epoch microseconds"
    EPOCH_NS = "epoch nanoseconds"


class BadHeader(ValueError):
    """The first line names no columns of ticks."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Separator and place of each known column; `columns` counts all, known or not."""

    separator: bytes
    columns: int
    place: dict[str, int]

    @property
    def two_column_time(self) -> bool:
        return "date" in self.place


def read_header(line: str) -> Layout:
    """The layout a header line declares. Raises BadHeader, saying what is missing."""
    text = line.strip()
    if not text:
        raise BadHeader("the file is empty" if not line else "the first line is empty")
    separator = max(_SEPARATORS, key=text.count)
    names = [name.strip().strip('"<>').strip().lower() for name in text.split(separator)]
    if {"open", "high", "low", "close"} <= set(names):
        raise BadHeader("this is a file of bars, not of ticks: export ticks instead")
    place = _places(names)
    missing = [name for name in ("time", "bid", "ask") if name not in place]
    if missing:
        raise BadHeader(
            f"no column {', '.join(missing)} in the header {text[:80]!r} (expected {MT5_HEADER}, "
            "or named columns: time or timestamp, bid, ask, and if wanted last, volume, flags, "
            "symbol)"
        )
    return Layout(separator.encode(), len(names), place)


def _places(names: list[str]) -> dict[str, int]:
    """Where each known column stands; of two names for one column the more exact one counts."""
    place: dict[str, int] = {}
    for exact in ("time_msc", "time_ms", "volume_real"):
        if exact in names:
            place[_NAMES[exact]] = names.index(exact)
    for index, name in enumerate(names):
        if name in _NAMES:
            place.setdefault(_NAMES[name], index)
    if "date" in place and "time" not in place:
        place["time"] = place.pop("date")
    if {"time_msc", "time_ms"} & set(names):
        place.pop("date", None)
    return place


def time_form(layout: Layout, first: str) -> TimeForm:
    """How times are written, judged by the first one. Raises BadHeader."""
    if layout.two_column_time:
        return TimeForm.DATE_AND_TIME
    whole = first.partition(".")[0]
    if whole.isdecimal():
        return epoch_form(len(whole))
    if len(first) >= 10 and first[4:5] in "-./" and first[7:8] == first[4:5]:
        return TimeForm.ISO
    raise BadHeader(f"time {first[:40]!r} is neither ISO 8601 nor an epoch")


def epoch_form(digits: int) -> TimeForm:
    """Unit of an epoch by its number of digits (exact for 1973..2286)."""
    for limit, form in ((11, TimeForm.EPOCH_S), (14, TimeForm.EPOCH_MS), (16, TimeForm.EPOCH_US)):
        if digits <= limit:
            return form
    return TimeForm.EPOCH_NS

"""What time an entry speaks of, read from its first bytes: nothing is decoded for it."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from events.codec import CANDLES, MARKS, TICKS, TICKS_HISTORY

_HEADER = struct.Struct("<qqiI")
"""The beginning of a tick batch: event time, receive time, offset, count."""
_PLACE = struct.Struct("<q")
_TICK_RECORDS_AT, _TICK_TIME_AT = 32, 40
_MARKS_TIME_AT = 8
_CANDLE_HEADER = struct.Struct("<qqiBBHI")
_EVENT_TIME = re.compile(rb'"event_time_ms":(-?\d{1,18})')


class Times(NamedTuple):
    """UTC ms of the oldest and the newest thing an entry holds."""

    oldest_ms: int
    newest_ms: int


def times_of(type_: str, data: bytes) -> Times | None:
    """The event times of an entry; None for what names none (or cannot be read)."""
    name = type_.rpartition(".")[0]
    try:
        if name in (TICKS, TICKS_HISTORY):
            return _of_ticks(data)
        if name == CANDLES:
            return _of_candles(data)
        if name == MARKS:
            (event_ms,) = _PLACE.unpack_from(data, _MARKS_TIME_AT)
            return Times(event_ms, event_ms)
    except struct.error:
        return None
    found = _EVENT_TIME.search(data)
    return Times(int(found[1]), int(found[1])) if found else None


def _of_ticks(data: bytes) -> Times:
    newest_ms, _, offset_s, count = _HEADER.unpack_from(data)
    if not count:
        return Times(newest_ms, newest_ms)
    (first,) = _PLACE.unpack_from(data, _TICK_RECORDS_AT + _TICK_TIME_AT)
    return Times(min(newest_ms, first - offset_s * 1000), newest_ms)


def _of_candles(data: bytes) -> Times:
    newest_ms, _, offset_s, *_, count = _CANDLE_HEADER.unpack_from(data)
    if not count:
        return Times(newest_ms, newest_ms)
    (first_s,) = _PLACE.unpack_from(data, _CANDLE_HEADER.size)
    return Times(min(newest_ms, (first_s - offset_s) * 1000), newest_ms)


def is_within(times: Times | None, from_ms: int | None, until_ms: int | None) -> bool:
    """Whether an entry holds something of from <= time < until. What names no time is taken."""
    if times is None:
        return True
    if from_ms is not None and times.newest_ms < from_ms:
        return False
    return until_ms is None or times.oldest_ms < until_ms

"""When a market is open: FX weeks and rollover breaks, holidays, 24/7 symbols."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from events.clock_rules import ClockRule
from producers.terminals.simulated.symbols import Session

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

DAY_MINUTES = 1440
WEEK_MINUTES = 7 * DAY_MINUTES
_CLOSE = 17 * 60  # the FX day ends at 17:00 New York
_BREAK_MINUTES = {"fx": 5, "metal": 60}
_STOCK_OPEN, _STOCK_CLOSE = 9 * 60 + 30, 16 * 60
_EARLY_CLOSE = 13 * 60
_MONDAY_OFFSET = 3  # 1 January 1970 was a Thursday: day 0 is weekday 3 (Monday 0)


@cache
def _new_york() -> ClockRule:
    return ClockRule.parse("America/New_York")


def new_york_minutes(utc_minutes: Int64Array) -> Int64Array:
    """Minutes of New York's wall clock since its epoch."""
    offsets = np.asarray(_new_york().offsets_s(utc_minutes * 60_000), dtype=np.int64)
    return utc_minutes + offsets // 60


def open_minutes(session: Session, utc_minutes: Int64Array) -> BoolArray:
    """Which minutes (since the epoch, UTC) have a market of this kind."""
    if session == "always":
        return np.ones(len(utc_minutes), dtype=np.bool_)
    local = new_york_minutes(utc_minutes)
    day, minute = local // DAY_MINUTES, local % DAY_MINUTES
    weekday = (day + _MONDAY_OFFSET) % 7
    if session == "stock":
        trading = (minute >= _STOCK_OPEN) & (minute < _STOCK_CLOSE) & (weekday < 5)
        open_stock: BoolArray = trading & ~_holiday(day, minute)
        return open_stock
    pause = _BREAK_MINUTES[session]
    after_close = (minute >= _CLOSE) & (minute < _CLOSE + pause)
    weekend = (
        (weekday == 5)
        | ((weekday == 4) & (minute >= _CLOSE))
        | ((weekday == 6) & (minute < _CLOSE + pause))
    )
    closed: BoolArray = weekend | after_close | _holiday(day, minute)
    return ~closed


def is_open(session: Session, utc_ms: int) -> bool:
    """Whether the market is open at a moment."""
    return bool(open_minutes(session, np.array([utc_ms // 60_000], dtype=np.int64))[0])


def activity(session: Session, utc_minutes: Int64Array) -> npt.NDArray[np.float64]:
    """How busy each minute is, about 1 on average: quiet after New York's close, busy while
    London and New York overlap."""
    hour = (new_york_minutes(utc_minutes) % DAY_MINUTES) // 60
    by_hour = _ACTIVITY_ALWAYS if session == "always" else _ACTIVITY
    factors: npt.NDArray[np.float64] = by_hour[hour]
    return factors


def spread_factor(session: Session, utc_minutes: Int64Array) -> npt.NDArray[np.float64]:
    """How much wider the spread is: five times around the rollover at 17:00 New York."""
    minute = new_york_minutes(utc_minutes) % DAY_MINUTES
    near = (minute >= _CLOSE - 5) & (minute < _CLOSE + 60) & (session != "always")
    return np.where(near, 5.0, 1.0)


def _holiday(day: Int64Array, minute: Int64Array) -> BoolArray:
    """1 January and 25 December, and the afternoons before them."""
    dates = day.astype("datetime64[D]")
    month = dates.astype("datetime64[M]").astype(np.int64) % 12 + 1
    of_month = (dates - dates.astype("datetime64[M]")).astype(np.int64) + 1
    closed = ((month == 1) & (of_month == 1)) | ((month == 12) & (of_month == 25))
    early = (month == 12) & ((of_month == 24) | (of_month == 31)) & (minute >= _EARLY_CLOSE)
    result: BoolArray = closed | early
    return result


_ACTIVITY = np.array(
    [0.9, 1.0, 1.3, 1.7, 1.7, 1.5, 1.3, 1.4, 1.9, 2.1, 2.0, 1.7, 1.3, 1.0, 0.8, 0.6, 0.5, 0.4,
     0.4, 0.6, 0.8, 0.8, 0.7, 0.8]
)  # fmt: skip
_ACTIVITY_ALWAYS = np.array([0.9] * 6 + [1.0] * 3 + [1.3] * 8 + [1.0] * 7)

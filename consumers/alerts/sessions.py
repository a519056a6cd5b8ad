"""When a symbol's market is open: learned from its ticks and candles, with the currency market's
week as what is believed before anything was learned.

MetaTrader tells Python no trading sessions. A week is cut into quarters of an hour by the server's
clock; each remembers the last week in which the symbol moved. A quarter of an hour in which it has
not moved for some weeks, though it was watched, is closed.
"""

from __future__ import annotations

from array import array
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

QUARTER_S = 900
QUARTERS = 7 * 96
WEEK_S = 7 * 86_400
FORGOTTEN_WEEKS = 3
"""A quarter of an hour without a tick for so many weeks is closed."""
LEARNED_WEEKS = 2
"""So long a symbol must have been known before its silence says anything."""
_KEY = "session:"
_WEEK_FIRST = 1
"""Week 0 of the epoch stands for "never"."""
_NEW_YORK = ZoneInfo("America/New_York")
_CLOSE_MINUTE = 17 * 60
_BREAK_MINUTES = 15
"""Around the rollover at 17:00 New York ticks stop for 5 minutes, or come late."""
_FRIDAY, _SATURDAY, _SUNDAY = 4, 5, 6
_HOLIDAYS = frozenset({(1, 1), (12, 25)})


class Sessions:
    """What was learned, in `state`: one row of weeks per symbol. Times of ticks are server times,
    those of `is_open` UTC with the server's offset beside them."""

    def __init__(self, state: MutableMapping[str, Any]) -> None:
        self._state = state

    def moved(self, symbol: str, server_ms: int) -> None:
        """A tick of this time was seen."""
        self.moved_at(symbol, np.array([server_ms // 1000], dtype=np.int64), 0)

    def moved_at(self, symbol: str, server_s: npt.NDArray[np.int64], length_s: int) -> None:
        """The symbol moved during these spans, such as those of candles."""
        if not len(server_s):
            return
        row = self._row(symbol)
        if row is None:
            first = int(server_s.min()) // WEEK_S
            row = {"first_week": first, "weeks": array("H", [0] * QUARTERS).tobytes()}
        weeks = np.frombuffer(row["weeks"], dtype="<u2").copy()
        for later_s in range(0, max(1, length_s), QUARTER_S):
            at_s = server_s + later_s
            week = (at_s // WEEK_S).astype(np.uint16)
            np.maximum.at(weeks, (at_s % WEEK_S) // QUARTER_S, week)
        packed = weeks.astype("<u2").tobytes()
        first = min(row["first_week"], int(server_s.min()) // WEEK_S)
        if packed != row["weeks"] or first != row["first_week"]:
            self._state[_KEY + symbol] = {"first_week": first, "weeks": packed}

    def is_open(self, symbol: str, utc_ms: int, offset_s: int) -> bool:
        """Whether its market is open as far as anybody here can know."""
        row = self._row(symbol)
        server_s = utc_ms // 1000 + offset_s
        week, quarter = server_s // WEEK_S, (server_s % WEEK_S) // QUARTER_S
        believed = is_currency_week(utc_ms)
        if row is None:
            return believed
        weeks = np.frombuffer(row["weeks"], dtype="<u2")
        if self._is_around_the_clock(weeks):
            believed = True
        if week - row["first_week"] < LEARNED_WEEKS:
            return believed
        newest = int(weeks[quarter])
        return believed and newest >= _WEEK_FIRST and week - newest <= FORGOTTEN_WEEKS

    def is_always_open(self, symbol: str) -> bool:
        """Whether it moves on Saturdays and Sundays as well."""
        row = self._row(symbol)
        return row is not None and self._is_around_the_clock(
            np.frombuffer(row["weeks"], dtype="<u2")
        )

    def _is_around_the_clock(self, weeks: npt.NDArray[np.uint16]) -> bool:
        """It moved in the middle of a Saturday by any server's clock. The epoch began on a
        Thursday: Saturday is the third day of such a week."""
        noon = 2 * 96 + 48
        return bool(np.count_nonzero(weeks[noon - 8 : noon + 8]) >= 4)

    def _row(self, symbol: str) -> dict[str, Any] | None:
        row: dict[str, Any] | None = self._state.get(_KEY + symbol)
        return row


def is_currency_week(utc_ms: int) -> bool:
    """Sunday to Friday 17:00 New York, without the break at each day's end and two holidays."""
    there = datetime.fromtimestamp(utc_ms / 1000, UTC).astimezone(_NEW_YORK)
    minute, day = there.hour * 60 + there.minute, there.weekday()
    if day == _SATURDAY or (day == _FRIDAY and minute >= _CLOSE_MINUTE):
        return False
    if day == _SUNDAY and minute < _CLOSE_MINUTE + _BREAK_MINUTES:
        return False
    pause = _CLOSE_MINUTE <= minute < _CLOSE_MINUTE + _BREAK_MINUTES
    return not pause and not _is_holiday(utc_ms)


def _is_holiday(utc_ms: int) -> bool:
    """1 January and 25 December, from 17:00 New York of the day before."""
    there = datetime.fromtimestamp(utc_ms / 1000 + 7 * 3_600, UTC).astimezone(_NEW_YORK)
    return (there.month, there.day) in _HOLIDAYS

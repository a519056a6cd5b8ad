"""When a symbol trades: a week of the broker's clock. Terminals do not tell it to programs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DAY_MINUTES = 1440
WEEK_MINUTES = 7 * DAY_MINUTES
_MINUTE_MS = 60_000
_THURSDAY = 4  # 1 January 1970, with Sunday as 0
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LINE = re.compile(r"([a-z]{3})(?:-([a-z]{3}))? (\d\d):(\d\d)-(\d\d):(\d\d)")
BoolArray = npt.NDArray[np.bool_]


class BadHours(ValueError):
    """Hours that cannot be read. Shows how they are written."""


@dataclass(frozen=True, slots=True, eq=False)
class WeeklyHours:
    """The minutes of a week (from Sunday 00:00, broker's clock) in which a symbol trades."""

    lines: tuple[str, ...]
    minutes: BoolArray

    @classmethod
    def parse(cls, lines: Iterable[str]) -> WeeklyHours:
        """Lines such as `mon-fri 00:05-23:55` or `sun 17:00-24:00`, on the broker's clock. Raises
        BadHours."""
        given = tuple(lines)
        minutes = np.zeros(WEEK_MINUTES, np.bool_)
        for line in given:
            match = _LINE.fullmatch(line.strip().lower())
            first = match and match[1] in DAYS and DAYS.index(match[1])
            last = match and (match[2] or match[1]) in DAYS and DAYS.index(match[2] or match[1])
            if match is None or first is False or last is False:
                raise BadHours(f"hours {line!r}: write for instance mon-fri 00:05-23:55")
            begin, end = int(match[3]) * 60 + int(match[4]), int(match[5]) * 60 + int(match[6])
            if not (0 <= begin < end <= DAY_MINUTES):
                raise BadHours(f"hours {line!r}: they begin before they end, within 00:00-24:00")
            assert isinstance(first, int)
            assert isinstance(last, int)
            for day in range(first, first + (last - first) % 7 + 1):
                low = day % 7 * DAY_MINUTES
                minutes[low + begin : low + end] = True
        if not minutes.any():
            raise BadHours("no hours are given: leave them out for a symbol that always trades")
        return cls(given, minutes)

    def open_at(self, server_ms: int) -> bool:
        """Whether it trades at a time of the broker's clock."""
        return bool(
            self.minutes[(server_ms // _MINUTE_MS + _THURSDAY * DAY_MINUTES) % WEEK_MINUTES]
        )

    def open_during(self, server_ms: npt.NDArray[np.int64]) -> BoolArray:
        """`open_at` of many times."""
        place = (server_ms // _MINUTE_MS + _THURSDAY * DAY_MINUTES) % WEEK_MINUTES
        found: BoolArray = self.minutes[place]
        return found

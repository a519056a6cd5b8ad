"""What is wrong with the ticks of a run: gaps, prices that are none, crossed prices, steps back.

A strategy sees what it would have seen live: rows without a bid or an ask are left out there, too.
The broker model trades at no crossed price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from events.views.moments import utc_text

GAP_MS = 4 * 3_600_000
"""Longest time without a tick that counts as quiet. Trading breaks of a night are shorter."""
WEEKEND_MS_MAX = 3 * 86_400_000
DAY_MS = 86_400_000
_SATURDAY_NOON_MS = 2 * DAY_MS + DAY_MS // 2  # the epoch began on a Thursday
EXAMPLES_MAX = 3


@dataclass(slots=True)
class _Seen:
    """Of one symbol."""

    ticks: int = 0
    zero: int = 0
    crossed: int = 0
    back: int = 0
    last_ms: int | None = None
    gaps: int = 0
    longest: tuple[int, int] = (0, 0)
    """(length, begin) in ms."""

    def step(self, before_ms: int, now_ms: int) -> None:
        """From one tick to the next."""
        self.back += now_ms < before_ms
        if now_ms - before_ms > GAP_MS:
            self.gap(before_ms, now_ms - before_ms)

    def gap(self, begin_ms: int, length_ms: int) -> None:
        """So long there was no tick."""
        if not _is_weekend(begin_ms, length_ms):
            self.gaps += 1
            self.longest = max(self.longest, (length_ms, begin_ms))


@dataclass(slots=True)
class Quality:
    """Counts over a run, portion by portion."""

    _seen: dict[str, _Seen] = field(default_factory=dict)

    def look(
        self,
        symbol: str,
        time_ms: npt.NDArray[np.int64],
        bid: npt.NDArray[np.float64],
        ask: npt.NDArray[np.float64],
    ) -> None:
        """Ticks of one symbol, in the order they are seen."""
        if not len(time_ms):
            return
        seen = self._seen.setdefault(symbol, _Seen())
        seen.ticks += len(time_ms)
        if bid.min() <= 0 or ask.min() <= 0 or bool((ask < bid).any()):
            zero = (bid <= 0) | (ask <= 0)
            seen.zero += int(zero.sum())
            seen.crossed += int(((ask < bid) & ~zero).sum())
        first_ms = int(time_ms[0])
        before_ms = first_ms if seen.last_ms is None else seen.last_ms
        seen.step(before_ms, first_ms)
        steps = time_ms[1:] - time_ms[:-1]
        if len(steps) and steps.min() < 0:
            seen.back += int((steps < 0).sum())
        if len(steps) and steps.max() > GAP_MS:
            for row in np.flatnonzero(steps > GAP_MS).tolist():
                seen.gap(int(time_ms[row]), int(steps[row]))
        seen.last_ms = int(time_ms[-1])

    def left_out(self, unpriced: Mapping[str, int]) -> None:
        """Rows without a price, by symbol, that nobody sees."""
        for symbol, count in unpriced.items():
            seen = self._seen.setdefault(symbol, _Seen())
            seen.zero += count
            seen.ticks += count

    def warnings(self) -> list[str]:
        """A line for each thing and symbol."""
        found = []
        for symbol, seen in sorted(self._seen.items()):
            if seen.gaps:
                length, begin = seen.longest
                found.append(
                    f"{symbol}: {seen.gaps} gaps of more than {GAP_MS // 3_600_000} h outside of "
                    f"weekends, the longest {length / 3_600_000:.1f} h from {utc_text(begin)} UTC"
                )
            if seen.zero:
                found.append(
                    f"{symbol}: {seen.zero} of {seen.ticks} ticks have no bid or no ask: they "
                    "are left out, as live"
                )
            if seen.crossed:
                found.append(
                    f"{symbol}: {seen.crossed} of {seen.ticks} ticks have an ask below their bid; "
                    "nothing is traded at them"
                )
            if seen.back:
                found.append(
                    f"{symbol}: {seen.back} of {seen.ticks} ticks are older than the one before "
                    "(late, or the clock was put back)"
                )
        return found


def _is_weekend(begin_ms: int, length_ms: int) -> bool:
    """Whether a time without ticks holds a Saturday noon (UTC) and is no longer than three days."""
    if length_ms > WEEKEND_MS_MAX:
        return False
    week_ms = 7 * DAY_MS
    to_noon_ms = (_SATURDAY_NOON_MS - begin_ms) % week_ms
    return to_noon_ms <= length_ms

"""Times at which trading is restricted: weekly windows, and moments of a calendar. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from events.rules.model import Moment, Rules, Window
from events.rules.resets import instant_ms, local_date

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTE_MS = 60_000
WEEK_DAYS = 7
LOOK_DAYS = 8
"""A weekly window that matters now began or begins within so many days."""


@dataclass(frozen=True, slots=True)
class Span:
    """One occurrence of a window; times UTC, its end not included."""

    window: str
    begin_ms: int
    until_ms: int
    name: str = ""
    concerns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowNow:
    """A window that matters at a moment."""

    window: str
    phase: Literal["before", "during"]
    """before: positions are closed ahead of it, and nothing is opened."""
    begin_ms: int
    until_ms: int
    block: bool
    flatten: bool
    defer: bool
    symbols: tuple[str, ...] = ()
    """The ones it is about; empty: all."""
    concerns: tuple[str, ...] = ()
    """Currencies or symbols that the calendar names; empty: all."""
    name: str = ""

    def about(self, symbol: str, *currencies: str) -> bool:
        """Whether it restricts a symbol of these currencies."""
        if self.symbols and symbol not in self.symbols:
            return False
        return not self.concerns or bool({symbol, *currencies} & set(self.concerns))


def windows_at(rules: Rules, now_ms: int) -> tuple[WindowNow, ...]:
    """Every window that restricts trading now, or demands that positions are closed ahead.

    Hard limits act whatever this says.
    """
    found = []
    for window in rules.windows:
        ahead_ms = int((window.flatten_before_minutes or 0) * MINUTE_MS)
        flattens = window.flatten_before_minutes is not None
        for span in spans(window, now_ms - ahead_ms, now_ms + ahead_ms + 1):
            during = span.begin_ms <= now_ms < span.until_ms
            before = flattens and span.begin_ms - ahead_ms <= now_ms < span.begin_ms
            if not during and not before:
                continue
            found.append(
                WindowNow(
                    window=window.name, phase="during" if during else "before",
                    begin_ms=span.begin_ms, until_ms=span.until_ms,
                    block=window.block or before, flatten=flattens,
                    defer=window.defer and during, symbols=window.symbols,
                    concerns=span.concerns, name=span.name,
                )
            )  # fmt: skip
    return tuple(found)


def spans(window: Window, from_ms: int, until_ms: int) -> tuple[Span, ...]:
    """Occurrences that touch a stretch of time, in order."""
    every = (*_weekly(window, from_ms, until_ms), *_moments(window, from_ms, until_ms))
    touching = [span for span in every if span.begin_ms < until_ms and span.until_ms > from_ms]
    return tuple(sorted(touching, key=lambda span: span.begin_ms))


def _moments(window: Window, from_ms: int, until_ms: int) -> Iterator[Span]:
    """Those around a stretch of time; `times` are in order."""
    before = int(window.before_minutes * MINUTE_MS)
    after = max(int(window.after_minutes * MINUTE_MS), 1)
    start = bisect_left(window.times, from_ms - after, key=_at)
    for one in window.times[start : bisect_right(window.times, until_ms + before, key=_at)]:
        yield Span(window.name, one.at_ms - before, one.at_ms + after, one.name, one.concerns)


def _at(moment: Moment) -> int:
    return moment.at_ms


def _weekly(window: Window, from_ms: int, until_ms: int) -> Iterator[Span]:
    if window.begin is None or window.until is None:
        return
    day = local_date(from_ms, window.zone) - timedelta(days=LOOK_DAYS)
    last = local_date(until_ms, window.zone) + timedelta(days=1)
    while day <= last:
        if not window.days or WEEKDAYS[day.weekday()] in window.days:
            begin = instant_ms(day, window.begin, window.zone)
            end = instant_ms(_end_day(window, day), window.until, window.zone)
            yield Span(window.name, begin, end)
        day += timedelta(days=1)


def _end_day(window: Window, day: date) -> date:
    assert window.begin is not None
    assert window.until is not None
    later = window.until > window.begin
    if window.until_day is None:
        return day if later else day + timedelta(days=1)
    ahead = (WEEKDAYS.index(window.until_day) - day.weekday()) % WEEK_DAYS
    if ahead == 0 and not later:
        ahead = WEEK_DAYS
    return day + timedelta(days=ahead)

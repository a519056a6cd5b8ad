"""When a firm's day begins: a wall-clock time in its own zone, daylight saving included."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_CLOCK = re.compile(
    r"(?P<zone>[A-Za-z_/-]+?)(?:(?P<sign>[+-])(?P<hours>\d{1,2})(?::(?P<minutes>\d\d))?h?)?"
)
DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class TradingDay:
    """One day between two resets. `name` is the date on which it began, in the firm's zone."""

    name: str
    start_ms: int
    until_ms: int
    """The next reset."""


def trading_day(now_ms: int, *, reset_time: str, reset_zone: str) -> TradingDay:
    """The day that runs at `now_ms`. The reset itself belongs to the day it begins.

    A reset time that a clock change skips counts from the instant the old offset would have
    shown it; one that is shown twice counts the first time (PEP 495, fold 0).
    """
    zone, at = _zone(reset_zone), time.fromisoformat(reset_time)
    today = datetime.fromtimestamp(now_ms / 1000, zone).date()
    start = _instant_ms(today, at, zone)
    if start > now_ms:
        today, until = today - _DAY, start
        start = _instant_ms(today, at, zone)
    else:
        until = _instant_ms(today + _DAY, at, zone)
    return TradingDay(today.isoformat(), start, until)


@lru_cache(maxsize=1024)
def instant_ms(day: date, at: str, zone: str) -> int:
    """UTC of a wall-clock time `HH:MM` on a date in a zone."""
    return _instant_ms(day, time.fromisoformat(at), _zone(zone))


def local_date(now_ms: int, zone: str) -> date:
    """The date in a zone."""
    return datetime.fromtimestamp(now_ms / 1000, _zone(zone)).date()


def reset_of_clock(clock: str) -> tuple[str, str]:
    """Midnight of a broker's clock as (time, zone), from its rule.

    `America/New_York+7h` is 17:00 in New York, `Europe/Athens` is 00:00 there, `fixed+3h` is
    21:00 UTC. Raises ValueError.
    """
    if known_zone(clock.strip()):
        return "00:00", clock.strip()
    match = _CLOCK.fullmatch(clock.strip())
    if match is None:
        raise ValueError(f"{clock!r} is no rule of a clock")
    zone = "UTC" if match["zone"] in ("fixed", "UTC") else match["zone"]
    _zone(zone)
    shift = int(match["hours"] or 0) * 60 + int(match["minutes"] or 0)
    minutes = (-shift if match["sign"] != "-" else shift) % DAY_MINUTES
    return f"{minutes // 60:02}:{minutes % 60:02}", zone


def utc_text(moment_ms: int | None) -> str:
    """`2026-03-29T22:00:00Z`; "never" for None."""
    if moment_ms is None:
        return "never"
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    """Raises ValueError for a name that is no IANA zone."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"{name!r} is no IANA time zone") from error


def known_zone(name: str) -> bool:
    """Whether it names a zone."""
    try:
        _zone(name)
    except ValueError:
        return False
    return True


def _instant_ms(day: date, at: time, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, at, tzinfo=zone).timestamp() * 1000)

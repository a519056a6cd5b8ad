"""Clock rules: how a broker's wall clock follows from UTC.

All times of MT5 are the broker server's wall clock written as if it were an epoch. A rule is the
wall clock of an IANA zone, moved by a fixed shift: `America/New_York+7h` is what most FX brokers
use (their day begins at 17:00 New York), `Europe/Athens` and `Europe/Berlin` follow the European
switches, `fixed+3h` never switches. The offset of a server is always *server - UTC* in seconds.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

ALIASES = {
    "ny-close": "America/New_York+7h",
    "eet": "Europe/Athens",
    "cet": "Europe/Berlin",
    "au": "Australia/Sydney-8h",
    "utc": "UTC",
    "gmt": "UTC",
}
"""Friendly names for the clocks brokers use."""

SHIFT_MAX_S = 14 * 3600
_STEP_S = 4 * 86400  # two switches of one zone lie further apart than this
_BEGIN_S = int(datetime(1980, 1, 1, tzinfo=UTC).timestamp())
_END_S = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
_AGREE_FROM_MS = int(datetime(2015, 1, 1, tzinfo=UTC).timestamp()) * 1000
_AGREE_TO_MS = int(datetime(2040, 1, 1, tzinfo=UTC).timestamp()) * 1000
_ALLOWED = (
    "allowed: ny-close, eet, cet, au, utc, an IANA zone with an optional shift "
    "(America/New_York+7h, Europe/Athens, Australia/Sydney-8h), or fixed+3h, fixed+5:45"
)
_RULE = re.compile(r"(?P<zone>[A-Za-z][A-Za-z0-9_/-]*?)(?P<shift>[+-]\d{1,2}(?:h|:\d\d)?)?")
_SHIFT = re.compile(r"([+-])(\d{1,2})(?:h|:(\d\d))?")


class ClockRuleError(ValueError):
    """The text names no clock rule; the message says what is allowed."""


class ServerTimeKind(IntEnum):
    """What a reading of the server's clock tells."""

    PLAIN = 1
    AMBIGUOUS = 2  # shown twice, because the clock was put back
    SKIPPED = 0  # never shown, because the clock was put forward


class ClockSwitch(NamedTuple):
    """One moment at which the server's clock is put forward or back."""

    utc_ms: int
    old_offset_s: int
    new_offset_s: int

    @property
    def back(self) -> bool:
        return self.new_offset_s < self.old_offset_s


@dataclass(frozen=True, slots=True)
class ClockRule:
    """The wall clock of `zone` moved by `shift_s`. A fixed clock has the zone "UTC"."""

    zone: str
    shift_s: int = 0

    def __post_init__(self) -> None:
        if abs(self.shift_s) > SHIFT_MAX_S:
            raise ClockRuleError(f"a clock shift of {self.shift_s / 3600:g} h exceeds 14 h")

    @classmethod
    def parse(cls, text: str) -> ClockRule:
        """Read a rule or an alias. Raises ClockRuleError naming what is allowed."""
        name = ALIASES.get(text.strip().lower(), text.strip())
        match = _RULE.fullmatch(name)
        if match is None:
            raise ClockRuleError(f"{text!r} is no clock rule; {_ALLOWED}")
        zone, shift = match["zone"], match["shift"]
        if zone.lower() in ("fixed", "utc", "gmt"):
            if zone.lower() == "fixed" and shift is None:
                raise ClockRuleError(f"{text!r} lacks its hours; {_ALLOWED}")
            return cls("UTC", _shift_s(shift, text))
        if shift is not None and shift[-1] != "h" and ":" not in shift:
            raise ClockRuleError(
                f"{text!r}: write fixed{shift}h, or {zone}{shift}h for a shifted zone (zones "
                f"named GMT+3 mean three hours *behind* UTC and are refused); {_ALLOWED}"
            )
        _zone(zone, text)
        return cls(zone, _shift_s(shift, text))

    @classmethod
    def fixed(cls, offset_s: int) -> ClockRule:
        """A clock that never switches, `offset_s` ahead of UTC."""
        return cls("UTC", offset_s)

    def __str__(self) -> str:
        """The text `parse` reads back."""
        shift = _shift_text(self.shift_s)
        if self.zone != "UTC":
            return self.zone + shift
        return f"fixed{shift}" if shift else "UTC"

    @property
    def switches(self) -> bool:
        """True when the clock is ever put forward or back."""
        return self.zone != "UTC"

    def agrees(self, other: ClockRule) -> bool:
        """Whether both show the same clock from 2015 to 2039 (London+2h is Athens)."""
        return self == other or _agree(self, other)

    def moved(self, by_s: int) -> ClockRule:
        """The same switches under a clock `by_s` further ahead."""
        return ClockRule(self.zone, self.shift_s + by_s)

    def offset_s(self, utc_ms: int) -> int:
        """Server - UTC in seconds at a UTC time."""
        starts, offsets = _spans(self.zone)
        place = int(np.searchsorted(starts, utc_ms, side="right")) - 1
        return int(offsets[max(place, 0)]) + self.shift_s

    def offsets_s(self, utc_ms: Int64Array) -> Int64Array:
        """`offset_s` of every element."""
        starts, offsets = _spans(self.zone)
        places = np.searchsorted(starts, utc_ms, side="right") - 1
        found: Int64Array = offsets[np.maximum(places, 0)] + self.shift_s
        return found

    def server_ms(self, utc_ms: int) -> int:
        """What the server's clock shows at a UTC time."""
        return utc_ms + self.offset_s(utc_ms) * 1000

    def offset_s_of_server(self, server_ms: int, *, fold: Literal[0, 1] = 0) -> int:
        """Server - UTC at a reading of the server's clock.

        As in PEP 495: of an ambiguous reading `fold=0` takes the first showing, `fold=1` the
        second; for a skipped one `fold=0` is the offset before the switch, `fold=1` after it.
        """
        return int(self.offsets_s_of_server(np.array([server_ms], np.int64), fold=fold)[0])

    def offsets_s_of_server(self, server_ms: Int64Array, *, fold: Literal[0, 1] = 0) -> Int64Array:
        """`offset_s_of_server` of every element."""
        starts, offsets = _spans(self.zone)
        shifted = server_ms - self.shift_s * 1000
        places = np.searchsorted(_server_starts(self.zone, fold), shifted, side="right") - 1
        assert len(starts) == len(offsets)
        found: Int64Array = offsets[np.maximum(places, 0)] + self.shift_s
        return found

    def utc_ms_of_server(self, server_ms: int, *, fold: Literal[0, 1] = 0) -> int:
        """The UTC time at which the server's clock shows `server_ms` (see `fold` above)."""
        return server_ms - self.offset_s_of_server(server_ms, fold=fold) * 1000

    def kind_of_server(self, server_ms: int) -> ServerTimeKind:
        """Whether the server's clock shows this time once, twice or never."""
        shown = {
            self.utc_ms_of_server(server_ms, fold=fold)
            for fold in (0, 1)
            if self.server_ms(self.utc_ms_of_server(server_ms, fold=fold)) == server_ms
        }
        return ServerTimeKind(len(shown))

    def changes(self, from_utc_ms: int, to_utc_ms: int) -> tuple[ClockSwitch, ...]:
        """Every switch with from_utc_ms <= switch < to_utc_ms, oldest first (1980 to 2099)."""
        starts, offsets = _spans(self.zone)
        first = max(int(np.searchsorted(starts, from_utc_ms, side="left")), 1)
        last = int(np.searchsorted(starts, to_utc_ms, side="left"))
        return tuple(
            ClockSwitch(
                int(starts[i]),
                int(offsets[i - 1]) + self.shift_s,
                int(offsets[i]) + self.shift_s,
            )
            for i in range(first, last)
        )


@lru_cache(maxsize=256)
def _agree(one: ClockRule, other: ClockRule) -> bool:
    return one.offset_s(_AGREE_FROM_MS) == other.offset_s(_AGREE_FROM_MS) and one.changes(
        _AGREE_FROM_MS, _AGREE_TO_MS
    ) == other.changes(_AGREE_FROM_MS, _AGREE_TO_MS)


def _shift_s(shift: str | None, text: str) -> int:
    if shift is None:
        return 0
    match = _SHIFT.fullmatch(shift)
    if match is None or int(match[3] or 0) > 59:
        raise ClockRuleError(f"{text!r}: {shift!r} is no shift; {_ALLOWED}")
    seconds = int(match[2]) * 3600 + int(match[3] or 0) * 60
    if seconds > SHIFT_MAX_S:
        raise ClockRuleError(f"{text!r}: a shift of more than 14 h is no broker's clock")
    return seconds if match[1] == "+" else -seconds


def _shift_text(shift_s: int) -> str:
    if shift_s == 0:
        return ""
    sign, (hours, rest) = "-" if shift_s < 0 else "+", divmod(abs(shift_s), 3600)
    return f"{sign}{hours}:{rest // 60:02d}" if rest else f"{sign}{hours}h"


def _zone(name: str, text: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        close = difflib.get_close_matches(name, sorted(available_timezones()), n=3, cutoff=0.6)
        hint = f" (did you mean {', '.join(close)}?)" if close else ""
        raise ClockRuleError(f"{text!r}: no time zone {name!r}{hint}; {_ALLOWED}") from error


@lru_cache(maxsize=64)
def _spans(zone: str) -> tuple[Int64Array, Int64Array]:
    """(start of each span of one offset in UTC ms, that offset in s); the first starts in 1980."""
    if zone == "UTC":
        return np.array([_BEGIN_S * 1000], np.int64), np.zeros(1, np.int64)
    info = _zone(zone, zone)
    starts, offsets = [_BEGIN_S], [_offset_s(info, _BEGIN_S)]
    for second in range(_BEGIN_S + _STEP_S, _END_S, _STEP_S):
        offset = _offset_s(info, second)
        if offset != offsets[-1]:
            starts.append(_switch_s(info, second - _STEP_S, second))
            offsets.append(offset)
    return np.array(starts, np.int64) * 1000, np.array(offsets, np.int64)


def _switch_s(info: ZoneInfo, before_s: int, after_s: int) -> int:
    """The first second with the offset that holds at `after_s`."""
    new = _offset_s(info, after_s)
    while after_s - before_s > 1:
        middle = (before_s + after_s) // 2
        if _offset_s(info, middle) == new:
            after_s = middle
        else:
            before_s = middle
    return after_s


def _offset_s(info: ZoneInfo, utc_s: int) -> int:
    offset = datetime.fromtimestamp(utc_s, info).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


@lru_cache(maxsize=128)
def _server_starts(zone: str, fold: int) -> Int64Array:
    """Where each span starts on the zone's own wall clock, in ms.

    At a switch the old and the new offset give two readings. The first showing (fold 0) lasts
    until the later of them, the second (fold 1) begins at the earlier.
    """
    starts, offsets = _spans(zone)
    before = np.concatenate((offsets[:1], offsets[:-1]))
    edge = np.maximum(before, offsets) if fold == 0 else np.minimum(before, offsets)
    server: Int64Array = starts + edge * 1000
    return server

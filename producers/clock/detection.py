"""The clock rule of a broker, read off the weekends in its hourly bars (no PC clock needed).

The FX week ends Friday 17:00 New York everywhere. So the close of a broker's last bar before a
weekend, on the server's own clock, minus Friday 17:00 New York in UTC is the server's offset of
that week. Brokers stop up to some minutes earlier, so it is rounded up to 15 minutes. Hourly bars
show whole hours only; a clock on a half or quarter hour needs bars of 15 minutes or less.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from events.clock_rules import ClockRule
from events.ticks import RateArray

Int64Array = npt.NDArray[np.int64]

HOUR_S = 3_600
WEEKEND_GAP_S = 40 * HOUR_S
GRID_S = 900
WEEKS_MIN = 4
"""Fewer weekends are no evidence."""
BARS_MAX = 1_000_000
OFFSET_MAX_S = 14 * HOUR_S
FIT_MIN = 0.8
"""A rule that explains a smaller share of the weeks is not believed."""
LEAD_MIN = 2
"""A rule is told from another one when it explains at least so many weeks more."""
_DAY_S = 86_400
_WEEK_S = 7 * _DAY_S
_EPOCH_FRIDAY_S = _DAY_S  # 2 January 1970 was a Friday
_NEW_YORK = ClockRule("America/New_York")
_FAMILIES = (
    ("US switches", "America/New_York"),
    ("EU switches", "Europe/Athens"),
    ("AU switches", "Australia/Sydney"),
)
"""The most usual first: it leads where several fit as well."""


class CannotDetect(ValueError):
    """The bars do not show the clock; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule and how many of the weeks it explains."""

    rule: ClockRule
    family: str
    weeks: int
    weeks_total: int
    evidence: str

    @property
    def share(self) -> float:
        return self.weeks / self.weeks_total


@dataclass(frozen=True, slots=True)
class Detection:
    """Candidates, best first; those in `tied` fit as well as the first one."""

    candidates: tuple[Candidate, ...]
    weeks: int
    from_server_s: int
    to_server_s: int

    @property
    def best(self) -> Candidate:
        return self.candidates[0]

    @property
    def tied(self) -> tuple[Candidate, ...]:
        """Candidates these bars cannot tell from the best one (the best one included)."""
        lead = self.best.weeks - LEAD_MIN
        return tuple(candidate for candidate in self.candidates if candidate.weeks > lead)

    @property
    def rule(self) -> ClockRule | None:
        """The rule, when exactly one explains the bars; None when that cannot be told."""
        if self.best.share < FIT_MIN or len(self.tied) > 1:
            return None
        return self.best.rule

    @property
    def evidence(self) -> str:
        """One sentence for a person."""
        begin, end = (
            datetime.fromtimestamp(second, UTC).date()
            for second in (self.from_server_s, self.to_server_s)
        )
        span = f"{self.weeks} weekends from {begin} to {end}"
        if self.best.share < FIT_MIN:
            return f"{span} fit no rule (best: {self.best.evidence})"
        if len(self.tied) > 1:
            names = " from ".join(candidate.family for candidate in self.tied)
            rules = ", ".join(str(candidate.rule) for candidate in self.tied)
            return f"{span} cannot tell {names} ({rules}): give bars that span a switch"
        return f"{span}: {self.best.evidence}"


def detect(bars: RateArray) -> Detection:
    """Rank the rules that explain bars (H1 or shorter) of a major currency pair, server times.

    Half a year that spans a switch is needed to tell the US rule from the European one.
    Raises CannotDetect when there are too few weekends.
    """
    closes, offsets = week_offsets(bars["time"])
    if len(closes) < WEEKS_MIN:
        raise CannotDetect(
            f"{len(closes)} weekends in {len(bars)} bars: at least {WEEKS_MIN} are needed, "
            "better half a year; take a currency pair that closes on weekends"
        )
    candidates = sorted(_candidates(closes, offsets), key=lambda candidate: -candidate.weeks)
    return Detection(
        tuple(candidates), len(closes), int(bars["time"].min()), int(bars["time"].max())
    )


def week_offsets(bar_times_s: Int64Array) -> tuple[Int64Array, Int64Array]:
    """(UTC ms of each Friday 17:00 New York, offset of the server in that week in s).

    A week whose last bars are missing (holiday, early close, hole) shows an offset that is too
    small; the ranking outvotes it.
    """
    times = np.unique(bar_times_s)[-BARS_MAX:]
    if len(times) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    steps = np.diff(times)
    ends = times[np.flatnonzero(steps >= WEEKEND_GAP_S)] + min(int(steps.min()), HOUR_S)
    weeks = np.round((ends - _EPOCH_FRIDAY_S - _DAY_S) / _WEEK_S).astype(np.int64)
    fridays = weeks * _WEEK_S + _EPOCH_FRIDAY_S  # 00:00 UTC
    new_york_s = _NEW_YORK.offsets_s((fridays + 22 * HOUR_S) * 1000)
    closes = fridays + 17 * HOUR_S - new_york_s
    offsets = -(-(ends - closes) // GRID_S) * GRID_S
    likely = np.abs(offsets) <= OFFSET_MAX_S
    return closes[likely] * 1000, offsets[likely]


def _candidates(closes_ms: Int64Array, offsets: Int64Array) -> list[Candidate]:
    total = len(closes_ms)
    found = []
    for family, zone in _FAMILIES:
        base = ClockRule(zone)
        shifts = Counter((offsets - base.offsets_s(closes_ms)).tolist())
        shift, weeks = max(shifts.items(), key=lambda item: (item[1], item[0]))
        if abs(shift) > OFFSET_MAX_S:
            continue
        rule = _named(base.moved(shift))
        text = f"{weeks} of {total} weeks fit {rule} ({family})"
        found.append(Candidate(rule, family, weeks, total, text))
    offset, weeks = max(Counter(offsets.tolist()).items(), key=lambda item: (item[1], item[0]))
    fixed = ClockRule.fixed(offset)
    text = f"{weeks} of {total} weeks fit {fixed}"
    found.append(Candidate(fixed, "fixed", weeks, total, text))
    return found


def _named(rule: ClockRule) -> ClockRule:
    """The usual name of a European clock: `Europe/Berlin` is Athens an hour back."""
    if rule.zone == "Europe/Athens":
        names = {-7200: "Europe/London", -3600: "Europe/Berlin"}
        if rule.shift_s in names:
            return ClockRule(names[rule.shift_s])
    return rule

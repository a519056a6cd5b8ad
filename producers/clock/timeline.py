"""Which offset held when: the spans of a rule, and of corrections to it, for arrays of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from events.clock_rules import ClockRule

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

STEP_BACK_MS = 300_000
AHEAD_MS = 60_000
"""A tick further in the future of the host's clock cannot be."""
LIVE_LAG_MS = 60_000
FOLD_GUARD_MS = 1_800_000
FAR_MS = 26 * 3_600_000
"""Clocks are seldom put back or forward at another time than this from when the rule says."""


class Regime(NamedTuple):
    """From `since_utc_ms` on the server follows this rule."""

    since_utc_ms: int
    rule: ClockRule


ALWAYS = -(2**62)


@dataclass(frozen=True, slots=True)
class Placed:
    """For each server time its span, its offset, and whether more than one was possible."""

    span: npt.NDArray[np.intp]
    offset_s: Int64Array
    doubtful: BoolArray


class Timeline:
    """Spans of one offset, made of regimes in order of time. A value."""

    def __init__(self, regimes: tuple[Regime, ...]) -> None:
        starts: list[int] = []
        offsets: list[int] = []
        for i, regime in enumerate(regimes):
            end = regimes[i + 1].since_utc_ms if i + 1 < len(regimes) else 2**62
            starts.append(regime.since_utc_ms)
            offsets.append(regime.rule.offset_s(regime.since_utc_ms))
            for change in regime.rule.changes(regime.since_utc_ms + 1, end):
                starts.append(change.utc_ms)
                offsets.append(change.new_offset_s)
        self.starts = np.array(starts, np.int64)
        self.offsets = np.array(offsets, np.int64)
        before = np.concatenate((self.offsets[:1], self.offsets[:-1]))
        edges = (np.maximum(before, self.offsets), np.minimum(before, self.offsets))
        self._edges = [np.maximum.accumulate(self.starts + edge * 1000) for edge in edges]
        self._back = np.flatnonzero(self.offsets < before)

    def span_at(self, utc_ms: int) -> int:
        return max(int(np.searchsorted(self.starts, utc_ms, side="right")) - 1, 0)

    def offset_s(self, utc_ms: int) -> int:
        return int(self.offsets[self.span_at(utc_ms)])

    def start_ms(self, span: int) -> int:
        return int(self.starts[span])

    def twice_since(self, server_ms: int) -> int | None:
        """Where the stretch begins that the clock shows twice and that holds this server time;
        None when it shows the time once."""
        at = int(np.searchsorted(self._edges[1][self._back], server_ms, side="right")) - 1
        if at < 0:
            return None
        span = int(self._back[at])
        return int(self._edges[1][span]) if server_ms < self._edges[0][span] else None

    def place(
        self,
        server_ms: Int64Array,
        *,
        host_utc_ms: int | None = None,
        after_utc_ms: int | None = None,
    ) -> Placed:
        """The span of each server time, given in the order they arrived.

        In an hour that the clock shows twice, the order decides where it falls back; else the
        host's clock (a live answer is about now); else `after_utc_ms`, the time of the newest
        tick before; else the first showing is taken. Those are marked doubtful only when nothing
        decided, as are times the clock should not have shown.
        """
        first = np.maximum(np.searchsorted(self._edges[0], server_ms, side="right") - 1, 0)
        second = np.maximum(np.searchsorted(self._edges[1], server_ms, side="right") - 1, 0)
        span, doubtful = first, np.zeros(len(server_ms), np.bool_)
        between = first != second
        if between.any():
            back = between & (self.offsets[second] < self.offsets[first])
            span, unsure = self._folded(server_ms, first, second, back, host_utc_ms, after_utc_ms)
            skipped = between & ~back
            if host_utc_ms is not None and skipped.any():
                early = server_ms - self.offsets[first] * 1000 > host_utc_ms + AHEAD_MS
                span = np.where(skipped & early, second, span)
            doubtful = skipped | (back & unsure)
        offset_s = self.offsets[span]
        if host_utc_ms is not None:
            offset_s, moved = self._not_early(server_ms, offset_s, host_utc_ms)
            doubtful = doubtful | moved
        return Placed(span, offset_s, doubtful)

    def _folded(
        self,
        server_ms: Int64Array,
        first: npt.NDArray[np.intp],
        second: npt.NDArray[np.intp],
        back: BoolArray,
        host_utc_ms: int | None,
        after_utc_ms: int | None,
    ) -> tuple[npt.NDArray[np.intp], bool]:
        """The span of each time where `back` marks an hour shown twice; whether that is a guess."""
        falls = np.flatnonzero(np.diff(server_ms) < -STEP_BACK_MS) + 1
        inside = np.flatnonzero(back)
        if not len(inside):
            return first, False
        falls = falls[back[falls]]
        if len(falls):
            again = np.arange(len(server_ms)) >= falls[-1]
            return np.where(back & again, second, first), False
        begin, last = int(inside[0]), int(inside[-1])
        early_ms = int(server_ms[begin] - self.offsets[first[begin]] * 1000)
        late_ms = int(server_ms[last] - self.offsets[second[last]] * 1000)
        if host_utc_ms is not None:
            if late_ms > host_utc_ms + AHEAD_MS:
                return first, False
            if late_ms >= host_utc_ms - LIVE_LAG_MS:
                return np.where(back, second, first), False
        if after_utc_ms is not None:
            begin = int(inside[0])
            early_ms = int(server_ms[begin] - self.offsets[first[begin]] * 1000)
            again_now = early_ms < after_utc_ms - FOLD_GUARD_MS
            return (np.where(back, second, first) if again_now else first), False
        return first, True

    def _not_early(
        self, server_ms: Int64Array, offset_s: Int64Array, host_utc_ms: int
    ) -> tuple[Int64Array, BoolArray]:
        """Near a switch the broker may be late: a tick cannot lie ahead of the host's clock."""
        early = server_ms - offset_s * 1000 > host_utc_ms + AHEAD_MS
        if not early.any():
            return offset_s, early
        here = self.span_at(host_utc_ms)
        newest_ms = int(server_ms[early].max())
        for span in (here - 1, here + 1):
            if not 0 < max(span, here) < len(self.starts) or span < 0:
                continue
            switch_ms = self.start_ms(max(span, here))
            other = int(self.offsets[span])
            fits = abs(newest_ms - other * 1000 - host_utc_ms) <= AHEAD_MS
            if fits and abs(switch_ms - host_utc_ms) <= FAR_MS:
                return np.where(early, other, offset_s), early
        return offset_s, early

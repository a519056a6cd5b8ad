"""What is known of a server's clock: rules by time, and the stretches live evidence confirmed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from events.clock_rules import ClockRule
from events.ticks import OffsetSource
from producers.clock.timeline import ALWAYS, BoolArray, Int64Array, Placed, Regime, Timeline

LIVE_MS = 3_600_000
"""A confirmation speaks for so long after its last sample."""
NEAR_MS = 86_400_000
"""Without any rule, live evidence also speaks for so long before it (assumed)."""
REGIMES_MAX = 32
CONFIRMATIONS_MAX = 16

Segment = tuple[slice, int, OffsetSource]


@dataclass(slots=True)
class Confirmation:
    """Live evidence agreed with the timeline from first to last."""

    offset_s: int
    first_utc_ms: int
    last_utc_ms: int
    ended: bool = False

    @property
    def until_ms(self) -> int:
        return self.last_utc_ms + (0 if self.ended else LIVE_MS)


class ClockKnowledge:
    """Rule regimes and confirmations; answers offsets with their source. Not thread-safe."""

    def __init__(self) -> None:
        self.regimes: tuple[Regime, ...] = ()
        self.timeline: Timeline | None = None
        self.confirmed: deque[Confirmation] = deque(maxlen=CONFIRMATIONS_MAX)
        self.detected: ClockRule | None = None
        self._learned_ms: int | None = None

    @property
    def rule(self) -> ClockRule | None:
        """The rule that holds now."""
        return self.regimes[-1].rule if self.regimes else None

    def follow(self, rule: ClockRule) -> None:
        """This rule, at all times."""
        self._learned_ms = None
        self._set((Regime(ALWAYS, rule),))

    def learn(self, offset_s: int, utc_ms: int) -> None:
        """No rule, but live evidence of an offset since `utc_ms`."""
        self._learned_ms = utc_ms
        self._set((Regime(ALWAYS, ClockRule.fixed(offset_s)),))

    def change(self, since_utc_ms: int, rule: ClockRule) -> None:
        """Another rule from a time on."""
        regimes = (*self.regimes, Regime(since_utc_ms, rule))[-REGIMES_MAX:]
        self._set((Regime(ALWAYS, regimes[0].rule), *regimes[1:]))

    def _set(self, regimes: tuple[Regime, ...]) -> None:
        self.regimes, self.timeline = regimes, Timeline(regimes)

    def confirm(self, offset_s: int, first_utc_ms: int, utc_ms: int) -> None:
        """Live evidence agrees with the offset expected at `utc_ms`."""
        assert self.timeline is not None
        start_ms = self.timeline.start_ms(self.timeline.span_at(utc_ms))
        last = self.confirmed[-1] if self.confirmed else None
        if (
            last is not None
            and not last.ended
            and last.offset_s == offset_s
            and last.last_utc_ms >= start_ms
            and utc_ms <= last.until_ms
        ):
            last.last_utc_ms = max(utc_ms, last.last_utc_ms)
        else:
            self.confirmed.append(Confirmation(offset_s, max(first_utc_ms, start_ms), utc_ms))

    def end_confirmations(self) -> None:
        """From now on LIVE must be earned anew."""
        for confirmation in self.confirmed:
            confirmation.ended = True

    def offset_at(self, utc_ms: int) -> tuple[int, OffsetSource]:
        """Server - UTC in seconds, and how it is known (0 while UNKNOWN)."""
        if self.timeline is None or self._too_early(utc_ms):
            return 0, OffsetSource.UNKNOWN
        offset_s = self.timeline.offset_s(utc_ms)
        return offset_s, self._source(offset_s, utc_ms)

    def segments(self, times: Int64Array, placed: Placed) -> Iterator[Segment]:
        """Stretches of one offset, each with the weakest source of its times."""
        utc_ms = times - placed.offset_s * 1000
        unknown = np.zeros(len(times), np.bool_)
        if self._learned_ms is not None:
            unknown = utc_ms < self._learned_ms - NEAR_MS
        offsets = np.where(unknown, 0, placed.offset_s)
        changed = (np.diff(offsets) != 0) | (np.diff(unknown.view(np.int8)) != 0)
        edges = [0, *(np.flatnonzero(changed) + 1).tolist(), len(times)]
        for begin, end in pairwise(edges):
            part = slice(begin, end)
            offset_s = int(offsets[begin])
            source = OffsetSource.UNKNOWN
            if not unknown[begin]:
                source = self._weakest(offset_s, utc_ms[part], placed.doubtful[part])
            yield part, offset_s, source

    def _weakest(self, offset_s: int, utc_ms: Int64Array, doubtful: BoolArray) -> OffsetSource:
        ends = (int(utc_ms.min()), int(utc_ms.max()))
        source = min(self._source(offset_s, end) for end in ends)
        return min(source, OffsetSource.ASSUMED) if doubtful.any() else source

    def _too_early(self, utc_ms: int) -> bool:
        return self._learned_ms is not None and utc_ms < self._learned_ms - NEAR_MS

    def _source(self, offset_s: int, utc_ms: int) -> OffsetSource:
        timeline = self.timeline
        assert timeline is not None
        span = timeline.span_at(utc_ms)
        for confirmation in self.confirmed:
            if (
                confirmation.offset_s == offset_s
                and utc_ms <= confirmation.until_ms
                and timeline.span_at(confirmation.last_utc_ms) == span
                and (self._learned_ms is None or utc_ms >= self._learned_ms)
            ):
                return OffsetSource.LIVE
        return self._rule_source(span)

    def _rule_source(self, span: int) -> OffsetSource:
        assert self.timeline is not None
        begin_ms = self.timeline.start_ms(span)
        rules = [regime.rule for regime in self.regimes if regime.since_utc_ms <= begin_ms]
        if self.detected is not None and rules[-1].agrees(self.detected):
            return OffsetSource.HISTORY
        return OffsetSource.ASSUMED

"""The broker's clock as the bridge knows it: a rule, the history of bars, and live evidence.

A configured rule counts, then one detected in the history of bars; ticks seen to advance confirm
or contradict it. What is only assumed or not known at all is marked so, and no change of the
offset, or of how it is known, goes by without a `ClockChange`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import RLock

import numpy as np

from events.clock_rules import ClockRule
from events.operations import ClockChanged
from events.ticks import OffsetSource
from producers.clock.evidence import LiveEvidence, Tally
from producers.clock.knowledge import ClockKnowledge, Segment
from producers.clock.timeline import ALWAYS, Int64Array

DELAYED_S = 900
"""Exactly this much behind is what 15-minute-delayed quotes look like, not a clock change."""
DISSENT_MS = 60_000
"""Symbols that agreed with the rule so lately speak against a change of the clock."""
CHANGES_MAX = 1_000

__all__ = ["BrokerClock", "ClockChange", "ClockState", "Segment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockChange:
    """The offset, the rule, or what is known of them changed."""

    utc_ms: int
    rule: str
    offset_s: int
    offset_source: OffsetSource
    old_offset_s: int | None
    old_offset_source: OffsetSource
    since_server_ms: int | None
    evidence: str

    def event(self, server: str) -> ClockChanged:
        """As the event of a server (its name at the broker)."""
        return ClockChanged(
            event_time_ms=self.utc_ms,
            server=server,
            rule=self.rule,
            offset_s=self.offset_s,
            offset_source=self.offset_source,
            old_offset_s=self.old_offset_s,
            old_offset_source=self.old_offset_source,
            since_server_ms=self.since_server_ms,
            evidence=self.evidence,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """What `status` shows."""

    rule: str
    """"" while nothing is known."""
    offset_s: int
    offset_source: OffsetSource
    alarm: str
    """What a person should look at; "" when all agrees."""
    evidence: str
    configured: str
    detected: str
    confirmed_utc_ms: int | None
    residual_ms: int | None
    """Newest tick minus host clock minus offset: how far the host's clock may be off."""


class BrokerClock:
    """Server - UTC at any time, and how it is known. Safe to use from several threads.

    Feed it with `observe` at every look at a symbol's newest tick, and with `advance` about once
    a second; take `changes` and make them events.
    """

    def __init__(
        self, configured: ClockRule | None = None, *, detected: ClockRule | None = None
    ) -> None:
        self._lock = RLock()
        self._configured = configured
        self._known = ClockKnowledge()
        self._evidence = LiveEvidence()
        self._changes: deque[ClockChange] = deque(maxlen=CHANGES_MAX)
        self._told: tuple[str, int, OffsetSource] | None = None
        self._alarms: dict[str, str] = {}
        self._text = ""
        self._utc_ms: int | None = None
        self._span: int | None = None
        self._residual_ms: int | None = None
        self._blamed_s: int | None = None
        self._dissent_ms = 0
        if configured is not None:
            self._known.follow(configured)
            self._text = "configured"
        if detected is not None:
            self.use_history(detected)

    def use_history(self, rule: ClockRule, evidence: str = "") -> None:
        """Take over the rule that the history of bars shows."""
        with self._lock:
            self._known.detected = rule
            self._alarms.pop("history", None)
            if self._configured is None:
                if self._known.rule is None or not self._known.confirmed:
                    self._known.follow(rule)
                    self._text = evidence or f"bars show {rule}"
                elif self._utc_ms is not None:
                    self._adopt(rule, self._utc_ms)
            elif not rule.agrees(self._configured):
                self._alarms["history"] = (
                    f"the configured clock is {self._configured}, but bars show {rule}: "
                    "compare both with the broker's own statement"
                )
            if self._utc_ms is not None:
                self._tell(self._utc_ms)

    def observe(self, symbol: str, server_msc: int, host_utc_ms: int) -> None:
        """A look at a symbol's newest tick (server ms), and the host's UTC time of the answer.

        Stale ticks do no harm: only those seen to advance are evidence.
        """
        with self._lock:
            self._utc_ms = host_utc_ms
            self._watch_switch(host_utc_ms)
            tally = None
            if server_msc > 0:
                tally = self._evidence.observe(symbol, server_msc, host_utc_ms)
            if tally is not None and tally.quick:
                self._weigh(tally, host_utc_ms)
            self._tell(host_utc_ms)

    def advance(self, utc_ms: int) -> None:
        """Time went on without a tick: switches by rule are told in time."""
        with self._lock:
            self._utc_ms = utc_ms
            self._watch_switch(utc_ms)
            self._tell(utc_ms)

    def recheck(self) -> None:
        """After a reconnect, an account change or a long pause: LIVE must be earned anew."""
        with self._lock:
            self._evidence.forget()
            self._known.end_confirmations()
            if self._utc_ms is not None:
                self._tell(self._utc_ms)

    def offset_now(self, utc_ms: int) -> tuple[int, OffsetSource]:
        """Server - UTC in seconds at a UTC time, and how it is known (0, UNKNOWN if it is not)."""
        with self._lock:
            return self._known.offset_at(utc_ms)

    def offset_for(
        self,
        server_msc: Int64Array,
        *,
        host_utc_ms: int | None = None,
        after_utc_ms: int | None = None,
    ) -> list[Segment]:
        """Split times of one answer, in its order, into stretches of one offset.

        `host_utc_ms`: when a live answer came. `after_utc_ms`: UTC time of the symbol's newest
        tick before these. Both tell the two showings of an hour apart when a clock is put back.
        A stretch has the weakest source of its ticks. Times <= 0 go with their neighbours.
        """
        with self._lock:
            if not len(server_msc):
                return []
            timeline = self._known.timeline
            if timeline is None:
                return [(slice(0, len(server_msc)), 0, OffsetSource.UNKNOWN)]
            times = _filled(np.ascontiguousarray(server_msc, np.int64))
            placed = timeline.place(times, host_utc_ms=host_utc_ms, after_utc_ms=after_utc_ms)
            return list(self._known.segments(times, placed))

    def utc_ms_of_server(self, server_ms: int) -> int:
        """The UTC time of a server time of late (the server time itself while UNKNOWN).

        Of an hour shown twice, the newest showing that has already been.
        """
        with self._lock:
            times = np.array([server_ms], np.int64)
            now_ms = self._utc_ms
            found = self.offset_for(times, host_utc_ms=now_ms, after_utc_ms=now_ms)
            return server_ms - found[0][1] * 1000

    def twice_since_s(self, server_s: int) -> int:
        """The server second itself, or the begin of the hour that holds it and is shown twice.

        Ticks of the second showing are only found by reading from its begin again.
        """
        with self._lock:
            timeline = self._known.timeline
            begin_ms = None if timeline is None else timeline.twice_since(server_s * 1000)
            return server_s if begin_ms is None else begin_ms // 1000

    @property
    def rule(self) -> ClockRule | None:
        """The rule that holds now (None while nothing is known)."""
        return self._known.rule

    @property
    def state(self) -> ClockState:
        with self._lock:
            offset_s, source = self._known.offset_at(self._utc_ms or 0)
            confirmed = self._known.confirmed
            return ClockState(
                rule=str(self.rule or ""),
                offset_s=offset_s,
                offset_source=source,
                alarm="; ".join(self._alarms.values()),
                evidence=self._text,
                configured=str(self._configured or ""),
                detected=str(self._known.detected or ""),
                confirmed_utc_ms=confirmed[-1].last_utc_ms if confirmed else None,
                residual_ms=self._residual_ms,
            )

    def changes(self) -> list[ClockChange]:
        """Every change since the last time this was asked, oldest first."""
        with self._lock:
            changes = list(self._changes)
            self._changes.clear()
            return changes

    def _watch_switch(self, utc_ms: int) -> None:
        """Ticks of before a switch by rule are no evidence of after it."""
        timeline = self._known.timeline
        span = None if timeline is None else timeline.span_at(utc_ms)
        if span != self._span:
            self._span = span
            self._evidence.forget_samples()
        off_s = self._evidence.off_grid_s()
        if off_s is not None and timeline is not None:
            by_s = off_s - timeline.offset_s(utc_ms)
            self._alarms["host"] = (
                f"ticks are dated {abs(by_s):.0f} s {'ahead of' if by_s > 0 else 'behind'} this "
                "computer's clock: set it by NTP, or find out why the feed is late"
            )

    def _weigh(self, tally: Tally, utc_ms: int) -> None:
        offset_s, source = self._known.offset_at(utc_ms)
        if source is OffsetSource.UNKNOWN:
            best = self._evidence.best(utc_ms) or tally
            self._known.learn(best.offset_s, best.first_utc_ms)
            self._confirm(best, utc_ms)
        elif tally.offset_s == offset_s:
            self._confirm(tally, utc_ms)
        else:
            self._doubt(tally, offset_s, utc_ms)

    def _confirm(self, tally: Tally, utc_ms: int) -> None:
        self._known.confirm(tally.offset_s, tally.first_utc_ms, utc_ms)
        assert self._known.timeline is not None
        self._span = self._known.timeline.span_at(utc_ms)
        self._residual_ms = tally.residual_ms
        self._text = str(tally)
        self._blamed_s = None
        if utc_ms - self._dissent_ms > DISSENT_MS:
            self._alarms.pop("symbols", None)
        for kind in ("host", "feed"):
            self._alarms.pop(kind, None)

    def _doubt(self, tally: Tally, expected_s: int, utc_ms: int) -> None:
        """Evidence speaks against what is expected."""
        by_s = tally.offset_s - expected_s
        since_ms = max(tally.first_utc_ms, utc_ms - DISSENT_MS)
        if self._evidence.fed_since(expected_s, since_ms):
            if by_s > 0:  # a price may be late, but none is early
                names = ", ".join(sorted(tally.symbols)[:5])
                self._dissent_ms = utc_ms
                self._alarms["symbols"] = (
                    f"symbols disagree about the clock: {names} say {by_s / 3600:+g} h"
                )
            return
        self._known.end_confirmations()
        jump_s = self._evidence.jumped_s(by_s, utc_ms)
        if jump_s is not None or self._blamed_s == by_s:
            self._blamed_s = by_s
            self._alarms["host"] = (
                f"this computer's clock jumped by about {-by_s} s: set it by NTP (the server's "
                "clock is still taken from the rule)"
            )
        elif by_s == -DELAYED_S:
            self._alarms["feed"] = "every price is 15 minutes old: delayed quotes"
        elif tally.steady:
            self._correct(tally, by_s, utc_ms)

    def _correct(self, tally: Tally, by_s: int, utc_ms: int) -> None:
        """The server's clock is another one than the rule says."""
        rule, detected = self.rule, self._known.detected
        assert rule is not None
        fits = detected is not None and detected.offset_s(utc_ms) == tally.offset_s
        moved = detected if detected is not None and fits else rule.moved(by_s)
        surprised = bool(self._known.confirmed)
        if surprised:
            self._known.change(tally.first_utc_ms, moved)
            cause = "the broker changed its clock without notice"
        else:
            self._known.follow(moved)
            cause = "check the configured clock, and this computer's clock"
        self._alarms["rule"] = f"live ticks contradict {rule} by {by_s / 3600:+g} h: {cause}"
        self._confirm(tally, utc_ms)
        self._tell(utc_ms, tally.first_server_ms if surprised else None)

    def _adopt(self, rule: ClockRule, utc_ms: int) -> None:
        """A rule was found for an offset so far known from live evidence alone."""
        live_s, _ = self._known.offset_at(utc_ms)
        if rule.offset_s(utc_ms) == live_s:
            self._known.follow(rule)
        else:
            self._alarms["history"] = f"bars show {rule}, live ticks {live_s / 3600:+g} h"

    def _tell(self, utc_ms: int, since_server_ms: int | None = None) -> None:
        offset_s, source = self._known.offset_at(utc_ms)
        old, now = self._told, (str(self.rule or ""), offset_s, source)
        if now == old:
            return
        self._told = now
        if old is None and source is OffsetSource.UNKNOWN:
            return
        old_offset_s = old[1] if old and old[2] is not OffsetSource.UNKNOWN else None
        timeline = self._known.timeline
        if since_server_ms is None and old_offset_s not in (None, offset_s) and timeline:
            start_ms = timeline.start_ms(timeline.span_at(utc_ms))
            since_server_ms = start_ms + offset_s * 1000 if start_ms > ALWAYS else None
        self._changes.append(
            ClockChange(
                utc_ms=utc_ms,
                rule=now[0],
                offset_s=offset_s,
                offset_source=source,
                old_offset_s=old_offset_s,
                old_offset_source=old[2] if old else OffsetSource.UNKNOWN,
                since_server_ms=since_server_ms,
                evidence=self._alarms.get("rule") or self._text,
            )
        )


def _filled(times: Int64Array) -> Int64Array:
    """Times <= 0 replaced by the time before (at the begin: by the first there is)."""
    timed = times > 0
    if timed.all() or not timed.any():
        return times
    places = np.maximum.accumulate(np.where(timed, np.arange(len(times)), -1))
    filled: Int64Array = times[np.where(places >= 0, places, int(np.argmax(timed)))]
    return filled

"""Terminals and producers: gone, hung, on the wrong account, without a clock, with a gap."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from consumers.alerts.conditions import Conditions, Finding, Severity
from consumers.alerts.prices import Prices
from events.alerts import Alert
from events.operations import (
    ClockChanged,
    GapHealed,
    ProducerState,
    Silence,
    TerminalDown,
    TerminalUp,
)
from events.ticks import OffsetSource

FLEETING_S = 15.0
"""A terminal that is back sooner healed by itself: hosts are restarted all the time."""
FLEETING_IDLE_S = 60.0
"""The same while no position is open."""
CLOCK_GRACE_S = 600.0
"""So long after a market opened the clock may take to be found."""
GAP_TOLD_S = 60.0
GAP_LONG_S = 600.0
GAP_QUIET_S = 600.0
ALARM_FRESH_MS = 60_000
TERMINAL = "terminal"
_HEALS = ("lost", "hung", "disconnected")
_CURES = {
    "wrong_account": "log the terminal in to the configured account",
    "refused": "correct the settings it names, and start the producer again",
    "stopped": "start the producer (`bridgectl up`)",
}


class Terminals:
    """Events of producers. `prices` knows what is held, and whether its market is open."""

    def __init__(
        self, state: MutableMapping[str, Any], conditions: Conditions, prices: Prices
    ) -> None:
        self._state, self._conditions, self._prices = state, conditions, prices

    @property
    def name(self) -> str:
        """The terminal of this namespace, as far as anybody said."""
        return str(self._state.get(TERMINAL, "terminal"))

    def up(self, event: TerminalUp, now_ms: int) -> Iterator[Alert]:
        self._named(event.terminal)
        text = f"terminal {event.terminal} is up, account {event.login}"
        yield from self._conditions.over("terminal", event.terminal, now_ms, text)

    def down(self, event: TerminalDown, now_ms: int) -> Iterator[Alert]:
        self._named(event.terminal)
        held = self._prices.positions != 0
        is_open = self._prices.is_any_open(now_ms, self._offset_s)
        severity, grace_s = _how_bad(event.reason, held=held, is_open=is_open)
        with_positions = ""
        if held:
            count = self._prices.positions
            with_positions = f" with {'unknown' if count is None else count} positions open"
        detail = f": {event.detail}" if event.detail else ""
        yield from self._conditions.lasts(
            Finding(
                "terminal", event.terminal, severity,
                f"terminal {event.terminal} is {event.reason.replace('_', ' ')}"
                f"{with_positions}{detail}",
                cure=_CURES.get(event.reason, "look at the terminal and its connection"),
                grace_s=grace_s,
            ),
            now_ms,
        )  # fmt: skip

    def silence(self, event: Silence, now_ms: int) -> Iterator[Alert]:
        """A producer that says nothing any more."""
        if event.over:
            text = f"the producer of {event.name} is back"
            yield from self._conditions.over("producer", event.name, now_ms, text)
            return
        held = self._prices.positions
        severity: Severity = "warning" if held == 0 else "critical"
        count = "an unknown number of" if held is None else str(held)
        yield from self._conditions.lasts(
            Finding(
                "producer", event.name, severity,
                f"the producer of {event.name} ({event.holder}) has been silent for "
                f"{event.silent_s:.0f} s, with {count} positions open",
                cure="is its machine up? Start it again (`bridgectl up` or `bridgectl produce`)",
            ),
            now_ms,
        )  # fmt: skip

    def look(self, seen: ProducerState) -> Iterator[Alert]:
        """Every few seconds. Who says this lives, and has a clock or not."""
        now_ms = seen.event_time_ms
        self._named(seen.terminal)
        self._state["offset_s"] = seen.offset_s
        yield from self._conditions.over(
            "producer", seen.terminal, now_ms, f"the producer of {seen.terminal} is back"
        )
        if seen.connection != "up":
            return
        yield from self._clock(seen, now_ms)
        yield from self._prices.look(seen)

    def clock_changed(self, event: ClockChanged, now_ms: int) -> Iterator[Alert]:
        """The server's clock moved against UTC: daylight saving, or the broker's whim."""
        known = (OffsetSource.HISTORY, OffsetSource.LIVE)
        moved = event.old_offset_s is not None and event.old_offset_s != event.offset_s
        if moved and event.offset_source in known and event.old_offset_source in known:
            yield from self._conditions.happened(
                Finding(
                    "clock_moved", event.server, "info",
                    f"the clock of {event.server} is now UTC{event.offset_s / 3600:+g} h "
                    f"(it was {(event.old_offset_s or 0) / 3600:+g} h), rule {event.rule}",
                ),
                now_ms,
            )  # fmt: skip

    def gap(self, event: GapHealed, now_ms: int) -> Iterator[Alert]:
        """A hole in the ticks that was filled again: nobody need act, strategies were blind."""
        long_s = (event.until_ms - event.from_ms) / 1000
        if long_s >= GAP_TOLD_S and event.ticks:
            yield from self._conditions.happened(
                Finding(
                    "gap_healed", self.name, "warning" if long_s >= GAP_LONG_S else "info",
                    f"{long_s / 60:.0f} min of {event.symbol} were not seen live ({event.reason});"
                    f" {event.ticks} ticks were pulled later",
                ),
                now_ms, quiet_s=GAP_QUIET_S,
            )  # fmt: skip

    def _clock(self, seen: ProducerState, now_ms: int) -> Iterator[Alert]:
        """No page while markets are closed: there are no ticks then to find a clock by."""
        subject = seen.server or seen.terminal
        unknown = seen.offset_source is OffsetSource.UNKNOWN
        fresh = seen.last_error_ms is not None and now_ms - seen.last_error_ms < ALARM_FRESH_MS
        contradicted = fresh and seen.last_error.startswith("clock: ")
        if not self._prices.is_any_open(now_ms, seen.offset_s) or not (unknown or contradicted):
            yield from self._conditions.over("clock", subject, now_ms)
            return
        text = (
            f"the clock of {subject} is contradicted: {seen.last_error.removeprefix('clock: ')}"
            if contradicted
            else f"the clock of {subject} is not known: times in UTC cannot be told"
        )
        yield from self._conditions.lasts(
            Finding(
                "clock", subject, "warning", text,
                cure="set MT5_CLOCK to the broker's rule, such as America/New_York+7h, and "
                "check this machine's own clock",
                grace_s=0.0 if contradicted else CLOCK_GRACE_S,
            ),
            now_ms,
        )  # fmt: skip

    @property
    def _offset_s(self) -> int:
        return int(self._state.get("offset_s", 0))

    def _named(self, terminal: str) -> None:
        if self._state.get(TERMINAL) != terminal:
            self._state[TERMINAL] = terminal


def _how_bad(reason: str, *, held: bool, is_open: bool) -> tuple[Severity, float]:
    """Severity, and how long it may last unsaid. On weekends brokers take their servers down."""
    if reason in ("wrong_account", "refused"):
        return "critical", 0.0
    if reason not in _HEALS:
        return ("warning" if held else "info"), 0.0
    if not is_open:
        return "info", FLEETING_IDLE_S
    return ("critical", FLEETING_S) if held else ("warning", FLEETING_IDLE_S)

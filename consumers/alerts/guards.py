"""What the guard and the limits say: limits that were reached, latches, how a flatten ended."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from consumers.alerts.conditions import Conditions, Finding, Severity
from events.alerts import Alert
from events.decisions import LimitBreach
from events.guarding import FlattenEnded, GuardState, LatchChanged

BLIND_GRACE_S = 3.0
LOG_SILENT_S = 10.0
"""A guard that does not hear the log for a moment is nobody's concern."""
DEAD_MAN_NEAR = 1 / 3
"""Of the time the switch waits: when so little is left it is told, before it acts."""
DEAD_MAN_FULL = "dead_man_full_s"
SILENT_MS = 60_000
"""A guard says every few seconds how it is."""
SILENT_GRACE_S = 30.0
"""What a guard said while the log was away follows a little later than the producer's newest."""
HEARD = "guards_heard"
LATCH_REPEAT_S = 6 * 3_600.0
PHONE = "phone the broker's desk now, and close what is left by hand in the terminal"
RESUME = "`bridgectl resume --terminal {}` when you know why; until then nothing is opened"


class Guards:
    """Events of the guard and of the risk group."""

    def __init__(self, state: MutableMapping[str, Any], conditions: Conditions) -> None:
        self._state, self._conditions = state, conditions

    def breach(self, event: LimitBreach, now_ms: int) -> Iterator[Alert]:
        """A limit that acts is critical, a warning level is a warning."""
        acts = event.level == "act"
        value = "unknown" if event.value is None else f"{event.value:g}"
        text = f"limit {event.limit} of {event.login}: {value} reached {event.threshold:g}"
        text += f": {event.action}" if acts else f" (warning; it acts by {event.action})"
        if acts and event.lock != "none":
            text += f", locked {event.lock.replace('_', ' ')}"
        if event.detail:
            text += f". {event.detail}"
        yield from self._conditions.happened(
            Finding(
                "limit_breach" if acts else "limit_warning", event.key,
                "critical" if acts else "warning", text,
                cure="`bridgectl risk status` shows every limit", entries=event.entries,
            ),
            now_ms,
        )  # fmt: skip

    def latch(self, event: LatchChanged, now_ms: int) -> Iterator[Alert]:
        if not event.latched:
            text = f"the latch of {event.login} was cleared by {event.by}: trades may be opened"
            yield from self._conditions.over("latch", event.key, now_ms, text)
            return
        yield from self._conditions.lasts(
            Finding(
                "latch", event.key, "critical",
                f"{event.login} is halted by {event.by}: {event.reason}",
                cure=RESUME.format(event.terminal),
                repeat_s=LATCH_REPEAT_S, until_ms=event.until_ms,
            ),
            now_ms,
        )  # fmt: skip

    def ended(self, event: FlattenEnded, now_ms: int) -> Iterator[Alert]:
        """FLAT is told once; anything else again and again until it is FLAT."""
        if event.state == "FLAT":
            yield from self._conditions.over("flatten", event.key, now_ms)
            took = event.breach_to_flat_ms
            closed = sum(one.outcome == "closed" for one in event.outcomes)
            yield from self._conditions.happened(
                Finding(
                    "flat", f"{event.login}/{event.flatten_id}", "warning",
                    f"{event.login} is FLAT ({event.scope}): {closed} positions closed"
                    + (f" in {took / 1000:.2f} s" if took is not None else "")
                    + (f", by {event.by}: {event.reason}" if event.reason else ""),
                ),
                now_ms,
            )  # fmt: skip
            return
        left = "" if event.positions is None else f", {event.positions} positions are still open"
        outcomes = ", ".join(
            f"{one.symbol} {one.ticket} {one.outcome}"
            + (f" ({one.retcode})" if one.retcode is not None else "")
            for one in event.outcomes
            if one.outcome not in ("closed", "cancelled")
        )
        yield from self._conditions.lasts(
            Finding(
                "flatten", event.key, "critical",
                f"{event.login} is NOT known to be flat ({event.state}, {event.scope}){left}"
                + (f": {outcomes[:1_000]}" if outcomes else ""),
                cure=PHONE,
            ),
            now_ms,
        )  # fmt: skip

    def look(self, now_ms: int) -> Iterator[Alert]:
        """The producer lives; do the guards it had say anything?"""
        heard: dict[str, list[Any]] = self._state.get(HEARD, {})
        for login, (heard_ms, state, positions) in sorted(heard.items()):
            severity: Severity = "warning" if positions == 0 else "critical"
            yield from self._if(
                state != "stopped" and now_ms - heard_ms > SILENT_MS,
                Finding(
                    "guard_silent", login, severity,
                    f"the guard of {login} says nothing, though its producer lives: nothing may "
                    "stop the account",
                    cure="look at the producer's program log, and start it again",
                    grace_s=SILENT_GRACE_S,
                ),
                now_ms,
            )  # fmt: skip

    def state(self, event: GuardState, now_ms: int) -> Iterator[Alert]:
        """Every few seconds: what is wrong with the guard itself."""
        self._state.setdefault(HEARD, {})[event.key] = [now_ms, event.state, event.positions]
        yield from self._blind(event, now_ms)
        yield from self._log(event, now_ms)
        yield from self._dead_man(event, now_ms)
        yield from self._if(
            event.state == "blocked",
            Finding(
                "guard_blocked", event.key, "warning",
                f"no new trades for {event.login}: {event.reason}",
                cure="`bridgectl status` shows until when",
            ),
            now_ms,
        )  # fmt: skip
        held = event.positions is None or event.positions > 0
        severity: Severity = "warning" if held else "info"
        yield from self._if(
            event.state == "stopped",
            Finding(
                "guard_stopped", event.key, severity,
                f"the guard of {event.login} ended: nothing stops the account",
                cure="start the producer (`bridgectl up`)", repeat_s=0.0,
            ),
            now_ms,
        )  # fmt: skip
        if event.state == "flattening":
            yield from self._conditions.lasts(
                Finding(
                    "flattening", event.key, "critical",
                    f"positions of {event.login} are being closed, by {event.by}: {event.reason}",
                ),
                now_ms,
            )  # fmt: skip
        else:  # how it ended is told by `FlattenEnded`
            self._conditions.drop("flattening", event.key)

    def _blind(self, event: GuardState, now_ms: int) -> Iterator[Alert]:
        severity: Severity = "warning" if event.positions == 0 else "critical"
        yield from self._if(
            event.state == "blind",
            Finding(
                "guard_blind", event.key, severity,
                f"the guard cannot read account {event.login}: {event.reason or 'no answer'}",
                cure="look at the terminal: does it run, is it logged in?", grace_s=BLIND_GRACE_S,
            ),
            now_ms,
        )  # fmt: skip

    def _log(self, event: GuardState, now_ms: int) -> Iterator[Alert]:
        silent_s = event.log_silent_s
        yield from self._if(
            silent_s is not None and silent_s >= LOG_SILENT_S,
            Finding(
                "guard_log", event.key, "warning",
                f"the guard of {event.login} has not heard the log for {silent_s or 0:.0f} s",
                cure="does Redis run? The guard goes on by its hard limits alone",
            ),
            now_ms,
        )  # fmt: skip

    def _dead_man(self, event: GuardState, now_ms: int) -> Iterator[Alert]:
        left_s = event.dead_man_s
        full: dict[str, float] = self._state.setdefault(DEAD_MAN_FULL, {})
        if left_s is None:
            full.pop(event.key, None)
        elif left_s > full.get(event.key, 0.0):
            full[event.key] = left_s
        acted = left_s is not None and left_s <= 0
        near = left_s is not None and left_s <= full.get(event.key, 0.0) * DEAD_MAN_NEAR
        text = "has acted" if acted else f"acts in {left_s or 0:.0f} s"
        yield from self._if(
            acted or near,
            Finding(
                "dead_man", event.key, "critical",
                f"the dead-man switch of {event.login} {text}",
                cure="bring back what it has not heard: the log, or your heartbeat",
                repeat_s=3_600.0,
            ),
            now_ms,
        )  # fmt: skip

    def _if(self, holds: bool, finding: Finding, now_ms: int) -> Iterator[Alert]:
        if holds:
            yield from self._conditions.lasts(finding, now_ms)
        else:
            yield from self._conditions.over(finding.topic, finding.subject, now_ms)

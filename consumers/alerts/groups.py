"""Groups: dead letters, tasks that stand still, groups that nobody runs any more."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from consumers.alerts.conditions import Conditions, Finding
from events.alerts import Alert
from events.operations import HandlerFailed, OperatorAnswered, Silence

PLACES_MAX = 1_000
"""Dead letters of a group that are remembered one by one."""
ERROR_CHARS_MAX = 200
LETTERS_REPEAT_S = 6 * 3_600.0
GUARDING = frozenset({"risk", "persist", "alerts"})
"""Groups whose silence is critical: limits, storage, and who would tell of it."""
_SETTLED = ("handled", "dropped", "skipped")


class Groups:
    """What `HandlerFailed`, its answers, and the silence of groups mean to a human."""

    def __init__(self, state: MutableMapping[str, Any], conditions: Conditions) -> None:
        self._state, self._conditions = state, conditions

    def failed(self, event: HandlerFailed, now_ms: int) -> Iterator[Alert]:
        """One alert per group, however many entries it could not bear."""
        error = " ".join(event.error.split())[:ERROR_CHARS_MAX]
        if event.halted:
            yield from self._conditions.lasts(
                Finding(
                    "halted", event.group, "critical",
                    f"group {event.group} stands still in front of {event.place}: {error}",
                    cure="correct the cause, then `bridgectl dlq retry`; or give the entry up with "
                    "`bridgectl dlq drop`",
                    entries=(event.place,), repeat_s=3_600.0,
                ),
                now_ms,
            )  # fmt: skip
            return
        letters = self._letters(event.group)
        if event.place not in letters and len(letters) < PLACES_MAX:
            letters.append(event.place)
        known = self._conditions.is_open("dead_letter", event.group)
        finding = Finding(
            "dead_letter", event.group, "warning",
            f"group {event.group} passed over {len(letters)} "
            f"{'entry' if len(letters) == 1 else 'entries'}; the newest: {event.place}: {error}",
            cure=f"`bridgectl dlq list --group {event.group}`",
            entries=(event.place,), repeat_s=LETTERS_REPEAT_S,
        )  # fmt: skip
        yield from self._conditions.lasts(finding, now_ms)
        if not known and not self._conditions.is_open("dead_letter", event.group):
            del self._state[f"letters:{event.group}"]  # too much is open: it was not taken

    def answered(self, event: OperatorAnswered, now_ms: int) -> Iterator[Alert]:
        """Somebody decided about an entry."""
        if event.outcome not in _SETTLED:
            return
        yield from self._conditions.over(
            "halted", event.group, now_ms, f"group {event.group} goes on"
        )
        letters = self._letters(event.group)
        if event.place in letters:
            letters.remove(event.place)
        if not letters:
            self._state.pop(f"letters:{event.group}", None)
            yield from self._conditions.over(
                "dead_letter", event.group, now_ms, f"the dead letters of {event.group} are settled"
            )

    def silence(self, event: Silence, now_ms: int) -> Iterator[Alert]:
        """Every worker of a group died or hangs."""
        if event.over:
            text = f"group {event.name} is back"
            yield from self._conditions.over("group", event.name, now_ms, text)
            return
        family = event.name.partition(".")[0]
        yield from self._conditions.lasts(
            Finding(
                "group", event.name, "critical" if family in GUARDING else "warning",
                f"no worker of group {event.name} has given a sign of life for "
                f"{event.silent_s:.0f} s (the last one was {event.holder})",
                cure=f"start it again: `bridgectl consume --group {event.name}`, or `bridgectl up`",
            ),
            now_ms,
        )  # fmt: skip

    def _letters(self, group: str) -> list[str]:
        letters: list[str] = self._state.setdefault(f"letters:{group}", [])
        return letters

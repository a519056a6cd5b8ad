"""An alert, or several that are late, as people and programs read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from events.alerts import Alert

LINES_MAX = 40
"""A message about many alerts lists the newest of them, and counts the others."""
TEXT_CHARS_MAX = 3_500
"""Telegram takes 4096, others less than a mail does."""
TITLE_CHARS_MAX = 120
LATE_S = 60.0
"""From here on a message says how late it is."""
SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Message:
    """Alerts to tell, oldest first, of one terminal. `place` is that of the newest in the log:
    the same message delivered twice has the same one. `now_ms` is when it is told."""

    alerts: Sequence[Alert]
    terminal: str = ""
    place: str = ""
    now_ms: int | None = None

    @property
    def severity(self) -> str:
        """The worst of what is not over."""
        open_ones = [one for one in self.alerts if not one.resolved]
        return max((one.severity for one in open_ones), key=SEVERITIES.index, default=SEVERITIES[0])

    @property
    def title(self) -> str:
        """One line: how bad, which terminal, what."""
        newest = self.alerts[-1]
        head = "over" if newest.resolved else newest.severity.upper()
        if len(self.alerts) > 1:
            head, what = self.severity.upper(), f"{len(self.alerts)} alerts"
        else:
            what = f"{newest.topic} {newest.subject}".replace("_", " ")
        return _cut(" ".join(part for part in (f"[{head}]", self.terminal, what) if part),
                    TITLE_CHARS_MAX)  # fmt: skip

    @property
    def body(self) -> str:
        """Plain text: what happened and what to do about it."""
        if len(self.alerts) == 1:
            return _cut("\n".join(self._told(self.alerts[0])), TEXT_CHARS_MAX)
        shown = list(self.alerts)[-LINES_MAX:]
        lines = [f"{len(self.alerts)} alerts that could not be told earlier, newest last:"]
        if len(shown) < len(self.alerts):
            lines.append(f"({len(self.alerts) - len(shown)} older ones: bridgectl alerts list)")
        lines += [f"{_utc(one.event_time_ms)} {_state(one)}: {one.text}" for one in shown]
        return _cut("\n".join(lines), TEXT_CHARS_MAX)

    def as_json(self) -> dict[str, Any]:
        """For programs: `type`, `timestamp` and `data`, as the Standard Webhooks page asks for."""
        newest = self.alerts[-1]
        fields = newest.model_dump(mode="json")
        return {
            "type": newest.TYPE,
            "timestamp": datetime.fromtimestamp(newest.event_time_ms / 1000, UTC).isoformat(),
            "data": {**fields, "terminal": self.terminal, "place": self.place},
        }

    def _told(self, alert: Alert) -> list[str]:
        lines = [f"It is over: {alert.text}" if alert.resolved else alert.text]
        if alert.cure and not alert.resolved:
            lines.append(f"What to do: {alert.cure}")
        if alert.count > 1:
            lines.append(
                f"{alert.count} times since {_utc(alert.since_ms or alert.event_time_ms)}."
            )
        lines.append(f"{_utc(alert.event_time_ms)}{self._late(alert)}")
        return lines

    def _late(self, alert: Alert) -> str:
        late_s = 0.0 if self.now_ms is None else (self.now_ms - alert.event_time_ms) / 1000
        return f", told {late_s / 60:.0f} min later" if late_s >= LATE_S else ""


def _state(alert: Alert) -> str:
    return f"{alert.topic} {alert.subject} {'over' if alert.resolved else alert.severity}"


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"

"""What a human is to be told of, and when: once, again while it lasts, and when it is over."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

from events.alerts import Alert
from events.notify.message import SEVERITIES

Severity = Literal["info", "warning", "critical"]

REPEAT_S = {"info": 0.0, "warning": 3_600.0, "critical": 300.0}
"""How often something that lasts is told again, unless it says otherwise; 0: never."""
QUIET_S = 3_600.0
"""Something that happens again within it is counted, and told when it has passed."""
FLOOD_S = 600.0
FLOOD_ALERTS_MAX = 30
"""Alerts below critical within FLOOD_S; what lasts is told later, what happened is counted."""
FLOOD_CRITICAL_MAX = 120
"""The same of critical ones: nobody reads more."""
OPEN_MAX, OPEN_CRITICAL_MAX = 500, 2_000
"""Things that may be open at once before new ones are turned away, below critical and critical."""
_OPEN = "open:"
_FLOOD = "flood"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a human may have to know. Topic and subject together name it."""

    topic: str
    subject: str
    severity: Severity
    text: str
    cure: str = ""
    entries: tuple[str, ...] = ()
    grace_s: float = 0.0
    """Told only when it lasts for so long: what heals by itself is nobody's concern."""
    repeat_s: float | None = None
    """None: as REPEAT_S says."""
    until_ms: int | None = None
    """When it is over by itself."""

    @property
    def key(self) -> str:
        return f"{_OPEN}{self.topic}/{self.subject}"


class Conditions:
    """What is open, kept in `state` under keys of its own. Time is that of the events."""

    def __init__(self, state: MutableMapping[str, Any]) -> None:
        self._state = state

    def lasts(self, finding: Finding, now_ms: int) -> Iterator[Alert]:
        """This is so now; say it again whenever it is seen, and `over` when it is not."""
        item = self._item(finding, now_ms)
        if item is None:
            return
        item["once"] = False
        worse = _rank(finding.severity) > _rank(item["severity"])
        self._renew(item, finding)
        if not item["told_ms"]:
            item["due_ms"] = item["since_ms"] + int(finding.grace_s * 1000)
        elif worse:
            item["due_ms"] = now_ms
        yield from self._if_due(item, now_ms)

    def happened(
        self, finding: Finding, now_ms: int, *, quiet_s: float = QUIET_S
    ) -> Iterator[Alert]:
        """Told at once; again within `quiet_s` it is counted, unless it is worse."""
        item = self._item(finding, now_ms)
        if item is None:
            return
        worse = _rank(finding.severity) > _rank(item["severity"])
        item["once"], item["quiet_s"] = True, quiet_s
        self._renew(item, finding)
        item["count"] += 1
        if worse or not item["told_ms"]:
            item["due_ms"] = now_ms
        yield from self._if_due(item, now_ms)

    def over(self, topic: str, subject: str, now_ms: int, text: str = "") -> Iterator[Alert]:
        """It is not so any more. Who was told of it is told of that."""
        item = self._state.get(f"{_OPEN}{topic}/{subject}")
        if item is None:
            return
        del self._state[f"{_OPEN}{topic}/{subject}"]
        if item["told_ms"]:
            yield _alert(item, now_ms, text=text or item["text"], resolved=True)

    def drop(self, topic: str, subject: str) -> None:
        """Forget it without a word: something else tells of it."""
        self._state.pop(f"{_OPEN}{topic}/{subject}", None)

    def is_open(self, topic: str, subject: str) -> bool:
        return f"{_OPEN}{topic}/{subject}" in self._state

    def pass_time(self, now_ms: int) -> Iterator[Alert]:
        """Tell what is due by now."""
        yield from self._flood_over(now_ms)
        for key in [key for key in self._state if key.startswith(_OPEN)]:
            item = self._state[key]
            if item["until_ms"] is not None and now_ms >= item["until_ms"]:
                yield from self.over(item["topic"], item["subject"], now_ms)
            elif item["once"] and item["told_ms"] and not item["count"]:
                if now_ms >= item["told_ms"] + int(item["quiet_s"] * 1000):
                    del self._state[key]
            else:
                yield from self._if_due(item, now_ms)

    def _item(self, finding: Finding, now_ms: int) -> dict[str, Any] | None:
        """What is open of it, made when it is new; None when too much is open already."""
        item: dict[str, Any] | None = self._state.get(finding.key)
        if item is not None:
            return item
        is_critical = finding.severity == SEVERITIES[-1]
        open_max = OPEN_CRITICAL_MAX if is_critical else OPEN_MAX
        if sum(key.startswith(_OPEN) for key in self._state) >= open_max:
            self._flood(now_ms)["withheld"] += 1
            return None
        item = {
            "topic": finding.topic, "subject": finding.subject, "severity": finding.severity,
            "since_ms": now_ms, "due_ms": now_ms, "told_ms": 0, "count": 0, "once": False,
            "quiet_s": 0.0,
        }  # fmt: skip
        self._state[finding.key] = item
        return item

    def _renew(self, item: dict[str, Any], finding: Finding) -> None:
        """As bad as it ever was: one that comes and goes is told no more often for that."""
        severity = max(finding.severity, item["severity"], key=_rank)
        repeat_s = REPEAT_S[severity] if finding.repeat_s is None else finding.repeat_s
        item |= {
            "severity": severity, "text": finding.text, "cure": finding.cure,
            "entries": list(finding.entries), "repeat_s": repeat_s, "until_ms": finding.until_ms,
        }  # fmt: skip

    def _if_due(self, item: dict[str, Any], now_ms: int) -> Iterator[Alert]:
        if item["due_ms"] is None or now_ms < item["due_ms"] or not self._let_through(item, now_ms):
            return
        yield _alert(item, now_ms, text=item["text"])
        wait_s = item["quiet_s"] if item["once"] else item["repeat_s"]
        item |= {
            "told_ms": now_ms, "count": 0,
            "due_ms": now_ms + int(wait_s * 1000) if wait_s else None,
        }  # fmt: skip

    def _let_through(self, item: dict[str, Any], now_ms: int) -> bool:
        flood = self._flood(now_ms)
        is_critical = item["severity"] == SEVERITIES[-1]
        told, told_max = (
            ("critical", FLOOD_CRITICAL_MAX) if is_critical else ("told", FLOOD_ALERTS_MAX)
        )
        if flood[told] < told_max:
            flood[told] += 1
            return True
        if not item.get("withheld"):
            item["withheld"] = True
            flood["withheld"] += 1
        return False

    def _flood(self, now_ms: int) -> dict[str, Any]:
        flood: dict[str, Any] = self._state.setdefault(
            _FLOOD, {"from_ms": now_ms, "told": 0, "critical": 0, "withheld": 0}
        )
        return flood

    def _flood_over(self, now_ms: int) -> Iterator[Alert]:
        flood = self._state.get(_FLOOD)
        if flood is None or 0 <= now_ms - flood["from_ms"] < int(FLOOD_S * 1000):
            return
        del self._state[_FLOOD]
        if flood["withheld"]:
            yield Alert(
                event_time_ms=now_ms, severity="warning", topic="alerts", subject="flood",
                text=f"{flood['withheld']} alerts were withheld: more than {FLOOD_ALERTS_MAX} "
                f"({FLOOD_CRITICAL_MAX} critical ones) in {FLOOD_S / 60:g} minutes. What of them "
                "lasts follows",
                cure="bridgectl status, bridgectl alerts list", count=flood["withheld"],
                since_ms=flood["from_ms"],
            )  # fmt: skip


def _alert(item: dict[str, Any], now_ms: int, *, text: str, resolved: bool = False) -> Alert:
    return Alert(
        event_time_ms=now_ms, severity=item["severity"], topic=item["topic"],
        subject=item["subject"], text=text, cure="" if resolved else item["cure"],
        resolved=resolved, entries=tuple(item["entries"]), count=max(1, item["count"]),
        since_ms=item["since_ms"],
    )  # fmt: skip


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity)

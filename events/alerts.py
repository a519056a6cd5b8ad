"""What a human should know, as an event."""

from __future__ import annotations

from typing import ClassVar, Literal

from events.event import Event
from events.log import Lane


class Alert(Event):
    """Something a human should know. `critical` means: at once, at any hour."""

    TYPE: ClassVar[str] = "alert"
    LANE: ClassVar[Lane] = Lane.HIGH

    severity: Literal["info", "warning", "critical"]
    topic: str
    """What it is about, such as limit_breach, terminal, guard, stale_ticks, dead_letter."""
    subject: str
    """Terminal, account, symbol or group."""
    text: str
    cure: str = ""
    resolved: bool = False
    """True when what was told before is over."""
    entries: tuple[str, ...] = ()
    count: int = 1
    """How often it happened since it was told before."""
    since_ms: int = 0
    """When it began; 0: when it is told."""

    @property
    def key(self) -> str:
        return f"{self.topic}/{self.subject}"

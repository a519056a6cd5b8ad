"""What a guard says: events into its journal, alerts once while they last, and past a dead log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import Literal

from events.alerts import Alert
from events.codec import AnyEvent
from events.log import LogError
from producers.guard.journal import Journal

logger = logging.getLogger(__name__)

Severity = Literal["info", "warning", "critical"]
LAST_RESORT_S = 5.0
"""With the log silent for so long, critical alerts are delivered directly."""
TOPICS_MAX = 256
REWORD_S = 60.0
"""What lasts is told in other words no sooner."""


class Voice:
    """Tells of one account. Thread-safe; never raises."""

    def __init__(
        self,
        journal: Journal,
        *,
        terminal: str,
        now_ms: Callable[[], int],
        log_silent_s: Callable[[], float],
        page: Callable[[Alert], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._journal, self._terminal, self._now_ms = journal, terminal, now_ms
        self._log_silent_s, self._page = log_silent_s, page
        self._lock = Lock()
        self._holds: dict[tuple[str, str], tuple[Severity, str, float]] = {}
        """(topic, about) -> what was told of it when, and is not over."""

    def tell(self, *events: AnyEvent) -> None:
        """Into the journal; what it cannot take stands in the program log."""
        try:
            self._journal.emit(*events)
        except LogError as error:
            logger.error("not told: %s", error)

    def alert(
        self, severity: Severity, topic: str, text: str, *, cure: str = "", about: str = ""
    ) -> None:
        """Tell a human, once while the same holds; other words for it only now and then. `about`
        holds apart what shares a topic."""
        now, key = self._monotonic(), (topic, about)
        with self._lock:
            was = self._holds.get(key)
            same = was is not None and was[0] == severity
            if was is not None and same and (was[1] == text or now - was[2] < REWORD_S):
                return
            if len(self._holds) < TOPICS_MAX or key in self._holds:
                self._holds[key] = (severity, text, now)
        self._say(severity, topic, text, cure=cure)

    def resolve(self, topic: str, text: str) -> None:
        """What was told of a topic is over; nothing is said when nothing was told."""
        with self._lock:
            keys = [key for key in self._holds if key[0] == topic]
            for key in keys:
                del self._holds[key]
        if keys:
            self._say("info", topic, text, resolved=True)

    def page(self, text: str, cure: str) -> None:
        """Past a dead log alone: the alert itself stands in the journal already."""
        self._last_resort(self._made("critical", "flatten", text, cure=cure))

    def _made(
        self, severity: Severity, topic: str, text: str, *, cure: str = "", resolved: bool = False
    ) -> Alert:
        return Alert(
            event_time_ms=self._now_ms(),
            severity=severity,
            topic=topic,
            subject=self._terminal,
            text=text,
            cure=cure,
            resolved=resolved,
        )

    def _say(
        self, severity: Severity, topic: str, text: str, *, cure: str = "", resolved: bool = False
    ) -> None:
        told = self._made(severity, topic, text, cure=cure, resolved=resolved)
        logger.log(
            logging.CRITICAL if severity == "critical" else logging.WARNING,
            "%s: %s%s", topic, text, f"; {cure}" if cure else "",
        )  # fmt: skip
        self.tell(told)
        if severity == "critical":
            self._last_resort(told)

    def _last_resort(self, told: Alert) -> None:
        if self._page is None or self._log_silent_s() <= LAST_RESORT_S:
            return
        try:
            self._page(told)
        except Exception:
            logger.exception("an alert could not be delivered past the log")

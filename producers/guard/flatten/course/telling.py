"""What a flatten tells: each step as an event, and pages for a human, each once a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from events.alerts import Alert
from events.guarding import FlattenStep
from producers.guard.flatten.course.cause import Cause
from producers.guard.flatten.requests import Answer, Ready
from producers.guard.journal import IntentJournal

logger = logging.getLogger(__name__)

PAGE_EVERY_S = 60.0
"""The same page is not repeated sooner."""
PAGES_KEPT_MAX = 256
CALL_THE_BROKER = "look at the terminal, close by hand, or call the broker's desk"

Page = Callable[[str, str], None]
"""Takes a text and its cure; must return at once."""


class Teller:
    """Events of one flatten, written into the journal. `on_page` is told of pages besides."""

    def __init__(
        self,
        journal: IntentJournal,
        *,
        login: int,
        terminal: str,
        cause: Cause,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        on_page: Page | None = None,
    ) -> None:
        self._journal = journal
        self._login = login
        self._terminal = terminal
        self._cause = cause
        self._clock = clock
        self._wall_ms = wall_ms
        self._on_page = on_page
        self._number = 0
        self._paged: dict[str, float] = {}

    def step(
        self,
        step: Literal["snapshot", "cancel", "close", "close_by", "reduce", "sweep", "wait", "page"],
        *,
        outcome: str = "",
        detail: str = "",
        took_ms: float = 0.0,
    ) -> None:
        """Tell of a step without a request."""
        self._journal.emit(self._step(step=step, outcome=outcome, detail=detail, took_ms=took_ms))

    def answered(self, intent_id: int, ready: Ready, answer: Answer, outcome: str) -> None:
        """Write down what became of a request, and tell of it. An outcome of "unknown" leaves
        the intent open: whoever comes after us must reconcile it."""
        detail = "" if answer.retcode is not None else f"{answer.error[1]} ({answer.error[0]})"
        event = self._step(
            step=ready.kind, ticket=ready.ticket, symbol=ready.symbol,
            volume_lots=ready.volume_lots, retcode=answer.retcode, outcome=outcome,
            detail=detail, took_ms=answer.took_ms,
        )  # fmt: skip
        if outcome == "unknown":
            self._journal.emit(event)
        else:
            self._journal.outcome(
                intent_id, outcome, retcode=answer.retcode, detail=detail, events=(event,)
            )

    def page(self, text: str, cure: str = CALL_THE_BROKER) -> None:
        """Tell a human, unless the same was told a moment ago."""
        now = self._clock()
        if now < self._paged.get(text, -PAGE_EVERY_S) + PAGE_EVERY_S:
            return
        if len(self._paged) >= PAGES_KEPT_MAX:
            self._paged.clear()
        self._paged[text] = now
        logger.critical("flatten of account %d: %s; %s", self._login, text, cure)
        alert = Alert(
            event_time_ms=self._wall_ms(), severity="critical", topic="guard",
            subject=self._terminal, text=f"flatten of account {self._login}: {text}", cure=cure,
        )  # fmt: skip
        self._journal.emit(self._step(step="page", outcome="told", detail=text), alert)
        if self._on_page is not None:
            try:
                self._on_page(alert.text, cure)
            except Exception:
                logger.exception("a page could not be delivered")

    def _step(self, **fields: object) -> FlattenStep:
        self._number += 1
        return FlattenStep.model_validate(
            {
                "event_time_ms": self._wall_ms(), "login": self._login,
                "terminal": self._terminal, "flatten_id": self._cause.flatten_id,
                "command_id": self._cause.command_id, "latch_id": self._cause.latch_id,
                "number": self._number, **fields,
            }
        )  # fmt: skip

"""Writing down each request before and after it is made, whatever becomes of the disk.

An intent without an outcome is a request that may have been sent by somebody who died: it is
reconciled with positions, orders and deals before anything else is sent for its ticket.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from events.codec import AnyEvent
from producers.guard.journal import Intent, IntentJournal

logger = logging.getLogger(__name__)

FLATTEN_FACT = "flatten"
"""The fact of a journal that holds, by scope, what is being closed or kept closed."""


class MemoryJournal:
    """An IntentJournal that dies with its process: for trials, and where the disk is full."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.facts: dict[str, Any] = {}
        self._intents: dict[int, Intent] = {}

    def intend(
        self,
        flatten_id: str,
        step: str,
        *,
        ticket: int = 0,
        symbol: str = "",
        volume_lots: float = 0.0,
        request: Mapping[str, Any] | None = None,
    ) -> int:
        number = len(self._intents) + 1
        at_ms = time.time_ns() // 1_000_000
        self._intents[number] = Intent(
            number, flatten_id, at_ms, step, ticket, symbol, volume_lots, dict(request or {}),
            None, None, "",
        )  # fmt: skip
        return number

    def outcome(
        self,
        intent_id: int,
        outcome: str,
        *,
        retcode: int | None = None,
        detail: str = "",
        events: Sequence[AnyEvent] = (),
    ) -> None:
        intent = self._intents[intent_id]
        self._intents[intent_id] = intent._replace(outcome=outcome, retcode=retcode, detail=detail)
        self.events += events

    def intents(self, flatten_id: str) -> tuple[Intent, ...]:
        return tuple(i for i in self._intents.values() if i.flatten_id == flatten_id)

    def emit(self, *events: AnyEvent) -> int:
        self.events += events
        return len(self.events)

    def fact(self, name: str) -> Any:
        return self.facts.get(name)

    def set_facts(self, facts: Mapping[str, Any], *, events: Sequence[AnyEvent] = ()) -> None:
        self.facts.update(facts)
        self.events += events


class UnstoppableJournal:
    """An IntentJournal whose failures stop nothing: what cannot be written is kept in memory.

    A full disk must not keep a position open. `on_failure` hears of the first failure.
    """

    def __init__(self, journal: IntentJournal, on_failure: Callable[[str], None]) -> None:
        self._journal = journal
        self._memory = MemoryJournal()
        self._on_failure = on_failure
        self._failed = False

    def intend(
        self,
        flatten_id: str,
        step: str,
        *,
        ticket: int = 0,
        symbol: str = "",
        volume_lots: float = 0.0,
        request: Mapping[str, Any] | None = None,
    ) -> int:
        """As the journal's; numbers below 0 are those of intents that are only remembered."""
        named: dict[str, Any] = {
            "ticket": ticket, "symbol": symbol, "volume_lots": volume_lots, "request": request,
        }  # fmt: skip
        try:
            return self._journal.intend(flatten_id, step, **named)
        except Exception as error:
            self._note(error)
            return -self._memory.intend(flatten_id, step, **named)

    def outcome(
        self,
        intent_id: int,
        outcome: str,
        *,
        retcode: int | None = None,
        detail: str = "",
        events: Sequence[AnyEvent] = (),
    ) -> None:
        journal: IntentJournal = self._memory if intent_id < 0 else self._journal
        try:
            journal.outcome(abs(intent_id), outcome, retcode=retcode, detail=detail, events=events)
        except Exception as error:
            self._note(error)

    def intents(self, flatten_id: str) -> tuple[Intent, ...]:
        kept = tuple(i._replace(id=-i.id) for i in self._memory.intents(flatten_id))
        try:
            return self._journal.intents(flatten_id) + kept
        except Exception as error:
            self._note(error)
            return kept

    def emit(self, *events: AnyEvent) -> int:
        try:
            return self._journal.emit(*events)
        except Exception as error:
            self._note(error)
            return self._memory.emit(*events)

    def fact(self, name: str) -> Any:
        try:
            return self._journal.fact(name)
        except Exception as error:
            self._note(error)
            return self._memory.fact(name)

    def set_facts(self, facts: Mapping[str, Any], *, events: Sequence[AnyEvent] = ()) -> None:
        try:
            self._journal.set_facts(facts, events=events)
        except Exception as error:
            self._note(error)
            self._memory.set_facts(facts, events=events)

    def _note(self, error: Exception) -> None:
        if self._failed:
            return
        self._failed = True
        logger.error("the guard's journal cannot be written, going on without it: %s", error)
        self._on_failure(f"the guard's journal cannot be written: {error}")

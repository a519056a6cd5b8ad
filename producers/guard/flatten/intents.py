"""What the closing machine writes down before and after each request, and where.

An intent without an outcome is a request that may have been sent by somebody who died: it is
reconciled with positions, orders and deals before anything else is sent for its ticket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, Protocol

from events.event import Event

logger = logging.getLogger(__name__)

IntentKind = Literal["cancel", "close", "close_by"]


@dataclass(frozen=True, slots=True)
class Intent:
    """A request that is about to be sent. `volume_lots` is what the position had before."""

    flatten_id: str
    kind: IntentKind
    ticket: int
    symbol: str
    volume_lots: float
    identifier: int = 0
    request: Mapping[str, Any] = field(default_factory=dict)


class IntentJournal(Protocol):
    """The part of the guard's journal that the closing machine needs. Thread-safe."""

    def intend(self, intents: Sequence[Intent]) -> list[int]:
        """Write intents down in one durable step; an id for each."""
        ...

    def outcome(self, intent_id: int, outcome: str, *, retcode: int | None = None) -> None:
        """What became of one; "sent" outcomes are settled, see `open_intents`."""
        ...

    def open_intents(self) -> list[tuple[int, Intent]]:
        """Intents that have no outcome, oldest first."""
        ...

    def emit(self, *events: Event) -> None:
        """Keep events for the log, in one durable step."""
        ...


class MemoryJournal:
    """A journal that dies with its process: for trials, and where the disk is full."""

    def __init__(self) -> None:
        self.intents: dict[int, Intent] = {}
        self.outcomes: dict[int, tuple[str, int | None]] = {}
        self.events: list[Event] = []
        self._ids = count(1)

    def intend(self, intents: Sequence[Intent]) -> list[int]:
        ids = [next(self._ids) for _ in intents]
        self.intents.update(zip(ids, intents, strict=True))
        return ids

    def outcome(self, intent_id: int, outcome: str, *, retcode: int | None = None) -> None:
        self.outcomes[intent_id] = (outcome, retcode)

    def open_intents(self) -> list[tuple[int, Intent]]:
        return [item for item in self.intents.items() if item[0] not in self.outcomes]

    def emit(self, *events: Event) -> None:
        self.events += events


class UnstoppableJournal:
    """A journal whose failures stop nothing: what cannot be written is kept in memory.

    A full disk must not keep a position open. `on_failure` hears of the first failure.
    """

    def __init__(self, journal: IntentJournal, on_failure: Callable[[str], None]) -> None:
        self._journal = journal
        self._memory = MemoryJournal()
        self._on_failure = on_failure
        self._failed = False

    def intend(self, intents: Sequence[Intent]) -> list[int]:
        try:
            return self._journal.intend(intents)
        except Exception as error:
            self._note(error)
            return [-own for own in self._memory.intend(intents)]

    def outcome(self, intent_id: int, outcome: str, *, retcode: int | None = None) -> None:
        if intent_id < 0:
            self._memory.outcome(-intent_id, outcome, retcode=retcode)
            return
        try:
            self._journal.outcome(intent_id, outcome, retcode=retcode)
        except Exception as error:
            self._note(error)

    def open_intents(self) -> list[tuple[int, Intent]]:
        kept = [(-own, intent) for own, intent in self._memory.open_intents()]
        try:
            return self._journal.open_intents() + kept
        except Exception as error:
            self._note(error)
            return kept

    def emit(self, *events: Event) -> None:
        try:
            self._journal.emit(*events)
        except Exception as error:
            self._note(error)
            self._memory.emit(*events)

    def _note(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            logger.error("the guard's journal cannot be written, going on without it: %s", error)
            self._on_failure(f"the guard's journal cannot be written: {error}")

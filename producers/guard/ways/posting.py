"""The second way to a guard: a command posted to the operators' lane of the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from events.codec import AnyEvent, BadEvent, UnknownEvent, decode, encode
from events.decisions import Command
from events.guarding import FlattenEnded, FlattenStep, GuardState, LatchChanged
from events.log import ACCOUNT_PARTITION, BEGIN, OPERATOR, SOURCE, EntryId, Lane, Log, Slot, Stream

ANSWER_S = 10.0
BLOCK_MS = 500
GUARD_EVENTS = (GuardState, LatchChanged, FlattenStep, FlattenEnded)


class PostedCommand:
    """A command in the log, and what the guard tells from then on."""

    def __init__(self, log: Log, namespace: str, command: Command) -> None:
        """Posts it. Raises LogError; LogError also for a namespace that is not there."""
        self._log, self.command = log, command
        self._stream: Stream = Slot(namespace, SOURCE, ACCOUNT_PARTITION).stream(Lane.CRITICAL)
        self._after: EntryId = log.info(self._stream).last_id or BEGIN
        log.post(Slot(namespace, OPERATOR, ACCOUNT_PARTITION), encode(command))

    def events(
        self, within_s: float, *, monotonic: Callable[[], float] = time.monotonic
    ) -> Iterator[AnyEvent]:
        """What guards of this terminal tell, for so long. Raises LogError."""
        deadline = monotonic() + within_s
        while monotonic() < deadline:
            found = self._log.read({self._stream: self._after}, block_ms=BLOCK_MS)
            for entry in found.get(self._stream, ()):
                self._after = entry.id
                try:
                    event = decode(entry)
                except (UnknownEvent, BadEvent):
                    continue
                if isinstance(event, GUARD_EVENTS):
                    yield event

    def obeyed(self, within_s: float = ANSWER_S) -> bool:
        """Whether the guard shows in time that it did what was asked."""
        verb = self.command.verb
        for event in self.events(within_s):
            if verb == "resume" and isinstance(event, LatchChanged) and not event.latched:
                return True
            if verb != "resume" and isinstance(event, LatchChanged) and event.latched:
                return True
            if isinstance(event, GuardState) and event.latched == (verb != "resume"):
                return True
        return False

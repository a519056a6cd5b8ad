"""Which slots one worker of the persist group stores, while workers and slots come and go."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from consumers.runtime.sharing import SILENT_S, Members, share
from events.log import Log, LogError, Slot
from events.postgres import Sink

logger = logging.getLogger(__name__)

SLOTS_S = 1.0
"""How often new terminals and groups are looked for."""
HELD_S = 0.25
"""How often a worker that has its share looks who holds what."""
MISSING_S = 0.05
"""How often one that lacks something of its share looks for it."""


class Change(NamedTuple):
    """What to give up, and what to take."""

    surplus: frozenset[Slot]
    missing: frozenset[Slot]


NO_CHANGE = Change(frozenset(), frozenset())


class SlotShare:
    """The rule of `consumers.runtime.sharing`, over what the database says of the holders.

    `halted` are the slots that this program gave up for good; whoever adds to it is heard.
    """

    def __init__(
        self,
        log: Log,
        sink: Sink,
        group: str,
        me: str,
        *,
        slots: Callable[[Log], Sequence[Slot]],
        halted: Mapping[Slot, str],
        silent_s: float = SILENT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._sink, self._halted = log, sink, halted
        self._slots, self._monotonic = slots, monotonic
        self._members = Members(log.tasks, group, me, silent_s=silent_s, monotonic=monotonic)
        self._wanted: Sequence[Slot] = ()
        self._next_slots = self._next_held = monotonic()
        self._told_idle = False

    def wanted(self) -> list[Slot]:
        """What is to be stored by all workers together, but for what was halted."""
        return [slot for slot in self._wanted if slot not in self._halted]

    def tend(self) -> None:
        """Show that we live, when it is time to."""
        if self._members.tend():
            self._next_held = self._monotonic()

    def look(self) -> Change:
        """What should change hands, when it is time to look."""
        self.tend()
        now = self._monotonic()
        if now >= self._next_slots:
            self._next_slots = now + SLOTS_S
            self._wanted = self._slots(self._log)
        if now < self._next_held:
            return NO_CHANGE
        states = self._sink.holders()
        ours = frozenset(self._sink.slots)
        held = {slot: states[slot].holder if slot in states else "" for slot in self.wanted()}
        mine = share(held, self._members.living, self._members.me)
        # Each program tries a halted slot once: the cause may be gone.
        again = frozenset(s for s, holder in held.items() if not holder and _halted(states, s))
        change = Change(ours - mine - again, (mine | again) - ours)
        self._next_held = now + (MISSING_S if change.missing or not self._wanted else HELD_S)
        self._tell_idle(bool(held) and not mine, len(held))
        return change

    def leave(self) -> None:
        """We end: nobody need wait for our silence."""
        with suppress(LogError):
            self._members.leave()

    def _tell_idle(self, idle: bool, slots: int) -> None:
        if idle and not self._told_idle:
            logger.info(
                "%d workers for %d slots: this one stands by", len(self._members.living), slots
            )
        self._told_idle = idle


def _halted(states: Mapping[Slot, tuple[str, str]], slot: Slot) -> bool:
    return slot in states and bool(states[slot][1])

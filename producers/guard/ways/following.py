"""The guard's own connection to the log: commands, references, the latch's second copy.

Commands come from two lanes of the guard's own namespace: what people posted, and what group
`risk` derived. How far it read is kept in the journal. A log that is away costs nothing but the
knowledge that it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Thread
from typing import Protocol

from events.codec import BadEvent, UnknownEvent, decode
from events.decisions import Command, ReferenceSet
from events.following import LogThread
from events.latch import LatchStore
from events.log import (
    ACCOUNT_PARTITION,
    OPERATOR,
    Entry,
    EntryId,
    Lane,
    Log,
    LogError,
    Slot,
    Stream,
)
from events.operations import HandlerFailed, OperatorAnswered
from events.origin import refuse_unless_live
from producers.guard.commands import Via
from producers.guard.guard import Guard
from producers.guard.watch.blocks import Block

logger = logging.getLogger(__name__)

RISK = "risk"
"""The group whose commands are obeyed."""
BLOCK_MS = 500
SYNC_S = 1.0
LOOK_BACK_MS = 60_000
"""A guard that never read a lane obeys what was posted to it this short ago."""
LOOK_BACK_MAX = 100
RESUME_WAIT_S = 30.0
"""For the resume before, when two are posted at once."""
PLACE_FACT = "place:"
ANSWERED = ("handled", "dropped", "skipped")


class Follower(Protocol):
    """On whose behalf the log is followed: a guard beside us, or one on another machine."""

    def tell(self, command: Command, via: Via) -> object: ...
    def take_reference(self, stated: ReferenceSet) -> None: ...
    def take_risk_halted(self, text: str) -> None:
        """Group risk stands still; empty: it goes on."""
        ...

    def heard_log(self) -> None: ...
    def place(self, stream: Stream) -> str | None: ...
    def keep_place(self, stream: Stream, id: EntryId) -> None: ...
    def sync_is_urgent(self) -> bool: ...
    def sync(self, latches: LatchStore) -> None:
        """Bring both copies of the latch in line. Raises LogError."""
        ...


class NearGuard:
    """A guard beside us, as a Follower."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def tell(self, command: Command, via: Via) -> object:
        """See Guard.tell."""
        return self._guard.tell(command, via)

    def take_reference(self, stated: ReferenceSet) -> None:
        """Told of before the first look, it is in the log for group risk alone."""
        if not self._guard.state_reference(stated):
            logger.warning("a reference of account %d came too early, or is not ours", stated.login)

    def take_risk_halted(self, text: str) -> None:
        """Without group risk nobody judges soft limits: nothing new meanwhile."""
        guard = self._guard
        if text:
            guard.block(Block("risk_halted", text, "guard"))
            guard.voice.alert("critical", "risk_halted", text, cure="bridgectl dlq list")
        elif guard.unblock("risk_halted"):
            guard.voice.resolve("risk_halted", f"group {RISK} goes on")

    def heard_log(self) -> None:
        """The log answered."""
        self._guard.watch.heard_log()

    def place(self, stream: Stream) -> str | None:
        """How far a lane was read."""
        found = self._guard.journal.fact(f"{PLACE_FACT}{stream}")
        return None if found is None else str(found)

    def keep_place(self, stream: Stream, id: EntryId) -> None:
        """A lane was read so far."""
        self._guard.journal.set_facts({f"{PLACE_FACT}{stream}": str(id)})

    def sync_is_urgent(self) -> bool:
        """Whether the log's copy lacks a latch of ours."""
        return self._guard.latching.missing_in_log

    def sync(self, latches: LatchStore) -> None:
        """Either copy latches."""
        self._guard.latches = latches
        found = self._guard.latching.sync(latches)
        if found is not None:
            self._guard.found_latch(found)


class LogFollower:
    """A thread that follows the log for one guard. `open_log` makes a connection of its own."""

    def __init__(
        self,
        followed: Follower,
        open_log: Callable[[], Log],
        *,
        namespace: str,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._followed, self._namespace = followed, namespace
        self._wall, self._monotonic = wall, monotonic
        self._vias: dict[Stream, Via] = {
            Slot(namespace, OPERATOR, ACCOUNT_PARTITION).stream(Lane.CRITICAL): "operator",
            Slot(namespace, RISK, ACCOUNT_PARTITION).stream(Lane.CRITICAL): "risk",
        }
        self._places: dict[Stream, EntryId] = {}
        self._synced_at = -SYNC_S
        self._resuming: Thread | None = None
        self._log = LogThread(
            "guard-log", open_log, self._follow, who="the guard goes on without the log",
            monotonic=monotonic,
        )  # fmt: skip

    def start(self) -> None:
        """Follow in the background."""
        self._log.start()

    def stop(self) -> None:
        """Returns when the connection is closed."""
        self._log.stop()
        if self._resuming is not None and self._resuming.is_alive():
            self._resuming.join()

    def _follow(self, log: Log) -> None:
        """Raises LogError when the log goes away, or is none that leads to orders."""
        refuse_unless_live(log, self._namespace, who="a guard")
        latches = log.latches(self._namespace)
        self._places = {stream: self._place(log, stream) for stream in self._vias}
        while not self._log.stopping.is_set():
            urgent = self._followed.sync_is_urgent()
            if urgent or self._monotonic() - self._synced_at >= SYNC_S:
                self._synced_at = self._monotonic()
                self._followed.sync(latches)
            found = log.read(self._places, block_ms=BLOCK_MS)
            self._followed.heard_log()
            for stream, entries in found.items():
                for entry in entries:
                    self._take_or_pass(entry, self._vias[stream])
                self._places[stream] = entries[-1].id
                self._followed.keep_place(stream, entries[-1].id)

    def _place(self, log: Log, stream: Stream) -> EntryId:
        """Where to go on: behind what was read, or a little before now on a lane (or a log)
        never seen. A log that was cut and holds less than was read is such a one."""
        kept = self._followed.place(stream)
        newest = log.info(stream).last_id
        if kept is not None and EntryId.parse(kept) <= newest:
            return EntryId.parse(kept)
        since = EntryId(max(0, int(self._wall() * 1000) - LOOK_BACK_MS), 0)
        recent = [e for e in log.newest(stream, count_max=LOOK_BACK_MAX) if e.id >= since]
        if not recent:
            return newest
        oldest = recent[-1].id
        return EntryId(oldest.ms, oldest.seq - 1) if oldest.seq else EntryId(oldest.ms - 1, 2**32)

    def _take_or_pass(self, entry: Entry, via: Via) -> None:
        """One entry; one that cannot be borne must not keep those behind it from being obeyed.
        Raises LogError."""
        try:
            self._take(entry, via)
        except LogError:
            raise
        except Exception:
            logger.exception("passed over: %s", entry.place)

    def _take(self, entry: Entry, via: Via) -> None:
        """One entry; what is no concern of a guard passes by. Raises LogError."""
        try:
            event = decode(entry)
        except (UnknownEvent, BadEvent) as error:
            logger.warning("not read: %s", error)
            return
        if isinstance(event, Command) and event.verb == "resume":
            self._resume(event, via)
        elif isinstance(event, Command):
            self._followed.tell(event, via)
        elif isinstance(event, ReferenceSet) and via == "operator":
            self._followed.take_reference(event)
        elif isinstance(event, HandlerFailed) and event.group == RISK and event.halted:
            self._followed.take_risk_halted(f"group {RISK} stands still: {event.error}"[:500])
        elif isinstance(event, OperatorAnswered) and _goes_on(event):
            self._followed.take_risk_halted("")

    def _resume(self, command: Command, via: Via) -> None:
        """It may wait for a flatten to stop: in a thread of its own, since what is posted behind
        it must be obeyed at once."""
        if self._resuming is not None and self._resuming.is_alive():
            self._resuming.join(RESUME_WAIT_S)

        def tell() -> None:
            try:
                self._followed.tell(command, via)
            except LogError as error:
                logger.error("a resume was lost, give it again: %s", error)

        self._resuming = Thread(target=tell, name="guard-resume", daemon=True)
        self._resuming.start()


def _goes_on(answered: OperatorAnswered) -> bool:
    """Whether a task of group risk that stood still goes on behind the entry."""
    return answered.group == RISK and answered.outcome in ANSWERED

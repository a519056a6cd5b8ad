"""The guard's own connection to the log: commands, references, the latch's second copy.

Commands come from two lanes of the guard's own namespace: what people posted, and what group
`risk` derived. How far it read is kept in the journal. A log that is away costs nothing but the
knowledge that it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event as Signal
from threading import Thread

from events.codec import BadEvent, UnknownEvent, decode
from events.decisions import Command, ReferenceSet
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
from producers.guard.commands import Via
from producers.guard.guard import Guard
from producers.guard.watch.blocks import Block

logger = logging.getLogger(__name__)

RISK = "risk"
"""The group whose commands are obeyed."""
BLOCK_MS = 500
SYNC_S = 1.0
BACK_OFF_S = (0.2, 0.5, 1.0, 2.0)
LOOK_BACK_MS = 60_000
"""A guard that never read a lane obeys what was posted to it this short ago."""
LOOK_BACK_MAX = 100
PLACE_FACT = "place:"


class LogFollower:
    """A thread that follows the log for one guard. `open_log` makes a connection of its own."""

    def __init__(
        self,
        guard: Guard,
        open_log: Callable[[], Log],
        *,
        namespace: str,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard, self._open_log, self._namespace = guard, open_log, namespace
        self._wall, self._monotonic = wall, monotonic
        self._vias: dict[Stream, Via] = {
            Slot(namespace, OPERATOR, ACCOUNT_PARTITION).stream(Lane.CRITICAL): "operator",
            Slot(namespace, RISK, ACCOUNT_PARTITION).stream(Lane.CRITICAL): "risk",
        }
        self._places: dict[Stream, EntryId] = {}
        self._synced_at = 0.0
        self._stopping = Signal()
        self._thread = Thread(target=self._run, name="guard-log", daemon=True)

    def start(self) -> None:
        """Follow in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Returns when the connection is closed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                log = self._open_log()
            except LogError as error:
                if failures == 0:
                    logger.warning("the guard goes on without the log: %s", error)
                self._stopping.wait(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
                failures += 1
                continue
            failures = 0
            try:
                self._guard.latches = log.latches(self._namespace)
                self._follow(log)
            except LogError as error:
                logger.warning("the guard lost the log: %s", error)
            except Exception:
                logger.exception("following the log failed")
            finally:
                log.close()
            self._stopping.wait(BACK_OFF_S[0])

    def _follow(self, log: Log) -> None:
        """Raises LogError when the log goes away."""
        self._places = {stream: self._place(log, stream) for stream in self._vias}
        while not self._stopping.is_set():
            found = log.read(self._places, block_ms=BLOCK_MS)
            self._guard.watch.heard_log()
            for stream, entries in found.items():
                for entry in entries:
                    self._take(entry, self._vias[stream])
                self._places[stream] = entries[-1].id
                self._guard.journal.set_facts({f"{PLACE_FACT}{stream}": str(entries[-1].id)})
            if self._guard.latching.missing_in_log or (
                self._monotonic() - self._synced_at >= SYNC_S
            ):
                self._synced_at = self._monotonic()
                latch = self._guard.latching.sync(log.latches(self._namespace))
                if latch is not None:
                    self._guard.found_latch(latch)

    def _place(self, log: Log, stream: Stream) -> EntryId:
        """Where to go on: behind what was read, or a little before now on a lane (or a log)
        never seen. A log that was cut and holds less than was read is such a one."""
        kept = self._guard.journal.fact(f"{PLACE_FACT}{stream}")
        newest = log.info(stream).last_id
        if kept is not None and EntryId.parse(kept) <= newest:
            return EntryId.parse(kept)
        since = EntryId(max(0, int(self._wall() * 1000) - LOOK_BACK_MS), 0)
        recent = [e for e in log.newest(stream, count_max=LOOK_BACK_MAX) if e.id >= since]
        if not recent:
            return newest
        oldest = recent[-1].id
        return EntryId(oldest.ms, oldest.seq - 1) if oldest.seq else EntryId(oldest.ms - 1, 2**32)

    def _take(self, entry: Entry, via: Via) -> None:
        """One entry; what is no concern of a guard passes by. Raises LogError."""
        try:
            event = decode(entry)
        except (UnknownEvent, BadEvent) as error:
            logger.warning("not read: %s", error)
            return
        if isinstance(event, Command):
            self._guard.tell(event, via)
        elif isinstance(event, ReferenceSet) and via == "operator":
            self._guard.state_reference(event)
        elif isinstance(event, HandlerFailed) and event.group == RISK and event.halted:
            text = f"group {RISK} stands still: {event.error}"
            self._guard.block(Block("risk_halted", text[:500], "guard"))
            self._guard.voice.alert(
                "critical", "risk_halted", text[:500], cure="bridgectl dlq list"
            )
        elif (
            isinstance(event, OperatorAnswered)
            and event.group == RISK
            and (event.outcome in ("handled", "dropped", "skipped"))
        ):
            self._guard.unblock("risk_halted")
            self._guard.voice.resolve("risk_halted", f"group {RISK} goes on")

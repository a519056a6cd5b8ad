"""The two copies of the latch: the guard's own file, and the log's server.

Either one latches. The file is written first and decides at once; the other copy follows in the
background, as often as it takes. Clearing takes both or fails, and says which one remained.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Lock

from events.guarding import LatchChanged
from events.latch import Latch, LatchStore
from events.log import LogError
from producers.guard.journal import Journal

logger = logging.getLogger(__name__)


class StillLatched(Exception):
    """The latch could not be cleared everywhere. The message says what remains, and the cure."""


class Latching:
    """The latch of one account. Thread-safe; `current` costs nothing, and `set` never waits for
    the log."""

    def __init__(
        self, journal: Journal, *, login: int, terminal: str, now_ms: Callable[[], int]
    ) -> None:
        self._journal, self._login, self._terminal = journal, login, terminal
        self._now_ms = now_ms
        self._lock = Lock()
        self._copying = Lock()
        """Held around what is done with the log's copy; never while `_lock` is held."""
        self._current = journal.read(login)
        self._missing_in_log = self._current is not None

    @property
    def current(self) -> Latch | None:
        """The latch that is set; None: trading is free."""
        return self._current

    @property
    def missing_in_log(self) -> bool:
        """Whether the log's copy still has to be written."""
        return self._missing_in_log

    def set(self, latch: Latch) -> Latch:
        """Latch now; returns the latch that holds (a stricter one stays). Raises LogError when it
        cannot be written down; it holds in memory even then."""
        with self._lock:
            held = self._current
            if held is not None and not latch.stricter_than(held):
                return held
            # Before the disk: an order that is on its way out now must find the gate closed.
            self._current = latch
            self._missing_in_log = True
            self._journal.set(latch, events=[self._changed(latch, latched=True, by=latch.by)])
            return latch

    def sync(self, store: LatchStore) -> Latch | None:
        """Bring the log's copy in line; returns a latch that was found only there and holds now.

        Raises LogError when the log does not answer.
        """
        with self._copying:
            theirs = store.read(self._login)
            mine = self._current
            if theirs is not None and theirs != mine and theirs.over(self._now_ms()):
                store.clear(self._login, theirs.latch_id)
                theirs = None
            if theirs is not None and (mine is None or theirs.stricter_than(mine)):
                logger.critical("account %d is latched in the log: %s", self._login, theirs.reason)
                held = self.set(theirs)
                self._missing_in_log = held != theirs
                return theirs if held == theirs else None
            if mine is not None and theirs != mine:
                store.set(mine)
            self._missing_in_log = self._current != mine
            return None

    def clear(
        self,
        store: LatchStore | None,
        *,
        by: str,
        command_id: str = "",
        last: AbstractContextManager[None] | None = None,
    ) -> Latch | None:
        """End the latch in both copies; returns the one that was set. `store` None: there is no
        log to hold a copy. `last` is entered when the log's copy is gone, around the end of this
        one; raising StillLatched there keeps it. Raises StillLatched."""
        with self._copying:
            held = self._current
            if store is not None:
                self._clear_in(store, held)
            try:
                with last or nullcontext():
                    if held is None:
                        return None
                    return self._clear_here(held, by=by, command_id=command_id)
            except StillLatched:
                self._missing_in_log = self._current is not None
                raise

    def _clear_in(self, store: LatchStore, held: Latch | None) -> None:
        try:
            theirs = store.read(self._login)
            if theirs is None or store.clear(self._login, (held or theirs).latch_id):
                return
        except LogError as error:
            raise StillLatched(
                f"the log's copy of the latch remains: {error}; bring Redis back, then resume again"
            ) from error
        raise StillLatched("another latch was set meanwhile in the log: look at it, resume again")

    def _clear_here(self, held: Latch, *, by: str, command_id: str) -> Latch:
        told = self._changed(held, latched=False, by=by, command_id=command_id)
        with self._lock:
            if self._current != held:
                raise StillLatched("another latch was set meanwhile: look at it, resume again")
            try:
                cleared = self._journal.clear(self._login, held.latch_id, events=[told])
            except LogError as error:
                raise StillLatched(f"the guard's own file keeps the latch: {error}") from error
            if not cleared:  # by another process on the same file
                self._current = self._journal.read(self._login)
                raise StillLatched("another latch was set meanwhile in the guard's own file")
            self._current = None
            return held

    def _changed(
        self, latch: Latch, *, latched: bool, by: str, command_id: str = ""
    ) -> LatchChanged:
        return LatchChanged(
            event_time_ms=self._now_ms(),
            login=self._login,
            terminal=self._terminal,
            latched=latched,
            latch_id=latch.latch_id,
            reason=latch.reason,
            by=by,
            command_id=command_id or latch.command_id,
            lock=latch.lock,
            until_ms=latch.until_ms,
            breach_id=latch.breach_id,
        )

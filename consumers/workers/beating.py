"""Shows that a worker lives, from a thread of its own: a slow batch must not cost the lease.

It beats only as long as the worker's loop moves. A handler that hangs for ever moves nothing: then
the beats end, and so does the process, so that another worker can go on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from consumers.runtime.sharing import BEAT_S
from events.log import Claim, Fenced, Log, LogError, Slot

logger = logging.getLogger(__name__)

HANDLE_S_MAX = 60.0
"""Longest time in which the loop may stand still, such as in one call of a handler."""
EXIT_HUNG = 70


class Beater:
    """Beats for a worker and for every task it owns."""

    def __init__(
        self,
        log: Log,
        group: str,
        me: str,
        *,
        lease_s: float,
        hang_s: float = HANDLE_S_MAX,
        on_hang: Callable[[str], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._group, self._me = log, group, me
        self._every_s = min(BEAT_S, lease_s / 5)
        self._hang_s, self._monotonic = hang_s, monotonic
        self._on_hang = on_hang or _end_the_process
        self.moves = 0
        """Counted up by the worker's loop, and between entries: it shows that the loop moves."""
        self.busy_with = ""
        """What the loop is at, for people."""
        self._seen_moves, self._moved_at = -1, monotonic()
        self._claims: dict[Slot, Claim] = {}
        self._fenced: set[Slot] = set()
        self._member = True
        self._as_member = threading.Lock()
        """Held during a beat, so that none comes after `leave`."""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beater", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; nothing is beaten afterwards."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def hold(self, claim: Claim) -> None:
        """Beat for this task from now on."""
        with self._lock:
            self._claims[claim.slot] = claim
            self._fenced.discard(claim.slot)

    def drop(self, slot: Slot) -> None:
        with self._lock:
            self._claims.pop(slot, None)
            self._fenced.discard(slot)

    def leave(self) -> None:
        """From now on beat for the tasks in hand only: the worker takes no more."""
        with self._as_member:
            self._member = False

    def fenced(self) -> frozenset[Slot]:
        """Tasks that turned out to be taken over."""
        return frozenset(self._fenced) if self._fenced else frozenset()

    def round(self) -> bool:
        """Beat once for everything. False when the worker hangs, and nothing was beaten."""
        now = self._monotonic()
        if self.moves != self._seen_moves:
            self._seen_moves, self._moved_at = self.moves, now
        if now - self._moved_at >= self._hang_s:
            return False
        with self._as_member:
            if self._member:
                self._log.tasks.beat_worker(self._group, self._me)
        with self._lock:
            claims = list(self._claims.values())
        for claim in claims:
            self._beat(claim)
        return True

    def _beat(self, claim: Claim) -> None:
        try:
            self._log.beat(claim)
        except Fenced:
            with self._lock:
                if self._claims.get(claim.slot) == claim:
                    del self._claims[claim.slot]
                    self._fenced.add(claim.slot)

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                if not self.round():
                    self._on_hang(
                        f"{self._busy()} did not end within {self._hang_s:g} s: this process ends, "
                        "so that another can go on"
                    )
                    return
            except LogError:  # the loop meets the same trouble, and tells it
                continue
            except Exception:
                logger.exception("a heartbeat failed")

    def _busy(self) -> str:
        return f"{self._group}: {self.busy_with or 'the loop'}"


def _end_the_process(why: str) -> None:
    """A thread that hangs cannot be ended any other way."""
    logger.critical("%s", why)
    logging.shutdown()
    os._exit(EXIT_HUNG)

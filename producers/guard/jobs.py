"""Closing, one job at a time, in a thread of its own: a guard goes on looking meanwhile."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Condition, Thread
from typing import NamedTuple, Protocol

from events.decisions import Command
from events.guarding import FlattenEnded

logger = logging.getLogger(__name__)

JOBS_WAITING_MAX = 512
"""Closing symbol by symbol ahead of a window asks for one job each."""
STOP_JOIN_S = 30.0
TEND_S = 1.0
"""Between two sweeps of what was closed."""


class Job(NamedTuple):
    """What is to be closed. `reduce` None: everything in scope."""

    scope: str
    reason: str
    by: str
    since_ms: int
    """What set it off (UTC)."""
    command_id: str = ""
    reduce: Command | None = None
    latch_id: str = ""
    """The latch that was set with it."""

    @property
    def whole(self) -> bool:
        """Whether it closes everything."""
        return self.scope == "account" and self.reduce is None

    def covers(self, other: Job) -> bool:
        """Whether the other one would find nothing left to do. What an earlier process left
        (`scope` empty: the journal knows) covers nothing: it may be about one symbol."""
        return self.whole or (self.scope == other.scope and self.reduce is None)


GOING_ON = Job("", "going on with a flatten that was cut off", "guard", 0)
LOOKING_AFTER = Job("", "looking after what was closed", "guard", 0)


class Closer(Protocol):
    """The machine that closes. Used by one thread, except `stop`."""

    def close(self, job: Job) -> FlattenEnded | None:
        """Carry a job out; returns how a flatten ended (None: it was a reduction)."""
        ...

    def go_on(self) -> FlattenEnded | None:
        """Finish what an earlier process began; None when there was nothing."""
        ...

    def settled(self) -> bool:
        """Whether an earlier process brought it to its end, so that it is only looked after."""
        ...

    def make_way(self) -> None:
        """Let what runs end at its next request, for the `close` of the whole account that
        follows and takes it over. From any thread."""
        ...

    def tend(self) -> FlattenEnded | None:
        """One more sweep of what was closed; returns how it stands when that changed."""
        ...

    def forget(self) -> None:
        """Nothing is to be kept closed any more."""
        ...

    def stop(self) -> None:
        """Let what runs end at its next request. Another `close` begins anew."""
        ...


class Stopped(Exception):
    """A job was stopped before its end; the journal knows how far it came."""


class Jobs:
    """Runs jobs in order; one that a waiting or running one covers is not run again. Between
    jobs it keeps closed what was closed, for as long as `latched` says so."""

    def __init__(
        self,
        closer: Closer,
        *,
        latched: Callable[[], bool],
        on_ended: Callable[[FlattenEnded], None],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._closer, self._latched = closer, latched
        self._on_ended, self._on_failure = on_ended, on_failure
        self._changed = Condition()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._stopping = self._forget = False
        self._thread = Thread(target=self._run, name="guard-closing", daemon=True)

    def start(self) -> None:
        """Begin with what was left unfinished."""
        self._thread.start()

    @property
    def running(self) -> Job | None:
        """What is being closed now, or next; looking after what was closed does not count."""
        with self._changed:
            running = None if self._running is LOOKING_AFTER else self._running
            return running or (self._waiting[0] if self._waiting else None)

    def add(self, job: Job) -> bool:
        """Queue a job; False when another one does the same already. One of the whole account
        waits for no part of it."""
        with self._changed:
            before = [*([self._running] if self._running else []), *self._waiting]
            if any(one.covers(job) for one in before):
                return False
            self._waiting = deque(one for one in self._waiting if not job.covers(one))
            if len(self._waiting) >= JOBS_WAITING_MAX:
                return False
            self._waiting.append(job)
            # Under the lock: what is told to make way must be what runs, not the job itself.
            if job.whole and self._running is not None:
                self._closer.make_way()
            self._changed.notify_all()
            return True

    def cancel(self) -> None:
        """A human wants no more closing: drop what waits, stop what runs."""
        with self._changed:
            self._waiting.clear()
            running = self._running
        if running is not None:
            self._closer.stop()

    def forget(self) -> None:
        """The latch is cleared: nothing is kept closed any more."""
        with self._changed:
            self._forget = True
            self._changed.notify_all()

    def wait_idle(self, timeout_s: float) -> bool:
        """True when nothing runs or waits."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._running is None and not self._waiting, timeout_s
            )

    def stop(self) -> None:
        """End the thread; what is unfinished is found again at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._closer.stop()
        if self._thread.is_alive():
            self._thread.join(STOP_JOIN_S)

    def _run(self) -> None:
        if self._latched():
            first = LOOKING_AFTER if self._closer.settled() else GOING_ON
            with self._changed:
                self._running = first
            self._work(self._closer.go_on, first.reason)
        else:
            self._work(self._closer.forget, "forgetting")
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: bool(self._waiting) or self._stopping or self._forget, TEND_S
                )
                if self._stopping:
                    return
                forget, self._forget = self._forget, False
                job = self._running = self._waiting.popleft() if self._waiting else None
            if forget and not self._latched():
                self._work(self._closer.forget, "forgetting")
            if job is not None:
                self._work(partial(self._closer.close, job), job.reason)
            elif self._latched():
                self._work(self._closer.tend, "sweeping")

    def _work(self, step: Callable[[], FlattenEnded | None], what: str) -> None:
        try:
            ended = step()
            if ended is not None:
                self._on_ended(ended)
        except Stopped as error:
            logger.warning("%s: %s", what, error)
        except Exception as error:  # whatever broke, the account must not be left alone
            logger.exception("%s failed", what)
            self._on_failure(what, error)
        finally:
            with self._changed:
                self._running = None
                self._changed.notify_all()

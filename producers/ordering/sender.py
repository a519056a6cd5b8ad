"""Sends the orders of one account: the threads around `Carrying`, and its place on disk.

Beside a producer: a thread follows the log, one carries intents out, one tells the answers. An
account has one sender at a time, which holds a lock in the state folder.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Event as Signal
from threading import Semaphore, Thread
from typing import Any, Protocol

from events.embedded.file_lock import FileLock
from events.executing import ExecutionSet
from events.log import Log
from producers.ordering.carrying.carrier import Carrying, Surroundings
from producers.ordering.carrying.permits import MINUTE_MS, OrderRate, Permits
from producers.ordering.carrying.reading import AccountReads
from producers.ordering.following import IntentFollower, TakenIntent
from producers.ordering.journal import OrderJournal, OrderJournalUnusable
from producers.ordering.options import OrderingOptions
from producers.ordering.telling import AnswerTelling
from producers.spool.file import Spool
from producers.terminals.client import HostClient
from producers.terminals.interface import Reply

logger = logging.getLogger(__name__)

WAITING_MAX = 1_000
"""Intents read and not carried out yet; more stay in the log."""
WAIT_MAX_S = 1.0
TRY_AGAIN_S = 1.0
END_S = 5.0
"""How long the end waits for answers of orders that are with the terminal."""


class SenderSurroundings(Surroundings, Protocol):
    """The producer, as far as a sender needs it."""

    def account(self) -> tuple[int, str]:
        """(login, name of its lock); login 0 until the terminal is up."""
        ...

    def incident(self, text: str) -> None:
        """Something keeps orders from being sent; "": not any more."""
        ...


class OrderSender:
    """See the module. `start` and `stop` once. Client, spool and log opener belong to the
    caller; `stop` leaves an unanswered order to the next start, which reconciles it."""

    def __init__(
        self,
        options: OrderingOptions,
        client: HostClient,
        spool: Spool,
        open_log: Callable[[], Log],
        around: SenderSurroundings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self._client, self._spool, self._open_log, self._around = client, spool, open_log, around
        self._monotonic, self._wall = monotonic, wall
        self._steps: SimpleQueue[Callable[[], None]] = SimpleQueue()
        """Bounded by `_room` (intents) and by how many orders may fly (answers)."""
        self._room = Semaphore(WAITING_MAX)
        self._stopping = Signal()
        self.ready = Signal()
        """Set when the account is known, everything of an earlier process is taken over, and the
        log is followed."""
        self._lock: FileLock | None = None
        self._journal: OrderJournal | None = None
        self._carrying: Carrying | None = None
        self._permits = Permits(options, OrderRate())
        self._follower: IntentFollower | None = None
        self._thread = Thread(target=self._run, name="orders", daemon=True)

    def start(self) -> None:
        """Send from now on; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more intents, give what flies a moment, tell what is known. Also without
        `start`."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join()

    # --- a Taker: called by the follower's thread

    def take(self, taken: TakenIntent) -> None:
        """See Taker."""
        while not self._stopping.is_set():
            if self._room.acquire(timeout=WAIT_MAX_S):  # the terminal is slow, the log can wait
                self._steps.put(lambda: self._carry(taken))
                return

    def note(self, facts: dict[str, Any]) -> None:
        """See Taker."""
        assert self._journal is not None
        self._journal.set_facts(facts)

    def switch(self, switched: ExecutionSet | None) -> None:
        """See Taker. Holds at once, also for orders that wait for the terminal."""
        self._permits.switch = switched

    def forbid(self, why: str) -> None:
        """See Taker."""
        self._permits.origin_refusal = why

    def began(self) -> None:
        """See Taker."""
        self.ready.set()

    def fact(self, name: str) -> Any:
        """See Taker."""
        assert self._journal is not None
        return self._journal.fact(name)

    # --- the sender's thread

    def _run(self) -> None:
        telling: AnswerTelling | None = None
        try:
            while not self._stopping.is_set() and telling is None:
                telling = self._opened()
                if telling is None:
                    self._stopping.wait(TRY_AGAIN_S if self._lock is None else 0.1)
            if telling is not None:
                self._serve()
        except Exception:
            logger.exception("orders are not sent any more")
            self._around.incident("the sender of orders failed: see the program log")
        finally:
            self._end(telling)

    def _opened(self) -> AnswerTelling | None:
        """Journal, lock and threads of the account, once it is known; None: not yet."""
        login, lock_name = self._around.account()
        if not login:
            self._stopping.wait(0.1)
            return None
        folder = self.options.folder
        try:
            lock = self._lock or FileLock(folder.parent / f"{lock_name}.lock")
            if not lock.acquire():
                self._around.incident("another process sends the orders of this account")
                return None
            self._lock = lock
            self._journal = journal = OrderJournal(folder / f"{login}.sqlite", wall=self._wall)
            now_ms = int(self._wall() * 1000)
            self._permits.rate = OrderRate(journal.attempts_since(now_ms - MINUTE_MS))
            begun = journal.begun()
        except (OSError, OrderJournalUnusable) as error:
            self._around.incident(str(error))
            return None
        self._carrying = Carrying(
            self.options, login, line=self._client, journal=journal, permits=self._permits,
            reads=AccountReads(self._client, within_s=self.options.read_s), around=self._around,
            on_answered=self._on_answered, monotonic=self._monotonic, wall=self._wall,
        )  # fmt: skip
        for one in begun:
            self._carrying.resume(one)
        telling = AnswerTelling(journal, self._spool)
        telling.start()
        self._follower = IntentFollower(
            self, self._open_log, namespace=self.options.namespace, login=login
        )
        self._follower.start()
        self._around.incident("")
        return telling

    def _serve(self) -> None:
        """Carry out until told to stop."""
        carrying = self._carrying
        assert carrying is not None
        wait_s = 0.0
        while not self._stopping.is_set():
            try:
                step = self._steps.get(timeout=min(wait_s, WAIT_MAX_S)) if wait_s else None
            except Empty:
                step = None
            wait_s = self._step(carrying, step)

    def _step(self, carrying: Carrying, step: Callable[[], None] | None) -> float:
        """One thing that came, and what is due; returns for how long nothing else is."""
        try:
            if step is not None:
                step()
            wait_s = carrying.turn()
        except OrderJournalUnusable as error:
            self._around.incident(str(error))
            if self._follower is not None:
                self._follower.read_again()
            return WAIT_MAX_S
        self._around.incident("")
        return max(wait_s, 1e-4)

    def _carry(self, taken: TakenIntent) -> None:
        """Raises OrderJournalUnusable."""
        self._room.release()
        if self._stopping.is_set():
            return  # it stays in the log: the journal's place is before it
        assert self._carrying is not None
        assert self._journal is not None
        if not taken.inherited:
            self._carrying.take(taken.intent, taken.place, taken.facts)
        elif self._journal.state_of(taken.intent.intent_id) is None:
            self._journal.inherit(taken.intent, taken.place, taken.facts)
            begun = {one.intent.intent_id: one for one in self._journal.begun()}
            self._carrying.resume(begun[taken.intent.intent_id])

    def _on_answered(self, intent_id: int, call: Future[Reply]) -> None:
        """In a thread of the client: the sender's own goes on with it."""

        def step() -> None:
            assert self._carrying is not None
            self._carrying.answered(intent_id, call)

        self._steps.put(step)

    def _wake(self) -> None:
        self._steps.put(lambda: None)

    def _await_answers(self, carrying: Carrying) -> None:
        """Orders that are with the terminal are heard out for a moment."""
        due_s = self._monotonic() + END_S
        while carrying.flying and self._monotonic() < due_s:
            try:
                self._steps.get(timeout=0.1)()
            except Empty:
                continue
            except OrderJournalUnusable as error:
                logger.error("an answer is not written down, the next start reconciles: %s", error)

    def _end(self, telling: AnswerTelling | None) -> None:
        self._stopping.set()
        if self._follower is not None:
            self._follower.stop()
        if self._carrying is not None:
            self._await_answers(self._carrying)
        if telling is not None:
            telling.stop()
        if self._journal is not None:
            self._journal.close()
        if self._lock is not None:
            self._lock.release()

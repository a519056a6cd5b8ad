"""Sends waiting calls to the host of the moment and gives each caller its answer.

Thread-safe. Whoever brings news (a new call, an answer) also sends what may be sent next, so no
thread stands between a caller and the line. Futures are resolved outside the lock: their
callbacks may call again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import InvalidStateError
from threading import Condition
from typing import TYPE_CHECKING

from producers.terminals.client.flight import WAITING_MAX, Call, Flight, Overdue
from producers.terminals.interface import (
    NotSent,
    Priority,
    Reply,
    TerminalHung,
    TerminalLost,
)

if TYPE_CHECKING:
    from producers.terminals.client.link import Link

logger = logging.getLogger(__name__)

IPC_LOST = frozenset({-10000, -10001, -10002, -10004})
"""last_error() codes that say: the module lost its terminal, `initialize` is needed."""
LOOK_S = 0.25
"""The supervisor looks at deadlines at least so often; nearer ones wake it."""


class Dispatcher:
    """The calls of one client between its callers and its line. `changed` guards everything."""

    def __init__(
        self,
        flight: Flight,
        *,
        attaches: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`attaches`: hold all calls when the module lost its terminal, until it is back."""
        self.changed = Condition()
        self.calls = 0
        self.timeouts = 0
        self.unknown_replies = 0
        self.ipc_lost = False
        self._attaches = attaches
        self._flight = flight
        self._clock = clock
        self._link: Link | None = None
        self._refusal: TerminalLost | None = None
        self._planned = 0.0

    def submit(self, call: Call) -> None:
        """Queue a call, and send it if it may go now."""
        with self.changed:
            refusal = self._refusal
            if refusal is None and not self._flight.submit(call):
                refusal = NotSent(f"{WAITING_MAX} calls wait already for this terminal")
            if refusal is None:
                self.calls += 1
                self._wake_for(call.submitted_at + min(call.wait_s, self._patience_s(call)))
        if refusal is not None:
            fail([call], refusal)
            return
        self.pump()

    def send_first(self, call: Call, link: Link) -> None:
        """Send a call past the queue, for the attach step. Raises OSError."""
        with self.changed:
            self._flight.sent(call, self._clock())
        link.send(call.frame)

    def pump(self) -> None:
        """Send every call that may go now."""
        while True:
            with self.changed:
                link = self._link
                call = self._flight.next_to_send(self._clock()) if link is not None else None
            if link is None or call is None:
                return
            if (why_not := call.gate() if call.gate is not None else None) is not None:
                with self.changed:
                    self._flight.withdraw(call)
                fail([call], NotSent(why_not))
                continue
            try:
                link.send(call.frame)
            except OSError as error:
                # The reader sees the end of the line too; what was sent is settled there.
                logger.debug("call %s of %s not written: %s", call.id, call.method, error)
                link.cut()
                return

    def line_up(self, link: Link) -> None:
        """Calls may go over this line from now on."""
        with self.changed:
            self._link = link
            self._refusal = None
            self.ipc_lost = False
        self.pump()

    def hold(self) -> None:
        """Send nothing more for now; calls wait."""
        with self.changed:
            self._link = None

    def settle(self, *, exact_end: bool, reason: str) -> None:
        """The line is gone: what was begun is lost, the rest waits for the next host."""
        with self.changed:
            self._link = None
            lost = self._flight.line_ended(exact_end=exact_end)
        fail(lost, TerminalLost(reason))

    def refuse(self, error: TerminalLost) -> None:
        """Give up every waiting call and all that come, until the next `line_up`."""
        with self.changed:
            self._refusal = error
            waiting = self._flight.give_up_waiting()
        fail(waiting, error)

    def started(self, call_id: int) -> None:
        """The host has begun a call."""
        with self.changed:
            call = self._flight.started(call_id, self._clock())
            if call is not None:
                self._wake_for((call.started_at or 0.0) + call.timeout_s)
        if call is not None and call.on_started is not None:
            call.on_started()

    def answered(self, call_id: int, outcome: Reply | TerminalLost) -> None:
        """An answer, or a server's word that there will be none."""
        with self.changed:
            call = self._flight.answered(call_id, self._clock())
            self.timeouts += isinstance(outcome, TerminalHung)
            if isinstance(outcome, Reply) and outcome.unknown:
                self.unknown_replies += 1
                if self._attaches and outcome.error[0] in IPC_LOST:
                    self.ipc_lost = True
                    self._link = None
            if self._link is None:
                self.changed.notify_all()
        if call is None:
            return
        if isinstance(outcome, Reply):
            succeed(call, outcome)
        else:
            fail([call], outcome)
        self.pump()

    def cut_overdue(self, overdue: Overdue, link: Link) -> None:
        """End the line because of one call, and tell its caller."""
        link.cut()
        with self.changed:
            if overdue.held_up_emergency:
                self._flight.cut(overdue.call, self._clock())
            else:
                self._flight.answered(overdue.call.id, self._clock())
                self.timeouts += 1
        fail([overdue.call], TerminalHung(f"{overdue.call.method} {overdue.reason}"))

    def give_up_late(self) -> None:
        """Tell the callers whose calls waited too long in the queue."""
        with self.changed:
            late = self._flight.give_up_late(self._clock())
        for call in late:
            fail([call], NotSent(f"{call.method} waited {call.wait_s:g} s and was not sent"))

    def wait(self, until: float | None = None) -> None:
        """Let the supervisor sleep until a deadline or news. The lock must be held.

        With `until` it waits for that and judges no calls meanwhile.
        """
        now = self._clock()
        due = self._flight.wake_at() if until is None else until
        self._planned = now + LOOK_S if due is None else min(due, now + LOOK_S)
        self.changed.wait(max(0.0, self._planned - now))

    def _wake_for(self, due: float) -> None:
        if due < self._planned:
            self.changed.notify_all()

    def _patience_s(self, call: Call) -> float:
        return 0.0 if call.priority == Priority.EMERGENCY else LOOK_S


def succeed(call: Call, reply: Reply) -> None:
    """Give a caller the answer; one who cancelled gets nothing."""
    try:
        call.future.set_result(reply)
    except InvalidStateError:
        logger.debug("the caller of %s gave up before its answer", call.method)


def fail(calls: Iterable[Call], error: TerminalLost) -> None:
    """Tell callers that there is no answer."""
    for call in calls:
        try:
            call.future.set_exception(error)
        except InvalidStateError:
            logger.debug("the caller of %s gave up before its failure", call.method)

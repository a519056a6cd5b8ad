"""The calls of one client: waiting, sent, started; who goes next, and what is overdue.

Pure bookkeeping under its owner's lock: time comes in as an argument (monotonic seconds), and
nothing here waits, writes or resolves a future. A call waits here, not at the host, until the
host is nearly free: what was not sent can still be overtaken, given up or kept over a restart.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count

from producers.terminals.interface import CALLS_READ, Priority, Reply

WAITING_MAX = 10_000
"""Calls that may wait at once; more means that the callers do not look at their answers."""
RETURNS_MAX = 5
"""A call whose hosts end so often before it is begun may be the reason."""
HISTORY_REST_S = 1.5
"""Deep history is not begun for so long after an emergency: more of them follow."""
HISTORY_RESTS_S = (2.0, 4.0, 8.0, 16.0, 30.0)
"""The same after a history call that was cut for an emergency; longer with each one in a row, so
that a slow one, asked for again and again, cannot end host after host."""
HISTORY_HELD_MAX_S = 40.0
"""A history call that waited so long is begun even so."""


@dataclass(slots=True, eq=False)
class Call:
    """One call on its way. Times are monotonic seconds, None until it happened."""

    id: int
    method: str
    frame: bytes
    priority: Priority
    timeout_s: float
    """From the moment the terminal is called."""
    wait_s: float
    """From `submitted_at` until it must have been sent."""
    submitted_at: float
    future: Future[Reply] = field(default_factory=Future)
    on_started: Callable[[], None] | None = None
    gate: Callable[[], str | None] | None = None
    """Asked right before it is sent: why it must not be, or None."""
    keeps_place: bool = True
    """Goes back to the queue when its host ends before it was begun."""
    returns: int = 0
    """How often its host ended before it was begun."""
    sent_at: float | None = None
    started_at: float | None = None


@dataclass(frozen=True, slots=True)
class Overdue:
    """Why the line must be cut, and the call that is to blame."""

    call: Call
    reason: str
    held_up_emergency: bool = False


class Flight:
    """Bookkeeping of one client's calls.

    `in_flight_max` calls are with the host at once (emergencies and trades always go at once;
    the host itself serves by priority). `emergency_wait_s`: how long an emergency bears a read
    that runs before it; None means for ever.
    """

    def __init__(self, *, in_flight_max: int, emergency_wait_s: float | None = None) -> None:
        if in_flight_max < 1:
            raise ValueError(f"in_flight_max must be at least 1, not {in_flight_max}")
        self.grace_s = 0.0
        """Added to deadlines where somebody else judges them first (a terminal server)."""
        self.begin_s = 0.0
        """How long a call that was sent may rightly wait for others before it is begun."""
        self.emergency_wait_s = emergency_wait_s
        self._in_flight_max = in_flight_max
        self._waiting: list[tuple[Priority, int, Call]] = []
        self._order = count()
        self._sent: dict[int, Call] = {}
        self._heard_at = 0.0
        self._history_at = -math.inf
        self._history_cuts = 0

    @property
    def idle(self) -> bool:
        """True when nothing is with the host."""
        return not self._sent

    @property
    def in_flight(self) -> int:
        return len(self._sent)

    @property
    def running(self) -> Call | None:
        """The call that the terminal works on, the oldest one if the host works on several."""
        started = [call for call in self._sent.values() if call.started_at is not None]
        return min(started, key=lambda call: call.started_at or 0.0, default=None)

    def queue_length(self) -> dict[str, int]:
        """How many calls wait, by priority."""
        lengths = {priority.name.lower(): 0 for priority in Priority}
        for priority, _, _ in self._waiting:
            lengths[priority.name.lower()] += 1
        return lengths

    def submit(self, call: Call) -> bool:
        """Put a call into the queue; False when it is full."""
        if len(self._waiting) >= WAITING_MAX:
            return False
        if call.priority == Priority.EMERGENCY:
            self._history_at = max(self._history_at, call.submitted_at + HISTORY_REST_S)
        # Ids grow, so they order calls inside a priority, also those that come back.
        heapq.heappush(self._waiting, (call.priority, call.id, call))
        return True

    def next_to_send(self, now: float) -> Call | None:
        """Take the next call that may go to the host now, and count it as sent."""
        while self._waiting:
            priority, _, call = self._waiting[0]
            if len(self._sent) >= self._in_flight_max and priority > Priority.TRADE:
                return None
            if priority == Priority.HISTORY and now < self._begin_at(call):
                return None  # the last priority: nothing else waits behind it
            heapq.heappop(self._waiting)
            if call.future.cancelled():
                continue
            self.sent(call, now)
            return call
        return None

    def sent(self, call: Call, now: float) -> None:
        """Note that a call goes to the host now."""
        call.sent_at = now
        call.started_at = None
        self._sent[call.id] = call

    def withdraw(self, call: Call) -> None:
        """A call that was taken to be sent was not."""
        self._sent.pop(call.id, None)

    def started(self, call_id: int, now: float) -> Call | None:
        """The host calls the terminal now."""
        self._heard_at = now
        call = self._sent.get(call_id)
        if call is not None:
            call.started_at = now
        return call

    def answered(self, call_id: int, now: float) -> Call | None:
        """The call whose answer came; None for one that nobody waits for."""
        self._heard_at = now
        call = self._sent.pop(call_id, None)
        if call is not None and call.priority == Priority.HISTORY:
            self._history_cuts = 0
        return call

    def cut(self, call: Call, now: float) -> None:
        """The line is cut because of this call, for an emergency."""
        self._sent.pop(call.id, None)
        if call.priority == Priority.HISTORY:
            rest_s = HISTORY_RESTS_S[min(self._history_cuts, len(HISTORY_RESTS_S) - 1)]
            self._history_cuts += 1
            self._history_at = max(self._history_at, now + rest_s)

    def give_up_late(self, now: float) -> list[Call]:
        """Take the waiting calls that waited too long."""
        late = [call for _, _, call in self._waiting if now >= call.submitted_at + call.wait_s]
        self._drop(late)
        return late

    def give_up_waiting(self) -> list[Call]:
        """Take every waiting call."""
        waiting = [call for _, _, call in sorted(self._waiting, key=lambda entry: entry[:2])]
        self._waiting.clear()
        return waiting

    def line_ended(self, *, exact_end: bool) -> list[Call]:
        """The line to the host is gone; take the calls whose outcome is unknown or lost.

        With an exact end (all that the host wrote was read) a call that was never started did
        nothing: it goes back to its place in the queue.
        """
        lost: list[Call] = []
        for call in self._sent.values():
            call.returns += 1
            comes_back = call.keeps_place and call.returns <= RETURNS_MAX
            if exact_end and call.started_at is None and comes_back:
                call.sent_at = None
                heapq.heappush(self._waiting, (call.priority, call.id, call))
            else:
                lost.append(call)
        self._sent.clear()
        return lost

    def overdue(self, now: float) -> Overdue | None:
        """What is past its deadline, if anything."""
        running = self.running
        if running is None:
            late = self._not_started(now)
            return None if late is None else Overdue(late, "was not begun")
        due = self._deadline(running)
        if now >= due:
            return Overdue(running, f"did not return within {running.timeout_s:g} s")
        held_up = self._held_up_since(running)
        if held_up is not None and now >= held_up + (self.emergency_wait_s or 0.0):
            return Overdue(running, "held up an emergency", held_up_emergency=True)
        return None

    def wake_at(self) -> float | None:
        """When `overdue` or `give_up_late` may first have something, if nothing happens before."""
        moments = [call.submitted_at + call.wait_s for _, _, call in self._waiting]
        running = self.running
        if running is not None:
            moments.append(self._deadline(running))
            held_up = self._held_up_since(running)
            if held_up is not None:
                moments.append(held_up + (self.emergency_wait_s or 0.0))
        else:
            moments += [self._deadline(call) for call in self._sent.values()]
        return min(moments, default=None)

    def _begin_at(self, call: Call) -> float:
        """When a history call may be begun."""
        return min(self._history_at, call.submitted_at + HISTORY_HELD_MAX_S)

    def _deadline(self, call: Call) -> float:
        if call.started_at is not None:
            return call.started_at + call.timeout_s + self.grace_s
        # The host may have been busy with another call until it was last heard of.
        begun = max(call.sent_at or 0.0, self._heard_at)
        return begun + call.timeout_s + self.grace_s + self.begin_s

    def _not_started(self, now: float) -> Call | None:
        late = (call for call in self._sent.values() if now >= self._deadline(call))
        return min(late, key=self._deadline, default=None)

    def _held_up_since(self, running: Call) -> float | None:
        """Since when an emergency waits behind a read, None if none does."""
        if self.emergency_wait_s is None or running.method not in CALLS_READ:
            return None
        if running.priority == Priority.EMERGENCY:
            return None
        waiting: Iterable[Call] = (
            call
            for call in (*self._sent.values(), *(call for _, _, call in self._waiting))
            if call.priority == Priority.EMERGENCY and call.started_at is None
        )
        since = min((call.submitted_at for call in waiting), default=None)
        return None if since is None else max(since, running.started_at or since)

    def _drop(self, calls: list[Call]) -> None:
        gone = {call.id for call in calls}
        if gone:
            self._waiting = [entry for entry in self._waiting if entry[1] not in gone]
            heapq.heapify(self._waiting)

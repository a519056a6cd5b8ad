"""The supervised way to a terminal host: queue, deadlines, and a new host for a hung one.

A native call cannot be interrupted and freezes its whole process, so a host can give no sign of
life while it works. Whether it hangs is judged here, by the deadline of the call it said it had
begun. A hung host is killed; the calls that were not begun keep their place and are served by
the next host. A call that was begun is never sent a second time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from threading import Thread, current_thread
from typing import Any

from producers.terminals.client.dispatcher import Dispatcher
from producers.terminals.client.flight import Call, Flight
from producers.terminals.client.life import Attach, Ended, Life
from producers.terminals.client.limits import HostLimits
from producers.terminals.client.link import Link
from producers.terminals.client.order_gate import OrderGate
from producers.terminals.interface import (
    CALLS,
    CALLS_HOST,
    CALLS_TRADE,
    NotSent,
    Priority,
    Reply,
    TerminalLost,
    TerminalUnusable,
)
from producers.terminals.wire import REQUEST_BYTES_MAX, Kind, pack

logger = logging.getLogger(__name__)

CLOSE_JOIN_S = 30.0
IN_FLIGHT_NEAR = 2
EMERGENCY_BACKOFF_S = 1.0
"""While an emergency waits, a host that failed is followed by another at once, then so often."""


@dataclass(frozen=True, slots=True)
class HostState:
    """What a client can tell about its host, at one moment."""

    name: str
    state: str
    """starting, attaching, up, down (waiting before it starts another), closed."""
    pid: int | None
    calls: int
    timeouts: int
    restarts: int
    emergency_kills: int
    unknown_replies: int
    in_flight: int
    queue_length: dict[str, int]
    running: str | None
    running_s: float
    last_error: str
    facts: dict[str, Any]


class HostClient:
    """A `TerminalClient` over one host. Thread-safe; `close` leaves no process behind.

    `open_link` starts a host or connects to one (raises NotSent); it runs in the client's own
    thread. `attach` prepares each new host before it serves, see producers.terminals.attach.
    `on_state` hears of every change of state in the client's thread: it must return at once.
    """

    def __init__(
        self,
        open_link: Callable[[], Link],
        *,
        name: str = "terminal",
        limits: HostLimits | None = None,
        attach: Attach | None = None,
        on_state: Callable[[HostState], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.attached: Any = None
        """What the attach step returned last; None before."""
        self.order_gate: OrderGate | None = None
        """Asked before each order leaves for the host; whom it refuses gets NotSent."""
        self._open_link = open_link
        self._limits = limits or HostLimits()
        self._attach = attach
        self._on_state = on_state
        self._clock = clock
        self._flight = Flight(
            in_flight_max=self._limits.in_flight_max or IN_FLIGHT_NEAR,
            emergency_wait_s=self._limits.emergency_wait_s,
        )
        self._dispatcher = Dispatcher(self._flight, attaches=attach is not None, clock=clock)
        self._ids = count(1)
        self._life: Life | None = None
        self._state = "starting"
        self._pid: int | None = None
        self._closing = self._unusable = False
        self._restarts = self._emergency_kills = 0
        self._last_error = ""
        self._supervisor = Thread(target=self._run, name=f"{name}-supervisor", daemon=True)
        self._supervisor.start()

    def submit(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Future[Reply]:
        """Queue a call. The future raises TerminalHung, NotSent or TerminalLost.

        Raises ValueError for a method no host has, WireError for arguments that cannot cross.
        """
        return self.submit_call(method, args, kwargs, priority=priority, timeout_s=timeout_s)

    def submit_call(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        on_started: Callable[[], None] | None = None,
        by_guard: bool = False,
        still: Callable[[], str | None] | None = None,
    ) -> Future[Reply]:
        """`submit` with the arguments as values; `on_started` runs when the terminal is called.
        `by_guard`: an order of the guard, which its gate lets pass. `still`: asked when an order
        leaves, why its sender does not want that any more."""
        if method not in CALLS and method not in CALLS_HOST:
            raise ValueError(f"{method} is not a function of a terminal")
        limit_s = timeout_s or self._limits.timeout_for(method, priority)
        wait_s = limit_s if method in CALLS_TRADE else self._limits.wait_s
        call_id = next(self._ids)
        now = self._clock()
        # A stale order must not be sent: the host looks too, right before it calls the terminal.
        begin_by_s = now + wait_s if method in CALLS_TRADE else None
        request = (
            int(Kind.CALL), call_id, method, args, kwargs, int(priority), limit_s, begin_by_s
        )  # fmt: skip
        frame = pack(request, bytes_max=REQUEST_BYTES_MAX)
        call = Call(call_id, method, frame, priority, limit_s, wait_s, now)
        call.on_started = on_started
        if method in CALLS_TRADE:
            call.gate = lambda: (
                (still() if still is not None else None) or self._gate_says(args, kwargs, by_guard)
            )
        self._dispatcher.submit(call)
        return call.future

    def call(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Reply:
        """`submit` and wait. Raises TerminalHung, NotSent or TerminalLost."""
        return self.submit(method, *args, priority=priority, timeout_s=timeout_s, **kwargs).result()

    def _gate_says(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], by_guard: bool
    ) -> str | None:
        """Why an order must not go out, or None."""
        gate = self.order_gate
        request = args[0] if args else kwargs.get("request")
        return (
            None if gate is None else gate(request if isinstance(request, dict) else {}, by_guard)
        )

    def restart(self, reason: str) -> None:
        """End the host and start another, for what only its user can see (a wrong account)."""
        with self._dispatcher.changed:
            life = self._life
        if life is not None:
            life.stop(reason)

    def state(self) -> HostState:
        """A snapshot for status and metrics."""
        with self._dispatcher.changed:
            running = self._flight.running
            return HostState(
                name=self.name,
                state=self._state,
                pid=self._pid,
                calls=self._dispatcher.calls,
                timeouts=self._dispatcher.timeouts,
                restarts=self._restarts,
                emergency_kills=self._emergency_kills,
                unknown_replies=self._dispatcher.unknown_replies,
                in_flight=self._flight.in_flight,
                queue_length=self._flight.queue_length(),
                running=running.method if running else None,
                running_s=self._clock() - (running.started_at or 0.0) if running else 0.0,
                last_error=self._last_error,
                facts=dict(self._life.facts) if self._life else {},
            )

    def wait_until_up(self, timeout_s: float) -> None:
        """Raises NotSent with the last cause when the host does not serve in time, and
        TerminalUnusable at once when it never will."""
        with self._dispatcher.changed:
            self._dispatcher.changed.wait_for(
                lambda: self._state in ("up", "closed") or self._unusable, timeout=timeout_s
            )
            if self._state in ("up", "closed"):
                return
            cause = self._last_error or self._state
            if self._unusable:
                raise TerminalUnusable(f"terminal {self.name}: {cause}")
        raise NotSent(f"the terminal {self.name} is not up after {timeout_s:g} s: {cause}")

    def close(self) -> None:
        """End the host, give up all calls. Returns when the process is gone."""
        with self._dispatcher.changed:
            self._closing = True
            life = self._life
            self._dispatcher.changed.notify_all()
        if life is not None:
            life.stop("closed")
        if current_thread() is not self._supervisor:
            self._supervisor.join(CLOSE_JOIN_S)

    def __enter__(self) -> HostClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> None:
        """The supervisor thread: one host after the other."""
        failures = 0
        while not self._closing:
            self._set_state("starting")
            ended = self._one_life()
            if self._closing:
                break
            failures = 0 if ended.up_s >= self._limits.steady_s else failures + 1
            self._note_end(ended)
            wait_s = self._limits.backoff_s[
                min(max(failures - 1, 0), len(self._limits.backoff_s) - 1)
            ]
            least_s = getattr(ended.refusal, "retry_after_s", 0.0)
            in_emergency_s = max(least_s, 0.0 if failures <= 1 else EMERGENCY_BACKOFF_S)
            wait_s = max(wait_s, least_s)
            self._set_state("down")
            self._sleep(wait_s, in_emergency_s=in_emergency_s)
        self._dispatcher.refuse(NotSent(f"the client of {self.name} is closed"))
        self._set_state("closed")

    def _one_life(self) -> Ended:
        try:
            link = self._open_link()
        except TerminalLost as error:
            return Ended(str(error), refusal=error)
        life = Life(
            link,
            self._dispatcher,
            self._flight,
            name=self.name,
            limits=self._limits,
            attach=self._attach,
            ids=self._ids,
            clock=self._clock,
        )
        with self._dispatcher.changed:
            self._life = life
            self._pid = link.pid
        if self._closing:
            life.stop("closed")

        def on_phase(phase: str) -> None:
            if phase == "attached":
                self.attached = life.attached
            else:
                self._set_state(phase)

        try:
            return life.run(on_phase)
        finally:
            with self._dispatcher.changed:
                self._life = None
                self._pid = None

    def _note_end(self, ended: Ended) -> None:
        if ended.refusal is not None:
            self._dispatcher.refuse(ended.refusal)
        if ended.reason != self._last_error:
            logger.warning("terminal %s: %s", self.name, ended.reason)
        with self._dispatcher.changed:
            self._last_error = ended.reason
            self._unusable = isinstance(ended.refusal, TerminalUnusable)
            self._dispatcher.changed.notify_all()
            self._restarts += 1
            self._emergency_kills += ended.for_emergency

    def _emergency_waits(self) -> bool:
        """Whether somebody in an emergency needs the next host at once."""
        with self._dispatcher.changed:
            return bool(self._flight.queue_length()[Priority.EMERGENCY.name.lower()])

    def _sleep(self, wait_s: float, *, in_emergency_s: float) -> None:
        """Wait before the next host; callers are still told when they waited too long."""
        begun = self._clock()
        while not self._closing:
            due = begun + (min(wait_s, in_emergency_s) if self._emergency_waits() else wait_s)
            if self._clock() >= due:
                return
            self._dispatcher.give_up_late()
            with self._dispatcher.changed:
                if not self._closing:
                    self._dispatcher.wait(due)

    def _set_state(self, state: str) -> None:
        with self._dispatcher.changed:
            changed = state != self._state
            self._state = state
            self._dispatcher.changed.notify_all()
        if changed and self._on_state is not None:
            try:
                self._on_state(self.state())
            except Exception:
                logger.exception("terminal %s: its listener failed", self.name)

"""Deadlines and waits of a terminal client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from producers.terminals.interface import CALLS_TRADE, Priority


@dataclass(frozen=True, slots=True)
class HostLimits:
    """All in seconds, on the monotonic clock."""

    call_s: float = 10.0
    """One call, from its beginning at the terminal (WORKER_TIMEOUT)."""
    order_s: float = 30.0
    """`order_send`: a broker's answer may take long, and cutting it leaves its outcome unknown."""
    initialize_s: float = 75.0
    """`initialize` and `login`, which may launch a terminal; above the module's own 60 s."""
    history_s: float = 120.0
    """Calls of priority HISTORY: cold history took 36-95 s on real terminals."""
    wait_s: float = 60.0
    """In the queue, before a call is given up as not sent."""
    start_s: float = 30.0
    """From starting a host until it says that it is ready."""
    emergency_wait_s: float | None = 0.25
    """An emergency bears a running read this long; then the host is killed. None: for ever."""
    backoff_s: Sequence[float] = (1.0, 2.0, 5.0, 10.0, 30.0)
    """Waits before the next host; begins anew after `steady_s` of good service."""
    steady_s: float = 30.0
    in_flight_max: int | None = None
    """Calls with the host at once. None: 2 for one beside us, so that it never idles; 32 where
    answers travel far."""

    def timeout_for(self, method: str, priority: Priority) -> float:
        """The deadline of a call that names none itself."""
        if method in CALLS_TRADE:
            return self.order_s
        if method in ("initialize", "login"):
            return self.initialize_s
        return self.history_s if priority == Priority.HISTORY else self.call_s

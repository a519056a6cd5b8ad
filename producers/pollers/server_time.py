"""What pollers ask of the broker's clock and of the host's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from events.operations import ClockChanged
from events.ticks import OffsetSource, TickArray
from producers.clock.broker_clock import BrokerClock, Segment
from producers.terminals.interface import Reply


class HostTime:
    """UTC by the clock of the terminal's host, as its replies told it last.

    Between replies a real terminal's time goes on; a virtual one stands.
    """

    def __init__(
        self,
        *,
        virtual: bool,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._virtual, self._wall, self._monotonic = virtual, wall, monotonic
        self._lock = threading.Lock()
        self._utc_ms: int | None = None
        self._at = 0.0

    def heard(self, reply: Reply) -> None:
        """Take the time of a reply over."""
        with self._lock:
            self._utc_ms, self._at = reply.utc_ms, self._monotonic()

    @property
    def utc_ms(self) -> int:
        with self._lock:
            if self._utc_ms is None:
                return int(self._wall() * 1000)
            if self._virtual:
                return self._utc_ms
            return self._utc_ms + int((self._monotonic() - self._at) * 1000)


class ServerTime:
    """The broker's clock and the host's, as pollers ask for them. Threads may share one."""

    def __init__(self, clock: BrokerClock, host: HostTime) -> None:
        self.clock, self.host = clock, host

    @property
    def rule(self) -> str:
        """The rule in force, as text; "" when unknown."""
        return str(self.clock.rule or "")

    def observe(self, symbol: str, server_msc: int, reply: Reply) -> None:
        """A newest tick was read: evidence when it advanced."""
        self.clock.observe(symbol, server_msc, reply.utc_ms)

    def offset(self, utc_ms: int) -> tuple[int, OffsetSource]:
        """(server - UTC in s, how it is known) at a moment."""
        return self.clock.offset_now(utc_ms)

    def segments(self, ticks: TickArray, reply: Reply, after_utc_ms: int | None) -> list[Segment]:
        """Ticks of one answer in its order, split where the offset changes. `after_utc_ms`: UTC
        time of the newest tick before them."""
        return self.clock.offset_for(
            ticks["time_msc"], host_utc_ms=reply.utc_ms, after_utc_ms=after_utc_ms
        )

    def segments_of(self, server_ms: npt.NDArray[np.int64]) -> list[Segment]:
        """Server times of the past, oldest first, split where the offset changes."""
        return self.clock.offset_for(server_ms)

    def utc_ms(self, server_ms: int) -> int:
        """UTC of one server time."""
        return self.clock.utc_ms_of_server(server_ms)

    def now_s(self) -> int | None:
        """The server's clock now in whole seconds; None while its offset is unknown."""
        utc_ms = self.host.utc_ms
        offset_s, source = self.offset(utc_ms)
        return None if source is OffsetSource.UNKNOWN else utc_ms // 1000 + offset_s

    def changes(self, server: str) -> list[ClockChanged]:
        """What became known up to now and was not told yet, as events of this server."""
        self.clock.advance(self.host.utc_ms)
        return [change.event(server) for change in self.clock.changes()]

"""What the producer counts and complains about, in one place, for status and metrics."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

RATE_WINDOW_S = 10.0
TEXT_LENGTH_MAX = 500


@dataclass(slots=True)
class SymbolReport:
    """The newest of one symbol's feed."""

    symbol: str
    broker_symbol: str
    state: str = "waiting"
    ticks: int = 0
    last_tick_ms: int | None = None
    last_tick_server_ms: int | None = None
    bid: float = 0.0
    ask: float = 0.0
    last_error: str = ""


@dataclass
class Report:
    """Counters, incidents and the state of each symbol. Threads may share one.

    An incident has a source (a poller, the log, the spool) and is logged once when it begins
    or changes, and once when it is over.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    counters: Counter[str] = field(default_factory=Counter)
    symbols: dict[str, SymbolReport] = field(default_factory=dict)
    last_error: str = ""
    last_error_ms: int | None = None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, str] = {}
        self._ticks: deque[tuple[float, int]] = deque()

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self.counters[name] += number

    def ticks_appended(self, symbol: str, number: int) -> None:
        """Count ticks that are in the log."""
        with self._lock:
            self.counters["ticks_appended"] += number
            self.symbols[symbol].ticks += number
            self._ticks.append((self.monotonic(), number))
            self._forget_old()

    def _forget_old(self) -> None:
        begin = self.monotonic() - RATE_WINDOW_S
        while self._ticks and self._ticks[0][0] < begin:
            self._ticks.popleft()

    @property
    def ticks_per_s(self) -> float:
        """Mean over the last RATE_WINDOW_S."""
        with self._lock:
            self._forget_old()
            return sum(number for _, number in self._ticks) / RATE_WINDOW_S

    def incident(self, source: str, text: str) -> bool:
        """Something is wrong with a source. Returns True (and logs) when that is news."""
        text = text[:TEXT_LENGTH_MAX]
        with self._lock:
            self.counters["errors"] += 1
            self.last_error, self.last_error_ms = f"{source}: {text}", int(self.wall() * 1000)
            news = self._open.get(source) != text
            self._open[source] = text
            if source in self.symbols:
                self.symbols[source].last_error = text
        if news:
            logger.warning("%s: %s", source, text)
        return news

    def recovered(self, source: str) -> bool:
        """The source is well. Returns True (and logs) when it was not."""
        with self._lock:
            was = self._open.pop(source, None)
        if was is not None:
            logger.info("%s: well again (was: %s)", source, was)
        return was is not None

    @property
    def incidents(self) -> dict[str, str]:
        """What is wrong now, by source."""
        with self._lock:
            return dict(self._open)

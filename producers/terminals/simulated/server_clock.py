"""Virtual time, and the broker's wall clock that all times of a terminal are written in."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from events.clock_rules import ClockRule

Int64Array = npt.NDArray[np.int64]
DAY_MS = 86_400_000


class VirtualClock:
    """UTC that runs at `speed` times real time; at speed 0 it stands and is stepped."""

    def __init__(
        self,
        start_utc_ms: int | None,
        speed: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._base_ms = int(wall() * 1000) if start_utc_ms is None else start_utc_ms
        self._since = monotonic()
        self._speed = speed

    @property
    def speed(self) -> float:
        return self._speed

    def utc_ms(self) -> int:
        """Virtual UTC time in ms."""
        with self._lock:
            return self._now_ms()

    def advance(self, step_ms: int) -> int:
        """Move by `step_ms` (a jump when the clock runs). Returns the new time."""
        with self._lock:
            self._base_ms += step_ms
            return self._now_ms()

    def advance_to(self, utc_ms: int) -> int:
        """Move forward to a time; a time in the past changes nothing. Returns the new time."""
        with self._lock:
            self._base_ms += max(0, utc_ms - self._now_ms())
            return self._now_ms()

    def run(self, speed: float) -> None:
        """Go on at another speed; 0 freezes the clock."""
        with self._lock:
            self._base_ms, self._since = self._now_ms(), self._monotonic()
            self._speed = speed

    def _now_ms(self) -> int:
        if not self._speed:
            return self._base_ms
        return self._base_ms + int((self._monotonic() - self._since) * 1000 * self._speed)


class ServerClock:
    """The broker's wall clock: a rule, plus changes nobody announced."""

    def __init__(self, rule: ClockRule) -> None:
        self._rule = rule
        self._shift_times: list[int] = []
        self._shifts_s: list[int] = []

    def shift(self, since_utc_ms: int, seconds: int) -> None:
        """From a moment on the clock is off its rule by `seconds`. Moments must not go back."""
        if self._shift_times and since_utc_ms < self._shift_times[-1]:
            raise ValueError("a clock change lies before an earlier one: give them in order")
        self._shift_times.append(since_utc_ms)
        self._shifts_s.append(seconds)

    def offset_s(self, utc_ms: int) -> int:
        """Server clock minus UTC in seconds at a moment."""
        offset: int = self._rule.offset_s(utc_ms)
        at = bisect_right(self._shift_times, utc_ms)
        return offset + (self._shifts_s[at - 1] if at else 0)

    def offsets_s(self, utc_ms: Int64Array) -> Int64Array:
        """`offset_s` for many moments."""
        if len(utc_ms):
            low, high = self.offset_s(int(utc_ms.min())), self.offset_s(int(utc_ms.max()))
            near = int(utc_ms.max()) - int(utc_ms.min()) < DAY_MS
            if near and low == high and not self._shift_times:
                return np.full(len(utc_ms), low, dtype=np.int64)
        offsets = np.asarray(self._rule.offsets_s(utc_ms), dtype=np.int64)
        if self._shift_times:
            steps = np.array([0, *self._shifts_s], dtype=np.int64)
            offsets = offsets + steps[np.searchsorted(self._shift_times, utc_ms, side="right")]
        return offsets

    def server_ms(self, utc_ms: int) -> int:
        return utc_ms + self.offset_s(utc_ms) * 1000

    def utc_hull(self, from_server_ms: int, to_server_ms: int) -> tuple[int, int]:
        """UTC span that holds every moment whose server time lies in [from, to).

        Where the clock steps inside or near the span the hull is wider than needed: rows read
        from it must still be chosen by their server times.
        """
        probes = range(from_server_ms - DAY_MS, to_server_ms + DAY_MS + 1, DAY_MS // 2)
        offsets = {self.offset_s(probe) for probe in probes}
        near = [t for t in self._shift_times if probes[0] <= t <= probes[-1]]
        offsets |= {self.offset_s(t) for t in near} | {self.offset_s(t - 1) for t in near}
        return from_server_ms - max(offsets) * 1000, to_server_ms - min(offsets) * 1000

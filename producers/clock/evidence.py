"""Live evidence of a server's clock: ticks seen to advance, held against the host's UTC clock.

No function of MT5 tells the server's time; the newest tick is all there is, and on a weekend it
is days old. So only a tick that replaced another one between two looks at most LOOK_S apart is
evidence: it happened in between. Brokers' offsets are multiples of 15 minutes, so a sample is
rounded to them, which absorbs the feed's delay and a host clock that is off by seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

GRID_S = 900
TOLERANCE_S = 60
"""A sample further from a multiple of 15 minutes is no evidence of an offset."""
OFFSET_MAX_S = 14 * 3600
LOOK_S = 60
"""Two looks at a symbol further apart say nothing about when its tick happened."""
AGE_S = 120
"""Samples for an offset count together while none is missing for longer."""
SAMPLES_MIN = 3
SYMBOLS_MIN = 2
SINGLE_SAMPLES_MIN = 10
SINGLE_SPAN_S = 10
"""One symbol alone (or a surprise) must keep up with the host's clock for so long."""
JUMP_S = 600
BACK_S = 2
JUMPS_MAX = 16
JUMP_AGE_S = 900
OFF_GRID_MAX = 20
OFF_GRID_SPREAD_S = 5
OFF_GRID_EVERY_MS = 1_000
SYMBOLS_REMEMBERED_MAX = 2_000


@dataclass(slots=True)
class Tally:
    """Samples that agree on one offset. `first_server_ms` is the first of their ticks."""

    offset_s: int
    first_utc_ms: int
    first_server_ms: int
    last_utc_ms: int
    samples: int = 0
    symbols: set[str] = field(default_factory=set)
    residual_ms: int = 0
    """Of the newest sample: tick time minus host time minus offset. Near 0, or a little below."""

    @property
    def quick(self) -> bool:
        """Enough to confirm what was expected."""
        several = self.samples >= SAMPLES_MIN and len(self.symbols) >= SYMBOLS_MIN
        return several or self.steady

    @property
    def steady(self) -> bool:
        """Enough for one symbol alone, or for a surprise: stale ticks do not keep pace."""
        span_ms = self.last_utc_ms - self.first_utc_ms
        return self.samples >= SINGLE_SAMPLES_MIN and span_ms >= SINGLE_SPAN_S * 1000

    def __str__(self) -> str:
        return (
            f"{self.samples} advancing ticks of {len(self.symbols)} symbols say "
            f"{self.offset_s / 3600:+g} h, residual {self.residual_ms / 1000:+.1f} s"
        )


class Jump(NamedTuple):
    """The host's clock moved by `by_s` between two looks (or nobody looked that long)."""

    utc_ms: int
    by_s: float


class LiveEvidence:
    """Tallies per offset. Fed with every look at a symbol's newest tick."""

    def __init__(self) -> None:
        self.jumps: deque[Jump] = deque(maxlen=JUMPS_MAX)
        self._looks: dict[str, tuple[int, int]] = {}
        self._tallies: dict[int, Tally] = {}
        self._off_grid: deque[tuple[int, int]] = deque(maxlen=OFF_GRID_MAX)
        self._utc_ms: int | None = None

    def observe(self, symbol: str, server_msc: int, utc_ms: int) -> Tally | None:
        """Look at a symbol's newest tick. Returns the tally the sample went into, None when the
        look is no evidence."""
        self._note_jump(utc_ms)
        before = self._looks.get(symbol)
        if before is None and len(self._looks) >= SYMBOLS_REMEMBERED_MAX:
            return None
        if before is not None and server_msc == before[0]:
            self._looks[symbol] = (server_msc, utc_ms)
            return None
        self._looks[symbol] = (server_msc, utc_ms)
        advanced = before is not None and server_msc > before[0]
        if not advanced or before is None or not 0 <= utc_ms - before[1] <= LOOK_S * 1000:
            return None
        return self._sample(symbol, server_msc, utc_ms)

    def _note_jump(self, utc_ms: int) -> None:
        if self._utc_ms is not None:
            by_s = (utc_ms - self._utc_ms) / 1000
            if by_s > JUMP_S or by_s < -BACK_S:
                self.jumps.append(Jump(utc_ms, by_s))
                self.forget_samples()
        self._utc_ms = utc_ms

    def _sample(self, symbol: str, server_msc: int, utc_ms: int) -> Tally | None:
        ahead_ms = server_msc - utc_ms
        offset_s = round(ahead_ms / 1000 / GRID_S) * GRID_S
        residual_ms = ahead_ms - offset_s * 1000
        if abs(residual_ms) > TOLERANCE_S * 1000 or abs(offset_s) > OFFSET_MAX_S:
            if not self._off_grid or utc_ms - self._off_grid[-1][0] >= OFF_GRID_EVERY_MS:
                self._off_grid.append((utc_ms, ahead_ms))
            return None
        tally = self._tallies.get(offset_s)
        if tally is None or utc_ms - tally.last_utc_ms > AGE_S * 1000:
            tally = Tally(offset_s, utc_ms, server_msc, utc_ms)
            self._tallies[offset_s] = tally
        tally.samples += 1
        tally.symbols.add(symbol)
        tally.last_utc_ms = utc_ms
        tally.residual_ms = residual_ms
        return tally

    def best(self, utc_ms: int) -> Tally | None:
        """The highest offset with enough fresh samples: ticks may lag, but none is early."""
        fresh = [
            tally
            for tally in self._tallies.values()
            if utc_ms - tally.last_utc_ms <= AGE_S * 1000 and tally.quick
        ]
        return max(fresh, key=lambda tally: tally.offset_s, default=None)

    def fed_since(self, offset_s: int, utc_ms: int) -> bool:
        """Whether a sample for this offset came at or after a time."""
        tally = self._tallies.get(offset_s)
        return tally is not None and tally.last_utc_ms >= utc_ms

    def off_grid_s(self) -> float | None:
        """Tick time minus host time, when steady samples agree on a value that is no multiple of
        15 minutes: the host's clock is wrong, or every price comes late."""
        if len(self._off_grid) < SINGLE_SAMPLES_MIN:
            return None
        values = [ahead_ms for _, ahead_ms in self._off_grid]
        span_ms = self._off_grid[-1][0] - self._off_grid[0][0]
        newest = max(tally.last_utc_ms for tally in self._tallies.values()) if self._tallies else 0
        steady = max(values) - min(values) <= OFF_GRID_SPREAD_S * 1000
        if not steady or span_ms < SINGLE_SPAN_S * 1000 or newest > self._off_grid[0][0]:
            return None
        return max(values) / 1000

    def jumped_s(self, by_s: int, utc_ms: int) -> float | None:
        """The host clock's jump of late that explains an offset change of `by_s`, if any."""
        for jump in self.jumps:
            recent = utc_ms - jump.utc_ms <= JUMP_AGE_S * 1000
            if recent and abs(jump.by_s + by_s) <= TOLERANCE_S + LOOK_S:
                return jump.by_s
        return None

    def forget_samples(self) -> None:
        """Count anew, for instance after a switch of the clock."""
        self._tallies.clear()
        self._off_grid.clear()

    def forget(self) -> None:
        """Begin anew: after a reconnect ticks may be old ones."""
        self._looks.clear()
        self.forget_samples()

"""The plan of a generated market: for every minute its bar, before any tick is made.

A bar comes first and its ticks are then drawn to fit it, so months of bars cost no ticks and
still agree with them. Prices are whole numbers of price steps, bid side.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producers.terminals.simulated.market import sessions
from producers.terminals.simulated.market.hashing import Float64Array, key_of, normal, uniform
from producers.terminals.simulated.symbols import SymbolSpec

Int64Array = npt.NDArray[np.int64]

OCTAVES = 18  # the walk's longest wave: 2**18 minutes, half a year
DAYS_KEPT_MAX = 450
_SALT_COUNT, _SALT_JITTER, _SALT_BURST, _SALT_CLOSE, _SALT_HIGH, _SALT_LOW = range(100, 106)


@dataclass(frozen=True, slots=True)
class MinutePlan:
    """Parallel arrays over consecutive minutes. `count` 0 means no tick and no bar."""

    minute: Int64Array
    count: Int64Array
    burst: Int64Array
    open: Int64Array
    high: Int64Array
    low: Int64Array
    close: Int64Array

    def part(self, from_minute: int, to_minute: int) -> MinutePlan:
        """The minutes in [from, to)."""
        first = int(self.minute[0]) if len(self.minute) else 0
        cut = slice(max(0, from_minute - first), max(0, to_minute - first))
        return MinutePlan(*(getattr(self, name)[cut] for name in self.__slots__))


class MinutePlanner:
    """Makes plans of one symbol, a UTC day at a time, and keeps the newest used."""

    def __init__(
        self,
        seed: int,
        spec: SymbolSpec,
        *,
        rate: float = 1.0,
        bursts_per_hour: float = 0.0,
        burst_ticks: int = 0,
    ) -> None:
        self.spec = spec
        self.key = key_of(seed, spec.name)
        self._rate = rate
        self._burst_share = bursts_per_hour / 60
        self._burst_ticks = burst_ticks
        self._days: OrderedDict[int, MinutePlan] = OrderedDict()

    @property
    def ticks_per_minute(self) -> float:
        """About how many ticks a busy minute has."""
        usual = self.spec.ticks_per_second * 60 * self._rate * 2
        return usual + self._burst_share * self._burst_ticks

    def day(self, day: int) -> MinutePlan:
        """The plan of a UTC day (days since the epoch)."""
        plan = self._days.get(day)
        if plan is None:
            start = day * sessions.DAY_MINUTES
            plan = self._make(np.arange(start, start + sessions.DAY_MINUTES, dtype=np.int64))
            self._days[day] = plan
            while len(self._days) > DAYS_KEPT_MAX:
                self._days.popitem(last=False)
        else:
            self._days.move_to_end(day)
        return plan

    def span(self, from_minute: int, to_minute: int) -> MinutePlan:
        """The plan of the minutes in [from, to)."""
        days = range(from_minute // sessions.DAY_MINUTES, -(-to_minute // sessions.DAY_MINUTES))
        parts = [self.day(day).part(from_minute, to_minute) for day in days]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return self._make(np.empty(0, dtype=np.int64))
        names = MinutePlan.__slots__
        return MinutePlan(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))

    def _make(self, minutes: Int64Array) -> MinutePlan:
        spec, key = self.spec, self.key
        is_open = sessions.open_minutes(spec.session, minutes)
        busy = sessions.activity(spec.session, minutes)
        jitter = 0.5 + 1.3 * uniform(key, _SALT_JITTER, minutes) ** 2
        wanted = spec.ticks_per_second * 60 * self._rate * busy * jitter
        count = np.floor(wanted + uniform(key, _SALT_COUNT, minutes)).astype(np.int64)
        bursting = uniform(key, _SALT_BURST, minutes) < self._burst_share
        burst = np.where(is_open & bursting & (count > 0), self._burst_ticks, 0)
        count = np.where(is_open, count, 0) + burst
        levels = self._levels(minutes)
        return self._bars(minutes, count, burst, start=levels[:-1], after=levels[1:], busy=busy)

    def _bars(
        self,
        minutes: Int64Array,
        count: Int64Array,
        burst: Int64Array,
        *,
        start: Int64Array,
        after: Int64Array,
        busy: Float64Array,
    ) -> MinutePlan:
        key = self.key
        step_sigma = self._minute_sigma_steps() * np.sqrt(busy)
        drift = np.rint(normal(key, _SALT_CLOSE, minutes) * step_sigma * 0.1).astype(np.int64)
        close = np.where(count > 1, after + drift, start)
        reach_up = np.abs(normal(key, _SALT_HIGH, minutes)) * step_sigma * 0.6
        reach_down = np.abs(normal(key, _SALT_LOW, minutes)) * step_sigma * 0.6
        room = count >= 4  # fewer ticks touch only open and close
        high = np.maximum(start, close) + np.where(room, np.rint(reach_up), 0).astype(np.int64)
        low = np.minimum(start, close) - np.where(room, np.rint(reach_down), 0).astype(np.int64)
        low = np.maximum(low, 1)
        return MinutePlan(minutes, count, burst, start, high, low, np.maximum(close, low))

    def _minute_sigma_steps(self) -> float:
        """Standard deviation of one minute's move in price steps."""
        spec = self.spec
        per_minute = spec.volatility_percent / 100 / np.sqrt(sessions.DAY_MINUTES)
        return float(per_minute * spec.price / spec.step)

    def _levels(self, minutes: Int64Array) -> Int64Array:
        """Price in steps at the start of consecutive minutes and at the end of the last: value
        noise over octaves, whose changes over a minute, an hour or a month are those of a
        random walk."""
        sigma = self.spec.volatility_percent / 100 / np.sqrt(sessions.DAY_MINUTES)
        edges = np.append(minutes, minutes[-1:] + 1)
        walk = np.zeros(len(edges))
        for octave in range(OCTAVES + 1):
            walk += 0.5 * sigma * 2 ** (octave / 2) * self._wave(octave, edges)
        relative = np.where(walk >= 0, 1 + walk, 1 / (1 - walk))  # stays above zero
        levels = np.rint(self.spec.price / self.spec.step * relative).astype(np.int64)
        return np.maximum(levels, 2)

    def _wave(self, octave: int, minutes: Int64Array) -> Float64Array:
        if not len(minutes):
            return np.empty(0)
        node = minutes >> octave
        first = int(node[0])
        places = np.arange(first, int(node[-1]) + 2, dtype=np.int64)
        heights = normal(self.key, octave, places)
        share = (minutes - (node << octave)) / (1 << octave)
        left, right = heights[node - first], heights[node - first + 1]
        wave: Float64Array = left + (right - left) * share
        return wave

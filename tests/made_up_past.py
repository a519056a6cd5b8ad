"""A terminal's past without a terminal, for tests of what is fetched from one."""

from __future__ import annotations

import random

import numpy as np

from events.clock_rules import ClockRule
from events.ticks import RATE_DTYPE, TICK_DTYPE, RateArray, TickArray

STEP_MS = 6 * 3_600_000
RULE = ClockRule.parse("America/New_York+7h")
BEGIN = 1_715_000_000_000 // STEP_MS * STEP_MS
HOUR_MS = 3_600_000


class Killed(Exception):
    """Stands for the end of the process."""


class MadeUp:
    """A terminal with a tick every 20 s, two of each, that may die with each question."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance
        self.asked: list[tuple[str, int, int]] = []
        rows = np.zeros(20_000, TICK_DTYPE)
        rows["time_msc"] = BEGIN + 20_000 * np.arange(len(rows))
        rows["time"] = rows["time_msc"] // 1000
        rows["bid"] = 1.1 + 0.0001 * np.arange(len(rows))
        rows["ask"] = rows["bid"] + 0.0002
        self.rows = np.repeat(rows, 2)

    def _ask(self, what: str, begin: int, until: int) -> None:
        if self._chance is not None and self._chance.random() < 0.4:
            raise Killed
        self.asked.append((what, begin, until))

    def ticks(self, symbol: str, from_server_ms: int, until_server_ms: int) -> TickArray:
        self._ask(symbol, from_server_ms, until_server_ms)
        times = self.rows["time_msc"]
        found: TickArray = self.rows[(times >= from_server_ms) & (times < until_server_ms)]
        return found

    def candles(
        self, symbol: str, timeframe: str, from_server_ms: int, until_server_ms: int
    ) -> RateArray:
        self._ask(f"{symbol}:{timeframe}", from_server_ms, until_server_ms)
        times = np.arange(from_server_ms // 1000, until_server_ms // 1000, 60)
        bars = np.zeros(len(times), RATE_DTYPE)
        bars["time"] = times
        return bars

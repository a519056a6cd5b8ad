"""Ticks that are made up, for tests of what walks over them."""

from __future__ import annotations

import numpy as np

from events.ticks import TICK_DTYPE, OffsetSource, TickArray, TickBatch

SPREAD = 1e-4


def random_walk(
    count: int, *, start_ms: int, step_ms: int, seed: int, price: float = 1.1, move: float = 2e-5
) -> TickArray:
    """Prices that wander from `price` by `move` per tick; one tick each `step_ms` of the broker's
    clock."""
    chance = np.random.default_rng(seed)
    rows = np.zeros(count, TICK_DTYPE)
    rows["time_msc"] = start_ms + np.arange(count) * step_ms
    rows["time"] = rows["time_msc"] // 1000
    middle = price + np.cumsum(chance.normal(0, move, count))
    rows["bid"] = np.round(middle, 5)
    rows["ask"] = np.round(middle + SPREAD, 5)
    rows["flags"] = 6
    return rows


def batch_of(rows: TickArray, symbol: str, *, offset_s: int = 0) -> TickBatch:
    """One entry of them."""
    newest_ms = int(rows["time_msc"][-1]) - offset_s * 1000
    return TickBatch(symbol, rows, offset_s, OffsetSource.LIVE, newest_ms, newest_ms)

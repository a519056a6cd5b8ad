"""The recorded quotes at chosen moments: what a broker could have filled at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from consumers.strategies.running.tick_run import TickRun


class Quote(NamedTuple):
    """Bid and ask, and when they came (UTC ms)."""

    time_ms: int
    bid: float
    ask: float

    def price(self, side: int) -> float:
        """What an order of this side (0 buy, 1 sell) is filled at."""
        return self.bid if side else self.ask


@dataclass(slots=True)
class _Moments:
    """Of one symbol, ascending."""

    times: npt.NDArray[np.int64]
    found: list[list[Quote]]
    """Of each: the newest quote before it, and those of its own millisecond."""


class QuotesAt:
    """Collects, while ticks pass, what was quoted at some moments."""

    def __init__(self, moments: Iterable[tuple[str, int]]) -> None:
        """Each is (symbol, UTC ms)."""
        wanted: dict[str, set[int]] = {}
        for symbol, time_ms in moments:
            wanted.setdefault(symbol, set()).add(time_ms)
        self._of = {
            symbol: _Moments(np.array(sorted(times), np.int64), [[] for _ in times])
            for symbol, times in wanted.items()
        }

    def pass_over(self, run: TickRun) -> None:
        """Look at some ticks; late ones of a later run are older than those before."""
        for symbol in run.symbols:
            asked = self._of.get(symbol)
            if asked is None:
                continue
            rows = run.indexes_of(symbol)
            chosen = slice(None) if rows is None else rows
            times, bid, ask = run.time_ms[chosen], run.bid[chosen], run.ask[chosen]
            priced = (bid > 0) & (ask > 0)
            order = np.argsort(times[priced], kind="stable")
            times, bid, ask = times[priced][order], bid[priced][order], ask[priced][order]
            if len(times):
                _note(asked, times, bid, ask)

    def at(self, symbol: str, time_ms: int) -> list[Quote]:
        """The newest quote before a moment, and those of that very millisecond; oldest first."""
        asked = self._of.get(symbol)
        if asked is None:
            return []
        place = int(np.searchsorted(asked.times, time_ms))
        if place >= len(asked.times) or asked.times[place] != time_ms:
            return []
        return asked.found[place]


def _note(
    asked: _Moments,
    times: npt.NDArray[np.int64],
    bid: npt.NDArray[np.float64],
    ask: npt.NDArray[np.float64],
) -> None:
    first = int(np.searchsorted(asked.times, times[0], side="left"))
    lows = np.searchsorted(times, asked.times[first:], side="left") - 1
    highs = np.searchsorted(times, asked.times[first:], side="right")
    for place, low, high in zip(
        range(first, len(asked.times)), lows.tolist(), highs.tolist(), strict=True
    ):
        now_ms = int(asked.times[place])
        fresh = [
            Quote(int(times[row]), float(bid[row]), float(ask[row]))
            for row in range(max(low, 0), high)
        ]
        known = asked.found[place] + fresh
        exact = [one for one in known if one.time_ms == now_ms]
        before = [one for one in known if one.time_ms < now_ms]
        newest = max(before, key=lambda one: one.time_ms, default=None)
        asked.found[place] = ([newest] if newest is not None else []) + exact

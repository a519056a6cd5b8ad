"""A run of ticks as a broker reads it: each symbol's usable prices, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from consumers.backtest.broker.prices.hours import WeeklyHours
from consumers.strategies.running.tick_run import TickRun

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_LOOK_BACK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """The ticks of one symbol that have a bid and an ask, oldest first."""

    at: npt.NDArray[np.intp] | None
    """Their indexes in the run; None: all of its ticks are these."""
    bid: Floats
    ask: Floats
    time_ms: Ints
    flags: npt.NDArray[np.uint32]
    open: npt.NDArray[np.bool_] | None
    """In which of them the symbol trades; None: in all."""

    def __len__(self) -> int:
        return len(self.bid)

    def before(self, index: int) -> int:
        """How many of them lie before an index of the run."""
        if self.at is None:
            return min(max(index, 0), len(self.bid))
        return int(np.searchsorted(self.at, index, "left"))

    def index(self, place: int) -> int:
        """Where one of them stands in the run."""
        return place if self.at is None else int(self.at[place])


class Tape:
    """One run. Everything is computed when it is first asked for; `since_ms` is the time the
    broker has come to before it."""

    def __init__(self, run: TickRun, *, since_ms: int, hours: Mapping[str, WeeklyHours]) -> None:
        self.run = run
        self._since_ms = since_ms
        self._hours = hours
        self._prices: dict[str, Prices] = {}

    @cached_property
    def clock_ms(self) -> Ints:
        """UTC at each tick as far as the broker's time goes: it never goes back."""
        reached = self.run.clock_ms
        return np.maximum(reached, self._since_ms) if self._since_ms > reached[0] else reached

    @cached_property
    def server_ms(self) -> Ints:
        """The broker's wall clock at each tick, without the hour it is put back."""
        return self.run.clock_server_ms

    def first_after(self, time_ms: int, first: int, stop: int) -> int:
        """The first tick from `first` on that is later than a time; `stop`: none is."""
        return first + int(np.searchsorted(self.clock_ms[first:stop], time_ms, "right"))

    def first_at(self, time_ms: int, first: int, stop: int) -> int:
        """The first tick from `first` on at a time or later."""
        return first + int(np.searchsorted(self.clock_ms[first:stop], time_ms, "left"))

    def first_on(self, server_ms: int, first: int, stop: int) -> int:
        """The first tick from `first` on at a time of the broker's clock or later."""
        return first + int(np.searchsorted(self.server_ms[first:stop], server_ms, "left"))

    def prices(self, symbol: str) -> Prices:
        """A symbol's usable ticks; none if the run has none of it."""
        found = self._prices.get(symbol)
        if found is None:
            found = self._prices[symbol] = self._read(symbol)
        return found

    def last(self, symbol: str) -> tuple[float, float, int] | None:
        """(bid, ask, time) of the newest usable tick of a symbol in the run."""
        if symbol in self._prices:
            prices = self._prices[symbol]
            place = len(prices) - 1
            if place < 0:
                return None
            return float(prices.bid[place]), float(prices.ask[place]), int(prices.time_ms[place])
        return self._last_read(symbol)

    def _last_read(self, symbol: str) -> tuple[float, float, int] | None:
        """From the end backwards, so that a run nobody traded in is not read whole."""
        run = self.run
        if symbol not in run.symbols:
            return None
        number = run.symbols.index(symbol)
        stop = len(run)
        while stop > 0:
            first = max(0, stop - _LOOK_BACK)
            good = (run.bid[first:stop] > 0) & (run.ask[first:stop] > 0)
            if run.symbol is not None:
                good &= run.symbol[first:stop] == number
            found = np.flatnonzero(good)
            if len(found):
                at = first + int(found[-1])
                return float(run.bid[at]), float(run.ask[at]), int(run.time_ms[at])
            stop = first
        return None

    def _read(self, symbol: str) -> Prices:
        run, at = self.run, self.run.indexes_of(symbol)
        bid, ask = (run.bid, run.ask) if at is None else (run.bid[at], run.ask[at])
        good = (bid > 0) & (ask > 0)
        if not good.all():
            at = np.flatnonzero(good) if at is None else at[good]
        hours = self._hours.get(symbol)
        if at is None:
            server_ms = run.time_server_ms
            is_open = None if hours is None else hours.open_during(server_ms)
            return Prices(None, bid, ask, run.time_ms, run.flags, is_open)
        is_open = None if hours is None else hours.open_during(run.time_server_ms[at])
        return Prices(at, run.bid[at], run.ask[at], run.time_ms[at], run.flags[at], is_open)

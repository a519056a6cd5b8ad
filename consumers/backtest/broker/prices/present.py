"""Prices and time as the broker has them at one tick of a run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from consumers.backtest.broker.prices.hours import WeeklyHours
from consumers.backtest.broker.prices.tape import Tape
from consumers.strategies.running.tick_run import TickRun

Seen = tuple[float, float, int]
"""Bid, ask, and the time of the tick (UTC ms)."""
Series = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


class Present:
    """Where the broker stands in a run. It serves a trade server as quotes, clock and hours, and
    sees no tick behind its own."""

    def __init__(
        self,
        symbols: tuple[str, ...],
        *,
        rates: Mapping[str, float],
        hours: Mapping[str, WeeklyHours],
        quote_age_max_ms: int,
    ) -> None:
        self._symbols = symbols
        self._hours = hours
        self._quote_age_max_ms = quote_age_max_ms
        self._carried: dict[str, Seen] = {}
        self._rates = {symbol: (rate, rate) for symbol, rate in rates.items()}
        self._seen: dict[str, Seen | None] = {}
        self._index = -1
        self._moment = 0
        self._offset_s = 0
        self._tape: Tape | None = None

    def enter(self, run: TickRun, now_ms: int) -> Tape:
        """Go on with a run; what the one before showed last stays known."""
        tape = self._tape
        if tape is not None and tape.run is run:
            return tape
        if tape is not None:
            for symbol in self._symbols:
                last = tape.last(symbol)
                if last is not None:
                    self._carried[symbol] = last
        self._tape = tape = Tape(run, since_ms=now_ms, hours=self._hours)
        self._move(-1)
        if len(run):
            self._offset_s = int(run.time_server_ms[0] - run.time_ms[0]) // 1000
        return tape

    def stand(self, index: int) -> None:
        """See everything up to and with one tick of the run; -1: nothing of it yet."""
        if index == self._index:
            return
        self._move(index)
        assert self._tape is not None
        run = self._tape.run
        if index >= 0:
            self._offset_s = int(run.time_server_ms[index] - run.time_ms[index]) // 1000

    def _move(self, index: int) -> None:
        self._index = index
        self._moment += 1
        self._seen.clear()

    def seen(self, symbol: str) -> Seen | None:
        """The newest tick of a symbol."""
        if symbol in self._seen:
            return self._seen[symbol]
        found = self._carried.get(symbol)
        if self._tape is not None and self._index >= 0:
            prices = self._tape.prices(symbol)
            place = prices.before(self._index + 1) - 1
            if place >= 0:
                found = (
                    float(prices.bid[place]),
                    float(prices.ask[place]),
                    int(prices.time_ms[place]),
                )
        self._seen[symbol] = found
        return found

    def series(self, symbol: str, first: int, stop: int) -> Series | tuple[float, float] | None:
        """Bids and asks of a symbol at each tick of a part of the run; two numbers where they
        are the same for all of them."""
        assert self._tape is not None
        prices = self._tape.prices(symbol)
        if prices.at is None:
            return prices.bid[first:stop], prices.ask[first:stop]
        low, high = prices.before(first), prices.before(stop)
        before = self._before(symbol, low)
        if low == high or not len(prices):
            return before
        places = np.searchsorted(prices.at[low:high], np.arange(first, stop), "right") - 1
        bid, ask = (column[low:high][np.maximum(places, 0)] for column in (prices.bid, prices.ask))
        if places[0] >= 0:
            return bid, ask
        if before is None:
            before = (float(bid[0]), float(ask[0]))  # nothing was known: as it will be first
        early = places < 0
        return np.where(early, before[0], bid), np.where(early, before[1], ask)

    def _before(self, symbol: str, place: int) -> tuple[float, float] | None:
        assert self._tape is not None
        prices = self._tape.prices(symbol)
        if place > 0:
            return float(prices.bid[place - 1]), float(prices.ask[place - 1])
        carried = self._carried.get(symbol)
        return self._rates.get(symbol) if carried is None else carried[:2]

    # What a trade server asks for; times are not looked at, since it always stands here ----------

    def at(self, symbol: str, utc_ms: int) -> tuple[float, float] | None:
        """(bid, ask) now; None: nothing was seen of it yet."""
        found = self.seen(symbol)
        return self._rates.get(symbol) if found is None else found[:2]

    def moment(self, utc_ms: int) -> int:
        """Another number whenever another tick is the newest."""
        return self._moment

    def offset_s(self, utc_ms: int) -> int:
        """Server time minus UTC at the tick."""
        return self._offset_s

    def server_ms(self, utc_ms: int) -> int:
        return utc_ms + self._offset_s * 1000

    def is_open(self, symbol: str, utc_ms: int) -> bool:
        """Within its hours, and with a tick that is not too old."""
        hours = self._hours.get(symbol)
        if hours is not None and not hours.open_at(self.server_ms(utc_ms)):
            return False
        found = self.seen(symbol)
        return found is not None and utc_ms - found[2] <= self._quote_age_max_ms

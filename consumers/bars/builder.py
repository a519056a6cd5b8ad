"""Closed bars from ticks, one tick at a time or an array at once with the same results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from consumers.bars.bar import Bar
from consumers.bars.forming import FormingBar
from events.candles import TIMEFRAME_SECONDS, opening_times
from events.market import Instrument

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Price = Literal["bid", "last"]
CHART_MODE_LAST = 1
"""SYMBOL_CHART_MODE_LAST of MT5."""


class TickColumns(Protocol):
    """Ticks as columns of one length; a `TickRun` of strategies is one."""

    @property
    def time_ms(self) -> Ints: ...
    @property
    def time_server_ms(self) -> Ints: ...
    @property
    def bid(self) -> Floats: ...
    @property
    def ask(self) -> Floats: ...
    @property
    def last(self) -> Floats: ...
    @property
    def volume(self) -> Floats: ...


class ClosedBar(NamedTuple):
    """A bar, and the index of the tick that closed it: the first tick of a later bar."""

    at: int
    bar: Bar


class _Stretch(NamedTuple):
    """Ticks with a price, all under one offset. `place` is their index in what was given."""

    offset_ms: int
    place: npt.NDArray[np.intp]
    time_ms: Ints
    opened_s: Ints
    price: Floats
    spread: Floats
    volume: Floats

    def part(self, chosen: Any) -> _Stretch:
        columns: list[Any] = [column[chosen] for column in self[1:]]
        return _Stretch(self.offset_ms, *columns)


class BarBuilder:
    """Bars of one symbol and timeframe in the broker's time, as MT5's `copy_rates` has them.

    A bar closes with the first tick of a later one, as in MT5, and is final: a tick that comes
    for a bar that closed is counted (`late_ticks`) and left out. While a bar forms, its first and
    last price are those of its earliest and latest tick. Rows without a price or a time count for
    nothing. Where the clock is put back, bars up to 30 minutes come twice under one server time
    (their UTC times differ) and longer ones hold both showings.

    The bar in which the ticks begin lacks its beginning, so it is not given, unless
    `whole_first`. `price="last"` builds of last prices where there are some, as MT5 does for
    symbols whose `chart_mode` says so. `learn` takes both facts from an instrument.
    """

    def __init__(
        self,
        symbol: str,
        timeframe: str,
        *,
        point: float = 0.0,
        price: Price = "bid",
        whole_first: bool = False,
    ) -> None:
        """Raises ValueError on an unknown timeframe or price."""
        if timeframe not in TIMEFRAME_SECONDS:
            known = ", ".join(TIMEFRAME_SECONDS)
            raise ValueError(f"no timeframe {timeframe!r}: MT5 has {known}")
        if price not in ("bid", "last"):
            raise ValueError(f"bars are built of 'bid' or 'last', not {price!r}")
        self.symbol, self.timeframe = symbol, timeframe
        self.point, self.price = point, price
        self.late_ticks = 0
        self._whole_first = whole_first
        self._forming: FormingBar | None = None

    def learn(self, instrument: Instrument) -> None:
        """Build from here on by the facts of the symbol."""
        self.point = instrument.point
        self.price = "last" if instrument.chart_mode == CHART_MODE_LAST else "bid"

    @property
    def forming(self) -> Bar | None:
        """The bar that is not closed yet, as it stands now."""
        forming = self._forming
        return None if forming is None else forming.closed(self.symbol, self.timeframe, self.point)

    def update(
        self,
        time_ms: int,
        time_server_ms: int,
        bid: float,
        ask: float,
        last: float = 0.0,
        volume: float = 0.0,
    ) -> Bar | None:
        """Take a tick; the bar that it closed."""
        price = last if self.price == "last" and last > 0 else bid
        if not price > 0 or time_server_ms <= 0:
            return None
        opened_s = self._opening(time_server_ms // 1000)
        spread = ask - bid if ask > 0 and bid > 0 else float("inf")
        return self._take(
            opened_s, time_ms, time_server_ms - time_ms, price=price, spread=spread, volume=volume
        )

    def _opening(self, time_s: int) -> int:
        """`opening_times` of one time, without an array where lengths are even."""
        if self.timeframe in ("W1", "MN1"):
            return int(opening_times(np.array([time_s]), self.timeframe)[0])
        return time_s - time_s % TIMEFRAME_SECONDS[self.timeframe]

    def _take(
        self,
        opened_s: int,
        time_ms: int,
        offset_ms: int,
        *,
        price: float,
        spread: float,
        volume: float,
    ) -> Bar | None:
        forming, closed = self._forming, None
        if forming is None:
            forming = FormingBar(opened_s, time_ms, offset_ms, whole=self._whole_first)
        elif opened_s != forming.opened_s:
            if not forming.comes_after(opened_s, time_ms, offset_ms):
                self.late_ticks += 1
                return None
            closed, forming = self._next(forming, opened_s, time_ms, offset_ms)
        self._forming = forming
        forming.add(time_ms, offset_ms, price=price, spread=spread, volume=volume)
        return closed

    def _next(
        self, forming: FormingBar, opened_s: int, time_ms: int, offset_ms: int
    ) -> tuple[Bar | None, FormingBar]:
        """The bar that ends, if it may be given, and the one that begins."""
        closed = forming.closed(self.symbol, self.timeframe, self.point) if forming.whole else None
        begun = FormingBar(opened_s, time_ms, offset_ms, whole=True)
        if offset_ms == forming.offset_ms:
            begun.before_ms = forming.before_ms
        else:
            begun.before_ms = forming.offset_ms
        return closed, begun

    def update_many(
        self, ticks: TickColumns, indexes: npt.NDArray[np.intp] | None = None
    ) -> list[ClosedBar]:
        """Take many ticks (of them those at `indexes`, when only some are of this symbol); the
        bars they closed, with the index of the tick that closed each."""
        closed: list[ClosedBar] = []
        for stretch in self._stretches(ticks, indexes):
            begun = 0
            while begun < len(stretch.price) and not self._knows(stretch.offset_ms):
                bar = self._take(
                    int(stretch.opened_s[begun]), int(stretch.time_ms[begun]), stretch.offset_ms,
                    price=float(stretch.price[begun]), spread=float(stretch.spread[begun]),
                    volume=float(stretch.volume[begun]),
                )  # fmt: skip
                if bar is not None:
                    closed.append(ClosedBar(int(stretch.place[begun]), bar))
                begun += 1
            if begun < len(stretch.price):
                closed += self._take_many(stretch.part(slice(begun, None)) if begun else stretch)
        return closed

    def _knows(self, offset_ms: int) -> bool:
        return self._forming is not None and self._forming.offset_ms == offset_ms

    def _stretches(
        self, ticks: TickColumns, indexes: npt.NDArray[np.intp] | None
    ) -> Iterator[_Stretch]:
        server, bid = ticks.time_server_ms, ticks.bid
        price = bid if self.price == "bid" else np.where(ticks.last > 0, ticks.last, bid)
        good = (price > 0) & (server > 0)
        if indexes is not None:
            index = indexes[good[indexes]]
        elif good.all():
            index = np.arange(len(server))
        else:
            index = np.flatnonzero(good)
        if not len(index):
            return
        columns: list[Any] = [ticks.time_ms, server, price, bid, ticks.ask, ticks.volume]
        if len(index) < len(server):
            columns = [column[index] for column in columns]
        time_ms, server, price, bid, ask, volume = columns
        spread = np.where((ask > 0) & (bid > 0), ask - bid, np.inf)
        opened_s = opening_times(server // 1000, self.timeframe)
        offset = server - time_ms
        cuts = (np.flatnonzero(offset[1:] != offset[:-1]) + 1).tolist()
        for low, high in zip([0, *cuts], [*cuts, len(index)], strict=True):
            cut = slice(low, high)
            yield _Stretch(
                int(offset[low]), index[cut], time_ms[cut], opened_s[cut], price[cut],
                spread[cut], volume[cut],
            )  # fmt: skip

    def _take_many(self, ticks: _Stretch) -> list[ClosedBar]:
        """Ticks under the offset of the forming bar."""
        forming = self._forming
        assert forming is not None
        reached = np.maximum(np.maximum.accumulate(ticks.opened_s), forming.opened_s)
        late = ticks.opened_s < reached
        if late.any():
            self.late_ticks += int(late.sum())
            ticks = ticks.part(~late)
        if not len(ticks.price):
            return []
        ordered = ticks
        if (ticks.time_ms[1:] < ticks.time_ms[:-1]).any():
            # within their bars only: bars of one offset lie apart in time
            ordered = ticks.part(np.argsort(ticks.time_ms, kind="stable"))
        begins = np.flatnonzero(ticks.opened_s[1:] != ticks.opened_s[:-1]) + 1
        begins = np.concatenate([np.zeros(1, begins.dtype), begins])
        return self._merge(ticks, ordered, begins)

    def _merge(
        self, ticks: _Stretch, ordered: _Stretch, begins: npt.NDArray[np.intp]
    ) -> list[ClosedBar]:
        """Each run of ticks that belongs to one bar, into that bar. `ordered` is by time."""
        ends = np.append(begins[1:], len(ticks.price)) - 1
        highs = np.maximum.reduceat(ticks.price, begins)
        lows = np.minimum.reduceat(ticks.price, begins)
        spreads = np.minimum.reduceat(ticks.spread, begins)
        rows = zip(
            ticks.opened_s[begins].tolist(), ticks.place[begins].tolist(),
            ordered.time_ms[begins].tolist(), ordered.time_ms[ends].tolist(),
            ordered.price[begins].tolist(), ordered.price[ends].tolist(),
            highs.tolist(), lows.tolist(), spreads.tolist(),
            begins.tolist(), (ends + 1).tolist(), strict=True,
        )  # fmt: skip
        traded, closed = bool(ticks.volume.any()), []
        forming = self._forming
        assert forming is not None
        for opened_s, index, first_ms, last_ms, opening, closing, high, low, spread, a, b in rows:
            if opened_s != forming.opened_s:
                bar, forming = self._next(forming, opened_s, first_ms, ticks.offset_ms)
                if bar is not None:
                    closed.append(ClosedBar(index, bar))
                forming.open, forming.close, forming.last_ms = opening, closing, last_ms
                forming.high, forming.low, forming.spread = high, low, spread
            else:
                if first_ms < forming.first_ms:
                    forming.first_ms, forming.open = first_ms, opening
                if last_ms >= forming.last_ms:
                    forming.last_ms, forming.close = last_ms, closing
                forming.high, forming.low = max(forming.high, high), min(forming.low, low)
                forming.spread = min(forming.spread, spread)
            forming.tick_volume += b - a
            if traded:  # one after the other, as a loop rounds
                for volume in ticks.volume[a:b].tolist():
                    forming.real_volume += volume
        self._forming = forming
        return closed

    def state(self) -> dict[str, Any]:
        """All there is to know, as plain values."""
        forming = None if self._forming is None else self._forming.state()
        return {
            "symbol": self.symbol, "timeframe": self.timeframe, "price": self.price,
            "late_ticks": self.late_ticks, "forming": forming,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`. Raises ValueError when it is of another builder."""
        own = (self.symbol, self.timeframe)
        if tuple(state.get(name) for name in ("symbol", "timeframe")) != own:
            raise ValueError(f"this is no state of bars of {self.symbol} {self.timeframe}")
        self.price = state["price"]
        self.late_ticks = int(state["late_ticks"])
        forming = state["forming"]
        self._forming = None if forming is None else FormingBar.of(forming)

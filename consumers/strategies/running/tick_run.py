"""Ticks in the order they are to be seen, as columns: what strategies and the backtest walk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import repeat
from operator import length_hint
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from consumers.strategies.authoring.tick import Tick
from events.ticks import TICK_DTYPE, TickArray

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_COLUMNS = (
    ("bid", "bid", np.float64), ("ask", "ask", np.float64), ("last", "last", np.float64),
    ("volume", "volume_real", np.float64), ("flags", "flags", np.uint32),
)  # fmt: skip
"""Our name, the field of MT5's record, the type."""
BLOCK_TICKS = 8_192
"""So many records stay in a processor's cache while columns are cut out of them."""


class _Batch(Protocol):
    """What a run is made of: a `TickBatch`, or anything of its shape."""

    symbol: str
    offset_s: int

    @property
    def ticks(self) -> TickArray: ...


@dataclass(eq=False)
class TickRun:
    """Ticks of one or several symbols. Every column has one value per tick; nobody changes one.

    Floats are prices and lots, times are ms. `symbol` numbers the symbols of `symbols`; None: all
    ticks are of `symbols[0]`. Part `k` (`starts[k]` up to the next) came out of `places[k]`.
    """

    symbols: tuple[str, ...]
    time_ms: Ints
    """UTC."""
    time_server_ms: Ints
    """The broker's wall clock."""
    bid: Floats
    ask: Floats
    last: Floats
    volume: Floats
    flags: npt.NDArray[np.uint32]
    symbol: npt.NDArray[np.int32] | None = None
    starts: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    places: tuple[str, ...] = ("",)
    unpriced: Mapping[str, int] = field(default_factory=dict)
    """Rows without a bid or an ask that were left out when it was made, by symbol."""

    @classmethod
    def of(cls, batch: _Batch, place: str = "") -> TickRun:
        """One batch; `place` names the entry it came in. Rows without prices are left out."""
        ticks = batch.ticks
        server, columns = _columns_of(ticks)
        if _lacks_prices(columns):
            ticks = priced(ticks)
            server, columns = _columns_of(ticks)
        lacking = len(batch.ticks) - len(ticks)
        return cls(
            (batch.symbol,), server - batch.offset_s * 1000, server, places=(place,),
            unpriced={batch.symbol: lacking} if lacking else {}, **columns,
        )  # fmt: skip

    @classmethod
    def joined(cls, batches: Iterable[_Batch], places: Sequence[str] = ()) -> TickRun:
        """Several batches one behind the other, as recorded streams are to be seen. Rows without
        prices are left out."""
        found = [batch for batch in batches]
        if len(found) == 1:
            return cls.of(found[0], *places[:1])
        symbols = tuple(dict.fromkeys(batch.symbol for batch in found))
        number = {symbol: index for index, symbol in enumerate(symbols)}
        ticks = [batch.ticks for batch in found]
        server, columns = _columns_of(_concatenated(ticks))
        if _lacks_prices(columns):
            ticks = [priced(one) for one in ticks]
            server, columns = _columns_of(_concatenated(ticks))
        counts = np.array([*map(len, ticks)], np.int64)
        offsets = np.repeat(np.array([b.offset_s * 1000 for b in found], np.int64), counts)
        of = np.repeat(np.array([number[b.symbol] for b in found], np.int32), counts)
        starts = np.cumsum(counts) - counts if found else np.zeros(1, np.int64)
        named = tuple(places) or ("",) * max(1, len(found))
        unpriced: dict[str, int] = {}
        for batch, left in zip(found, ticks, strict=True):
            if lacking := len(batch.ticks) - len(left):
                unpriced[batch.symbol] = unpriced.get(batch.symbol, 0) + lacking
        return cls(
            symbols, server - offsets, server, unpriced=unpriced,
            symbol=of if len(symbols) > 1 else None, starts=starts, places=named, **columns,
        )  # fmt: skip

    @classmethod
    def merged(cls, batches: Iterable[_Batch]) -> TickRun:
        """Several batches by time (UTC); what is of the same ms keeps the order given."""
        run = cls.joined(batches)
        if run.symbol is None and run.clock_ms is run.time_ms:
            return run
        order = np.argsort(run.time_ms, kind="stable")
        return replace(run.picked(order), unpriced=run.unpriced)

    def picked(self, order: npt.NDArray[np.intp]) -> TickRun:
        """Those ticks in that order; what entry each came from is not known any more."""
        columns: dict[str, Any] = {name: getattr(self, name)[order] for name, _, _ in _COLUMNS}
        symbol = None if self.symbol is None else self.symbol[order]
        return TickRun(
            self.symbols, self.time_ms[order], self.time_server_ms[order], symbol=symbol, **columns
        )

    def part(self, first: int, stop: int) -> TickRun:
        """The ticks `first` to `stop` (not included), as views."""
        cut = slice(first, stop)
        columns: dict[str, Any] = {name: getattr(self, name)[cut] for name, _, _ in _COLUMNS}
        begin = int(np.searchsorted(self.starts, first, "right")) - 1
        end = max(begin + 1, int(np.searchsorted(self.starts, stop, "left")))
        return TickRun(
            self.symbols, self.time_ms[cut], self.time_server_ms[cut],
            symbol=None if self.symbol is None else self.symbol[cut],
            starts=np.maximum(self.starts[begin:end] - first, 0),
            places=self.places[begin:end], **columns,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.time_ms)

    @cached_property
    def mid(self) -> Floats:
        """Between bid and ask."""
        return (self.bid + self.ask) / 2

    @cached_property
    def clock_ms(self) -> Ints:
        """UTC as far as time has come at each tick: it never goes back."""
        return _forward(self.time_ms)

    @cached_property
    def clock_server_ms(self) -> Ints:
        """The broker's wall clock likewise, without the hour it is put back."""
        return _forward(self.time_server_ms)

    @property
    def spread(self) -> Floats:
        """Ask less bid."""
        return self.ask - self.bid

    @cached_property
    def as_told(self) -> list[tuple[npt.NDArray[Any], float | int | None]]:
        """The columns of a `Tick` behind its symbol; with the value of those that never change,
        such as the last price where the broker tells none."""
        changing = (self.time_ms, self.bid, self.ask)
        others = (self.last, self.volume, self.flags)
        return [
            *((column, None) for column in changing),
            *((column, _constant(column)) for column in others),
            (self.mid, None),
        ]

    def symbol_of(self, index: int) -> str:
        """Whose tick it is."""
        return self.symbols[0 if self.symbol is None else int(self.symbol[index])]

    def place_of(self, index: int) -> str:
        """The entry a tick came in; empty when that is not known."""
        return self.places[int(np.searchsorted(self.starts, index, "right")) - 1]

    def indexes_of(self, symbol: str) -> npt.NDArray[np.intp] | None:
        """Which ticks are a symbol's; None: all of them."""
        if self.symbol is None:
            return None if symbol in self.symbols else np.zeros(0, np.intp)
        if symbol not in self.symbols:
            return np.zeros(0, np.intp)
        return np.flatnonzero(self.symbol == self.symbols.index(symbol))

    def indexes_among(self, symbols: Iterable[str]) -> npt.NDArray[np.intp] | None:
        """Which ticks are of any of those symbols; None: all of them."""
        wanted = frozenset(symbols)
        numbers = [number for number, one in enumerate(self.symbols) if one in wanted]
        if self.symbol is None or len(numbers) == len(self.symbols):
            return None if numbers else np.zeros(0, np.intp)
        return np.flatnonzero(np.isin(self.symbol, numbers))

    def walk(self, first: int, stop: int) -> TickWalk:
        """The ticks as `Tick`s, one after the other."""
        return TickWalk(self, first, stop)


def _columns_of(rows: TickArray) -> tuple[Ints, dict[str, Any]]:
    """Server times, and the other columns by our names. Copies, so that no way leads from a column
    to other ticks; made block by block, so that the records pass through memory once."""
    count = len(rows)
    columns: dict[str, Any] = {name: np.empty(count, kind) for name, _, kind in _COLUMNS}
    server = np.empty(count, np.int64)
    for first in range(0, count, BLOCK_TICKS):
        block = slice(first, first + BLOCK_TICKS)
        part = rows[block]
        server[block] = part["time_msc"]
        for name, source, _ in _COLUMNS:
            columns[name][block] = part[source]
    return server, columns


def _concatenated(ticks: Sequence[TickArray]) -> TickArray:
    return np.concatenate(ticks) if ticks else np.zeros(0, TICK_DTYPE)


def _lacks_prices(columns: Mapping[str, Floats]) -> bool:
    """Whether some row has no bid or no ask (or none that is a number: looked at row by row)."""
    bid, ask = columns["bid"], columns["ask"]
    return bool(len(bid)) and not (bid.min() > 0 and ask.min() > 0)


def priced(ticks: TickArray) -> TickArray:
    """Without the rows that lack a bid or an ask, which brokers send: they hold no price to act
    on, live as in a backtest. Rows whose bid lies above the ask stay: a market may be crossed."""
    lacking = ticks["bid"] <= 0
    lacking |= ticks["ask"] <= 0
    return ticks[~lacking] if lacking.any() else ticks


def _forward(times_ms: Ints) -> Ints:
    if bool((times_ms[1:] >= times_ms[:-1]).all()):
        return times_ms
    reached: Ints = np.maximum.accumulate(times_ms)
    return reached


def _constant(column: npt.NDArray[Any]) -> float | int | None:
    if not len(column) or not bool((column == column[0]).all()):
        return None
    value: float | int = column[0].item()
    return value


class TickWalk:
    """An iterator of `Tick`s that tells how far it came, and can be ended where it is.

    Ticks are made by C code alone: nothing of Python runs between two of them.
    """

    __slots__ = ("_base", "_clock", "_rest", "_symbols", "ticks")

    def __init__(self, run: TickRun, first: int, stop: int) -> None:
        cut = slice(first, stop)
        self._base = first
        # The list of symbols comes first in every tick: when it ends, nothing is taken from the
        # other columns.
        self._symbols = (
            [run.symbols[0]] * len(run.time_ms[cut])
            if run.symbol is None
            else [*map(run.symbols.__getitem__, run.symbol[cut].tolist())]
        )
        self._rest = [
            repeat(constant) if constant is not None else iter(column[cut].tolist())
            for column, constant in run.as_told
        ]
        self._begin()

    def _begin(self) -> None:
        self._clock = iter(self._symbols)
        rows = zip(self._clock, *self._rest, strict=False)
        self.ticks: Iterator[Tick] = map(tuple.__new__, repeat(Tick), rows)

    @property
    def at(self) -> int:
        """Index of the next tick in the run."""
        return self._base + len(self._symbols) - length_hint(self._clock)

    def end_here(self) -> None:
        """Let `ticks` end at once: whoever iterates over it gets nothing more."""
        at = self.at
        rest = self._symbols[at - self._base :]
        del self._symbols[at - self._base :]
        next(self._clock, None)  # it noticed that its list ends
        self._base, self._symbols = at, rest

    def go_on(self) -> None:
        """After `end_here`: `ticks` is a new iterator over what is left."""
        self._begin()

"""A market whose prices somebody pushed: jumps, gaps and slides on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from events.ticks import RateArray, TickArray
from producers.terminals.simulated.faults import Fault
from producers.terminals.simulated.market.generated import Market
from producers.terminals.simulated.market.rates import bars_of_ticks
from producers.terminals.simulated.symbols import SymbolSpec

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

MINUTE_MS = 60_000
MOVES_MAX = 1000
_TICK_PRICES = ("bid", "ask", "last")
_BAR_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class Move:
    """From a moment (UTC ms) on prices are off by `percent` and `points`, wholly so after
    `ramp_ms`; until another moment, or for good."""

    symbols: tuple[str, ...]
    from_ms: int
    until_ms: int | None
    ramp_ms: int
    percent: float
    points: float

    @classmethod
    def of(cls, fault: Fault, from_ms: int) -> Move:
        """The move a price_jump asks for."""
        until = None if fault.for_s is None else from_ms + int(fault.for_s * 1000)
        return cls(
            fault.symbols, from_ms, until, int(fault.seconds * 1000), fault.percent, fault.points
        )

    def concerns(self, symbol: str, from_ms: int, to_ms: int) -> bool:
        named = not self.symbols or symbol in self.symbols
        return named and self.from_ms < to_ms and (self.until_ms is None or from_ms < self.until_ms)

    def share(self, times: Int64Array) -> FloatArray:
        """How much of the move holds at each moment, 0 to 1."""
        passed = (times - self.from_ms).astype(np.float64)
        share = np.clip(passed / self.ramp_ms, 0.0, 1.0) if self.ramp_ms else np.ones(len(times))
        share[times < self.from_ms] = 0.0
        if self.until_ms is not None:
            share[times >= self.until_ms] = 0.0
        return share

    def steady(self, from_ms: Int64Array, to_ms: Int64Array) -> npt.NDArray[np.bool_]:
        """Which spans [from, to) lie wholly before, in or after the finished move."""
        before, whole = to_ms <= self.from_ms, from_ms >= self.from_ms + self.ramp_ms
        if self.until_ms is None:
            steady: npt.NDArray[np.bool_] = before | whole
            return steady
        after, inside = from_ms >= self.until_ms, to_ms <= self.until_ms
        return before | after | (whole & inside)


class MovedMarket:
    """Another market, moved. Without moves its answers are the other's own arrays."""

    def __init__(self, market: Market, spec_of: Callable[[str], SymbolSpec | None]) -> None:
        self._market = market
        self._spec_of = spec_of
        self._moves: tuple[Move, ...] = ()

    @property
    def moves(self) -> tuple[Move, ...]:
        return self._moves

    def add(self, move: Move) -> None:
        """Raises ValueError when there are too many."""
        if len(self._moves) >= MOVES_MAX:
            raise ValueError(f"{MOVES_MAX} moves of prices are enough: clear them first")
        self._moves = (*self._moves, move)

    def end(self, utc_ms: int) -> None:
        """Let every move that still holds end at a moment."""
        self._moves = tuple(
            move
            if move.until_ms is not None and move.until_ms <= utc_ms
            else Move(**{**asdict(move), "until_ms": max(utc_ms, move.from_ms)})
            for move in self._moves
        )

    def state(self) -> list[dict[str, Any]]:
        """The moves as plain values."""
        return [{**asdict(move), "symbols": list(move.symbols)} for move in self._moves]

    def restore(self, state: Iterable[dict[str, Any]]) -> None:
        self._moves = tuple(Move(**{**one, "symbols": tuple(one["symbols"])}) for one in state)

    def ticks(self, symbol: str, from_utc_ms: int, to_utc_ms: int) -> TickArray:
        rows = self._market.ticks(symbol, from_utc_ms, to_utc_ms)
        return self._moved(symbol, rows, from_utc_ms, to_utc_ms)

    def last_tick(self, symbol: str, utc_ms: int) -> TickArray:
        row = self._market.last_tick(symbol, utc_ms)
        return self._moved(symbol, row, utc_ms - MINUTE_MS * 60 * 24 * 30, utc_ms + 1)

    def minute_bars(self, symbol: str, from_utc_s: int, to_utc_s: int) -> RateArray:
        bars = self._market.minute_bars(symbol, from_utc_s, to_utc_s)
        moves = self._of(symbol, from_utc_s * 1000, to_utc_s * 1000)
        if not moves or not len(bars):
            return bars
        bars = bars.copy()
        begins = bars["time"] * 1000
        steady = np.ones(len(bars), dtype=np.bool_)
        for move in moves:
            steady &= move.steady(begins, begins + MINUTE_MS)
        for name in _BAR_PRICES:
            bars[name] = np.where(
                steady, self._shifted(symbol, bars[name], begins, moves), bars[name]
            )
        for at in np.flatnonzero(~steady):
            begin = int(begins[at])
            made = bars_of_ticks(self.ticks(symbol, begin, begin + MINUTE_MS))
            if len(made):
                for name in _BAR_PRICES:
                    bars[name][at] = made[name][0]
        return bars

    def is_open(self, symbol: str, utc_ms: int) -> bool:
        return self._market.is_open(symbol, utc_ms)

    def _of(self, symbol: str, from_ms: int, to_ms: int) -> list[Move]:
        return [move for move in self._moves if move.concerns(symbol, from_ms, to_ms)]

    def _moved(self, symbol: str, rows: TickArray, from_ms: int, to_ms: int) -> TickArray:
        moves = self._of(symbol, from_ms, to_ms) if self._moves else []
        if not moves or not len(rows):
            return rows
        rows = rows.copy()
        times = np.where(rows["time_msc"] == 0, rows["time"] * 1000, rows["time_msc"])
        for name in _TICK_PRICES:
            moved = self._shifted(symbol, rows[name], times, moves)
            rows[name] = np.where(rows[name] > 0, moved, rows[name])
        return rows

    def _shifted(
        self, symbol: str, prices: FloatArray, times: Int64Array, moves: Sequence[Move]
    ) -> FloatArray:
        spec = self._spec_of(symbol)
        point = 0.0 if spec is None else spec.point
        moved = prices.astype(np.float64)
        for move in moves:
            share = move.share(times)
            moved = moved * (1 + move.percent / 100 * share) + move.points * point * share
        if spec is None:
            return moved
        changed = moved != prices
        rounded = np.round(np.round(moved / spec.step) * spec.step, spec.digits)
        kept: FloatArray = np.where(changed, np.maximum(rounded, spec.step), prices)
        return kept

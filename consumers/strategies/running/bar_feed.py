"""Closed bars of one symbol for a strategy, in every timeframe it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from consumers.bars import Bar, BarBuilder, ClosedBar, bars_of
from consumers.strategies.running.tick_run import TickRun
from events.candles import TIMEFRAME_SECONDS, CandleBatch
from events.market import Instrument
from events.ticks import PriceData

FEW_TICKS = 12
"""So many are taken one by one: that is faster than arrays of them."""


class BarFeed:
    """Builds bars of a symbol, and knows which of them the strategy was told."""

    def __init__(
        self, symbol: str, timeframes: Sequence[str], memory: dict[str, Any] | None = None
    ) -> None:
        """Raises ValueError on an unknown timeframe."""
        self._symbol = symbol
        self._builders = {
            timeframe: BarBuilder(symbol, timeframe)
            for timeframe in sorted(set(timeframes), key=TIMEFRAME_SECONDS.__getitem__)
        }
        self._told = dict.fromkeys(self._builders, 0)
        self._last_ms = dict.fromkeys(self._builders, -1)
        if memory is not None:
            for timeframe, builder in self._builders.items():
                builder.restore(memory[timeframe]["builder"])
                self._told[timeframe] = memory[timeframe]["told"]
                self._last_ms[timeframe] = memory[timeframe]["last_ms"]

    @property
    def seen(self) -> int:
        """Bars that were told so far, of the timeframe with the fewest."""
        return min(self._told.values(), default=0)

    def closed_by(self, run: TickRun, facts: Instrument | None) -> list[ClosedBar]:
        """Bars that ticks of a run close, in the order they are to be told; of one tick those of
        the shortest timeframe first."""
        indexes = run.indexes_of(self._symbol)
        found: list[ClosedBar] = []
        for builder in self._builders.values():
            if facts is not None:
                builder.learn(facts)
            count = len(run) if indexes is None else len(indexes)
            if count <= FEW_TICKS:
                chosen = range(len(run)) if indexes is None else indexes.tolist()
                found += _one_by_one(builder, run, chosen)
            else:
                found += builder.update_many(run, indexes)
        found.sort(key=lambda one: one.at)  # stable: shorter timeframes stay in front
        return found

    def closed_by_one(self, price: PriceData, facts: Instrument | None) -> list[Bar]:
        """The same of one tick."""
        _, time_ms, time_server_ms, bid, ask, last, volume, _ = price
        found = []
        for builder in self._builders.values():
            if facts is not None:
                builder.learn(facts)
            bar = builder.update(time_ms, time_server_ms, bid, ask, last, volume)
            if bar is not None:
                found.append(bar)
        return found

    def is_new(self, bar: Bar) -> bool:
        """Whether a bar is to be told, which counts it; one that history told already is not."""
        if bar.time_ms <= self._last_ms[bar.timeframe]:
            return False
        self._last_ms[bar.timeframe] = bar.time_ms
        self._told[bar.timeframe] += 1
        return True

    def older(self, candles: CandleBatch) -> Iterator[Bar]:
        """Bars of the terminal's history that were not told yet."""
        if candles.timeframe in self._builders:
            yield from (bar for bar in bars_of(candles) if self.is_new(bar))

    def state(self) -> dict[str, Any]:
        """All there is to know, as plain values."""
        return {
            timeframe: {
                "builder": builder.state(), "told": self._told[timeframe],
                "last_ms": self._last_ms[timeframe],
            }
            for timeframe, builder in self._builders.items()
        }  # fmt: skip


def _one_by_one(builder: BarBuilder, run: TickRun, chosen: Sequence[int]) -> Iterator[ClosedBar]:
    for index in chosen:
        bar = builder.update(
            int(run.time_ms[index]), int(run.time_server_ms[index]), float(run.bid[index]),
            float(run.ask[index]), float(run.last[index]), float(run.volume[index]),
        )  # fmt: skip
        if bar is not None:
            yield ClosedBar(index, bar)

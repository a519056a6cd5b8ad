"""Reading back in one stream until every symbol in it brought as many ticks or bars as needed."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from consumers.runtime.handler import LooksBack
from consumers.strategies.warming.need import Need
from events.candles import opening_times
from events.codec import BadEvent, UnknownEvent, decode
from events.log import Entry, Lane, Stream, partition_of
from events.ticks import TickBatch

CALM_ENTRIES = 1_000
"""A strategy for every symbol there is has seen them all after so many entries."""


def looks_back(
    need: Need, symbols: Collection[str], stream: Stream, partitions: int
) -> LooksBack | None:
    """How far to read back in a stream of the terminal; `symbols` empty: every one there is.

    Ticks as far as they are needed; candles of the terminal's history, where bars are, all.
    """
    if stream.lane is Lane.LOW:
        return _all if need.bars else None
    here = [s for s in symbols if partition_of(s, partitions) == stream.slot.partition]
    if stream.lane is not Lane.NORMAL or not need or (symbols and not here):
        return None
    return _Counting(need, here)


def _all(_: Entry) -> bool:
    return True


class _Counting:
    """Counts ticks, or bars that they begin, by symbol."""

    def __init__(self, need: Need, symbols: Collection[str]) -> None:
        self._need, self._named = need, bool(symbols)
        self._open = set(symbols)
        self._ticks: dict[str, int] = {}
        self._bars: dict[str, dict[str, set[int]]] = {}
        self._entries = 0

    def __call__(self, entry: Entry) -> bool:
        self._entries += 1
        if entry.type.rpartition(".")[0] == "ticks":
            self._count(entry)
        if self._named:
            return bool(self._open)
        return bool(self._open) or self._entries < CALM_ENTRIES

    def _count(self, entry: Entry) -> None:
        symbol = entry.key
        if self._named and symbol not in self._open:
            return
        try:
            batch = decode(entry)
        except (BadEvent, UnknownEvent):
            return  # it becomes a dead letter when it is handled
        if isinstance(batch, TickBatch):
            if self._is_enough(symbol, batch):
                self._open.discard(symbol)
            elif not self._named:
                self._open.add(symbol)

    def _is_enough(self, symbol: str, batch: TickBatch) -> bool:
        self._ticks[symbol] = self._ticks.get(symbol, 0) + len(batch.ticks)
        if self._ticks[symbol] < self._need.ticks:
            return False
        seen = self._bars.setdefault(symbol, {})
        times_s = np.ascontiguousarray(batch.ticks["time_msc"]) // 1000
        for timeframe in self._need.bars:
            begun = seen.setdefault(timeframe, set())
            begun.update(np.unique(opening_times(times_s, timeframe)).tolist())
        # The oldest one lacks its beginning, the newest one is not closed.
        return all(len(seen[one]) >= count + 2 for one, count in self._need.bars.items())

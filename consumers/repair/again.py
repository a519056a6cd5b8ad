"""What a log that was begun anew holds once more: its producers pulled and sent a span again that
is stored already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from events.candles import TIMEFRAME_SECONDS, CandleBatch
from events.codec import BadEvent, UnknownEvent, decode
from events.log import Entry, EntryId
from events.offset import checksum_of
from events.postgres.forks import Since
from events.ticks import TickBatch

RESENT_MS_MAX = 7_200_000
"""Rows a spool still had are not older than this before the last one that was stored."""


@dataclass(slots=True)
class Again:
    """The beginning of the new log: from when on it has each series, and which events."""

    ticks_from: dict[str, int] = field(default_factory=dict)
    candles_from: dict[tuple[str, str], int] = field(default_factory=dict)
    events: set[int] = field(default_factory=set)

    def see(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            try:
                event = decode(entry)
            except (BadEvent, UnknownEvent):
                event = None
            if isinstance(event, TickBatch):
                first = int(event.ticks["time_msc"].min())
                known = self.ticks_from.get(event.symbol, first)
                self.ticks_from[event.symbol] = min(known, first)
            elif isinstance(event, CandleBatch):
                series = event.symbol, event.timeframe
                first = int(event.candles["time"].min())
                self.candles_from[series] = min(self.candles_from.get(series, first), first)
            else:
                self.events.add(checksum_of(entry))

    def since(self) -> list[Since]:
        """Ticks and candles that are stored from then on are in the new log too."""
        ticks = [Since("ticks", symbol, first) for symbol, first in self.ticks_from.items()]
        return ticks + [
            Since("candles", symbol, first, TIMEFRAME_SECONDS[timeframe])
            for (symbol, timeframe), first in self.candles_from.items()
        ]

    def resent(self, stored: Iterable[Entry]) -> set[EntryId]:
        """Stored events that were sent again, to the byte."""
        return {entry.id for entry in stored if checksum_of(entry) in self.events}

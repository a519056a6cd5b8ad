"""Where captured ticks lie: the log and the database, as sources that can be verified."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from consumers.verify import no_ticks
from events.codec import TICKS, TICKS_HISTORY, BadEvent, UnknownEvent, decode, split_type
from events.log import BEGIN, SOURCE, Entry, EntryId, Lane, Log, Slot, Stream, partition_of
from events.postgres import connect, read_ticks
from events.ticks import TickArray, TickBatch

PAGE_ENTRIES = 200


class LogTicks:
    """Ticks of a namespace in the log: the live lane and the history lane.

    The newest symbol asked for is kept in memory (60 bytes a tick), because ids are no clocks:
    a span can only be found by reading a symbol's whole partition. With `after`, only ticks
    behind those places of their streams.
    """

    def __init__(
        self,
        log: Log,
        namespace: str,
        partitions: int,
        *,
        after: Mapping[Stream, EntryId] | None = None,
    ) -> None:
        self._log, self._namespace, self._partitions = log, namespace, partitions
        self._after = after or {}
        self._symbol: str | None = None
        self._ticks = no_ticks()

    def ticks(self, symbol: str, from_server_ms: int, until_server_ms: int) -> TickArray:
        """See `TickSource`. Raises LogUnavailable."""
        if symbol != self._symbol:
            self._ticks, self._symbol = self._read(symbol), symbol
        times = self._ticks["time_msc"]
        return self._ticks[(times >= from_server_ms) & (times < until_server_ms)]

    def _read(self, symbol: str) -> TickArray:
        slot = Slot(self._namespace, SOURCE, partition_of(symbol, self._partitions))
        arrays = [
            batch.ticks
            for lane in (Lane.NORMAL, Lane.LOW)
            for batch in self._batches(slot.stream(lane), symbol)
        ]
        return np.concatenate(arrays) if arrays else no_ticks()

    def _batches(self, stream: Stream, symbol: str) -> list[TickBatch]:
        found, after = [], self._after.get(stream, BEGIN)
        while page := self._log.between(stream, after.next(), count_max=PAGE_ENTRIES):
            found += [batch for entry in page if (batch := _batch_of(entry, symbol))]
            after = page[-1].id
        return found


class DatabaseTicks:
    """Ticks of a namespace in the database (`after`: as for LogTicks). Close it when done."""

    def __init__(
        self, dsn: str, namespace: str, *, after: Mapping[Stream, EntryId] | None = None
    ) -> None:
        self._connection = connect(dsn, application="bridge verify")
        self._namespace, self._after = namespace, after

    def ticks(self, symbol: str, from_server_ms: int, until_server_ms: int) -> TickArray:
        """See `TickSource`. Raises DatabaseUnavailable."""
        return read_ticks(
            self._connection,
            self._namespace,
            symbol,
            from_server_ms=from_server_ms,
            until_server_ms=until_server_ms,
            after=self._after,
        )

    def close(self) -> None:
        self._connection.close()


def _batch_of(entry: Entry, symbol: str) -> TickBatch | None:
    """The ticks of an entry, or None for another symbol, another event, or what cannot be read
    (those ticks then count as missing)."""
    try:
        if entry.key != symbol or split_type(entry.type)[0] not in (TICKS, TICKS_HISTORY):
            return None
        event = decode(entry)
    except (UnknownEvent, BadEvent):
        return None
    return event if isinstance(event, TickBatch) else None

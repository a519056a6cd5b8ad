"""One namespace's captured ticks in all their places, ready to be compared with the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from consumers.tick_places import DatabaseTicks, LogTicks
from consumers.verify import TickSource, TruthSource, Verification, span_of, verify_ticks
from events import postgres
from events.codec import TICKS, TICKS_HISTORY
from events.log import SOURCE, Lane, Slot, partition_of
from events.redis import open_log

LOG, DATABASE = "log", "database"
PLACES = (LOG, DATABASE)
Spans = Mapping[str, tuple[int, int]]
"""Symbol -> (from, until) in server ms."""
LOOK_BACK_ENTRIES = 500


class Captured:
    """Log and database of one namespace. Close it, or use it in a `with`."""

    def __init__(self, redis_url: str, postgres_url: str, namespace: str) -> None:
        """Raises LogUnavailable, DatabaseUnavailable, DatabaseRefused."""
        self.namespace = namespace
        self._dsn = postgres_url
        postgres.check(postgres_url)
        self._log = open_log(redis_url)
        self._partitions = self._log.namespaces().get(namespace, 0)
        self._database = DatabaseTicks(postgres_url, namespace)
        self._places: dict[str, TickSource] = {
            LOG: LogTicks(self._log, namespace, max(1, self._partitions)),
            DATABASE: self._database,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()
        self._log.close()

    def symbols(self) -> tuple[str, ...]:
        """Symbols with stored ticks, and those whose ticks are new in the log."""
        with postgres.connect(self._dsn, application="bridge verify") as connection:
            found = set(postgres.count_ticks(connection, self.namespace))
        for partition in range(self._partitions):
            for lane in (Lane.NORMAL, Lane.LOW):
                stream = Slot(self.namespace, SOURCE, partition).stream(lane)
                for entry in self._log.newest(stream, count_max=LOOK_BACK_ENTRIES):
                    if entry.type.rpartition(".")[0] in (TICKS, TICKS_HISTORY):
                        found.add(entry.key)
        return tuple(sorted(found))

    def spans(
        self, place: str, symbols: Sequence[str], *, ended: bool
    ) -> dict[str, tuple[int, int]]:
        """From the first to the last tick (server ms) that one place holds of each symbol."""
        found = {one: span_of(self._places[place], one, ended=ended) for one in symbols}
        return {one: span for one, span in found.items() if span is not None}

    def still_held(self, place: str, spans: Spans) -> Spans:
        """Of these spans, what a place still holds: old entries leave the log."""
        if place != LOG:
            return spans
        held: dict[str, tuple[int, int]] = {}
        for symbol, (begin, until) in spans.items():
            if self._was_trimmed(symbol):
                found = span_of(self._places[place], symbol, ended=False)
                begin = until if found is None else max(begin, found[0])
            held[symbol] = (min(begin, until), until)
        return held

    def _was_trimmed(self, symbol: str) -> bool:
        slot = Slot(self.namespace, SOURCE, partition_of(symbol, max(1, self._partitions)))
        seen = [self._log.info(slot.stream(lane)) for lane in (Lane.NORMAL, Lane.LOW)]
        return any(info.entries_added > info.length for info in seen)

    def compared(self, truth: TruthSource, spans: Mapping[str, Spans]) -> Verification:
        """Each place of `spans` against the terminal."""
        done = [verify_ticks(truth, {one: self._places[one]}, spans[one]) for one in spans]
        return Verification(
            tuple(check for one in done for check in one.checks),
            {symbol: why for one in done for symbol, why in one.not_checked.items()},
        )

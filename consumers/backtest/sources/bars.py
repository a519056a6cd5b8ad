"""M1 bars as a source: files of bars, or the candles that were recorded of a terminal.

Each bar becomes four ticks (`consumers.backtest.broker.bars`): open, low, high, close of the bid,
the ask by the bar's spread, the worst case first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from consumers.backtest.broker import ticks_of_bars
from consumers.backtest.sources.merging import merged
from consumers.backtest.sources.source import NoTicks, Portion, SourceError, Span
from events.archive.source import MARKET_WRITERS, EntrySource, Wanted
from events.candles import CandleBatch
from events.clock_rules import ClockRule
from events.codec import CANDLES, AnyEvent, decode
from events.log import Lane, partition_of
from events.market import Instrument
from events.operations import ClockTick
from events.tick_files import TickFileError, TickSource
from events.tick_files.bars import read_bars
from events.tick_files.file_clock import FileClock, SkippedTime
from events.ticks import OffsetSource, RateArray, TickBatch

TIMEFRAME = "M1"
ASSUMPTION = (
    "M1 bars: each is four ticks of the bid (open, low, high, close), the ask by the bar's spread; "
    "inside a bar the worst case comes first, so a stop is reached before a target"
)


class BarSource:
    """Bars of files. `instruments` say how large a point is; the others are as in FileSource."""

    def __init__(
        self,
        files: Sequence[TickSource],
        span: Span,
        instruments: Mapping[str, Instrument],
        *,
        clock: ClockRule | None = None,
    ) -> None:
        self._files: dict[str, list[Path]] = {}
        for file in files:
            self._files.setdefault(file.symbol, []).append(file.path)
        self._span, self._instruments, self._clock = span, instruments, clock
        self.warnings: list[str] = []

    @property
    def name(self) -> str:
        paths = (str(path) for paths in self._files.values() for path in paths)
        return f"bars of {', '.join(paths)}"

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._files)

    def facts(self) -> list[AnyEvent]:
        """Files tell nothing but prices."""
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        """See `Source.portions`. Raises SourceError."""
        yield from merged(
            [
                _ticks(self._candles(symbol, paths), self._instruments[symbol], self._span)
                for symbol, paths in self._files.items()
            ]
        )

    def _candles(self, symbol: str, paths: Sequence[Path]) -> Iterator[CandleBatch]:
        for path in paths:
            clock = FileClock(self._clock or ClockRule.fixed(0))
            try:
                for bars in read_bars(path):
                    offsets = clock.offsets_s(np.ascontiguousarray(bars["time"]) * 1000)
                    edges = np.flatnonzero(offsets[1:] != offsets[:-1]) + 1
                    for part, offset in zip(
                        np.split(bars, edges), offsets[np.concatenate([[0], edges])], strict=True
                    ):
                        yield _batch(symbol, part, int(offset))
            except SkippedTime as error:
                raise SourceError(f"{path}: {error}") from error
            except TickFileError as error:
                if not error.rows:
                    raise SourceError(str(error)) from error
                self.warnings.append(f"{error}: the {error.rows} bars before it are used")


class RecordedBars:
    """M1 candles as they were recorded of a terminal, in the log, the archive or the database."""

    def __init__(
        self,
        source: EntrySource,
        namespace: str,
        symbols: Sequence[str],
        span: Span,
        instruments: Mapping[str, Instrument],
    ) -> None:
        self._partitions = source.partitions(namespace)
        if not self._partitions and not source.streams(Wanted(namespace)):
            raise SourceError(f"nothing is recorded of a terminal {namespace!r}")
        self._source, self._namespace, self._span = source, namespace, span
        self._symbols, self._instruments = tuple(symbols), instruments
        self.warnings: list[str] = []

    @property
    def name(self) -> str:
        return f"recorded {TIMEFRAME} bars of {self._namespace}"

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    def facts(self) -> list[AnyEvent]:
        """Told by the ticks' source."""
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        """See `Source.portions`. Raises NoTicks."""
        seen = False
        feeds = [
            _ticks(self._candles(symbol), self._instruments[symbol], self._span)
            for symbol in self._symbols
        ]
        for portion in merged(feeds):
            seen = True
            yield portion
        if not seen:
            raise NoTicks(
                f"no {TIMEFRAME} bar of {', '.join(self._symbols)} from {self._span} is recorded "
                f"of {self._namespace}: fetch some with `bridgectl history fetch --timeframe M1`"
            )

    def _candles(self, symbol: str) -> Iterator[CandleBatch]:
        """Each bar once: what was recorded twice, or goes back in time, is passed over."""
        wanted = Wanted(
            self._namespace, writers=MARKET_WRITERS, lanes=(Lane.LOW,),
            partitions={partition_of(symbol, self._partitions)} if self._partitions else None,
            from_ms=self._span.from_ms, until_ms=self._span.to_ms,
        )  # fmt: skip
        reached_ms, late = -1, 0
        for entry in self._source.entries(wanted):
            if entry.type.rpartition(".")[0] != CANDLES or entry.key != f"{symbol}:{TIMEFRAME}":
                continue
            batch = decode(entry)
            if not isinstance(batch, CandleBatch):
                continue
            times = (batch.candles["time"] - batch.offset_s) * 1000
            new = times > reached_ms
            late += int((~new).sum())
            if new.any():
                reached_ms = int(times[new].max())
                yield _batch(symbol, batch.candles[new], batch.offset_s)
        if late:
            self.warnings.append(
                f"{symbol}: {late} bars were recorded again or behind later ones: passed over"
            )


def _ticks(
    candles: Iterator[CandleBatch], instrument: Instrument, span: Span
) -> Iterator[TickBatch]:
    for batch in candles:
        for ticks in ticks_of_bars(batch, point=instrument.point, digits=instrument.digits):
            cut = span.cut(ticks)
            if cut is not None:
                yield cut


def _batch(symbol: str, bars: RateArray, offset_s: int) -> CandleBatch:
    newest_ms = (int(bars["time"][-1]) - offset_s) * 1000
    return CandleBatch(
        symbol, TIMEFRAME, bars, offset_s, OffsetSource.ASSUMED, newest_ms, newest_ms
    )

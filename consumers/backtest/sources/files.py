"""Tick files as a source: MT5's exports, CSV and Parquet, of one symbol or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from consumers.backtest.sources.merging import merged
from consumers.backtest.sources.source import NoTicks, Portion, SourceError, Span
from events.clock_rules import ClockRule
from events.codec import AnyEvent
from events.operations import ClockTick
from events.tick_files import TickFileError, TickSource
from events.tick_files.fields import Ints
from events.tick_files.runs import server_runs
from events.ticks import Mark, TickBatch

FILES_MAX = 1_000


class FileSource:
    """Ticks of files, merged by time.

    `clock` is the broker's clock rule (its midnights decide about swap and days), `file_clock`
    the one the times in the files are in; None: the broker's. Several files of one symbol follow
    each other in the order given. A damaged file is read up to its fault, which is told by
    `warnings`.
    """

    def __init__(
        self,
        files: Sequence[TickSource],
        span: Span,
        *,
        clock: ClockRule | None = None,
        file_clock: ClockRule | None = None,
        symbols: Sequence[str] = (),
    ) -> None:
        if len(files) > FILES_MAX:
            raise SourceError(f"{len(files)} files: at most {FILES_MAX}")
        self._files: dict[str, list[TickSource]] = {}
        for file in files:
            if not symbols or file.symbol in symbols:
                self._files.setdefault(file.symbol, []).append(file)
        missing = sorted(set(symbols) - self._files.keys())
        if missing:
            held = ", ".join(sorted({file.symbol for file in files})) or "none"
            raise NoTicks(
                f"no file holds ticks of {', '.join(missing)} (the files hold {held}): "
                "give one as SYMBOL=FILE"
            )
        self._span, self._clock, self._file_clock = span, clock, file_clock
        self._held: dict[str, Span] = {}
        self.warnings: list[str] = []

    @property
    def name(self) -> str:
        return ", ".join(str(file.path) for files in self._files.values() for file in files)

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._files)

    def facts(self) -> list[AnyEvent]:
        """Files tell nothing but prices."""
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        """See `Source.portions`; files hold no recorded seconds. Raises SourceError."""
        seen = False
        for portion in merged([self._batches(files) for files in self._files.values()]):
            seen = True
            yield portion
        if not seen:
            held = "; ".join(f"{name} {edges}" for name, edges in sorted(self._held.items()))
            raise NoTicks(
                f"no tick of {', '.join(self._files)} from {self._span} in {self.name}; there is: "
                f"{held or 'no tick'}"
            )

    def _batches(self, files: Sequence[TickSource]) -> Iterator[TickBatch]:
        for file in files:
            try:
                for run in server_runs(file, clock=self._clock, file_clock=self._file_clock):
                    if not len(run.ticks):
                        continue
                    newest_ms = int(run.ticks["time_msc"].max()) - run.offset_s * 1000
                    self._hold(file.symbol, run.ticks["time_msc"], run.offset_s)
                    batch = self._span.cut(
                        TickBatch(
                            file.symbol, run.ticks, run.offset_s, run.offset_source, newest_ms,
                            newest_ms, Mark.IMPORTED,
                        )
                    )  # fmt: skip
                    if batch is not None:
                        yield batch
            except TickFileError as error:
                if not error.rows:
                    raise SourceError(str(error)) from error
                self.warnings.append(f"{error}: the {error.rows} ticks before it are used")

    def _hold(self, symbol: str, server_ms: Ints, offset_s: int) -> None:
        """Remember from when to when there are ticks, for who asks for others."""
        first, last = int(server_ms.min()), int(server_ms.max())
        before = self._held.get(symbol, Span(first - offset_s * 1000, last - offset_s * 1000))
        assert before.from_ms is not None
        assert before.to_ms is not None
        self._held[symbol] = Span(
            min(before.from_ms, first - offset_s * 1000), max(before.to_ms, last - offset_s * 1000)
        )

"""Ticks of a source on disk, read once and shared: every process maps the same file.

A folder holds MT5's own records one behind the other (`ticks`), what batches they came in
(`batches`), which of these make up a portion (`portions`), and recorded seconds (`clock`). Batches
of one symbol and one clock offset that follow each other in a portion are one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from consumers.backtest.sources.source import Portion, Source, Span
from events.codec import AnyEvent
from events.operations import ClockTick
from events.ticks import TICK_DTYPE, OffsetSource, TickArray, TickBatch

_BATCH = np.dtype(
    [("first", "<i8"), ("count", "<i8"), ("symbol", "<i4"), ("offset_s", "<i4"), ("source", "<i4")]
)
_PORTION = np.dtype(
    [
        ("first", "<i8"), ("count", "<i8"), ("by_time", "<i4"), ("clock", "<i4"),
        ("oldest_ms", "<i8"), ("newest_ms", "<i8"),
    ]
)  # fmt: skip
"""Of a recorded second `clock` is 1, `first` the byte it begins at and `count` its length."""


class SharingError(ValueError):
    """Ticks could not be put on disk. The message names cause and cure."""


class SharedTicksWriter:
    """Writes what a source gives into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._symbols: dict[str, int] = {}
        self._ticks = self._batches = self._clock = 0

    def write(self, items: Iterable[Portion | ClockTick]) -> None:
        """Everything, to the end. Raises SharingError, and what the source raises."""
        names = ("ticks", "batches", "portions", "clock")
        try:
            files = [(self._folder / name).open("wb") for name in names]
            try:
                for item in items:
                    row = (
                        self._second(item, files[3])
                        if isinstance(item, ClockTick)
                        else self._portion(item, files[0], files[1])
                    )
                    files[2].write(np.array([row], _PORTION).tobytes())
            finally:
                for file in files:
                    file.close()
            told = json.dumps([*self._symbols])
            (self._folder / "symbols.json").write_text(told, encoding="utf-8")
        except OSError as error:
            raise SharingError(
                f"the ticks do not fit into {self._folder} ({error.strerror or error}): they take "
                "60 bytes each; make room, or name another folder in TMPDIR"
            ) from error

    def _portion(self, portion: Portion, ticks: IO[bytes], batches: IO[bytes]) -> tuple[int, ...]:
        begun = self._batches
        oldest, newest = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        held: list[list[int]] = []
        for batch in portion.batches:
            times = batch.utc_ms()
            oldest, newest = min(oldest, int(times.min())), max(newest, int(times.max()))
            number = self._symbols.setdefault(batch.symbol, len(self._symbols))
            source = int(batch.offset_source)
            if held and held[-1][2:] == [number, batch.offset_s, source]:
                held[-1][1] += len(batch)
            else:
                held.append([self._ticks, len(batch), number, batch.offset_s, source])
            ticks.write(np.ascontiguousarray(batch.ticks).tobytes())
            self._ticks += len(batch)
        batches.write(np.array([tuple(one) for one in held], _BATCH).tobytes())
        self._batches += len(held)
        return begun, len(held), int(portion.by_time), 0, int(oldest), int(newest)

    def _second(self, event: ClockTick, clock: IO[bytes]) -> tuple[int, ...]:
        told = event.model_dump_json().encode()
        clock.write(told)
        begun, self._clock = self._clock, self._clock + len(told)
        return begun, len(told), 0, 1, event.event_time_ms, event.event_time_ms


class SharedTicks:
    """What was written, as a source of any span of it."""

    def __init__(self, folder: Path, span: Span, *, name: str) -> None:
        self._span, self._name = span, name
        told = json.loads((folder / "symbols.json").read_text(encoding="utf-8"))
        self._symbols: tuple[str, ...] = tuple(told)
        self._ticks: TickArray = _mapped(folder / "ticks", TICK_DTYPE)
        self._batches = _mapped(folder / "batches", _BATCH)
        self._portions = _mapped(folder / "portions", _PORTION)
        self._clock = _mapped(folder / "clock", np.dtype("u1"))
        self.warnings: list[str] = []

    def part(self, span: Span) -> SharedTicks:
        """The same ticks over another span."""
        other = object.__new__(SharedTicks)
        other.__dict__.update(self.__dict__)
        other._span, other.warnings = span, []
        return other

    @property
    def reach(self) -> Span | None:
        """From the first tick to right behind the last; None: there is no tick."""
        rows = self._portions[self._portions["clock"] == 0]
        if not len(rows):
            return None
        return Span(int(rows["oldest_ms"].min()), int(rows["newest_ms"].max()) + 1)

    @property
    def name(self) -> str:
        return self._name

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    def facts(self) -> list[AnyEvent]:
        """The facts of a run are known before its ticks are shared."""
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        """See `Source.portions`."""
        from_ms, to_ms = self._span.from_ms, self._span.to_ms
        for row in self._portions:
            first, count, by_time, second, oldest_ms, newest_ms = row.tolist()
            if (from_ms is not None and newest_ms < from_ms) or (
                to_ms is not None and oldest_ms >= to_ms
            ):
                continue
            if second:
                if clock:
                    told = self._clock[first : first + count].tobytes()
                    yield ClockTick.model_validate_json(told)
                continue
            rows = self._batches[first : first + count].tolist()
            cut = [self._span.cut(self._batch(one)) for one in rows]
            batches = tuple(one for one in cut if one is not None)
            if batches:
                yield Portion(batches, by_time=bool(by_time))

    def _batch(self, row: tuple[int, ...]) -> TickBatch:
        first, count, symbol, offset_s, source = row
        ticks = self._ticks[first : first + count]
        newest_ms = int(ticks["time_msc"].max()) - offset_s * 1000
        return TickBatch(
            self._symbols[symbol], ticks, offset_s, OffsetSource(source), newest_ms, newest_ms
        )


def shared(source: Source, folder: Path, *, clock: bool) -> SharedTicks:
    """Read a source once, to the end. With `clock` recorded seconds are kept too. Raises
    SharingError, and what the source raises."""
    SharedTicksWriter(folder).write(source.portions(clock=clock))
    return SharedTicks(folder, Span(), name=source.name)


def _mapped(path: Path, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """A file as a read-only array; an empty one cannot be mapped."""
    if not path.stat().st_size:
        return np.zeros(0, kind)
    mapped: npt.NDArray[Any] = np.asarray(np.memmap(path, kind, mode="r"))
    return mapped

"""What every source of ticks gives, and the span of time it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from events.codec import AnyEvent
from events.operations import ClockTick
from events.ticks import TickBatch
from events.views.moments import utc_text


class SourceError(ValueError):
    """A source cannot be read. The message names cause and cure."""


class NoTicks(SourceError):
    """There is no tick of these symbols in the span. The message says what there is."""


@dataclass(frozen=True, slots=True)
class Span:
    """From (inclusive) and to (exclusive) in UTC ms; None: as far as there is something."""

    from_ms: int | None = None
    to_ms: int | None = None

    def cut(self, batch: TickBatch) -> TickBatch | None:
        """The ticks of a batch that lie in the span, in their order; None: there is none."""
        if self.from_ms is None and self.to_ms is None:
            return batch
        times = batch.utc_ms()
        keep = self.mask(times)
        if keep.all():
            return batch
        if not keep.any():
            return None
        return part_of(batch, keep)

    def mask(self, times_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        keep = np.ones(len(times_ms), np.bool_)
        if self.from_ms is not None:
            keep &= times_ms >= self.from_ms
        if self.to_ms is not None:
            keep &= times_ms < self.to_ms
        return keep

    def __str__(self) -> str:
        begin = "the beginning" if self.from_ms is None else utc_text(self.from_ms)
        end = "the end" if self.to_ms is None else utc_text(self.to_ms)
        return f"{begin} to {end}"


@dataclass(frozen=True, slots=True)
class Portion:
    """Some ticks, in the order they are to be seen.

    The batches follow each other as they stand; with `by_time` their ticks are to be merged by
    time (of several symbols, none of them reaching into the next portion).
    """

    batches: tuple[TickBatch, ...]
    by_time: bool = False
    events: tuple[AnyEvent, ...] = ()
    """What handlers are told ahead of its first tick."""


class Source(Protocol):
    """Ticks of some symbols over a span, streamed in bounded memory."""

    warnings: list[str]
    """What was found wrong while reading, a line each."""

    @property
    def name(self) -> str:
        """What it is, for the result."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """Whose ticks it gives."""
        ...

    def facts(self) -> list[AnyEvent]:
        """Instrument, contracts and account events that are known beside the ticks."""
        ...

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        """Every tick in the span, in order. With `clock` also the recorded seconds, where there
        are any. Raises SourceError."""
        ...


def part_of(batch: TickBatch, keep: npt.NDArray[np.bool_] | slice) -> TickBatch:
    """Some ticks of a batch, at least one, as a batch of their own."""
    ticks = batch.ticks[keep]
    event_time_ms = int(ticks["time_msc"].max()) - batch.offset_s * 1000
    return TickBatch(
        batch.symbol, ticks, batch.offset_s, batch.offset_source, event_time_ms,
        batch.recv_time_ms, batch.marks,
    )  # fmt: skip

"""A tick file as runs of server times, each under one clock offset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from events.clock_rules import ClockRule
from events.tick_files.errors import TickFileError
from events.tick_files.fields import Ints
from events.tick_files.file_clock import FileClock, SkippedTime
from events.tick_files.reading import TickSource, read_ticks
from events.ticks import OffsetSource, TickArray


class Run(NamedTuple):
    """Ticks in server time; utc_ms = time_msc - offset_s * 1000."""

    ticks: TickArray
    offset_s: int
    offset_source: OffsetSource


def server_runs(
    source: TickSource, *, clock: ClockRule | None, file_clock: ClockRule | None
) -> Iterator[Run]:
    """Every tick of a file in order, in the server's clock.

    `clock` is the server's rule, `file_clock` the one of the file's times (None: the server's).
    With neither known the offset is 0 and marked unknown; with only the file's, the server is
    taken to use that one. Raises TickFileError behind the last sound tick.
    """
    server = clock or file_clock
    file = FileClock(file_clock or clock or ClockRule.fixed(0))
    convert = None if server == file.rule else server
    offset_source = OffsetSource.UNKNOWN if server is None else OffsetSource.ASSUMED
    for chunk in read_ticks(source.path, symbol=source.symbol, on_error="keep"):
        times = np.ascontiguousarray(chunk["time_msc"])
        fault: SkippedTime | None = None
        try:
            offsets = file.offsets_s(times)
        except SkippedTime as error:
            fault = error
            sound = error.row - file.rows
            chunk, times = chunk[:sound], times[:sound]
            offsets = file.offsets_s(times)
        if convert is not None:
            chunk, offsets = _converted(chunk, times - offsets * 1000, convert)
        for begin, end in _spans(offsets):
            yield Run(chunk[begin:end], int(offsets[begin]), offset_source)
        if fault is not None:
            rows, line = fault.row, fault.row + 2
            raise TickFileError(source.path, str(fault), line=line, rows=rows) from fault


def _converted(ticks: TickArray, utc_ms: Ints, clock: ClockRule) -> tuple[TickArray, Ints]:
    offsets = clock.offsets_s(utc_ms)
    ticks["time_msc"] = utc_ms + offsets * 1000
    ticks["time"] = ticks["time_msc"] // 1000
    return ticks, offsets


def _spans(offsets: Ints) -> list[tuple[int, int]]:
    """Begin and end of every run of one offset."""
    if not len(offsets):
        return []
    edges = (np.flatnonzero(offsets[1:] != offsets[:-1]) + 1).tolist()
    return list(zip([0, *edges], [*edges, len(offsets)], strict=True))

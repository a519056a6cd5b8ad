"""A market that is read from tick files. Times inside are UTC, as `Market` asks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from events.clock_rules import ClockRule
from events.tick_files import TickFileError, TickSource, load_ticks
from events.tick_files.fields import Ints
from events.tick_files.file_clock import FileClock, SkippedTime
from events.tick_files.reading import OnError
from events.ticks import RATE_DTYPE, RateArray, TickArray
from producers.terminals.simulated.market.rates import bars_of_ticks

CLOSED_GAP_MS = 3_600_000
"""A symbol without a tick for longer than this counts as closed."""

_log = logging.getLogger(__name__)


class _Track(NamedTuple):
    """One symbol: ticks with UTC times, and their times once more, side by side."""

    ticks: TickArray
    times_ms: Ints


class RecordedMarket:
    """Plays ticks of files. See `producers.terminals.simulated.market.generated.Market`."""

    def __init__(self, tracks: dict[str, TickArray]) -> None:
        """`tracks`: symbol -> ticks whose `time_msc` is UTC, oldest first, at least one each."""
        self._tracks: dict[str, _Track] = {}
        self._bars: dict[str, RateArray] = {}
        for symbol, ticks in tracks.items():
            assert len(ticks), symbol
            times = np.ascontiguousarray(ticks["time_msc"])
            assert (times[1:] >= times[:-1]).all(), symbol
            self._tracks[symbol] = _Track(ticks, times)

    @classmethod
    def load(
        cls, sources: Sequence[TickSource], file_rule: ClockRule, *, on_error: OnError = "stop"
    ) -> RecordedMarket:
        """Read every file. Raises TickFileError."""
        parts: dict[str, list[_Part]] = {}
        for source in sources:
            part = _in_utc(source, file_rule, on_error)
            parts.setdefault(source.symbol, []).append(part)
        return cls({symbol: _joined(found) for symbol, found in parts.items()})

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._tracks)

    @property
    def first_utc_ms(self) -> int:
        """When the first tick of any symbol came."""
        return min(int(track.times_ms[0]) for track in self._tracks.values())

    @property
    def last_utc_ms(self) -> int:
        """When the last tick of any symbol came."""
        return max(int(track.times_ms[-1]) for track in self._tracks.values())

    def ticks(self, symbol: str, from_utc_ms: int, to_utc_ms: int) -> TickArray:
        track = self._tracks[symbol]
        low, high = np.searchsorted(track.times_ms, (from_utc_ms, to_utc_ms), side="left")
        return track.ticks[low : max(low, high)]

    def last_tick(self, symbol: str, utc_ms: int) -> TickArray:
        track = self._tracks[symbol]
        end = int(np.searchsorted(track.times_ms, utc_ms, side="right"))
        return track.ticks[max(0, end - 1) : end]

    def minute_bars(self, symbol: str, from_utc_s: int, to_utc_s: int) -> RateArray:
        bars = self._bars.get(symbol)
        if bars is None:
            bars = self._bars[symbol] = bars_of_ticks(self._tracks[symbol].ticks)
        opened = np.ascontiguousarray(bars["time"])
        low, high = np.searchsorted(opened, (from_utc_s, to_utc_s), side="left")
        return bars[low:high] if high > low else np.empty(0, RATE_DTYPE)

    def is_open(self, symbol: str, utc_ms: int) -> bool:
        """Whether ticks stand on both sides of the moment, at most CLOSED_GAP_MS apart."""
        times = self._tracks[symbol].times_ms
        after = int(np.searchsorted(times, utc_ms, side="right"))
        if after in (0, len(times)):
            return False
        return int(times[after] - times[after - 1]) <= CLOSED_GAP_MS

    def time_after(self, symbol: str, utc_ms: int, count: int) -> int | None:
        """When the `count`-th tick after a time comes (the last, if fewer do); None: none does."""
        times = self._tracks[symbol].times_ms
        first = int(np.searchsorted(times, utc_ms, side="right"))
        return None if first >= len(times) else int(times[min(first + count, len(times)) - 1])

    def sample(self, symbol: str) -> TickArray:
        """Some ticks over the whole file, to guess price level and digits from."""
        ticks = self._tracks[symbol].ticks
        return ticks[:: max(1, len(ticks) // 500)]


class _Part(NamedTuple):
    """One file's ticks in UTC, by time."""

    source: TickSource
    ticks: TickArray


def _in_utc(source: TickSource, file_rule: ClockRule, on_error: OnError) -> _Part:
    ticks = load_ticks(source.path, symbol=source.symbol, on_error=on_error)
    if not len(ticks):
        raise TickFileError(source.path, f"holds no ticks of {source.symbol}")
    try:
        offsets = FileClock(file_rule).offsets_s(np.ascontiguousarray(ticks["time_msc"]))
    except SkippedTime as error:
        raise TickFileError(source.path, str(error), line=error.row + 2, rows=error.row) from error
    ticks["time"] -= offsets
    ticks["time_msc"] -= offsets * 1000
    times = np.ascontiguousarray(ticks["time_msc"])
    if (times[1:] < times[:-1]).any():
        _log.warning("%s: its ticks are not in the order of time; played by time", source.path)
        ticks = ticks[np.argsort(times, kind="stable")]
    return _Part(source, ticks)


def _joined(parts: list[_Part]) -> TickArray:
    """Several files of a symbol, one after the other. Raises TickFileError where two overlap:
    a tick that both hold could not be told from two equal ticks."""
    parts.sort(key=lambda part: int(part.ticks["time_msc"][0]))
    for earlier, later in pairwise(parts):
        if later.ticks["time_msc"][0] < earlier.ticks["time_msc"][-1]:
            raise TickFileError(
                later.source.path,
                f"begins before {earlier.source.path} ends: give {later.source.symbol} "
                "files that do not overlap",
            )
    if len(parts) == 1:
        return parts[0].ticks
    return np.concatenate([part.ticks for part in parts])

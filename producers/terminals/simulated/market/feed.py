"""What a terminal shows of its market: the broker's clock, outages, late and corrected ticks."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import numpy as np
import numpy.typing as npt

from events.ticks import TICK_DTYPE, RateArray, TickArray
from producers.terminals import constants as mt5
from producers.terminals.simulated.faults import FaultBoard, FaultSpan
from producers.terminals.simulated.market.generated import Market
from producers.terminals.simulated.market.hashing import uniform
from producers.terminals.simulated.market.rates import bars_of_ticks
from producers.terminals.simulated.options import TickOptions
from producers.terminals.simulated.server_clock import ServerClock

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

WINDOW_FIRST_MS = 600_000
WINDOW_MAX_MS = 86_400_000
LIVE_BITS_MS = 60_000
OFFSET_MAX_MS = 50_400_000  # clocks lie between UTC-14 and UTC+14
_INFO = mt5.TICK_FLAG_BID | mt5.TICK_FLAG_ASK
_TRADE = mt5.TICK_FLAG_LAST | mt5.TICK_FLAG_VOLUME | mt5.TICK_FLAG_BUY | mt5.TICK_FLAG_SELL
_SALT_LATE, _SALT_DELAY, _SALT_CORRECTED = 300, 301, 302
_FOREVER = np.iinfo(np.int64).max


class Feed:
    """Answers in server time about a market that lives in UTC."""

    def __init__(
        self,
        market: Market,
        clock: ServerClock,
        faults: FaultBoard,
        *,
        options: TickOptions,
        begin_utc_ms: int,
    ) -> None:
        self.market = market
        self.begin_utc_ms = begin_utc_ms
        self._clock = clock
        self._faults = faults
        self._options = options

    def ticks_from(
        self, symbol: str, from_server_ms: int, count: int, *, now_utc_ms: int, flags: int = -1
    ) -> TickArray:
        """The first `count` ticks at or after a server time, oldest first."""
        parts: list[TickArray] = []
        missing = count
        for low, high in self._windows(from_server_ms, now_utc_ms):
            rows = self._shown(symbol, low, high, now_utc_ms=now_utc_ms)
            rows = _chosen(rows, flags)[:missing]
            parts.append(rows)
            missing -= len(rows)
            if missing <= 0:
                break
        return _joined(parts)

    def ticks_range(
        self,
        symbol: str,
        from_server_ms: int,
        to_server_ms: int,
        *,
        now_utc_ms: int,
        flags: int = -1,
    ) -> TickArray:
        """Ticks with from <= server time <= to, oldest first."""
        parts = []
        for low, high in self._windows(from_server_ms, now_utc_ms):
            if low > to_server_ms:
                break
            high = min(high, to_server_ms + 1)
            parts.append(_chosen(self._shown(symbol, low, high, now_utc_ms=now_utc_ms), flags))
        return _joined(parts)

    def truth(
        self, symbol: str, from_server_ms: int, to_server_ms: int, *, now_utc_ms: int
    ) -> TickArray:
        """All that copy_ticks_* will ever show of a span that has passed: late and back-filled
        ticks included, holes and corrected ticks not."""
        parts = []
        for low, high in self._windows(from_server_ms, now_utc_ms):
            if low >= to_server_ms:
                break
            high = min(high, to_server_ms)
            parts.append(self._shown(symbol, low, high, now_utc_ms=now_utc_ms, finally_=True))
        return _joined(parts)

    def last(self, symbol: str, *, now_utc_ms: int) -> TickArray:
        """The newest tick as symbol_info_tick shows it: one row, or none."""
        behind = self._faults.active("tick_behind", now_utc_ms, symbol=symbol)
        until = now_utc_ms - (int(behind.seconds * 1000) if behind else 0)
        down = self._link_down(now_utc_ms)
        if down is not None:
            until = min(until, down.from_ms - 1)
        rows = self.market.last_tick(symbol, until)
        return self.labelled(rows) if len(rows) else rows

    def minute_bars(
        self, symbol: str, from_utc_s: int, to_utc_s: int, *, now_utc_ms: int
    ) -> RateArray:
        """M1 bars opened in [from, to), times in UTC, the forming one included."""
        known_ms = self._known_until(symbol, now_utc_ms)
        forming_s = known_ms // 60_000 * 60
        begin_s = -(-self.begin_utc_ms // 60_000) * 60
        closed = self.market.minute_bars(symbol, max(from_utc_s, begin_s), min(to_utc_s, forming_s))
        if not from_utc_s <= forming_s < to_utc_s:
            return closed
        ticks = self.market.ticks(symbol, forming_s * 1000, known_ms + 1)
        return np.concatenate([closed, bars_of_ticks(ticks)])

    def connected(self, utc_ms: int) -> bool:
        """Whether the terminal has its broker."""
        return self._link_down(utc_ms) is None

    def resyncing(self, utc_ms: int) -> bool:
        """Whether the link came back, but what was missed is not there yet."""
        return any(
            span.until_ms is not None
            and span.until_ms <= utc_ms < span.until_ms + int(span.fault.seconds * 1000)
            for span in self._faults.spans("disconnect")
        )

    def _link_down(self, utc_ms: int) -> FaultSpan | None:
        for span in self._faults.spans("disconnect"):
            if span.covers(utc_ms):
                return span
        return None

    def _known_until(self, symbol: str, now_utc_ms: int) -> int:
        ahead = self._faults.active("tick_ahead", now_utc_ms, symbol=symbol)
        until = now_utc_ms - int(ahead.seconds * 1000) if ahead else now_utc_ms
        down = self._link_down(now_utc_ms)
        return min(until, down.from_ms - 1) if down is not None else until

    def _windows(self, from_server_ms: int, now_utc_ms: int) -> Iterator[tuple[int, int]]:
        """Server-time windows from a time on until now, growing while they are cheap to skip."""
        low = max(from_server_ms, self.begin_utc_ms - OFFSET_MAX_MS)
        end = now_utc_ms + OFFSET_MAX_MS
        width = WINDOW_FIRST_MS
        while low < end:
            high = min(low + width, end)
            yield low, high
            low, width = high, min(width * 2, WINDOW_MAX_MS)

    def _shown(
        self,
        symbol: str,
        from_server_ms: int,
        to_server_ms: int,
        *,
        now_utc_ms: int,
        finally_: bool = False,
    ) -> TickArray:
        """Rows of a short server-time window that the terminal shows now, by server time."""
        low, high = self._clock.utc_hull(from_server_ms, to_server_ms)
        low = max(low, self.begin_utc_ms)
        high = min(high, self._known_until(symbol, now_utc_ms) + 1 if not finally_ else
                   now_utc_ms + 1)  # fmt: skip
        if high <= low:
            return np.empty(0, TICK_DTYPE)
        raw = self.market.ticks(symbol, low, high)
        if not len(raw):
            return raw
        times = _times_ms(raw)
        mask = self._visible(symbol, times, now_utc_ms, finally_=finally_)
        rows = self.labelled(raw, now_utc_ms=now_utc_ms)
        labels = _times_ms(rows)
        mask &= (labels >= from_server_ms) & (labels < to_server_ms)
        if not mask.all():
            rows, labels = rows[mask], labels[mask]
        if len(labels) > 1 and (labels[1:] < labels[:-1]).any():
            rows = rows[np.argsort(labels, kind="stable")]
        return rows

    def labelled(self, raw: TickArray, *, now_utc_ms: int | None = None) -> TickArray:
        """A copy of the market's rows with the broker's wall clock; a time_msc of 0 stays 0."""
        rows = raw.copy()
        times = _times_ms(raw)
        offsets = self._clock.offsets_s(times)
        rows["time"] += offsets
        known = rows["time_msc"] != 0
        rows["time_msc"] += np.where(known, offsets * 1000, 0)
        if self._options.flag_bits_live and now_utc_ms is not None:
            young = times > now_utc_ms - LIVE_BITS_MS
            rows["flags"][young] |= np.uint32(self._options.flag_bits_live)
        return rows

    def _visible(
        self, symbol: str, times: Int64Array, now_utc_ms: int, *, finally_: bool
    ) -> BoolArray:
        mask = np.ones(len(times), dtype=np.bool_)
        first, last = int(times[0]), int(times[-1])
        for span in self._faults.spans("disconnect", "hole"):
            until = _FOREVER if span.until_ms is None else span.until_ms
            if span.from_ms > last or until <= first:
                continue
            back_ms = until + int(span.fault.seconds * 1000) if until < _FOREVER else _FOREVER
            if span.fault.kind == "hole" or (not finally_ and now_utc_ms < back_ms):
                mask &= (times < span.from_ms) | (times >= until)
        key = crc32(symbol.encode())
        if self._options.late_share and not finally_:
            late = uniform(key, _SALT_LATE, times) < self._options.late_share
            delay = uniform(key, _SALT_DELAY, times) * self._options.late_max_ms
            mask &= ~late | (times + delay <= now_utc_ms)
        for span in self._faults.spans("corrected"):
            if span.from_ms <= now_utc_ms and span.concerns("", symbol):
                since = span.from_ms - int(span.fault.seconds * 1000)
                hit = uniform(key, _SALT_CORRECTED, times) < span.fault.share
                mask &= ~(hit & (times >= since) & (times < span.from_ms))
        return mask


def _times_ms(rows: TickArray) -> Int64Array:
    """Time of each row in ms; rows without time_msc have their whole second."""
    times: Int64Array = rows["time_msc"]
    return np.where(times == 0, rows["time"] * 1000, times)


def _chosen(rows: TickArray, flags: int) -> TickArray:
    """Rows of a COPY_TICKS_ mode."""
    wanted = {mt5.COPY_TICKS_INFO: _INFO, mt5.COPY_TICKS_TRADE: _TRADE}.get(flags)
    if wanted is None:
        return rows
    chosen: TickArray = rows[(rows["flags"] & np.uint32(wanted)) != 0]
    return chosen


def _joined(parts: list[TickArray]) -> TickArray:
    filled = [part for part in parts if len(part)]
    if len(filled) == 1:
        return filled[0]
    return np.concatenate(filled) if filled else np.empty(0, TICK_DTYPE)

"""Calls that copy ticks and bars, all in the broker's time and whole seconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from events.ticks import RateArray, TickArray
from producers.terminals import constants as mt5
from producers.terminals.simulated.calls.arguments import (
    CallFailed,
    date_at,
    int_at,
    text_at,
    unnamed,
)
from producers.terminals.simulated.calls.core import api
from producers.terminals.simulated.calls.symbols import SymbolCalls
from producers.terminals.simulated.market.rates import aggregated, last_bars

TICKS_COUNT_MAX = 50_000_000
_MODES = (mt5.COPY_TICKS_ALL, mt5.COPY_TICKS_INFO, mt5.COPY_TICKS_TRADE, 3)
_SERVER_S_MAX = 1 << 40  # far beyond any date; later ones find nothing


class CopyCalls(SymbolCalls):
    """Ticks forward from a time, bars backward to one."""

    @api(failed=None)
    def copy_ticks_from(self, *args: Any, **kwargs: Any) -> TickArray:
        """copy_ticks_from(symbol, date_from, count, flags) -> the first `count` ticks from a
        time on"""
        unnamed(args, kwargs, least=4, most=4)
        symbol = self._watched(text_at(args, 0))
        from_s = date_at(args, 1, pc_zone=self.options.pc_zone)
        count, flags = int_at(args, 2), int_at(args, 3)
        if not 0 < count <= TICKS_COUNT_MAX or flags not in _MODES or from_s < 0:
            raise CallFailed(mt5.RES_E_INVALID_PARAMS)
        return self.feed.ticks_from(
            symbol,
            min(from_s, _SERVER_S_MAX) * 1000,
            count,
            now_utc_ms=self.clock.utc_ms(),
            flags=flags,
        )

    @api(failed=None)
    def copy_ticks_range(self, *args: Any, **kwargs: Any) -> TickArray:
        """copy_ticks_range(symbol, date_from, date_to, flags) -> ticks of [from, to]"""
        unnamed(args, kwargs, least=4, most=4)
        symbol = self._watched(text_at(args, 0))
        from_s = date_at(args, 1, pc_zone=self.options.pc_zone)
        to_s = date_at(args, 2, pc_zone=self.options.pc_zone)
        flags = int_at(args, 3)
        if flags not in _MODES or from_s < 0:
            raise CallFailed(mt5.RES_E_INVALID_PARAMS)
        return self.feed.ticks_range(
            symbol,
            min(from_s, _SERVER_S_MAX) * 1000,
            min(to_s, _SERVER_S_MAX) * 1000,
            now_utc_ms=self.clock.utc_ms(),
            flags=flags,
        )

    @api(failed=None)
    def copy_rates_from(self, *args: Any, **kwargs: Any) -> RateArray:
        """copy_rates_from(symbol, timeframe, date_from, count) -> the last `count` bars that
        opened at or before a time"""
        unnamed(args, kwargs, least=4, most=4)
        symbol, timeframe = self._known(text_at(args, 0)), self._timeframe(args)
        until_s = min(date_at(args, 2, pc_zone=self.options.pc_zone), _SERVER_S_MAX)
        count = self._bar_count(int_at(args, 3))
        return self._bars_until(symbol, timeframe, until_s, count)

    @api(failed=None)
    def copy_rates_from_pos(self, *args: Any, **kwargs: Any) -> RateArray:
        """copy_rates_from_pos(symbol, timeframe, start_pos, count) -> bars counted from the
        forming one (0) back, oldest first"""
        unnamed(args, kwargs, least=4, most=4)
        symbol, timeframe = self._known(text_at(args, 0)), self._timeframe(args)
        start = int_at(args, 2)
        count = self._bar_count(int_at(args, 3))
        if start < 0:
            raise CallFailed(mt5.RES_E_INVALID_PARAMS)
        if start >= self.options.maxbars:
            return self._bars_until(symbol, timeframe, 0, 1)
        bars = self._bars_until(symbol, timeframe, _SERVER_S_MAX, start + count)
        return bars[: max(0, len(bars) - start)][-count:]

    @api(failed=None)
    def copy_rates_range(self, *args: Any, **kwargs: Any) -> RateArray:
        """copy_rates_range(symbol, timeframe, date_from, date_to) -> bars that opened in
        [from, to]"""
        unnamed(args, kwargs, least=4, most=4)
        symbol, timeframe = self._known(text_at(args, 0)), self._timeframe(args)
        zone = self.options.pc_zone
        from_s = max(0, date_at(args, 2, pc_zone=zone))
        to_s = min(date_at(args, 3, pc_zone=zone), self._server_now_s() + 1)
        if from_s > to_s:
            return self._bars_until(symbol, timeframe, 0, 1)
        begin_s = self.feed.begin_utc_ms // 1000
        low = max(begin_s, self.server_clock.utc_hull(from_s * 1000, from_s * 1000)[0] // 1000)
        high = self.server_clock.utc_hull(to_s * 1000, to_s * 1000)[1] // 1000
        minutes = self._minutes(symbol, low, high + 60, until_server_s=_SERVER_S_MAX)
        bars = aggregated(minutes, timeframe)
        chosen: RateArray = bars[(bars["time"] >= from_s) & (bars["time"] <= to_s)]
        if len(chosen) >= self.options.maxbars:
            chosen = chosen[-(self.options.maxbars - 1) :]
        return chosen

    def _server_now_s(self) -> int:
        return self.server_clock.server_ms(self.clock.utc_ms()) // 1000

    def _timeframe(self, args: tuple[Any, ...]) -> int:
        timeframe = int_at(args, 1)
        if timeframe not in mt5.TIMEFRAME_SECONDS:
            raise CallFailed(mt5.RES_E_INVALID_PARAMS)
        return timeframe

    def _bar_count(self, count: int) -> int:
        """The module refuses as many bars as charts may hold (`maxbars`)."""
        if not 0 < count < self.options.maxbars:
            raise CallFailed(mt5.RES_E_INVALID_PARAMS)
        return count

    def _bars_until(self, symbol: str, timeframe: int, until_s: int, count: int) -> RateArray:
        """The last `count` bars that opened at or before a server time."""
        until_s = min(until_s, self._server_now_s() + 1)
        high = self.server_clock.utc_hull(until_s * 1000, until_s * 1000)[1] // 1000 + 60
        return last_bars(
            lambda low, up: self._minutes(symbol, low, up, until_server_s=until_s),
            timeframe,
            end_utc_s=high,
            begin_utc_s=self.feed.begin_utc_ms // 1000,
            count=count,
        )

    def _minutes(
        self, symbol: str, from_utc_s: int, to_utc_s: int, *, until_server_s: int
    ) -> RateArray:
        """M1 bars in server time."""
        now = self.clock.utc_ms()
        bars = self.feed.minute_bars(symbol, from_utc_s, to_utc_s, now_utc_ms=now).copy()
        bars["time"] += self.server_clock.offsets_s(bars["time"] * np.int64(1000))
        kept: RateArray = bars[bars["time"] <= until_server_s]
        return kept

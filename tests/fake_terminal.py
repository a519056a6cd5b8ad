"""A terminal that tests write on, and a client that calls it in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from events.ticks import RATE_DTYPE, TICK_DTYPE, TickArray
from producers.terminals.interface import Priority, Reply, TerminalLost
from producers.terminals.structs import (
    AccountInfo,
    SymbolInfo,
    TerminalInfo,
    Tick,
    TradeDeal,
    TradeOrder,
    TradePosition,
)

SUCCESS = (1, "Success")
NOT_FOUND = (-4, "Terminal: Not found")
SERVER_NOW_S = 1_790_000_000
"""A Monday in September 2026, by the server's clock."""
OFFSET_S = 10_800


def tick_rows(*rows: tuple[int, float, float]) -> TickArray:
    """Ticks from (time_msc, bid, ask)."""
    ticks = np.zeros(len(rows), TICK_DTYPE)
    for place, (time_msc, bid, ask) in enumerate(rows):
        ticks[place] = (time_msc // 1000, bid, ask, 0.0, 0, time_msc, 6, 0.0)
    return ticks


def position(ticket: int, symbol: str = "EURUSD", volume: float = 0.1, **more: Any) -> Any:
    at_ms = SERVER_NOW_S * 1000
    fields = {
        "ticket": ticket, "identifier": ticket, "symbol": symbol, "volume": volume,
        "price_open": 1.1, "price_current": 1.101, "profit": 1.0, "time": SERVER_NOW_S,
        "time_msc": at_ms, "time_update": SERVER_NOW_S, "time_update_msc": at_ms,
    }  # fmt: skip
    return TradePosition.of(**{**fields, **more})


def deal(ticket: int, *, at_s: int = SERVER_NOW_S, symbol: str = "EURUSD", **more: Any) -> Any:
    fields = {
        "ticket": ticket, "order": ticket, "time": at_s, "time_msc": at_s * 1000,
        "position_id": ticket, "volume": 0.1, "price": 1.1, "symbol": symbol,
    }  # fmt: skip
    return TradeDeal.of(**{**fields, **more})


def order(ticket: int, *, setup_s: int = SERVER_NOW_S, done_s: int = 0, **more: Any) -> Any:
    fields = {
        "ticket": ticket, "symbol": "EURUSD", "volume_initial": 0.1, "time_setup": setup_s,
        "time_setup_msc": setup_s * 1000, "time_done": done_s, "time_done_msc": done_s * 1000,
    }  # fmt: skip
    return TradeOrder.of(**{**fields, **more})


class FakeTerminal:
    """State that tests set; methods answer from it as the MetaTrader5 module would."""

    def __init__(self, *symbols: str) -> None:
        self.server_now_s: float = SERVER_NOW_S
        self.account = AccountInfo.of(
            login=7, server="Demo", currency="USD", balance=1000.0, equity=1000.0,
            leverage=100, trade_mode=0, margin_mode=2,
        )  # fmt: skip
        self.terminal = TerminalInfo.of(connected=True, build=5000, trade_allowed=True)
        self.symbols = {
            name: SymbolInfo.of(
                name=name, select=True, visible=True, digits=5, point=1e-5, trade_mode=4,
                trade_tick_size=1e-5, trade_tick_value=1.0, trade_contract_size=100_000.0,
                volume_min=0.01, volume_max=100.0, volume_step=0.01,
                currency_base=name[:3], currency_profit=name[3:6], currency_margin=name[:3],
            )
            for name in symbols
        }  # fmt: skip
        self.ticks: dict[str, TickArray] = {name: tick_rows() for name in symbols}
        self.rates: dict[tuple[str, int], Any] = {}
        self.positions: tuple[Any, ...] = ()
        self.orders: tuple[Any, ...] = ()
        self.deals: tuple[Any, ...] = ()
        self.done_orders: tuple[Any, ...] = ()
        self.unknown: dict[str, tuple[int, str]] = {}
        """Method -> error: it answers None."""
        self.error = SUCCESS
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.lock = threading.Lock()

    def utc_now_ms(self) -> int:
        return int((self.server_now_s - OFFSET_S) * 1000)

    def add_ticks(self, symbol: str, rows: TickArray) -> None:
        self.ticks[symbol] = np.concatenate([self.ticks[symbol], rows])

    def last_error(self) -> tuple[int, str]:
        return self.error

    def answer(self, method: str, *args: Any) -> Any:
        """One call, as the host would make it."""
        with self.lock:
            self.calls.append((method, args))
            if method in self.unknown:
                self.error = self.unknown[method]
                return None
            self.error = SUCCESS
            return getattr(self, method)(*args)

    def _missing(self) -> Any:
        self.error = NOT_FOUND
        return None

    def terminal_info(self) -> Any:
        return self.terminal

    def account_info(self) -> Any:
        return self.account

    def positions_get(self) -> Any:
        return self.positions

    def orders_get(self) -> Any:
        return self.orders

    def history_deals_get(self, begin_s: int, until_s: int) -> Any:
        assert isinstance(begin_s, int)
        assert isinstance(until_s, int)
        return tuple(row for row in self.deals if begin_s <= row.time <= until_s)

    def history_orders_get(self, begin_s: int, until_s: int) -> Any:
        return tuple(row for row in self.done_orders if begin_s <= row.time_setup <= until_s)

    def symbol_info(self, symbol: str) -> Any:
        return self.symbols.get(symbol) or self._missing()

    def symbols_get(self, group: str = "*") -> Any:
        return tuple(self.symbols.values())

    def symbol_select(self, symbol: str, enable: bool = True) -> Any:
        if symbol not in self.symbols:
            return False
        self.symbols[symbol] = self.symbols[symbol].replaced(select=enable)
        return True

    def symbol_info_tick(self, symbol: str) -> Any:
        rows = self.ticks.get(symbol)
        if rows is None or not len(rows):
            return self._missing()
        last = rows[np.argmax(rows["time_msc"])]
        return Tick(last.item())

    def copy_ticks_from(self, symbol: str, begin_s: int, count: int, flags: int) -> Any:
        assert isinstance(begin_s, int)
        if symbol not in self.ticks:
            return self._missing()
        rows = self.ticks[symbol]
        return rows[rows["time"] >= begin_s][:count].copy()

    def copy_rates_from_pos(self, symbol: str, frame: int, start: int, count: int) -> Any:
        rows = self.rates.get((symbol, frame), np.zeros(0, RATE_DTYPE))
        end = len(rows) - start
        return rows[max(0, end - count) : end]

    def copy_rates_from(self, symbol: str, frame: int, until_s: int, count: int) -> Any:
        rows = self.rates.get((symbol, frame), np.zeros(0, RATE_DTYPE))
        return rows[rows["time"] <= until_s][-count:]

    def copy_rates_range(self, symbol: str, frame: int, begin_s: int, until_s: int) -> Any:
        rows = self.rates.get((symbol, frame), np.zeros(0, RATE_DTYPE))
        return rows[(rows["time"] >= begin_s) & (rows["time"] <= until_s)]

    def finished(self) -> bool:
        return True


class DirectClient:
    """A TerminalClient in this process. `latency_s` passes outside the terminal's lock where
    calls `overlap`, else one call after the other; `before` sees every call first (and may raise
    TerminalLost, or return a future of its own)."""

    def __init__(
        self, terminal: FakeTerminal, *, latency_s: float = 0.0, overlap: bool = True
    ) -> None:
        self.terminal = terminal
        self.latency_s = latency_s
        self.before: Callable[[str, tuple[Any, ...]], Future[Reply] | None] = lambda *_: None
        workers = 256 if overlap else 1
        self._pool = ThreadPoolExecutor(workers) if latency_s else None

    def submit(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Future[Reply]:
        future: Future[Reply] = Future()
        try:
            own = self.before(method, args)
        except TerminalLost as error:
            future.set_exception(error)
            return future
        if own is not None:
            return own
        if self._pool is not None:
            return self._pool.submit(self._late, method, args)
        future.set_result(self._reply(method, args))
        return future

    def _late(self, method: str, args: tuple[Any, ...]) -> Reply:
        time.sleep(self.latency_s)
        return self._reply(method, args)

    def _reply(self, method: str, args: tuple[Any, ...]) -> Reply:
        value = self.terminal.answer(method, *args)
        return Reply(value, self.terminal.last_error(), self.terminal.utc_now_ms(), 0.0)

    def call(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Reply:
        return self.submit(method, *args, priority=priority, timeout_s=timeout_s).result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def candle_rows(frame_s: int, opens: Iterable[int]) -> Any:
    """Candles that open at these server seconds."""
    rows = np.zeros(0, RATE_DTYPE)
    return np.concatenate(
        [rows, np.array([(at, 1.1, 1.2, 1.0, 1.15, 9, 1, 0) for at in opens], RATE_DTYPE)]
    )

"""A flatten in this process and in virtual time: a simulated terminal, called directly."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from producers.guard.flatten import Flattener, FlattenOptions, MemoryJournal
from producers.terminals import constants as mt5
from producers.terminals.interface import Priority, Reply
from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal

LOGIN = 5_000_001
MAGIC = 770_001
START_UTC_MS = 1_790_150_400_000
"""Wednesday 23 September 2026, 08:00 UTC: every market of the catalogue but stocks is open."""
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD")


class DirectClient:
    """A TerminalClient without a host: each call runs at once in its caller."""

    def __init__(self, terminal: SimulatedTerminal) -> None:
        self.terminal = terminal
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.priorities: list[Priority] = []

    def submit(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Future[Reply]:
        self.calls.append((method, args))
        self.priorities.append(priority)
        future: Future[Reply] = Future()
        value = getattr(self.terminal, method)(*args, **kwargs)
        error = self.terminal.last_error()
        future.set_result(Reply(value, error, self.terminal.utc_now_ms(), 0.0))
        return future

    def call(self, method: str, *args: Any, **kwargs: Any) -> Reply:
        return self.submit(method, *args, **kwargs).result()

    def close(self) -> None:
        """Nothing to close."""


class VirtualAccount:
    """A simulated account whose time passes only while a flatten sleeps."""

    def __init__(self, *, account: dict[str, Any] | None = None, **options: Any) -> None:
        named = {"symbols": SYMBOLS, "selected": SYMBOLS, "start_utc_ms": START_UTC_MS, **options}
        self.options = SimulatedOptions.model_validate(
            {**named, "speed": 0.0, "account": {"balance": 1_000_000.0, **(account or {})}}
        )
        self.terminal = SimulatedTerminal(self.options)
        assert self.terminal.initialize()
        self.client = DirectClient(self.terminal)
        self.journal = MemoryJournal()
        self.pages: list[str] = []

    def value(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The value of a call that must be known."""
        value = getattr(self.terminal, method)(*args, **kwargs)
        assert value is not None, (method, self.terminal.last_error())
        return value

    def now_s(self) -> float:
        return self.terminal.clock.utc_ms() / 1000

    def sleep(self, seconds: float) -> None:
        self.terminal.advance(max(1, round(seconds * 1000)))

    def open(self, symbol: str, side: int, lots: float, **more: Any) -> int:
        """Open a position; its ticket."""
        tick = self.value("symbol_info_tick", symbol)
        request = {
            "action": mt5.TRADE_ACTION_DEAL, "symbol": symbol, "volume": lots, "type": side,
            "price": tick.bid if side else tick.ask, "deviation": 50,
            "type_filling": mt5.ORDER_FILLING_IOC, **more,
        }  # fmt: skip
        result = self.value("order_send", request)
        assert result.retcode == mt5.TRADE_RETCODE_DONE, result
        return int(result.order)

    def place(self, symbol: str, type_: int, away: float, lots: float = 0.1) -> int:
        """Place a pending order, `away` below (or above) the price; its ticket."""
        tick = self.value("symbol_info_tick", symbol)
        info = self.value("symbol_info", symbol)
        request = {
            "action": mt5.TRADE_ACTION_PENDING, "symbol": symbol, "volume": lots, "type": type_,
            "price": round(tick.bid * (1 - away), info.digits),
        }  # fmt: skip
        result = self.value("order_send", request)
        assert result.retcode == mt5.TRADE_RETCODE_DONE, result
        return int(result.order)

    def flattener(self, **options: Any) -> Flattener:
        return Flattener(
            self.client, self.journal, login=LOGIN, terminal="virtual", magic=MAGIC,
            clock=self.now_s, wall_ms=lambda: int(self.now_s() * 1000), sleep=self.sleep,
            options=FlattenOptions(**options), on_page=lambda text, cure: self.pages.append(text),
            jitter=lambda: 0.5,
        )  # fmt: skip

    def now_ms(self) -> int:
        return int(self.now_s() * 1000)

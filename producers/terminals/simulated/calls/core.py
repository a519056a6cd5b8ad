"""What every call of a simulated terminal goes through: latency, faults, link, last error."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from events.clock_rules import ClockRule
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.accounts import Accounts
from producers.terminals.simulated.broker.conditions import FaultConditions
from producers.terminals.simulated.broker.desk import TradeDesk
from producers.terminals.simulated.broker.server import TradeServer
from producers.terminals.simulated.calls.arguments import CallFailed
from producers.terminals.simulated.calls.remembering import AccountMemory
from producers.terminals.simulated.faults import AT_THE_BROKER, Fault, FaultBoard
from producers.terminals.simulated.market.feed import Feed
from producers.terminals.simulated.market.generated import GeneratedMarket, Market
from producers.terminals.simulated.market.moved import MovedMarket
from producers.terminals.simulated.options import AccountOptions, SimulatedOptions
from producers.terminals.simulated.server_clock import ServerClock, VirtualClock
from producers.terminals.simulated.symbols import CATALOGUE, SymbolSpec, catalogue_of

DAY_MS = 86_400_000
SELECTED_AT_START = 4
EXIT_CODE = 70
LOGIN_ELSE = 9_000_001
_HAPPENINGS = frozenset(
    {"ipc_lost", "exit", "account_switched", "deselected", "symbol_removed", "clock_change"}
)
Function = TypeVar("Function", bound=Callable[..., Any])


def api(failed: Any) -> Callable[[Function], Function]:
    """Make a method a call of the module: it gives `failed` where the module fails."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def run(self: TerminalCore, *args: Any, **kwargs: Any) -> Any:
            return self._run(function, failed, args, kwargs)

        return run  # type: ignore[return-value]  # same arguments, one failure value more

    return decorate


class TerminalCore:
    """State of the terminal and the path of every call. Calls may come from any thread; latency
    passes outside the lock, so that calls of several threads overlap as they do remotely."""

    def __init__(
        self,
        options: SimulatedOptions,
        *,
        market: Market | None = None,
        specs: dict[str, SymbolSpec] | None = None,
        clock: VirtualClock | None = None,
        begin_utc_ms: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.options = options
        self.specs = specs or catalogue_of(options.symbols, options.suffixes)
        self.account_memory = None if options.memory is None else AccountMemory(options)
        past = self.account_memory.opened() if self.account_memory else None
        self.clock = clock or VirtualClock(past.now_utc_ms if past else options.start_utc_ms,
                                           options.speed)  # fmt: skip
        self.started_utc_ms = past.start_utc_ms if past else self.clock.utc_ms()
        self.server_clock = ServerClock(ClockRule.parse(options.clock))
        self.faults = FaultBoard(options.faults, self.clock.utc_ms())
        self.conditions = FaultConditions(
            self.faults,
            liquidity_lots=options.liquidity_lots,
            slippage_points=options.slippage_points,
        )
        self.market = MovedMarket(market or _generated_market(options, self.specs), self._any_spec)
        self.market.restore(options.moves)
        if begin_utc_ms is None:
            begin_utc_ms = self.started_utc_ms - options.history_days * DAY_MS
        self.feed = Feed(
            self.market,
            self.server_clock,
            self.faults,
            options=options.ticks,
            begin_utc_ms=begin_utc_ms,
        )
        chosen = [name for name in options.selected if name in self.specs]
        self.selected_at: dict[str, int] = dict.fromkeys(
            chosen or tuple(self.specs)[:SELECTED_AT_START], 0
        )
        self.books: set[str] = set()
        self.last_looks: dict[str, tuple[int, tuple[Any, ...]]] = {}
        self.attached = False
        self.ipc_lost = False
        self._sleep = sleep
        self._lock = threading.RLock()
        self._error = (mt5.RES_S_OK, mt5.LAST_ERRORS[mt5.RES_S_OK])
        self._first_answers: dict[str, int] = {}
        self._answers_after_s = 0.0
        self.ends_unanswered = False
        self.accounts = Accounts(
            options,
            specs=self.specs,
            market=self.market,
            clock=self.server_clock,
            conditions=self.conditions,
            started_utc_ms=self.started_utc_ms,
            watched=tuple(self.selected_at),
        )
        self.login_now = options.account.login
        if self.account_memory is not None:
            self.account_memory.recall_all(self)
            self.account_memory.shorten(self)

    # For hosts, tests and benchmarks; the module itself has none of these ----------------------

    def utc_now_ms(self) -> int:
        """The host's own clock: virtual, and as wrong as options and faults make it."""
        now = self.clock.utc_ms()
        jump = self.faults.active("host_clock_jump", now)
        return now + self.options.host_clock_error_ms + int((jump.seconds if jump else 0) * 1000)

    def inject(self, kind: str, **arguments: Any) -> bool:
        """Let a fault begin now (fields of `Fault`). Raises ValueError on a bad one."""
        fault = Fault.model_validate({"kind": kind, **arguments})
        with self._lock, self._remembered():
            now = self.clock.utc_ms()
            if kind in AT_THE_BROKER:
                self.accounts.happen(fault, login=self.login_now, utc_ms=now)
            else:
                self.faults.inject(fault, now)
        return True

    def clear(self, kind: str) -> bool:
        """End every fault of a kind."""
        with self._lock, self._remembered():
            now = self.clock.utc_ms()
            if kind == "price_jump":
                self.market.end(now + 1)
            self.faults.clear(kind, now)
        return True

    def advance(self, step_ms: int) -> int:
        """Step the virtual clock. Returns its UTC time in ms."""
        with self._lock, self._remembered():
            if self.account_memory is not None:
                self.account_memory.clock_stepped()
            return self.clock.advance(step_ms)

    def requests(self, after: int = 0) -> tuple[dict[str, Any], ...]:
        """Requests that reached the broker of the account, oldest first, numbered from 1: what
        was asked (the fields of a request), when (`utc_ms`), and what became of it (`retcode`,
        `deal`, `made_order`). Only those with a number above `after`; the broker keeps 10,000."""
        with self._lock, self._remembered():
            return tuple(kept for kept in self.broker.requests if kept["number"] > after)

    def finished(self) -> bool:
        """Whether nothing new will ever come; a generated market never ends."""
        return False

    def truth(self, symbol: str, from_server_ms: int, to_server_ms: int) -> Any:
        """Every tick of [from, to) that copy_ticks_* must have shown in the end (TICK_DTYPE)."""
        with self._lock:
            return self.feed.truth(
                symbol, from_server_ms, to_server_ms, now_utc_ms=self.clock.utc_ms()
            )

    @property
    def broker(self) -> TradeServer:
        """The trade server of the account that is logged in."""
        return self.accounts.server(self.login_now)

    def last_error(self) -> tuple[int, str]:
        """Code and text of the last call."""
        return self._error

    # The path of a call -----------------------------------------------------------------------

    def _run(
        self, function: Callable[..., Any], failed: Any, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        name = function.__name__
        symbol = kwargs.get("symbol") or (args[0] if args else "")
        symbol = symbol if isinstance(symbol, str) else ""
        self._wait(name, symbol)
        with self._lock:
            self._answers_after_s = 0.0
            try:
                with self._remembered():
                    self._arrive(name, symbol)
                    value = function(self, *args, **kwargs)
                    value = self._answered(name, symbol, value)
            except CallFailed as failure:
                self._error = failure.error
                return failed
            self._error = (mt5.RES_S_OK, mt5.LAST_ERRORS[mt5.RES_S_OK])
            late_s = self._answers_after_s
        if self.ends_unanswered:
            os._exit(EXIT_CODE)
        if late_s:
            self._sleep(late_s)
        return value

    def answer_later(self, seconds: float) -> None:
        """Let real time pass before the running call is answered; its work is done."""
        self._answers_after_s = seconds

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        """Know what other processes did to the account, and keep what happens inside. Raises
        CallFailed when it cannot be kept: then it did not happen."""
        if self.account_memory is None:
            yield
            return
        with self.account_memory.shared(self) as kept:
            try:
                yield
            finally:
                kept()

    def _wait(self, name: str, symbol: str) -> None:
        """Let the time of the call pass, which may be for ever."""
        seconds = self.options.call_latency_s(name)
        now = self.clock.utc_ms()
        if self.faults.take("hang", now, method=name, symbol=symbol):
            self.faults.hang()
        slow = self.faults.take("slow", now, method=name, symbol=symbol)
        if slow is not None:
            seconds += slow.seconds
        if seconds > 0:
            self._sleep(seconds)

    def _arrive(self, name: str, symbol: str) -> None:
        """Everything that may keep a call from its work. Raises CallFailed or SystemError."""
        now = self.clock.utc_ms()
        for span in self.faults.begun(_HAPPENINGS, now):
            self._happen(span.fault, span.from_ms)
        if self.faults.take("system_error", now, method=name, symbol=symbol):
            self._error = (mt5.RES_E_FAIL, mt5.LAST_ERRORS[mt5.RES_E_FAIL])
            raise SystemError(f"<built-in function {name}> returned NULL without setting an error")
        fault = self.faults.take("error", now, method=name, symbol=symbol)
        if fault is not None and fault.code not in (0, mt5.RES_S_OK):
            raise CallFailed(fault.code)
        if self.faults.take("none", now, method=name, symbol=symbol):
            raise CallFailed(mt5.RES_E_FAIL)
        if name in ("initialize", "shutdown"):
            return
        if self.ipc_lost:
            self.ipc_lost = self.attached = False
            raise CallFailed(mt5.RES_E_INTERNAL_FAIL_SEND)
        if not self.attached:
            raise CallFailed(mt5.RES_E_INTERNAL_FAIL_CONNECT)
        self._process(now)

    def _process(self, now: int) -> None:
        """Bring the account up to now, or to the moment the broker was lost."""
        until = now
        for span in self.faults.spans("disconnect"):
            if span.covers(now):
                until = min(until, span.from_ms)
        self.broker.process(until)

    def _happen(self, fault: Fault, since_utc_ms: int) -> None:
        if fault.kind == "exit":
            os._exit(EXIT_CODE)
        elif fault.kind == "ipc_lost":
            self.ipc_lost = self.attached
        elif fault.kind == "account_switched":
            self.switch_account(fault.login)
        elif fault.kind == "clock_change":
            self.server_clock.shift(since_utc_ms, int(fault.seconds))
        else:
            for symbol in fault.symbols:
                self.selected_at.pop(symbol, None)
                if fault.kind == "symbol_removed":
                    self.specs.pop(symbol, None)

    def switch_account(self, login: int) -> None:
        """Another account is logged in from now on; one nobody described is like the first."""
        self.login_now = login or LOGIN_ELSE
        self.accounts.server(self.login_now)

    def _answered(self, name: str, symbol: str, value: Any) -> Any:
        """The answer as warm-up and faults leave it."""
        now = self.clock.utc_ms()
        if not hasattr(value, "__len__"):
            return value
        if name.startswith("copy_ticks"):
            value = self._warmed_up(symbol, value)
        if self.faults.take("empty", now, method=name, symbol=symbol):
            return value[:0]
        if self.faults.take("partial", now, method=name, symbol=symbol):
            return value[: len(value) // 2]
        return value

    def _warmed_up(self, symbol: str, value: Any) -> Any:
        """The first answers for a symbol, while its history is still being fetched."""
        kind = self.options.first_answer
        if kind == "full":
            return value
        calls = self._first_answers.get(symbol, 0)
        self._first_answers[symbol] = calls + 1
        if calls >= self.options.first_answer_calls:
            return value
        if kind == "none":
            raise CallFailed(mt5.RES_E_FAIL)
        return value[:0] if kind == "empty" else value[: len(value) // 2]

    def _any_spec(self, name: str) -> SymbolSpec | None:
        return self.specs.get(name) or CATALOGUE.get(name)

    def account_now(self) -> AccountOptions:
        """The account that is logged in."""
        return self.accounts.known[self.login_now]

    def desk(self) -> TradeDesk:
        """Where requests for the account are carried out."""
        return TradeDesk(self.broker)


def _generated_market(options: SimulatedOptions, specs: dict[str, SymbolSpec]) -> Market:
    """The seed's market; pairs needed for conversions trade too, though nobody is shown them."""
    hidden = {name: spec for name, spec in CATALOGUE.items() if name not in specs}
    return GeneratedMarket(options.seed, {**hidden, **specs}, options.ticks)

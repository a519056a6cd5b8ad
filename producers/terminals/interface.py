"""The one shape of a terminal, and of the calls that reach it through its host.

A *terminal* has the functions of the `MetaTrader5` module: same names, arguments, return types,
`None` for "unknown" and `last_error()` for why. Native, simulated and recorded terminals are
such objects. Nobody but the *terminal host* calls one directly: the rest of the bridge sends
calls to the host and gets replies, because a native call blocks its whole process and has no
deadline.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

CALLS_READ = frozenset(
    {
        "account_info", "copy_rates_from", "copy_rates_from_pos", "copy_rates_range",
        "copy_ticks_from", "copy_ticks_range", "history_deals_get", "history_deals_total",
        "history_orders_get", "history_orders_total", "market_book_get", "order_calc_margin",
        "order_calc_profit", "order_check", "orders_get", "orders_total", "positions_get",
        "positions_total", "symbol_info", "symbol_info_tick", "symbols_get", "symbols_total",
        "terminal_info", "version",
    }
)  # fmt: skip
CALLS_STATE = frozenset(
    {"initialize", "login", "market_book_add", "market_book_release", "shutdown", "symbol_select"}
)
CALLS_TRADE = frozenset({"order_send"})
CALLS = CALLS_READ | CALLS_STATE | CALLS_TRADE
"""Every function of the module that a host may be asked for."""
CALLS_GUARD = frozenset({"guard_tell", "guard_hear", "guard_state", "guard_set"})
"""What a terminal server answers for the guard beside it (see producers.guard.ways)."""
CALLS_HOST = CALLS_GUARD | {"advance", "clear", "finished", "host_info", "inject", "requests"}
"""What a host answers besides: about itself, and what only simulated terminals have."""


class Priority(IntEnum):
    """Order in which a host serves waiting calls."""

    EMERGENCY = 0
    TRADE = 1
    ACCOUNT = 2
    TICKS = 3
    HISTORY = 4


class TerminalLost(Exception):
    """The host or the link to it is gone. For `order_send` the outcome is unknown."""


class NotSent(TerminalLost):
    """The call was given up before it reached the terminal: it certainly did nothing."""


class AttachRefused(NotSent):
    """A host runs, but its terminal may not be used; the text says why and what to do.

    `retry_after_s`: trying again sooner would do harm (an account locks after wrong passwords).
    """

    def __init__(self, text: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class TerminalUnusable(NotSent):
    """The terminal cannot be opened as it is described (an option, a file, a module): only a
    person can change that. The text says what is wrong."""


class TerminalHung(TerminalLost):
    """A call passed its deadline; the host is being killed and started again."""


class HistoryLost(TerminalLost):
    """The host that serves deep history, beside the live one, is gone: only history is not to be
    had for now."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one call.

    `value` has the types of the module (struct sequences of `structs`, numpy arrays, tuples,
    plain values); None means unknown, and `error` (code, text) was read under the same lock.
    `utc_ms` is the host's clock when the call returned (virtual for simulated terminals).
    """

    value: Any
    error: tuple[int, str]
    utc_ms: int
    took_ms: float

    @property
    def unknown(self) -> bool:
        """True when nothing may be concluded: None, or an empty answer with an error."""
        if self.value is None:
            return True
        empty = hasattr(self.value, "__len__") and len(self.value) == 0
        return empty and self.error[0] != 1


class Terminal(Protocol):
    """What a host drives: the `MetaTrader5` module, or an object shaped like it.

    Every name in CALLS is a method; `last_error()` tells of the last call.
    """

    def last_error(self) -> tuple[int, str]: ...


class TerminalClient(Protocol):
    """The way to a host: local process, or over the network."""

    def submit(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Future[Reply]:
        """Queue a call. The future raises TerminalHung or TerminalLost, never blocks for ever."""
        ...

    def call(
        self,
        method: str,
        *args: Any,
        priority: Priority = Priority.ACCOUNT,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Reply:
        """`submit` and wait. Raises TerminalHung or TerminalLost."""
        ...

    def close(self) -> None: ...

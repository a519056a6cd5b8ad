"""The module object that stands in for `MetaTrader5`."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from producers.terminals import constants as mt5
from producers.terminals.interface import CALLS, Terminal
from producers.terminals.structs import STRUCTS

MODULE_NAME = "MetaTrader5"
FUNCTIONS = tuple(sorted(CALLS | {"last_error"}))
"""What the module's compiled part exports, besides the struct types."""

ORDER_TRIES_MAX = 10
_DEVIATION_POINTS = 10
_AGAIN = (mt5.TRADE_RETCODE_REQUOTE, mt5.TRADE_RETCODE_PRICE_OFF)


def build_module(terminal: Terminal) -> ModuleType:
    """The stand-in as an object, not installed."""
    module = ModuleType(MODULE_NAME, "Stand-in for MetaTrader5 on a simulated or recorded terminal")
    module.__spec__ = ModuleSpec(MODULE_NAME, loader=None, origin="mt5-stream-bridge stand-in")
    one_at_a_time = threading.RLock()  # the real module holds the interpreter lock in each call
    for name in FUNCTIONS:
        setattr(module, name, _Function(getattr(terminal, name), one_at_a_time))
    vars(module).update(_helpers(module))
    for name, value in {**mt5.EXPORTED, **STRUCTS}.items():
        setattr(module, name, value)
    vars(module).update(__version__=mt5.MODULE_VERSION, __author__=mt5.MODULE_AUTHOR)
    return module


def install(terminal: Terminal) -> ModuleType:
    """Put the stand-in into `sys.modules`, in the place of a real module too."""
    module = build_module(terminal)
    sys.modules[MODULE_NAME] = module
    return module


@contextmanager
def installed(terminal: Terminal) -> Iterator[ModuleType]:
    """`install` for the time of a `with` block; what was there before comes back."""
    before = sys.modules.get(MODULE_NAME)
    try:
        yield install(terminal)
    finally:
        if before is None:
            sys.modules.pop(MODULE_NAME, None)
        else:
            sys.modules[MODULE_NAME] = before


class _Function:
    """A function of the module's compiled part. Like a built-in one it does not bind: packages
    keep it as an attribute of a class and call it through the instance."""

    __module__ = MODULE_NAME

    def __init__(self, method: Callable[..., Any], lock: threading.RLock) -> None:
        self._method, self._lock = method, lock
        functools.update_wrapper(self, method)
        vars(self).update(__module__=MODULE_NAME, __qualname__=method.__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return self._method(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<built-in function {self._method.__name__}>"


def _helpers(module: Any) -> dict[str, Callable[..., Any]]:
    """The module's helpers, written in Python there too: they call its functions by their
    current names."""

    def Buy(
        symbol: str,
        volume: float,
        price: float | None = None,
        *,
        comment: str | None = None,
        ticket: int | None = None,
    ) -> Any:
        """Buy at `price`, or at the market."""
        return _open(module, mt5.ORDER_TYPE_BUY, symbol, volume, price, comment, ticket)

    def Sell(
        symbol: str,
        volume: float,
        price: float | None = None,
        *,
        comment: str | None = None,
        ticket: int | None = None,
    ) -> Any:
        """Sell at `price`, or at the market."""
        return _open(module, mt5.ORDER_TYPE_SELL, symbol, volume, price, comment, ticket)

    def Close(symbol: str, *, comment: str | None = None, ticket: int | None = None) -> Any:
        """Close the positions of a symbol, or one: True, False (none), "Partially", None (lost).

        Fails with TypeError when positions_get gives None, as the real helper does.
        """
        return _close(module, symbol, comment, ticket)

    def _RawOrder(
        order_type: int,
        symbol: str,
        volume: float,
        price: float,
        comment: str | None = None,
        ticket: int | None = None,
    ) -> Any:
        """Not public, yet used by packages in the wild: one request at a price."""
        return _deal(module, order_type, symbol, volume, price, comment=comment, position=ticket)

    helpers: tuple[Callable[..., Any], ...] = (Buy, Sell, Close, _RawOrder)
    for helper in helpers:
        helper.__module__, helper.__qualname__ = MODULE_NAME, helper.__name__
    return {helper.__name__: helper for helper in helpers}


def _deal(module: Any, side: int, symbol: str, volume: float, price: float, **extra: Any) -> Any:
    request = {
        "action": module.TRADE_ACTION_DEAL, "symbol": symbol, "volume": volume, "type": side,
        "price": price, "deviation": _DEVIATION_POINTS,
    }  # fmt: skip
    given = {name: value for name, value in extra.items() if value is not None}
    return module.order_send(request | given)


def _deal_at_market(module: Any, side: int, symbol: str, volume: float, **extra: Any) -> Any:
    """Like the real helpers: anew on a requote or without a price, and only then."""
    result = None
    for _ in range(ORDER_TRIES_MAX):
        tick = module.symbol_info_tick(symbol)
        price = tick.ask if side == module.ORDER_TYPE_BUY else tick.bid
        result = _deal(module, side, symbol, volume, price, **extra)
        if result is None or result.retcode not in _AGAIN:
            break
    return result


def _open(module: Any, side: int, symbol: str, volume: float, price: float | None,
          comment: str | None, ticket: int | None) -> Any:  # fmt: skip
    extra = {"comment": comment, "position": ticket}
    if price is not None:
        return _deal(module, side, symbol, volume, price, **extra)
    return _deal_at_market(module, side, symbol, volume, **extra)


def _close(module: Any, symbol: str, comment: str | None, ticket: int | None) -> Any:
    by = {"symbol": symbol} if ticket is None else {"ticket": ticket}
    tried = done = 0
    for position in module.positions_get(**by):
        if position.type not in (module.ORDER_TYPE_BUY, module.ORDER_TYPE_SELL):
            continue
        tried += 1
        if module.symbol_info_tick(symbol) is None:
            return None
        opposite = module.ORDER_TYPE_SELL - position.type
        result = _deal_at_market(
            module, opposite, symbol, position.volume, comment=comment, position=position.ticket
        )
        if result is None:
            return None
        done += result.retcode == module.TRADE_RETCODE_DONE
    if not done:
        return False
    return True if done == tried else "Partially"

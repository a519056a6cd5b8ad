"""What a strategy class asks for, found out once from the class itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from consumers.strategies.authoring.strategy import Strategy

_ACCOUNT_WORDS = frozenset({"account", "has_account"})
_POSITION_WORDS = frozenset({"position", "position_of"})


@dataclass(frozen=True, slots=True)
class Traits:
    """Which of its methods are called, and what has to be read for them."""

    ticks: bool
    """`on_tick`; not where there is `on_ticks`, which takes its place."""
    arrays: bool
    bars: bool
    account: bool
    trades: bool
    generates: bool
    """`on_tick` is a generator."""
    together: bool
    timeframes: tuple[str, ...]
    timer_ms: int
    """0: no `on_timer`."""
    warm_up: int
    looks_at_account: bool
    """Account, deals or its own position matter, so that account events must be read."""


def traits_of(strategy: type[Strategy], parameters: Mapping[str, Any]) -> Traits:
    """What a class asks for, with these parameters."""

    def value(name: str) -> Any:
        return parameters.get(name, getattr(strategy, name))

    def has(name: str) -> bool:
        return getattr(strategy, name) is not getattr(Strategy, name)

    words = frozenset(_words(strategy))
    arrays = has("on_ticks")
    return Traits(
        ticks=has("on_tick") and not arrays,
        arrays=arrays,
        bars=has("on_bar"),
        account=has("on_account"),
        trades=has("on_trade"),
        generates=inspect.isgeneratorfunction(strategy.on_tick),
        together=bool(value("together")),
        timeframes=tuple(value("timeframes")),
        timer_ms=round(value("timer_s") * 1000) if has("on_timer") else 0,
        warm_up=value("warm_up"),
        looks_at_account=has("on_account") or has("on_trade")
        or bool(words & (_ACCOUNT_WORDS | _POSITION_WORDS)),
    )  # fmt: skip


def _words(strategy: type) -> Iterator[str]:
    """Names of attributes that the code of a class uses, its own bases included."""
    for kind in strategy.__mro__:
        if kind in (Strategy, object):
            continue
        for value in vars(kind).values():
            for function in _functions(value):
                yield from _names_in(function.__code__)


def _functions(value: object) -> Iterator[Any]:
    if isinstance(value, property):
        yield from (one for one in (value.fget, value.fset) if one is not None)
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif _is_function(value):
        yield value


def _is_function(value: object) -> bool:
    check: Callable[[object], bool] = inspect.isfunction
    return check(value)


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)

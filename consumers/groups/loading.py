"""From `module:Class` to a handler, with its parameters set."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import math
import os
import sys
from collections.abc import Mapping
from typing import Any, get_type_hints

from consumers.runtime.handler import Handler
from consumers.runtime.naming import group_name
from consumers.runtime.state import State
from consumers.sinks import Sink
from events.codec import EVENT_TYPES, PACKED_VERSIONS

__all__ = ["Code", "UnknownHandler", "group_name", "load_handler", "parameters_of", "try_out",
           "with_parameters"]  # fmt: skip
VERSION_CHARS_MAX = 100
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


class UnknownHandler(ValueError):
    """`module:Class` leads to no handler. The message names cause and cure."""


Code = type[Handler] | type[Sink]


def load_handler(path: str) -> Code:
    """The handler or sink at `module:Class`; modules of the current folder can be named too.

    Raises UnknownHandler.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    strategy = _strategy(path)
    if strategy is not None:
        return strategy
    module_name, colon, class_name = path.partition(":")
    if not (module_name and colon and class_name.isidentifier()):
        raise UnknownHandler(f"{path!r} names no handler: write it as module:Class")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        own = isinstance(error, ModuleNotFoundError) and (
            f"{module_name}.".startswith(f"{error.name}.")
        )
        cure = "is the file in this folder, or its package installed?" if own else "correct it"
        raise UnknownHandler(
            f"{module_name} cannot be imported ({type(error).__name__}: {error}): {cure}"
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        has = ", ".join(_handlers_in(module)) or "none"
        raise UnknownHandler(f"{module_name} has no {class_name}; handlers in it: {has}")
    if not (isinstance(found, type) and issubclass(found, Handler | Sink)):
        raise UnknownHandler(
            f"{path} is no handler: derive it from consumers.runtime.handler.Handler, "
            "or from consumers.sinks.Sink"
        )
    _check(path, found)
    return found


def _strategy(path: str) -> type[Handler] | None:
    """A strategy as a handler; None when it is a handler or sink of its own kind."""
    from consumers.strategies.running.handler import handler_of  # most groups are none
    from consumers.strategies.running.loading import BadStrategy, load_strategy, names_strategy

    if not names_strategy(path):
        return None
    try:
        return handler_of(load_strategy(path))
    except BadStrategy as error:
        raise UnknownHandler(str(error)) from error


def _check(path: str, code: Code) -> None:
    """What would go wrong with every entry is told before the first. Raises UnknownHandler."""
    base, method = (Handler, "handle") if issubclass(code, Handler) else (Sink, "write")
    if getattr(code, method) is getattr(base, method):
        raise UnknownHandler(f"{path} does not say what it does: give it a method {method}")
    if isinstance(code.types, str):
        raise UnknownHandler(f"{path}: types is a text: write it as {{{code.types!r}}}")
    if issubclass(code, Sink) and code.raw:  # it takes what nobody here knows
        return
    known = {*EVENT_TYPES, *PACKED_VERSIONS}
    for name in sorted(one for one in code.types if one not in known and "." not in one):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UnknownHandler(
            f"{path}: no event is called {name!r}: {hint}There is: {', '.join(sorted(known))}"
        )


def try_out(path: str, code: Code) -> None:
    """Make one, as every task will: what fails with no state fails always. A sink is made, but not
    opened. Raises UnknownHandler."""
    try:
        made = code()
        if is_strategy(code):
            _set_up(code)
        elif isinstance(made, Handler):
            made.state = State({})
            made.setup()
    except (Exception, SystemExit) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise UnknownHandler(f"{path} cannot be made ({what}): correct it") from error


def _set_up(code: Code) -> None:
    """The strategy itself, as with the first tick of its symbol."""
    from consumers.strategies.running.handler import StrategyHandler
    from consumers.strategies.warming import rehearsed

    assert issubclass(code, StrategyHandler)
    casting = code.casting
    rehearsed(casting.strategy, casting.parameters, casting.wanted)


def _handlers_in(module: object) -> list[str]:
    return [
        name
        for name, found in vars(module).items()
        if isinstance(found, type)
        and issubclass(found, Handler | Sink)
        and found.__module__ == getattr(module, "__name__", "")
    ]


def with_parameters(handler: Code, texts: Mapping[str, str]) -> Code:
    """The handler with class attributes replaced, read as the type that each has.

    Raises UnknownHandler for a name that is no parameter, or a text that is no such value.
    """
    if not texts:
        return handler
    if is_strategy(handler):
        return _with_texts(handler, texts)
    known = parameters_of(handler)
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in known:
            has = ", ".join(f"{one}={value}" for one, value in known.items()) or "none"
            raise UnknownHandler(f"{handler.__name__} has no parameter {name!r}; it has: {has}")
        values[name] = _value(handler, name, text, known[name])
    changed = {name: value for name, value in sorted(values.items()) if value != known[name]}
    if changed and issubclass(handler, Handler):
        values["version"] = _version(handler, changed)
    body = {"__module__": handler.__module__, "__qualname__": handler.__qualname__, **values}
    return type(handler.__name__, (handler,), body)


def _with_texts(handler: Code, texts: Mapping[str, str]) -> Code:
    from consumers.strategies.running.handler import StrategyHandler, with_texts
    from consumers.strategies.running.loading import BadStrategy

    assert issubclass(handler, StrategyHandler)
    try:
        return with_texts(handler, texts)
    except BadStrategy as error:
        raise UnknownHandler(str(error)) from error


def is_strategy(code: Code) -> bool:
    """Whether it runs a strategy."""
    return getattr(code, "casting", None) is not None


def called(code: Code, name: str) -> Code:
    """A strategy whose signals are known by the name of its group."""
    from consumers.strategies.running.handler import StrategyHandler, named

    assert issubclass(code, StrategyHandler)
    return named(code, name)


def check_file(path: str, checksum: str) -> None:
    """Whether a strategy's file is the one with this checksum; nothing of it is run. Raises
    UnknownHandler."""
    from consumers.strategies.running.loading import checksum_of_file, file_of

    file = file_of(path)
    if file is None:
        return
    if not file.is_file():
        raise UnknownHandler(f"{file}: there is no such file any more: put it back")
    if checksum_of_file(file) != checksum:
        raise UnknownHandler(
            f"{file} was changed since it was enabled: `bridgectl strategies enable` it again, "
            "or put it back"
        )


def _version(handler: type[Handler], changed: Mapping[str, Any]) -> str:
    """With other parameters it is other code: its state is derived again when they change."""
    told = f"{handler.version}+" + ",".join(f"{name}={value}" for name, value in changed.items())
    if len(told) <= VERSION_CHARS_MAX:
        return told
    return f"{handler.version}+{hashlib.blake2b(told.encode(), digest_size=8).hexdigest()}"


def parameters_of(handler: Code) -> dict[str, bool | int | float | str]:
    """Public class attributes that are a number, a text or true and false, with their values."""
    base = Handler if issubclass(handler, Handler) else Sink
    own = {*dir(base), *get_type_hints(base)}
    return {
        name: value
        for name in dir(handler)
        if not name.startswith("_") and name not in own
        if isinstance(value := getattr(handler, name), bool | int | float | str)
    }


def _value(handler: Code, name: str, text: str, now: bool | int | float | str) -> object:
    kind: type[bool | int | float | str] = type(now)
    try:
        value = _truth(text) if kind is bool else kind(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("a number that has an end")
        return value
    except ValueError as error:
        raise UnknownHandler(
            f"{handler.__name__}: {name}={text!r} is no {kind.__name__} (it is {now!r} now)"
        ) from error


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return text.lower() in _TRUE

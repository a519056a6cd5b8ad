"""Parameters of a strategy: its public class attributes, read and checked by their types."""

from __future__ import annotations

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

SCALARS = (bool, int, float, str)
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
_NONE = {"none", ""}


class BadParameter(ValueError):
    """A parameter that does not exist, or a value that does not fit it. Says what would."""


def parameters_of(strategy: type, base: type) -> dict[str, Any]:
    """Name -> value: every public class attribute that is a value, `base`'s own options last.

    What is annotated with a type that is no value's (and no ClassVar) is no parameter.
    """
    own: dict[str, Any] = {}
    for kind in reversed(strategy.__mro__):
        if kind is object or issubclass(base, kind):
            continue
        for name, value in vars(kind).items():
            if not name.startswith("_") and not hasattr(base, name) and _is_value(value):
                own[name] = value
    options = {
        name: getattr(strategy, name)
        for name, value in vars(base).items()
        if not name.startswith("_") and _is_value(value)
    }
    return own | options


def type_of(strategy: type, name: str, value: object) -> object:
    """The type a parameter is declared with, or that of its value."""
    found = _hints(strategy).get(name)
    if found is None or get_origin(found) is typing.ClassVar:
        return type(value)
    return found


def read(strategy: type, base: type, name: str, text: object) -> Any:
    """A value for a parameter, from a text of the command line or a value of the right type.

    Raises BadParameter.
    """
    known = parameters_of(strategy, base)
    if name not in known:
        raise BadParameter(_unknown(strategy, name, known))
    wanted = type_of(strategy, name, known[name])
    try:
        return _parsed(wanted, text)
    except ValueError as error:
        raise BadParameter(
            f"{strategy.__name__}: {name}={text!r} is no {told_type(wanted)} "
            f"(it is {known[name]!r} now{_because(error)})"
        ) from None


def check_defaults(strategy: type, base: type) -> None:
    """Every default is of the type it is declared with. Raises BadParameter."""
    for name, value in parameters_of(strategy, base).items():
        wanted = type_of(strategy, name, value)
        try:
            _checked(wanted, value)
        except ValueError:
            raise BadParameter(
                f"{strategy.__name__}.{name} = {value!r} is no {told_type(wanted)}, as which it "
                "is declared"
            ) from None


def told_type(wanted: object) -> str:
    """A type in words."""
    if get_origin(wanted) is Literal:
        return "one of " + ", ".join(map(str, get_args(wanted)))
    if isinstance(wanted, type) and get_origin(wanted) is None:
        return {
            "int": "whole number",
            "float": "number",
            "str": "text",
            "bool": "true or false",
        }.get(wanted.__name__, wanted.__name__)
    return str(wanted).replace("typing.", "")


def _unknown(strategy: type, name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    has = ", ".join(f"{one}={value!r}" for one, value in known.items())
    return f"{strategy.__name__} has no parameter {name!r}: {hint}It has: {has}"


def _because(error: ValueError) -> str:
    return f"; {error}" if str(error) else ""


def _is_value(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(one, SCALARS) for one in value)
    return value is None or isinstance(value, SCALARS)


def _hints(strategy: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(strategy)
    except Exception:  # an annotation that names what only a type checker sees
        found: dict[str, Any] = {}
        for kind in reversed(strategy.__mro__):
            for name, hint in inspect.get_annotations(kind).items():
                if isinstance(hint, type):
                    found[name] = hint
                elif isinstance(hint, str) and hint in _BY_NAME:
                    found[name] = _BY_NAME[hint]
                else:
                    found.pop(name, None)
        return found


_BY_NAME: Mapping[str, type] = {kind.__name__: kind for kind in SCALARS}


def _parsed(wanted: object, text: object) -> Any:
    """Raises ValueError."""
    if not isinstance(text, str):
        return _checked(wanted, tuple(text) if isinstance(text, list) else text)
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return _parsed_union(inner, text)
    if origin is Literal:
        for one in inner:
            if str(one) == text:
                return one
        raise ValueError
    if origin is tuple or wanted is tuple:
        kind = inner[0] if inner else str
        return tuple(_parsed(kind, part.strip()) for part in text.split(",") if part.strip())
    if wanted in _READERS:
        return _checked(wanted, _READERS[wanted](text))
    raise ValueError("it cannot be set from a text")


def _parsed_union(kinds: tuple[object, ...], text: str) -> Any:
    if type(None) in kinds and text.lower() in _NONE:
        return None
    for kind in sorted((one for one in kinds if one is not type(None)), key=_rank):
        try:
            return _parsed(kind, text)
        except ValueError:
            continue
    raise ValueError


def _rank(kind: object) -> int:
    order: tuple[object, ...] = (bool, int, float)
    return order.index(kind) if kind in order else len(order)


def _checked(wanted: object, value: object) -> Any:
    """The value, when it is of the type. Raises ValueError."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        for kind in inner:
            try:
                return _checked(kind, value)
            except ValueError:
                continue
        raise ValueError
    if not _is_of(wanted, origin, inner, value):
        raise ValueError
    if wanted is float and isinstance(value, int):
        return float(value)
    return value


def _is_of(wanted: object, origin: object, inner: tuple[Any, ...], value: object) -> bool:
    if origin is Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(inner[0], one) for one in value)
    if wanted in SCALARS:
        return _fits(wanted, value)
    if wanted is type(None):
        return value is None
    return not isinstance(wanted, type) or isinstance(value, wanted)


def _fits(kind: object, value: object) -> bool:
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(typing.cast(float, value))
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(kind, type) and isinstance(value, kind)


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError
    return text.lower() in _TRUE


def _plain(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise ValueError from None  # what it says is for programmers

    return parse


_READERS: Mapping[object, Callable[[str], Any]] = {
    bool: _truth, int: _plain(int), float: _plain(float), str: str, type(None): lambda _: None,
}  # fmt: skip

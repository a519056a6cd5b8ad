"""How the module reads its arguments, and what it says of bad ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

from producers.terminals import constants as mt5

_ORDINALS = ("1st", "2nd", "3rd")


class CallFailed(Exception):
    """A call gives None (or False) and this last error."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(code, text or mt5.LAST_ERRORS.get(code, mt5.LAST_ERRORS[-1]))
        self.code = code

    @property
    def error(self) -> tuple[int, str]:
        return self.args[0], self.args[1]


def invalid(text: str = "Invalid arguments") -> CallFailed:
    """The failure of arguments the module itself refuses."""
    return CallFailed(mt5.RES_E_INVALID_PARAMS, text)


def unnamed(args: tuple[Any, ...], kwargs: Mapping[str, Any], *, least: int, most: int) -> None:
    """Check a call that takes only unnamed arguments. Raises CallFailed."""
    if kwargs:
        raise invalid()
    if not least <= len(args) <= most:
        raise invalid("Invalid number of arguments")


def text_at(args: tuple[Any, ...], place: int) -> str:
    """An unnamed text. Raises CallFailed."""
    value = args[place]
    if not isinstance(value, str):
        raise _bad(place)
    return value


def int_at(args: tuple[Any, ...], place: int) -> int:
    """An unnamed whole number; numpy's are not taken. Raises CallFailed."""
    value = args[place]
    if not isinstance(value, int):
        raise _bad(place)
    return value


def float_at(args: tuple[Any, ...], place: int) -> float:
    """An unnamed number. Raises CallFailed."""
    value = args[place]
    if not isinstance(value, float | int):
        raise _bad(place)
    return float(value)


def date_at(args: tuple[Any, ...], place: int, *, pc_zone: str) -> int:
    """Whole seconds of a datetime or int, on the server's clock. A naive datetime is read in
    the computer's zone, as `datetime.timestamp()` does. Raises CallFailed."""
    value = args[place]
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=ZoneInfo(pc_zone))
        return int(aware.timestamp() // 1)
    if not isinstance(value, int):
        raise _bad(place)
    return value


def named(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], kinds: Mapping[str, type]
) -> dict[str, Any]:
    """Named arguments only, of the given types. Raises CallFailed."""
    if args:
        raise invalid("Unnamed arguments not allowed")
    return typed(kwargs, kinds)


def typed(kwargs: Mapping[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    """Named arguments of the given types; None counts as not given. Raises CallFailed."""
    given = {}
    for name, value in kwargs.items():
        if name not in kinds:
            raise invalid()
        if value is None:
            continue
        if not isinstance(value, kinds[name]):
            raise invalid(f'Invalid "{name}" argument')
        given[name] = value
    return given


def by_group(names: Iterable[str], group: str) -> set[str]:
    """Names that a mask such as `*USD*,!EUR*` leaves, its parts applied left to right."""
    chosen: set[str] = set()
    everything = list(names)
    for part in (piece.strip() for piece in group.split(",")):
        if part.startswith("!"):
            chosen -= {name for name in chosen if fnmatchcase(name, part[1:])}
        elif part:
            chosen |= {name for name in everything if fnmatchcase(name, part)}
    return chosen


def _bad(place: int) -> CallFailed:
    if place < len(_ORDINALS):
        return invalid(f"Invalid {_ORDINALS[place]} unnamed argument")
    return invalid()

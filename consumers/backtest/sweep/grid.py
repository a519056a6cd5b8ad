"""Which values parameters are to take: `fast=5:20:5` or `slow=30,50`, and all combinations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

VALUES_MAX = 10_000
COMBINATIONS_MAX = 100_000
NOT_TRIED = ("symbols",)
"""Parameters that decide which ticks are read: one run cannot try several of them."""


class BadGrid(ValueError):
    """A grid that cannot be read. The message names cause and cure."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One parameter with the values it takes, as texts of the command line."""

    name: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """`NAME=FROM:TO:STEP` (TO included where a step meets it) or `NAME=A,B,C`."""
        name, equals, told = text.partition("=")
        name = name.strip()
        if not equals or not name or not told.strip():
            raise BadGrid(f"--grid {text!r}: write NAME=FROM:TO:STEP or NAME=A,B,C")
        if name in NOT_TRIED:
            raise BadGrid(f"--grid {name}: it decides what is read; run once for each")
        values = _range(text, told) if ":" in told else _listed(text, told)
        return cls(name, tuple(dict.fromkeys(values)))


def axes_of(texts: Sequence[str]) -> tuple[Axis, ...]:
    """Every `--grid`, in the order given. Raises BadGrid."""
    axes = tuple(Axis.parse(text) for text in texts)
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise BadGrid(f"--grid names {name} twice: put its values into one")
    count = math.prod(len(axis.values) for axis in axes)
    if count > COMBINATIONS_MAX:
        raise BadGrid(f"--grid makes {count:,} combinations: at most {COMBINATIONS_MAX:,}")
    return axes


def combinations(axes: Sequence[Axis]) -> Iterator[Mapping[str, str]]:
    """All of them, the last parameter changing fastest."""
    for values in itertools.product(*(axis.values for axis in axes)):
        yield {axis.name: value for axis, value in zip(axes, values, strict=True)}


def _range(text: str, told: str) -> list[str]:
    parts = told.split(":")
    if len(parts) not in (2, 3):
        raise BadGrid(f"--grid {text!r}: write FROM:TO:STEP")
    try:
        first, last = Decimal(parts[0]), Decimal(parts[1])
        step = Decimal(parts[2]) if len(parts) == 3 else Decimal(1)
    except InvalidOperation:
        raise BadGrid(f"--grid {text!r}: FROM, TO and STEP are numbers") from None
    if not (first.is_finite() and last.is_finite() and step.is_finite()) or step <= 0:
        raise BadGrid(f"--grid {text!r}: the step is above 0, and all three are finite")
    if last < first:
        raise BadGrid(f"--grid {text!r}: TO lies below FROM")
    count = int((last - first) / step) + 1
    if count > VALUES_MAX:
        raise BadGrid(f"--grid {text!r} makes {count:,} values: at most {VALUES_MAX:,}")
    # Decimals, so that 0.1:0.3:0.1 ends with 0.3 and not with 0.30000000000000004.
    return [_plain(first + step * index) for index in range(count)]


def _plain(number: Decimal) -> str:
    return format(number.normalize() if number else Decimal(0), "f")


def _listed(text: str, told: str) -> list[str]:
    values = [value.strip() for value in told.split(",") if value.strip()]
    if not values:
        raise BadGrid(f"--grid {text!r}: it names no value")
    if len(values) > VALUES_MAX:
        raise BadGrid(f"--grid {text!r}: at most {VALUES_MAX:,} values")
    return values

"""What all indicators share: a value at a time or an array at once, and a memory to store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Values = npt.NDArray[Any] | Sequence[float]
PERIOD_MAX = 1_000_000
"""Longest window; a state holds that many numbers."""


class BarPrices(Protocol):
    """What an indicator reads from a bar; `consumers.bars.Bar` has it."""

    @property
    def time_server_s(self) -> int: ...
    @property
    def high(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def close(self) -> float: ...
    @property
    def tick_volume(self) -> int: ...


class Indicator:
    """Numbers derived from prices, one at a time.

    `update(...)` takes the next input and returns the value, or None while warming up;
    `update_many(arrays)` does the same for many at once and returns an array that equals
    repeated `update` to the last bit, with NaN for None. `warm_up` is how many inputs the first
    value takes, `value` the newest value. `state()` is made of dicts, lists, numbers and text
    alone; `restore(state)` goes on from there. Inputs must be finite: a NaN stays for good.
    """

    __slots__ = ()
    FACTS: ClassVar[tuple[str, ...]] = ()
    """Attributes that are set once; a state with other facts is refused."""
    MEMORY: ClassVar[tuple[str, ...]] = ()
    """Attributes that change, so that the state is those."""
    warm_up: int

    def state(self) -> dict[str, Any]:
        """All there is to know, as plain values."""
        named = (*self.FACTS, *self.MEMORY)
        return {"kind": type(self).__name__} | {name: _plain(getattr(self, name)) for name in named}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`. Raises ValueError when it is of another indicator."""
        named = {"kind", *self.FACTS, *self.MEMORY}
        if not isinstance(state, dict) or set(state) != named:
            raise ValueError(f"this is no state of {self!r}: it holds other names")
        for name, own in (
            ("kind", type(self).__name__),
            *((n, getattr(self, n)) for n in self.FACTS),
        ):
            if state[name] != own:
                raise ValueError(f"this is no state of {self!r}: its {name} is {state[name]!r}")
        for name in self.MEMORY:
            _replace(self, name, state[name])

    def update_bar(self, bar: BarPrices) -> Any:
        """`update` with what this indicator takes from a bar: its close, unless said otherwise."""
        return self.update(bar.close)  # type: ignore[attr-defined]  # each kind has its own inputs

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.FACTS)
        return f"{type(self).__name__}({facts})"


class OneInput(Indicator, ABC):
    """An indicator of one series of numbers with one number as its value."""

    __slots__ = ()

    @abstractmethod
    def update(self, value: float) -> float | None:
        """Take the next input."""

    def update_many(self, values: Values) -> FloatArray:
        """Take many inputs; NaN where `update` would return None."""
        return np.array(
            [np.nan if (got := self.update(value)) is None else got for value in listed(values)],
            np.float64,
        )


def period_of(period: int, *, least: int = 1, name: str = "period") -> int:
    """A window's length, checked. Raises ValueError."""
    if isinstance(period, bool) or not isinstance(period, int):
        raise ValueError(f"{name} must be a whole number, not {period!r}")
    if not least <= period <= PERIOD_MAX:
        raise ValueError(f"{name} must lie between {least} and {PERIOD_MAX}, not {period}")
    return period


def floats(values: Values) -> FloatArray:
    """One-dimensional float64. Raises ValueError on other shapes."""
    array = np.ascontiguousarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"one row of numbers is needed, not an array of shape {array.shape}")
    return array


def listed(values: Values) -> list[float]:
    """The same as Python floats."""
    numbers: list[float] = floats(values).tolist()
    return numbers


def same_length(*arrays: FloatArray) -> int:
    """Raises ValueError when series differ in length."""
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise ValueError(f"series of one length are needed, not of {sorted(lengths)}")
    return lengths.pop()


def nothing_yet(count: int, fields: int = 1) -> FloatArray:
    """NaN for `count` values of so many fields."""
    return np.full(count if fields == 1 else (count, fields), np.nan)


def _plain(value: Any) -> Any:
    if isinstance(value, Indicator):
        return value.state()
    return list(value) if isinstance(value, deque | tuple) else value


def _replace(owner: Indicator, name: str, stored: Any) -> None:
    present = getattr(owner, name)
    if isinstance(present, Indicator):
        present.restore(stored)
    elif isinstance(present, deque):
        if not isinstance(stored, list) or len(stored) > (present.maxlen or PERIOD_MAX):
            raise ValueError(f"this is no state of {owner!r}: {name} has a wrong length")
        present.clear()
        present.extend(stored)
    else:
        setattr(owner, name, stored)

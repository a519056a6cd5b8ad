"""When one line crosses another, or a level.

A crossing is a change of side: touching the other line and going back is none, and the first
side that is known is none either. So crossings up and down always alternate.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from consumers.indicators.averages import Ema
from consumers.indicators.indicator import Indicator, OneInput, Values, floats, same_length

SignArray = npt.NDArray[np.int8]
Line = OneInput | float | int | None


class Crossover(Indicator):
    """1 when the first line comes to lie above the second, -1 when below, else 0 (also while
    warming up).

    `Crossover(Ema(12), Ema(48))`: `update(price)` feeds both. A number is a level:
    `Crossover(Rsi(14), 30)`. Without an indicator the lines are given: `Crossover()` takes
    `update(first, second)`, `Crossover(None, 30)` takes `update(first, 30)`.
    `update_many` returns int8.
    """

    __slots__ = ("_side", "first", "second", "warm_up")
    MEMORY: ClassVar[tuple[str, ...]] = ("_side", "first", "second")

    def __new__(cls, first: Line = None, second: Line = None) -> Crossover:
        """Two exponential averages, the commonest pair, have a class with their arithmetic."""
        plain = type(first) is Ema and type(second) is Ema and first is not second
        return super().__new__(_EmaCrossover if cls is Crossover and plain else cls)

    def __init__(self, first: Line = None, second: Line = None) -> None:
        """Raises TypeError on lines that are neither indicators of one price nor numbers."""
        for line in (first, second):
            if not isinstance(line, OneInput | float | int | None) or isinstance(line, bool):
                raise TypeError(f"a line is an indicator of one price or a number, not {line!r}")
        self.first, self.second = first, second
        self._side = 0
        self.warm_up = max(getattr(line, "warm_up", 1) for line in (first, second)) + 1

    @property
    def side(self) -> int:
        """Where the first line lay last: 1 above, -1 below, 0 not known."""
        return self._side

    def update(self, value: float, other: float | None = None) -> int:
        """Take the next input: a price for both lines, or the two lines' values."""
        first = self.first.update(value) if isinstance(self.first, OneInput) else value
        if isinstance(self.second, OneInput):
            second = self.second.update(value if other is None else other)
        else:
            second = self.second if other is None else other
        if first is None or second is None:
            return 0
        return self._compare(first, second)

    def _compare(self, first: float, second: float) -> int:
        before = self._side
        side = 1 if first > second else -1 if first < second else before
        self._side = side
        return side if side != before and before else 0

    def update_many(self, values: Values, others: Values | None = None) -> SignArray:
        """Take many inputs."""
        prices = floats(values)
        given = prices if others is None else floats(others)
        same_length(prices, given)
        first = self.first.update_many(prices) if isinstance(self.first, OneInput) else prices
        if isinstance(self.second, OneInput):
            second = self.second.update_many(given)
        elif others is not None:
            second = given
        else:
            level = np.nan if self.second is None else float(self.second)
            second = np.full(len(prices), level)
        sides = (first > second).astype(np.int8) - (first < second).astype(np.int8)
        crossed = np.zeros(len(prices), np.int8)
        decided = np.flatnonzero(sides)
        if len(decided):
            chosen = sides[decided]
            before = np.concatenate([np.array([self._side], np.int8), chosen[:-1]])
            changed = (chosen != before) & (before != 0)
            crossed[decided[changed]] = chosen[changed]
            self._side = int(chosen[-1])
        return crossed

    def state(self) -> dict[str, Any]:
        """All there is to know, as plain values."""
        return super().state() | {"kind": "Crossover"}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`. Raises ValueError when it is of another indicator."""
        if isinstance(state, dict) and state.get("kind") == "Crossover":
            state = state | {"kind": type(self).__name__}
            for name in ("first", "second"):
                line = getattr(self, name)
                if not isinstance(line, Indicator) and state.get(name) != line:
                    raise ValueError(f"this is no state of {self!r}: {name} differs")
        super().restore(state)

    def __repr__(self) -> str:
        return f"Crossover({self.first!r}, {self.second!r})"


class _EmaCrossover(Crossover):
    """A crossover whose two lines are exponential averages of the price."""

    __slots__ = ()
    first: Ema
    second: Ema

    def update(self, value: float, other: float | None = None) -> int:
        first, second = self.first, self.second
        if first._left or second._left or other is not None:
            return super().update(value, other)
        a = first._value = first._share * value + first._rest * first._value
        b = second._value = second._share * value + second._rest * second._value
        before = self._side
        if a > b:
            if before == 1:
                return 0
            self._side = 1
        elif a < b:
            if before == -1:
                return 0
            self._side = -1
        else:
            return 0
        return self._side if before else 0


class CrossAbove(Indicator):
    """True when the first line comes to lie above the second. Lines as in Crossover."""

    __slots__ = ("_crossover", "warm_up")
    MEMORY: ClassVar[tuple[str, ...]] = ("_crossover",)
    WANTED: ClassVar[int] = 1

    def __init__(self, first: Line = None, second: Line = None) -> None:
        """Raises TypeError as Crossover does."""
        self._crossover = Crossover(first, second)
        self.warm_up = self._crossover.warm_up

    def update(self, value: float, other: float | None = None) -> bool:
        """Take the next input: a price for both lines, or the two lines' values."""
        return self._crossover.update(value, other) == self.WANTED

    def update_many(self, values: Values, others: Values | None = None) -> npt.NDArray[np.bool_]:
        """Take many inputs."""
        crossed: npt.NDArray[np.bool_] = self._crossover.update_many(values, others) == self.WANTED
        return crossed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._crossover.first!r}, {self._crossover.second!r})"


class CrossBelow(CrossAbove):
    """True when the first line comes to lie below the second. Lines as in Crossover."""

    __slots__ = ()
    WANTED: ClassVar[int] = -1

"""The open positions of an account taken together, as sums of money need them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from events.accounting import Ledger, OpenPosition

FloatArray = npt.NDArray[np.float64]

_LOTS_DUST = 1e-9


@dataclass(frozen=True, slots=True)
class Side:
    """All positions of one symbol on one side (0 buy, 1 sell), at their weighted price. Profit
    is linear in the opening price, so that it is the profit of all of them."""

    symbol: str
    side: int
    volume_lots: float
    price_open: float


@dataclass(frozen=True, slots=True)
class Group:
    """The positions of one symbol and side, one by one: lists of equal length."""

    symbol: str
    side: int
    identifiers: list[int]
    volumes_lots: list[float]
    prices_open: list[float]

    @classmethod
    def of(cls, symbol: str, side: int, positions: list[OpenPosition]) -> Group:
        return cls(
            symbol,
            side,
            [position.identifier for position in positions],
            [position.volume_lots for position in positions],
            [position.price_open for position in positions],
        )

    def arrays(self) -> tuple[FloatArray, FloatArray]:
        """Volumes and opening prices."""
        return np.array(self.volumes_lots), np.array(self.prices_open)


@dataclass(frozen=True, slots=True)
class Holdings:
    """Sides in the order of symbols, and the swap of all positions in account currency."""

    sides: tuple[Side, ...]
    swap: float
    groups: tuple[Group, ...] = ()
    guarded: Mapping[str, Sequence[OpenPosition]] = field(default_factory=dict)
    """Positions with a stop or target, by symbol."""

    @classmethod
    def of(cls, ledger: Ledger) -> Holdings:
        positions = ledger.positions.values()
        held: dict[tuple[str, int], list[OpenPosition]] = {}
        guarded: dict[str, list[OpenPosition]] = {}
        for position in positions:
            held.setdefault((position.symbol, position.side), []).append(position)
            if position.stop_loss or position.take_profit:
                guarded.setdefault(position.symbol, []).append(position)
        return cls(
            _sides((p.symbol, p.side, p.volume_lots, p.price_open) for p in positions),
            sum(position.swap for position in positions),
            tuple(Group.of(symbol, side, those) for (symbol, side), those in held.items()),
            guarded,
        )

    @classmethod
    def without(cls, ledger: Ledger, position: OpenPosition, volume_lots: float) -> Holdings:
        """What is held after a volume of a position was closed."""
        held = []
        for other in ledger.positions.values():
            volume = other.volume_lots - (volume_lots if other is position else 0.0)
            if volume > _LOTS_DUST:
                held.append((other.symbol, other.side, volume, other.price_open))
        return cls(_sides(held), 0.0)

    def by_symbol(self) -> dict[str, list[Side]]:
        """One or two sides of each symbol."""
        found: dict[str, list[Side]] = {}
        for side in self.sides:
            found.setdefault(side.symbol, []).append(side)
        return found


def _sides(held: Iterable[tuple[str, int, float, float]]) -> tuple[Side, ...]:
    sums: dict[tuple[str, int], tuple[float, float]] = {}
    for symbol, side, volume, price in held:
        lots, paid = sums.get((symbol, side), (0.0, 0.0))
        sums[symbol, side] = (lots + volume, paid + volume * price)
    return tuple(
        Side(symbol, side, lots, paid / lots)
        for (symbol, side), (lots, paid) in sorted(sums.items())
    )

"""Money of one currency in another, from the quotes at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Quote = tuple[Any, Any]
"""(bid, ask); floats or arrays of equal length."""

BRIDGES = ("USD", "EUR")
"""Currencies a conversion without a direct pair goes through first, before any other."""


class MissingRate(ValueError):
    """No pair of currencies with a price leads from one to the other."""


class Rates:
    """Conversion by pairs `(base, profit) -> symbol` and a source of quotes."""

    def __init__(
        self,
        pairs: Mapping[tuple[str, str], str],
        quote: Callable[[str], Quote | None],
    ) -> None:
        self._pairs = pairs
        self._quote = quote

    def _bridges(self) -> tuple[str, ...]:
        """Currencies to go through. Few conversions need one, so they are listed when asked for."""
        known = sorted({currency for pair in self._pairs for currency in pair} - set(BRIDGES))
        return (*BRIDGES, *known)

    def rate(self, source: str, target: str, *, side: int) -> Any:
        """What one unit of `source` is in `target`. A long position (side 0) converts at the bid
        of the pair, a short one at its ask. Raises MissingRate."""
        if source == target or not source or not target:
            return 1.0
        direct = self._direct(source, target, side)
        if direct is not None:
            return direct
        for bridge in self._bridges():
            if bridge in (source, target):
                continue
            first = self._direct(source, bridge, side)
            second = self._direct(bridge, target, side)
            if first is not None and second is not None:
                return first * second
        raise MissingRate(
            f"no price converts {source} to {target}: select a pair of both, or both against USD"
        )

    def symbols(self, source: str, target: str) -> tuple[str, ...]:
        """The symbols a conversion needs, whether they have a price or not. () if none serve."""
        if source == target or not source or not target:
            return ()
        direct = self._pair(source, target)
        if direct:
            return (direct,)
        for bridge in self._bridges():
            first, second = self._pair(source, bridge), self._pair(bridge, target)
            if first and second:
                return (first, second)
        return ()

    def _pair(self, source: str, target: str) -> str | None:
        return self._pairs.get((source, target)) or self._pairs.get((target, source))

    def _direct(self, source: str, target: str, side: int) -> Any | None:
        symbol = self._pairs.get((source, target))
        quote = self._quote(symbol) if symbol else None
        if quote is not None:
            return quote[0] if side == 0 else quote[1]
        symbol = self._pairs.get((target, source))
        quote = self._quote(symbol) if symbol else None
        if quote is not None:
            return 1 / (quote[1] if side == 0 else quote[0])
        return None


def currency_pairs(symbols: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """Pairs from (symbol, base, profit) of currency symbols; the first of a pair wins."""
    pairs: dict[tuple[str, str], str] = {}
    for symbol, base, profit in symbols:
        if base != profit:
            pairs.setdefault((base, profit), symbol)
    return pairs

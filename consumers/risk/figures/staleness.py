"""How old prices are, and how wide."""

from __future__ import annotations

from collections.abc import Iterable

from consumers.risk.figures.holdings import Market


def tick_ages_s(symbols: Iterable[str], market: Market, now_ms: int) -> dict[str, float]:
    """Symbol -> seconds since its last tick; symbols without a price are left out."""
    return {
        symbol: max(0.0, (now_ms - market.prices[symbol].time_ms) / 1000)
        for symbol in sorted(set(symbols))
        if symbol in market.prices
    }


def spreads_points(symbols: Iterable[str], market: Market) -> dict[str, float]:
    """Symbol -> (ask - bid) / point."""
    found = {}
    for symbol in sorted(set(symbols)):
        price, contract = market.prices.get(symbol), market.contracts.get(symbol)
        if price is not None and contract is not None and contract.point > 0:
            found[symbol] = round((price.ask - price.bid) / contract.point, 6)
    return found

"""How much of what is held: exposure by symbol and currency, leverage, concentration.

A position is two legs of one notional n = lots * contract size * price, converted into account
currency: what was bought (+n for a long) and what it was paid with (-n). Of a currency pair the
first is the base currency; of anything else (index, stock, future) it is the thing itself, under
the symbol's name. Same as MetaTrader's page "Exposure", with amounts in the deposit currency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from consumers.risk.figures.holdings import PAIR_MODES, Holding, Market


@dataclass(slots=True)
class Exposure:
    """Account currency; longs positive in the net figures."""

    gross: float = 0.0
    """Sum of all notionals."""
    net_by_currency: dict[str, float] = field(default_factory=dict)
    gross_by_currency: dict[str, float] = field(default_factory=dict)
    net_by_symbol: dict[str, float] = field(default_factory=dict)
    gross_by_symbol: dict[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    """Symbols whose notional cannot be known: no facts, no price, or no conversion."""

    @property
    def known(self) -> bool:
        return not self.missing


def exposure(holdings: Iterable[Holding], market: Market) -> Exposure:
    """Exposure of all positions. What cannot be converted is named in `missing`, not left out
    silently."""
    net: defaultdict[str, float] = defaultdict(float)
    gross: defaultdict[str, float] = defaultdict(float)
    symbol_net: defaultdict[str, float] = defaultdict(float)
    symbol_gross: defaultdict[str, float] = defaultdict(float)
    missing: dict[str, None] = {}
    for holding in holdings:
        value = notional(holding, market)
        contract = market.contracts.get(holding.symbol)
        if value is None or contract is None:
            missing[holding.symbol] = None
            continue
        pair = contract.calc_mode in PAIR_MODES and bool(contract.currency_base)
        bought = contract.currency_base if pair else holding.symbol
        signed = holding.sign * value
        for name, amount in ((bought, signed), (contract.currency_profit, -signed)):
            net[name] += amount
            gross[name] += value
        symbol_net[holding.symbol] += signed
        symbol_gross[holding.symbol] += value
    return Exposure(
        gross=sum(symbol_gross.values()),
        net_by_currency=dict(sorted(net.items())),
        gross_by_currency=dict(sorted(gross.items())),
        net_by_symbol=dict(sorted(symbol_net.items())),
        gross_by_symbol=dict(sorted(symbol_gross.items())),
        missing=tuple(missing),
    )


def notional(holding: Holding, market: Market) -> float | None:
    """What a position is worth at the current price, without its sign; None: unknown."""
    contract = market.contracts.get(holding.symbol)
    price = holding.price_current or market.price(holding.symbol)
    if contract is None or not price:
        return None
    return market.notional(contract, holding.volume_lots, price)


def largest_net(found: Exposure, account_currency: str) -> float:
    """The largest net exposure, either way; money in the account's own currency is no risk."""
    others = (abs(v) for name, v in found.net_by_currency.items() if name != account_currency)
    return max(others, default=0.0)


def leverage(gross: float, equity: float) -> float | None:
    """Sum of notionals as a multiple of equity; None without equity."""
    return gross / equity if equity > 0 else None


def concentration_percent(gross_by_symbol: Iterable[float]) -> float | None:
    """Share of the largest symbol in gross exposure; None without positions."""
    values = list(gross_by_symbol)
    total = sum(values)
    return max(values) / total * 100 if total > 0 else None

"""What is lost when every stop-loss is hit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from consumers.risk.figures.holdings import Holding, Market

RANGES = 3.0
"""A position without a stop counts with so many daily standard deviations of its price."""


@dataclass(slots=True)
class StopRisk:
    """Account currency, from the current price; a stop beyond it in profit gives that profit
    back, so it counts too."""

    total: float = 0.0
    by_symbol: dict[str, float] = field(default_factory=dict)
    without_stop: int = 0
    missing: tuple[str, ...] = ()
    """Symbols whose risk cannot be known."""


def risk_to_stop(
    holdings: Iterable[Holding], market: Market, daily_deviations: Mapping[str, float]
) -> StopRisk:
    """Per position: -order_calc_profit(side, lots, current price, stop), at least 0.

    `daily_deviations` (symbol -> standard deviation of a day's return) stands in for positions
    without a stop: RANGES * deviation * price. MQL5 reference, OrderCalcProfit.
    """
    found, missing = StopRisk(), dict[str, None]()
    for holding in holdings:
        found.without_stop += holding.stop_loss <= 0
        loss = _loss(holding, market, daily_deviations)
        if loss is None:
            missing[holding.symbol] = None
            continue
        found.by_symbol[holding.symbol] = found.by_symbol.get(holding.symbol, 0.0) + loss
        found.total += loss
    found.missing = tuple(missing)
    return found


def _loss(holding: Holding, market: Market, daily_deviations: Mapping[str, float]) -> float | None:
    contract = market.contracts.get(holding.symbol)
    price = holding.price_current or market.price(holding.symbol)
    if contract is None or not price:
        return None
    stop = holding.stop_loss
    if stop <= 0:
        deviation = daily_deviations.get(holding.symbol)
        if deviation is None or not math.isfinite(deviation):
            return None
        stop = max(0.0, price - holding.sign * RANGES * deviation * price)
    money = market.money(contract, holding.side, holding.volume_lots, price, stop)
    return None if money is None else max(0.0, -money)

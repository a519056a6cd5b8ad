"""What closing everything now costs beyond what equity shows already.

MetaTrader values a long at the bid and a short at the ask, so the spread of most symbols is in the
floating profit. What is not: the distance to the closing side where a symbol is valued at its
last price, the commission of the closing deals, and slippage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from consumers.risk.figures.holdings import Holding, Market


@dataclass(slots=True)
class ClosingCost:
    """Account currency, positive: it is lost."""

    spread: float = 0.0
    commission: float = 0.0
    slippage: float = 0.0
    by_symbol: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return self.spread + self.commission + self.slippage


def cost_of_closing(
    holdings: Iterable[Holding],
    market: Market,
    *,
    commission_per_lot: Callable[[str], float],
    slippage_points: float = 0.0,
) -> ClosingCost:
    """`commission_per_lot` of a symbol is what a closing deal is charged, positive. What cannot be
    converted counts as nothing: equity itself is the broker's figure."""
    found = ClosingCost()
    for holding in holdings:
        commission = holding.volume_lots * commission_per_lot(holding.symbol)
        spread, slippage = _price_part(holding, market, slippage_points)
        found.spread += spread
        found.commission += commission
        found.slippage += slippage
        whole = spread + commission + slippage
        found.by_symbol[holding.symbol] = found.by_symbol.get(holding.symbol, 0.0) + whole
    return found


def _price_part(holding: Holding, market: Market, slippage_points: float) -> tuple[float, float]:
    contract = market.contracts.get(holding.symbol)
    if contract is None:
        return 0.0, 0.0
    valued, quote = holding.price_current, market.prices.get(holding.symbol)
    closing = valued if quote is None else (quote.bid if holding.side == 0 else quote.ask)
    spread = 0.0
    if quote is not None and valued > 0 and quote.bid <= valued <= quote.ask:
        money = market.money(contract, holding.side, holding.volume_lots, valued, closing)
        spread = max(0.0, -(money or 0.0))
    if not slippage_points or not closing:
        return spread, 0.0
    worse = closing - holding.sign * slippage_points * contract.point
    money = market.money(contract, holding.side, holding.volume_lots, closing, worse)
    return spread, max(0.0, -(money or 0.0))

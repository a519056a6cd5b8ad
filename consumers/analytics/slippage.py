"""What a deal was worse than the price that was wanted. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from consumers.analytics.prices import Price
from events.accounting import Entry
from events.trading import Deal, Order, Position

PENDING = frozenset({2, 3, 4, 5})
"""MT5's ORDER_TYPE: limit and stop orders, of which `price_open` is the wanted price."""
STOP_LIMIT = frozenset({6, 7})
"""Their limit order stands at `price_stoplimit`."""
STOP_LOSS, TAKE_PROFIT = 4, 5
"""MT5's DEAL_REASON."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What turns prices of a symbol into points and money of one lot."""

    point: float
    tick_size: float
    tick_value: float

    def money(self, difference: float, lots: float) -> float:
        """Account currency (MQL5: tick value is the price of one tick of one lot)."""
        return difference / self.tick_size * self.tick_value * lots if self.tick_size else 0.0

    def points(self, difference: float) -> float:
        return difference / self.point if self.point else 0.0


def wanted_price(
    deal: Deal, *, order: Order | None, position: Position | None, price: Price | None
) -> float | None:
    """The price a deal was asked for: of a pending order its own, of a stop loss or take profit
    the level of the position, of a market order the price in the request, else what stood at
    that moment. None where nothing of it is known, and for positions closed by each other, which
    have no price of their own."""
    if deal.entry == Entry.OUT_BY:
        return None
    level = 0.0
    if position is not None and deal.reason in (STOP_LOSS, TAKE_PROFIT):
        level = position.stop_loss if deal.reason == STOP_LOSS else position.take_profit
    if order is not None and not level:
        level = order.price_open
        if order.type in STOP_LIMIT:
            level = order.price_stoplimit or order.price_open
    if level:
        return level
    return price.wanted(deal.type) if price is not None else None


def slippage(deal: Deal, wanted: float) -> float:
    """In price; positive: the deal was worse."""
    return (deal.price - wanted) * (-1 if deal.type else 1)

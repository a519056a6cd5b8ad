"""Which stop, target or pending order the prices of a span reach first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from events.accounting import OpenPosition
from events.ticks import TickArray
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.records import BrokerOrder
from producers.terminals.simulated.market.generated import Market

BoolArray = npt.NDArray[np.bool_]
_BELOW = frozenset(
    {mt5.ORDER_TYPE_BUY_LIMIT, mt5.ORDER_TYPE_SELL_STOP, mt5.ORDER_TYPE_SELL_STOP_LIMIT}
)
"""Pending orders that wait for the price to fall to theirs; the others wait for a rise."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A price that was reached: by a pending order, or by a position's stop or target."""

    utc_ms: int
    price: float
    order: BrokerOrder | None = None
    position: OpenPosition | None = None
    reason: int = 0


def first_trigger(
    market: Market,
    positions: list[OpenPosition],
    orders: list[BrokerOrder],
    *,
    after_utc_ms: int,
    until_utc_ms: int,
) -> Trigger | None:
    """The earliest trigger with after < time <= until; of equal ones the first asked about."""
    found: list[Trigger] = []
    for symbol in sorted({p.symbol for p in positions} | {o.symbol for o in orders}):
        rows = market.ticks(symbol, after_utc_ms + 1, until_utc_ms + 1)
        rows = rows[(rows["bid"] > 0) & (rows["ask"] > 0) & (rows["time_msc"] > 0)]
        if not len(rows):
            continue
        for position in positions:
            if position.symbol == symbol:
                found += _of_position(position, rows)
        for order in orders:
            if order.symbol == symbol:
                found += _of_order(order, rows)
    return min(found, key=lambda trigger: trigger.utc_ms, default=None)


def _of_position(position: OpenPosition, rows: TickArray) -> list[Trigger]:
    price = rows["bid"] if position.side == 0 else rows["ask"]
    long = position.side == 0
    levels = (
        (position.stop_loss, long, mt5.ORDER_REASON_SL),
        (position.take_profit, not long, mt5.ORDER_REASON_TP),
    )
    found = []
    for level, downwards, reason in levels:
        if not level:
            continue
        at = _first(price <= level if downwards else price >= level)
        if at is not None:
            time_ms, paid = int(rows["time_msc"][at]), float(price[at])
            found.append(Trigger(time_ms, paid, position=position, reason=reason))
    return found


def _of_order(order: BrokerOrder, rows: TickArray) -> list[Trigger]:
    price = rows["ask"] if order.side == 0 else rows["bid"]
    downwards = order.type in _BELOW
    at = _first(price <= order.price_open if downwards else price >= order.price_open)
    if at is None:
        return []
    return [Trigger(int(rows["time_msc"][at]), float(price[at]), order=order)]


def _first(hits: BoolArray) -> int | None:
    at = int(np.argmax(hits))
    return at if hits[at] else None

"""Which stop, target or pending order the prices of a span reach first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from events.accounting import OpenPosition
from events.broker.orders import BrokerOrder
from events.ticks import TICK_DTYPE, TickArray
from producers.terminals import constants as mt5
from producers.terminals.simulated.market.generated import Market

BoolArray = npt.NDArray[np.bool_]


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
    held: Mapping[str, Sequence[OpenPosition]],
    orders: list[BrokerOrder],
    *,
    after_utc_ms: int,
    until_utc_ms: int,
) -> Trigger | None:
    """The earliest trigger with after < time <= until; of equal ones the first asked about.
    `held`: positions with a stop or target, by symbol."""
    found: list[Trigger] = []
    waiting: dict[str, list[BrokerOrder]] = {}
    for order in orders:
        waiting.setdefault(order.symbol, []).append(order)
    for symbol in sorted(held.keys() | waiting.keys()):
        rows = market_ticks(market, symbol, after_utc_ms, until_utc_ms)
        if not len(rows):
            continue
        span = _Span.of(rows)
        for position in held.get(symbol, ()):
            found += _of_position(position, span)
        for order in waiting.get(symbol, ()):
            found += _of_order(order, span)
    return min(found, key=lambda trigger: trigger.utc_ms, default=None)


def market_ticks(market: Market, symbol: str, after_ms: int, until_ms: int) -> TickArray:
    """Ticks with both prices and after < time <= until; none of a symbol without a market."""
    try:
        rows = market.ticks(symbol, after_ms + 1, until_ms + 1)
    except KeyError:
        return np.empty(0, TICK_DTYPE)
    return rows[(rows["bid"] > 0) & (rows["ask"] > 0) & (rows["time_msc"] > 0)]


@dataclass(frozen=True, slots=True)
class _Span:
    """Prices of a span, and how far they went: most levels lie beyond."""

    rows: TickArray
    lowest: tuple[float, float]
    highest: tuple[float, float]

    @classmethod
    def of(cls, rows: TickArray) -> _Span:
        bid, ask = rows["bid"], rows["ask"]
        return cls(rows, (float(bid.min()), float(ask.min())), (float(bid.max()), float(ask.max())))

    def reached(self, side: int, level: float, *, downwards: bool) -> tuple[int, float] | None:
        """When bid (side 0) or ask (1) first was at a level or beyond, and where it was."""
        if self.lowest[side] > level if downwards else self.highest[side] < level:
            return None
        price = self.rows["bid" if side == 0 else "ask"]
        at = _first(price <= level if downwards else price >= level)
        return None if at is None else (int(self.rows["time_msc"][at]), float(price[at]))


def _of_position(position: OpenPosition, span: _Span) -> list[Trigger]:
    long = position.side == 0
    levels = (
        (position.stop_loss, long, mt5.ORDER_REASON_SL),
        (position.take_profit, not long, mt5.ORDER_REASON_TP),
    )
    found = []
    for level, downwards, reason in levels:
        hit = span.reached(position.side, level, downwards=downwards) if level else None
        if hit is not None:
            found.append(Trigger(hit[0], hit[1], position=position, reason=reason))
    return found


def _of_order(order: BrokerOrder, span: _Span) -> list[Trigger]:
    hit = span.reached(1 - order.side, order.price_open, downwards=order.waits_below)
    return [] if hit is None else [Trigger(hit[0], hit[1], order=order)]


def _first(hits: BoolArray) -> int | None:
    at = int(np.argmax(hits))
    return at if hits[at] else None

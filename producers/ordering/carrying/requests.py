"""From an intent to the request that the terminal takes (MQL5 reference, MqlTradeRequest). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from events.executing import OrderIntent
from events.magic import COMMENT_CHARS_MAX
from producers.ordering.carrying.instruments import (
    LOTS_DUST,
    Tradable,
    bad_direction,
    bad_stops,
    bad_volume,
)
from producers.terminals import constants as mt5

DEVIATION_POINTS = 20
"""What a broker that quotes (Instant, Request execution) is told where an intent names none."""


class Unfit(Exception):
    """An intent makes no good request now; the text says why."""


@dataclass(frozen=True, slots=True)
class Market:
    """What a request is built from: one symbol's prices, and its position if there is one."""

    symbol: Tradable
    bid: float
    ask: float
    offset_s: int | None = None
    """Server - UTC; None: nobody knows."""
    filling: int = mt5.ORDER_FILLING_IOC

    def price(self, side: int) -> float:
        """At which a side (0 buy, 1 sell) is filled now."""
        return self.bid if side else self.ask

    def closing(self, side: int) -> float:
        """At which a position of a side closes now."""
        return self.ask if side else self.bid


def number_of(intent: OrderIntent) -> int:
    """What the broker keeps of an intent: by it the account can be asked whether it arrived."""
    return intent.magic or intent.intent_id


def is_pending(intent: OrderIntent) -> bool:
    """Whether an intent opens by a pending order."""
    return intent.verb == "open" and not (intent.price_limit is None and intent.price_stop is None)


def open_at_market(
    intent: OrderIntent, market: Market, *, reference: float | None
) -> dict[str, Any]:
    """A market order. `reference`: the price that the intent's deviation counts from; None: the
    present one. Raises Unfit."""
    symbol, side = market.symbol, intent.side
    _refuse(bad_direction(symbol, side))
    _refuse(bad_volume(symbol, intent.volume_lots, closes=False))
    price = market.price(side)
    accepted = intent.deviation_points
    if reference is not None and accepted is not None and symbol.point > 0:
        worse = (reference - price if side else price - reference) / symbol.point
        if worse > accepted + 1e-6:
            raise Unfit(f"the price moved by {worse:.0f} points, at most {accepted} were accepted")
    stop, target = _levels(intent, symbol)
    closing = market.closing(side)
    _refuse(bad_stops(symbol, side, closing, stop_loss=stop, take_profit=target))
    return {
        **_deal(intent, market, side=side, volume_lots=intent.volume_lots, price=price),
        "sl": stop,
        "tp": target,
    }


def open_pending(intent: OrderIntent, market: Market) -> dict[str, Any]:
    """A limit, stop or (both prices) stop-limit order. Raises Unfit."""
    symbol, side = market.symbol, intent.side
    _refuse(bad_direction(symbol, side))
    _refuse(bad_volume(symbol, intent.volume_lots, closes=False))
    price, limit, kind = _pending_prices(intent, symbol)
    stop, target = _levels(intent, symbol)
    _refuse(bad_stops(symbol, side, limit or price, stop_loss=stop, take_profit=target))
    request = {
        "action": mt5.TRADE_ACTION_PENDING,
        "symbol": symbol.rules.name,
        "volume": float(intent.volume_lots),
        "type": kind,
        "price": price,
        "sl": stop,
        "tp": target,
        "type_filling": mt5.ORDER_FILLING_RETURN,
        **_expiry(intent, market),
        **_name(intent),
    }
    return request | ({"stoplimit": limit} if limit else {})


def _pending_prices(intent: OrderIntent, symbol: Tradable) -> tuple[float, float, int]:
    side = intent.side
    if intent.price_stop is None:
        assert intent.price_limit is not None
        return symbol.price(intent.price_limit), 0.0, mt5.ORDER_TYPE_BUY_LIMIT + side
    if intent.price_limit is None:
        return symbol.price(intent.price_stop), 0.0, mt5.ORDER_TYPE_BUY_STOP + side
    return (
        symbol.price(intent.price_stop),
        symbol.price(intent.price_limit),
        mt5.ORDER_TYPE_BUY_STOP_LIMIT + side,
    )


def close(intent: OrderIntent, market: Market, position: Any) -> dict[str, Any]:
    """The end of a position, or of a part of it. It names the position on every kind of account:
    without, one that hedges would open an opposite one. Raises Unfit."""
    side = 1 - int(position.type)
    if intent.side != side:  # it turned around since the intent was made
        raise Unfit(
            f"the position is {'short' if position.type else 'long'}: that is no close of it"
        )
    held = float(position.volume)
    volume = intent.volume_lots or held
    if volume > held + LOTS_DUST:
        raise Unfit(f"{volume:g} lots are to be closed, the position has {held:g}")
    volume = held if volume > held - LOTS_DUST else volume
    most = market.symbol.rules.volume_max
    if most and volume > most:
        raise Unfit(f"{volume:g} lots: {market.symbol.rules.name} takes at most {most:g} at once")
    price = market.price(side)
    request = _deal(intent, market, side=side, volume_lots=volume, price=price)
    return request | {"position": int(position.ticket)}


def modify_position(intent: OrderIntent, market: Market, position: Any) -> dict[str, Any]:
    """Stop and target of a position. Both are sent, since one left out would be removed: the
    intent's are the whole wish, None is none. Raises Unfit."""
    stop, target = _levels(intent, market.symbol)
    side = int(position.type)
    closing = market.closing(side)
    _refuse(bad_stops(market.symbol, side, closing, stop_loss=stop, take_profit=target))
    return {
        "action": mt5.TRADE_ACTION_SLTP,
        "symbol": market.symbol.rules.name,
        "position": int(position.ticket),
        "sl": stop,
        "tp": target,
        "magic": number_of(intent),
    }


def modify_order(intent: OrderIntent, market: Market, order: Any) -> dict[str, Any]:
    """Price, stop, target and end of a pending order; prices that the intent does not name stay.
    Raises Unfit."""
    symbol = market.symbol
    stop, target = _levels(intent, symbol)
    limit = float(order.price_stoplimit)
    if order.type >= mt5.ORDER_TYPE_BUY_STOP_LIMIT:
        price = float(order.price_open) if intent.price_stop is None else intent.price_stop
        limit = limit if intent.price_limit is None else symbol.price(intent.price_limit)
    else:
        wanted = intent.price_limit if intent.price_limit is not None else intent.price_stop
        price = float(order.price_open) if wanted is None else wanted
    side = int(order.type) % 2
    price = symbol.price(price)
    _refuse(bad_stops(symbol, side, limit or price, stop_loss=stop, take_profit=target))
    request = {
        "action": mt5.TRADE_ACTION_MODIFY,
        "symbol": symbol.rules.name,
        "order": int(order.ticket),
        "price": price,
        "sl": stop,
        "tp": target,
        **_expiry(intent, market),
        "magic": number_of(intent),
    }
    return request | ({"stoplimit": limit} if limit else {})


def cancel(order: int) -> dict[str, Any]:
    """The end of a pending order."""
    return {"action": mt5.TRADE_ACTION_REMOVE, "order": int(order)}


def _deal(
    intent: OrderIntent, market: Market, *, side: int, volume_lots: float, price: float
) -> dict[str, Any]:
    return {
        "action": mt5.TRADE_ACTION_DEAL,
        "symbol": market.symbol.rules.name,
        "volume": float(volume_lots),
        "type": mt5.ORDER_TYPE_SELL if side else mt5.ORDER_TYPE_BUY,
        "price": round(float(price), market.symbol.rules.digits),
        "deviation": _deviation(intent),
        "type_time": mt5.ORDER_TIME_GTC,
        "type_filling": market.filling,
        **_name(intent),
    }


def _name(intent: OrderIntent) -> dict[str, Any]:
    named: dict[str, Any] = {"magic": number_of(intent)}
    comment = intent.comment.encode("ascii", "ignore").decode()[:COMMENT_CHARS_MAX]
    return named | ({"comment": comment} if comment else {})


def _deviation(intent: OrderIntent) -> int:
    return DEVIATION_POINTS if intent.deviation_points is None else intent.deviation_points


def _levels(intent: OrderIntent, symbol: Tradable) -> tuple[float, float]:
    stop, target = (
        0.0 if level is None else symbol.price(level)
        for level in (intent.stop_loss, intent.take_profit)
    )
    return stop, target


def _expiry(intent: OrderIntent, market: Market) -> dict[str, Any]:
    """When a pending order ends, by the server's clock; brokers that take no such time leave its
    end to whoever wanted it. Raises Unfit."""
    if intent.expires_ms is None or not market.symbol.takes_expiry:
        return {"type_time": mt5.ORDER_TIME_GTC}
    if market.offset_s is None:
        raise Unfit("the broker's clock is not known yet, and the order has an end")
    server_s = intent.expires_ms // 1000 + market.offset_s
    return {"type_time": mt5.ORDER_TIME_SPECIFIED, "expiration": server_s}


def _refuse(why: str) -> None:
    if why:
        raise Unfit(why)

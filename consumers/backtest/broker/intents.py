"""From an intent to the request a broker takes, as the sender of a live terminal makes it."""

from __future__ import annotations

from consumers.backtest.broker.symbols import Terms
from events import mt5
from events.accounting import MarginMode
from events.broker.requests import Request
from events.broker.server import TradeServer
from events.executing import OrderIntent
from events.magic import COMMENT_CHARS_MAX

DEVIATION_POINTS = 20
"""Where an intent names none."""


class Unfit(ValueError):
    """An intent makes no request now; `retcode` is what a broker would answer."""

    def __init__(self, reason: str, retcode: int = mt5.TRADE_RETCODE_INVALID) -> None:
        super().__init__(reason)
        self.retcode = retcode


def request_of(intent: OrderIntent, server: TradeServer, terms: Terms | None) -> Request:
    """What is asked of the broker now. Raises Unfit."""
    if intent.verb == "cancel":
        if intent.order not in server.orders:
            raise Unfit(f"there is no order {intent.order}", mt5.TRADE_RETCODE_INVALID)
        return Request(mt5.TRADE_ACTION_REMOVE, order=intent.order, magic=intent.magic)
    if terms is None:
        raise Unfit(f"there are no facts about {intent.symbol}: name it in the backtest's symbols")
    if intent.verb == "close":
        return _close(intent, server, terms)
    if intent.verb == "modify":
        return _modify(intent, server, terms)
    if intent.price_limit is None and intent.price_stop is None:
        return _open(intent, server, terms)
    return _pending(intent, server, terms)


def _open(intent: OrderIntent, server: TradeServer, terms: Terms) -> Request:
    price, deviation = _price(server, terms.name, intent.side), _deviation(intent)
    seen = intent.price_seen
    if seen and intent.deviation_points is not None:
        worse = (seen - price if intent.side else price - seen) / terms.point
        if worse > deviation + 1e-6:
            raise Unfit(
                f"the price moved by {worse:.0f} points, at most {deviation} were accepted",
                mt5.TRADE_RETCODE_REQUOTE,
            )
    return _deal(intent, terms, side=intent.side, volume=intent.volume_lots, price=price)


def _close(intent: OrderIntent, server: TradeServer, terms: Terms) -> Request:
    ledger = server.ledger
    position = ledger.by_ticket(intent.position) if intent.position else None
    if position is None and ledger.mode is not MarginMode.HEDGING:
        position = next(iter(ledger.of_symbol(intent.symbol)), None)
    if position is None:
        raise Unfit("the position is closed already", mt5.TRADE_RETCODE_POSITION_CLOSED)
    side = 1 - position.side
    volume = intent.volume_lots or position.volume_lots
    price = _price(server, terms.name, side)
    return _deal(intent, terms, side=side, volume=volume, price=price, position=position.ticket)


def _deal(
    intent: OrderIntent, terms: Terms, *, side: int, volume: float, price: float, position: int = 0
) -> Request:
    return Request(
        mt5.TRADE_ACTION_DEAL,
        symbol=terms.name,
        volume=volume,
        type=side,
        price=price,
        sl=0.0 if position else _level(intent.stop_loss, terms),
        tp=0.0 if position else _level(intent.take_profit, terms),
        deviation=_deviation(intent),
        type_filling=terms.filling,
        magic=intent.magic or intent.intent_id,
        comment=intent.comment[:COMMENT_CHARS_MAX],
        position=position,
    )


def _pending(intent: OrderIntent, server: TradeServer, terms: Terms) -> Request:
    limit, stop = intent.price_limit, intent.price_stop
    if stop is None:
        kind, price, stoplimit = mt5.ORDER_TYPE_BUY_LIMIT, _level(limit, terms), 0.0
    elif limit is None:
        kind, price, stoplimit = mt5.ORDER_TYPE_BUY_STOP, _level(stop, terms), 0.0
    else:
        kind, price = mt5.ORDER_TYPE_BUY_STOP_LIMIT, _level(stop, terms)
        stoplimit = _level(limit, terms)
    type_time, expiration = _expiry(intent, server, terms)
    return Request(
        mt5.TRADE_ACTION_PENDING,
        symbol=terms.name,
        volume=intent.volume_lots,
        type=kind + intent.side,
        price=price,
        stoplimit=stoplimit,
        sl=_level(intent.stop_loss, terms),
        tp=_level(intent.take_profit, terms),
        type_filling=mt5.ORDER_FILLING_RETURN,
        type_time=type_time,
        expiration=expiration,
        magic=intent.magic or intent.intent_id,
        comment=intent.comment[:COMMENT_CHARS_MAX],
    )


def _modify(intent: OrderIntent, server: TradeServer, terms: Terms) -> Request:
    stop_loss, target = _level(intent.stop_loss, terms), _level(intent.take_profit, terms)
    order = server.orders.get(intent.order) if intent.order else None
    if intent.order and order is None:
        raise Unfit(f"there is no order {intent.order}", mt5.TRADE_RETCODE_INVALID)
    if order is None:
        return Request(
            mt5.TRADE_ACTION_SLTP,
            symbol=terms.name,
            position=intent.position,
            sl=stop_loss,
            tp=target,
        )
    stops_at = intent.price_limit if intent.price_stop is None else intent.price_stop
    price = order.price_open if stops_at is None else _level(stops_at, terms)
    stoplimit = order.price_stoplimit
    if order.type >= mt5.ORDER_TYPE_BUY_STOP_LIMIT and intent.price_limit is not None:
        stoplimit = _level(intent.price_limit, terms)
        price = order.price_open if intent.price_stop is None else price
    type_time, expiration = _expiry(intent, server, terms)
    return Request(
        mt5.TRADE_ACTION_MODIFY, order=order.ticket, symbol=terms.name, price=price,
        stoplimit=stoplimit, type_time=type_time, expiration=expiration, sl=stop_loss, tp=target,
    )  # fmt: skip


def _expiry(intent: OrderIntent, server: TradeServer, terms: Terms) -> tuple[int, int]:
    """(ORDER_TIME, seconds of the broker's clock)."""
    if intent.expires_ms is None or not terms.expiration_mode & mt5.SYMBOL_EXPIRATION_SPECIFIED:
        return mt5.ORDER_TIME_GTC, 0
    return mt5.ORDER_TIME_SPECIFIED, server.clock.server_ms(intent.expires_ms) // 1000


def _price(server: TradeServer, symbol: str, side: int) -> float:
    quote = server.valuer.quotes.at(symbol, server.now_ms)
    if quote is None:
        raise Unfit(f"there is no price of {symbol} yet", mt5.TRADE_RETCODE_PRICE_OFF)
    return quote[1 - side]


def _level(level: float | None, terms: Terms) -> float:
    return 0.0 if level is None else terms.price(level)


def _deviation(intent: OrderIntent) -> int:
    return DEVIATION_POINTS if intent.deviation_points is None else intent.deviation_points

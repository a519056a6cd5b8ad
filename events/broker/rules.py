"""The rules a request must keep (MQL5 reference, "Return codes of the trade server")."""

from __future__ import annotations

from collections.abc import Callable

from events import mt5
from events.accounting import MarginMode, OpenPosition
from events.broker.orders import BrokerOrder
from events.broker.requests import Request
from events.broker.server import TradeServer
from events.broker.terms import SymbolTerms

OK = 0
_LOTS_DUST = 1e-8
_ORDER_BITS = {
    mt5.ORDER_TYPE_BUY: mt5.SYMBOL_ORDER_MARKET,
    mt5.ORDER_TYPE_SELL: mt5.SYMBOL_ORDER_MARKET,
    mt5.ORDER_TYPE_BUY_LIMIT: mt5.SYMBOL_ORDER_LIMIT,
    mt5.ORDER_TYPE_SELL_LIMIT: mt5.SYMBOL_ORDER_LIMIT,
    mt5.ORDER_TYPE_BUY_STOP: mt5.SYMBOL_ORDER_STOP,
    mt5.ORDER_TYPE_SELL_STOP: mt5.SYMBOL_ORDER_STOP,
    mt5.ORDER_TYPE_BUY_STOP_LIMIT: mt5.SYMBOL_ORDER_STOP_LIMIT,
    mt5.ORDER_TYPE_SELL_STOP_LIMIT: mt5.SYMBOL_ORDER_STOP_LIMIT,
}
_FILLING_BITS = {
    mt5.ORDER_FILLING_FOK: mt5.SYMBOL_FILLING_FOK,
    mt5.ORDER_FILLING_IOC: mt5.SYMBOL_FILLING_IOC,
}


def retcode_of(server: TradeServer, request: Request) -> int:
    """0 when the request may be carried out, else the retcode of the first rule it breaks."""
    by_action: dict[int, Callable[[TradeServer, Request], int]] = {
        mt5.TRADE_ACTION_DEAL: _deal,
        mt5.TRADE_ACTION_PENDING: _pending,
        mt5.TRADE_ACTION_SLTP: _stops_change,
        mt5.TRADE_ACTION_MODIFY: _order_change,
        mt5.TRADE_ACTION_REMOVE: _removal,
        mt5.TRADE_ACTION_CLOSE_BY: _close_by,
    }
    rule = by_action.get(request.action)
    if rule is None:
        return mt5.TRADE_RETCODE_INVALID
    return _rate(server) or rule(server, request)


def position_of(server: TradeServer, request: Request) -> OpenPosition | None:
    """The position a request names, by ticket or (netting) by symbol."""
    if request.position:
        return server.ledger.by_ticket(request.position)
    return next(iter(server.ledger.of_symbol(request.symbol)), None)


def _deal(server: TradeServer, request: Request) -> int:
    spec = server.valuer.specs.get(request.symbol)
    if spec is None or request.type not in (mt5.ORDER_TYPE_BUY, mt5.ORDER_TYPE_SELL):
        return mt5.TRADE_RETCODE_INVALID
    closed = _closing(server, request)
    if closed is not None and closed > OK:
        return closed
    return (
        _tradable(server, spec, request, closing=closed is not None)
        or _volume(server, spec, request, closing=closed is not None)
        or _filling(spec, request)
        or _price(server, spec, request)
        or _stops(server, spec, request)
        or _opening(server, request, closing=closed is not None)
        or _money(server, request, closing=closed is not None)
    )


def _pending(server: TradeServer, request: Request) -> int:
    spec = server.valuer.specs.get(request.symbol)
    if spec is None or request.type not in _ORDER_BITS or request.type < 2:
        return mt5.TRADE_RETCODE_INVALID
    account = server.account
    if account.limit_orders and len(server.orders) >= account.limit_orders:
        return mt5.TRADE_RETCODE_LIMIT_ORDERS
    return (
        _tradable(server, spec, request, closing=False)
        or _volume(server, spec, request, closing=False)
        or _expiration(server, request)
        or _pending_price(server, spec, request)
        or _stops(server, spec, request)
    )


def _stops_change(server: TradeServer, request: Request) -> int:
    position = position_of(server, request)
    if position is None:
        return mt5.TRADE_RETCODE_POSITION_CLOSED
    if (position.stop_loss, position.take_profit) == (request.sl, request.tp):
        return mt5.TRADE_RETCODE_NO_CHANGES
    spec = server.valuer.specs[position.symbol]
    if not server.is_open(spec.name):
        return mt5.TRADE_RETCODE_MARKET_CLOSED
    closing = server.valuer.closing_price(spec.name, position.side, server.now_ms)
    if closing is None:
        return mt5.TRADE_RETCODE_PRICE_OFF
    frozen = _frozen_position(server, position)
    return frozen or _stops_around(spec, position.side, closing, request)


def _order_change(server: TradeServer, request: Request) -> int:
    order = server.orders.get(request.order)
    if order is None:
        return mt5.TRADE_RETCODE_INVALID
    wanted = (request.price or order.price_open, request.sl, request.tp, request.expiration)
    is_now = (order.price_open, order.stop_loss, order.take_profit, order.time_expiration_s)
    if wanted == is_now:
        return mt5.TRADE_RETCODE_NO_CHANGES
    return _frozen(server, order) or _expiration(server, request)


def _removal(server: TradeServer, request: Request) -> int:
    order = server.orders.get(request.order)
    if order is None:
        return mt5.TRADE_RETCODE_INVALID
    return _frozen(server, order)


def _close_by(server: TradeServer, request: Request) -> int:
    if server.ledger.mode is not MarginMode.HEDGING:
        return mt5.TRADE_RETCODE_INVALID
    first = server.ledger.by_ticket(request.position)
    second = server.ledger.by_ticket(request.position_by)
    if first is None or second is None:
        return mt5.TRADE_RETCODE_POSITION_CLOSED
    if first.symbol != second.symbol or first.side == second.side:
        return mt5.TRADE_RETCODE_INVALID
    if not server.valuer.specs[first.symbol].order_mode & mt5.SYMBOL_ORDER_CLOSEBY:
        return mt5.TRADE_RETCODE_INVALID_ORDER
    if not server.is_open(first.symbol):
        return mt5.TRADE_RETCODE_MARKET_CLOSED
    return OK


def _closing(server: TradeServer, request: Request) -> int | None:
    """None for a request that opens; 0 for a good close, else why it is a bad one."""
    if not request.position:
        if server.ledger.mode is MarginMode.HEDGING:
            return None
        held = position_of(server, request)
        reduces = held is not None and held.side != request.type
        return OK if reduces and request.volume <= held.volume_lots else None  # type: ignore[union-attr]  # held is set when it reduces
    position = server.ledger.by_ticket(request.position)
    if position is None:
        return mt5.TRADE_RETCODE_POSITION_CLOSED
    if position.symbol != request.symbol or position.side == request.type:
        return mt5.TRADE_RETCODE_INVALID
    if server.ledger.mode is MarginMode.HEDGING:
        if request.volume > position.volume_lots + _LOTS_DUST:
            return mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME
        older = [p for p in server.ledger.of_symbol(position.symbol) if p.side == position.side]
        oldest = min(older, key=lambda held: held.identifier)
        if server.account.fifo_close and oldest is not position:
            return mt5.TRADE_RETCODE_FIFO_CLOSE
    if any(
        server.orders[ticket].position_ticket == position.ticket
        for _, ticket in server.executions
        if ticket in server.orders
    ):
        return mt5.TRADE_RETCODE_CLOSE_ORDER_EXIST
    return _frozen_position(server, position)


def _tradable(server: TradeServer, spec: SymbolTerms, request: Request, *, closing: bool) -> int:
    trade_mode = server.conditions.trade_mode(spec.name, server.now_ms, usual=spec.trade_mode)
    if trade_mode == mt5.SYMBOL_TRADE_MODE_DISABLED:
        return mt5.TRADE_RETCODE_TRADE_DISABLED
    refused = {
        mt5.SYMBOL_TRADE_MODE_LONGONLY: (request.type % 2 == 1, mt5.TRADE_RETCODE_LONG_ONLY),
        mt5.SYMBOL_TRADE_MODE_SHORTONLY: (request.type % 2 == 0, mt5.TRADE_RETCODE_SHORT_ONLY),
        mt5.SYMBOL_TRADE_MODE_CLOSEONLY: (True, mt5.TRADE_RETCODE_CLOSE_ONLY),
    }.get(trade_mode)
    if refused is not None and refused[0] and not closing:
        return refused[1]
    if not spec.order_mode & _ORDER_BITS[request.type]:
        return mt5.TRADE_RETCODE_INVALID_ORDER
    if not server.is_open(spec.name):
        return mt5.TRADE_RETCODE_MARKET_CLOSED
    if server.valuer.quotes.at(spec.name, server.now_ms) is None:
        return mt5.TRADE_RETCODE_PRICE_OFF
    return OK


def _volume(server: TradeServer, spec: SymbolTerms, request: Request, *, closing: bool) -> int:
    volume = request.volume
    steps = volume / spec.volume_step
    if volume < spec.volume_min - _LOTS_DUST or volume > spec.volume_max + _LOTS_DUST:
        return mt5.TRADE_RETCODE_INVALID_VOLUME
    if abs(steps - round(steps)) > 1e-6:
        return mt5.TRADE_RETCODE_INVALID_VOLUME
    if spec.volume_limit and not closing:
        side = request.type % 2
        held = sum(p.volume_lots for p in server.ledger.of_symbol(spec.name) if p.side == side)
        held += sum(
            o.volume_current
            for o in server.orders.values()
            if o.symbol == spec.name and o.side == side
        )
        if held + volume > spec.volume_limit + _LOTS_DUST:
            return mt5.TRADE_RETCODE_LIMIT_VOLUME
    return OK


def _filling(spec: SymbolTerms, request: Request) -> int:
    """Which fillings a symbol's execution takes (MQL5 reference, "Order properties")."""
    execution, filling = spec.execution_mode, request.type_filling
    if execution <= mt5.SYMBOL_TRADE_EXECUTION_INSTANT:
        return OK
    if filling == mt5.ORDER_FILLING_RETURN:
        exchange = execution == mt5.SYMBOL_TRADE_EXECUTION_EXCHANGE
        return OK if exchange else mt5.TRADE_RETCODE_INVALID_FILL
    if spec.filling_mode & _FILLING_BITS.get(filling, 0):
        return OK
    return mt5.TRADE_RETCODE_INVALID_FILL


def _price(server: TradeServer, spec: SymbolTerms, request: Request) -> int:
    """Instant and request execution need the price of now, within the deviation."""
    if spec.execution_mode > mt5.SYMBOL_TRADE_EXECUTION_INSTANT:
        return OK
    if request.price <= 0:
        return mt5.TRADE_RETCODE_INVALID_PRICE
    quote = server.valuer.quotes.at(spec.name, server.now_ms)
    assert quote is not None
    away = abs(quote[1 - request.type % 2] - request.price)
    if away > request.deviation * spec.point + spec.point / 2:
        return mt5.TRADE_RETCODE_REQUOTE
    return OK


def _pending_price(server: TradeServer, spec: SymbolTerms, request: Request) -> int:
    if request.price <= 0:
        return mt5.TRADE_RETCODE_INVALID_PRICE
    quote = server.valuer.quotes.at(spec.name, server.now_ms)
    assert quote is not None
    market = quote[1 - request.type % 2]
    gap = spec.stops_level * spec.point
    below = request.type in (
        mt5.ORDER_TYPE_BUY_LIMIT,
        mt5.ORDER_TYPE_SELL_STOP,
        mt5.ORDER_TYPE_SELL_STOP_LIMIT,
    )
    good = request.price <= market - gap if below else request.price >= market + gap
    if request.type >= mt5.ORDER_TYPE_BUY_STOP_LIMIT and request.stoplimit <= 0:
        good = False
    return OK if good and request.price != market else mt5.TRADE_RETCODE_INVALID_PRICE


def _stops(server: TradeServer, spec: SymbolTerms, request: Request) -> int:
    if not (request.sl or request.tp):
        return OK
    side = request.type % 2
    if request.type <= mt5.ORDER_TYPE_SELL:
        reference = server.valuer.closing_price(spec.name, side, server.now_ms)
        assert reference is not None
    else:
        reference = request.stoplimit or request.price
    return _stops_around(spec, side, reference, request)


def _stops_around(spec: SymbolTerms, side: int, reference: float, request: Request) -> int:
    """Stop and target must lie on their sides, at least the stops level away."""
    sign = 1 if side == 0 else -1
    gap = spec.stops_level * spec.point
    bad_stop = request.sl and (reference - request.sl) * sign < max(gap, spec.point / 2)
    bad_target = request.tp and (request.tp - reference) * sign < max(gap, spec.point / 2)
    return mt5.TRADE_RETCODE_INVALID_STOPS if bad_stop or bad_target else OK


def _rate(server: TradeServer) -> int:
    """Whether another request may come in this second."""
    allowed = server.account.requests_per_s_max
    if not allowed or len(server.requests) < allowed:
        return OK
    soon = server.requests[-allowed]["utc_ms"] > server.now_ms - 1000
    return mt5.TRADE_RETCODE_TOO_MANY_REQUESTS if soon else OK


def _opening(server: TradeServer, request: Request, *, closing: bool) -> int:
    """How many positions there may be, and whether on both sides of a symbol."""
    account, ledger = server.account, server.ledger
    if closing:
        return OK
    hedging = ledger.mode is MarginMode.HEDGING
    held = ledger.of_symbol(request.symbol)
    if hedging and account.hedge_prohibited and any(p.side != request.type for p in held):
        return mt5.TRADE_RETCODE_HEDGE_PROHIBITED
    adds = hedging or not held
    if account.limit_positions and adds and len(ledger.positions) >= account.limit_positions:
        return mt5.TRADE_RETCODE_LIMIT_POSITIONS
    return OK


def _money(server: TradeServer, request: Request, *, closing: bool) -> int:
    quote = server.valuer.quotes.at(request.symbol, server.now_ms)
    assert quote is not None
    if closing:
        return _money_of_the_rest(server, request)
    price = quote[1 - request.type]
    if server.affords(request.symbol, request.type, request.volume, price):
        return OK
    return mt5.TRADE_RETCODE_NO_MONEY


def _money_of_the_rest(server: TradeServer, request: Request) -> int:
    """Closing one leg of a hedge uncovers the other: that margin must be there too."""
    ledger, valuer = server.ledger, server.valuer
    position = ledger.by_ticket(request.position) if request.position else None
    if position is None or ledger.mode is not MarginMode.HEDGING:
        return OK
    if all(other.side == position.side for other in ledger.of_symbol(position.symbol)):
        return OK
    figures = valuer.figures(ledger, server.now_ms)
    after = valuer.margin_without(ledger, position, request.volume, server.now_ms)
    if after > figures.margin and after > figures.equity:
        return mt5.TRADE_RETCODE_NO_MONEY
    return OK


def _expiration(server: TradeServer, request: Request) -> int:
    timed = request.type_time in (mt5.ORDER_TIME_SPECIFIED, mt5.ORDER_TIME_SPECIFIED_DAY)
    if timed and request.expiration * 1000 <= server.server_ms:
        return mt5.TRADE_RETCODE_INVALID_EXPIRATION
    return OK


def _frozen_position(server: TradeServer, position: OpenPosition) -> int:
    """A position about to be closed by its stop or target is left alone."""
    spec = server.valuer.specs.get(position.symbol)
    closing = server.valuer.closing_price(position.symbol, position.side, server.now_ms)
    if spec is None or not spec.freeze_level or closing is None:
        return OK
    levels = [level for level in (position.stop_loss, position.take_profit) if level]
    near = any(abs(closing - level) < spec.freeze_level * spec.point for level in levels)
    return mt5.TRADE_RETCODE_FROZEN if near else OK


def _frozen(server: TradeServer, order: BrokerOrder) -> int:
    spec = server.valuer.specs[order.symbol]
    quote = server.valuer.quotes.at(order.symbol, server.now_ms)
    if not spec.freeze_level or quote is None:
        return OK
    near = abs(quote[1 - order.side] - order.price_open) < spec.freeze_level * spec.point
    return mt5.TRADE_RETCODE_FROZEN if near else OK

"""Trade requests: what the broker refuses, and what it does with the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from events.accounting import RefusedFill
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker import rules
from producers.terminals.simulated.broker.records import BrokerOrder
from producers.terminals.simulated.broker.server import TradeServer
from producers.terminals.structs import OrderCheckResult, OrderSendResult, TradeRequest

COMMENT_CHARS_MAX = 29
_NEVER_LEFT = (mt5.TRADE_RETCODE_CLIENT_DISABLES_AT, mt5.TRADE_RETCODE_CONNECTION)
"""Answers the terminal gives itself: the broker never heard."""
_FLOATS = frozenset({"volume", "price", "stoplimit", "sl", "tp"})
_TEXTS = frozenset({"symbol", "comment"})
RETCODE_TEXTS: dict[int, str] = {
    0: "Done", 10004: "Requote", 10006: "Request rejected", 10007: "Request canceled",
    10008: "Order placed", 10009: "Request executed", 10010: "Request executed partially",
    10011: "Request processing error", 10012: "Request canceled by timeout",
    10013: "Invalid request", 10014: "Invalid volume", 10015: "Invalid price",
    10016: "Invalid stops", 10017: "Trade disabled", 10018: "Market closed", 10019: "No money",
    10020: "Price changed", 10021: "No prices", 10022: "Invalid expiration",
    10023: "Order changed", 10024: "Too many requests", 10025: "No changes",
    10026: "AutoTrading disabled by server", 10027: "AutoTrading disabled by client",
    10028: "Request locked", 10029: "Order or position frozen",
    10030: "Unsupported filling mode", 10031: "No connection with trade server",
    10032: "Only for real accounts", 10033: "Orders limit reached",
    10034: "Volume limit reached", 10035: "Invalid order", 10036: "Position closed",
    10038: "Invalid close volume", 10039: "Close order exists",
    10040: "Positions limit reached", 10041: "Activation rejected", 10042: "Only long positions",
    10043: "Only short positions", 10044: "Only position closing", 10045: "FIFO rule",
    10046: "Hedging prohibited",
}  # fmt: skip


class BadRequest(ValueError):
    """A field of the wrong type or missing: the request never leaves the terminal."""


def read_request(
    fields: Mapping[str, Any], *, comment_chars_max: int = COMMENT_CHARS_MAX
) -> TradeRequest:
    """The request as a struct. Raises BadRequest with the module's text."""
    values: dict[str, Any] = {}
    for name in TradeRequest.FIELDS:
        if name not in fields:
            continue
        value = fields[name]
        if name in _TEXTS:
            good = isinstance(value, str)
        elif name in _FLOATS:
            good = isinstance(value, float | int)
            value = float(value) if good else value
        else:
            good = isinstance(value, int)
        if not good:
            raise BadRequest(f'Invalid "{name}" argument')
        values[name] = value
    action = values.get("action")
    if action is None:
        raise BadRequest('Invalid "action" argument')
    _require(values, action)
    if len(values.get("comment", "")) > comment_chars_max:
        raise BadRequest('Invalid "comment" argument')
    return TradeRequest.of(**values)


def _require(values: dict[str, Any], action: int) -> None:
    needed: tuple[str, ...] = ()
    if action in (mt5.TRADE_ACTION_DEAL, mt5.TRADE_ACTION_PENDING):
        needed = ("symbol", "volume", "type")
    elif action in (mt5.TRADE_ACTION_MODIFY, mt5.TRADE_ACTION_REMOVE):
        needed = ("order",)
    elif action == mt5.TRADE_ACTION_SLTP:
        needed = ("position",) if "position" in values else ("symbol",)
    elif action == mt5.TRADE_ACTION_CLOSE_BY:
        needed = ("position", "position_by")
    for name in needed:
        if name not in values:
            raise BadRequest(f'Invalid "{name}" argument')


class TradeDesk:
    """Carries out requests on a trade server."""

    def __init__(self, server: TradeServer) -> None:
        self._server = server

    def send(self, request: TradeRequest, *, refused: int = 0) -> OrderSendResult:
        """Do what a request asks. `refused` is a retcode given without looking. What reaches the
        broker is kept among the server's requests, with the answer."""
        result = self._carried_out(request, refused)
        if result.retcode not in _NEVER_LEFT:
            asked = dict(zip(TradeRequest.FIELDS, request, strict=True))
            named = {name: value for name, value in asked.items() if value}
            self._server.keep_request(
                {
                    **named, "utc_ms": self._server.now_ms, "retcode": result.retcode,
                    "deal": result.deal, "made_order": result.order,
                }
            )  # fmt: skip
        return result

    def _carried_out(self, request: TradeRequest, refused: int) -> OrderSendResult:
        retcode = refused or rules.retcode_of(self._server, request)
        if retcode:
            return self._result(request, retcode)
        action = {
            mt5.TRADE_ACTION_DEAL: self._deal,
            mt5.TRADE_ACTION_PENDING: self._pending,
            mt5.TRADE_ACTION_SLTP: self._stops,
            mt5.TRADE_ACTION_MODIFY: self._modify,
            mt5.TRADE_ACTION_REMOVE: self._remove,
            mt5.TRADE_ACTION_CLOSE_BY: self._close_by,
        }[request.action]
        try:
            return action(request)
        except RefusedFill:
            return self._result(request, mt5.TRADE_RETCODE_REJECT)

    def check(self, request: TradeRequest, *, refused: int = 0) -> OrderCheckResult:
        """Whether a request would do, and the account after it; success is retcode 0."""
        server = self._server
        retcode = refused or rules.retcode_of(server, request)
        figures = server.valuer.figures(server.ledger, server.now_ms)
        margin = figures.margin
        spec = server.valuer.specs.get(request.symbol)
        price = request.price or self._price(request)
        if spec is not None and price and request.action == mt5.TRADE_ACTION_DEAL:
            margin += server.valuer.margin(
                request.symbol, request.type % 2, request.volume, price=price,
                utc_ms=server.now_ms,
            )  # fmt: skip
        level = figures.equity / margin * 100 if margin > 0 else 0.0
        return OrderCheckResult(
            (
                retcode,
                figures.balance,
                figures.equity,
                figures.profit,
                round(margin, server.account.currency_digits),
                round(figures.equity - margin, server.account.currency_digits),
                level,
                RETCODE_TEXTS.get(retcode, ""),
                request,
            )
        )

    def _deal(self, request: TradeRequest) -> OrderSendResult:
        order = self._order(request)
        order.position_ticket = request.position
        deal = self._server.submit(order)
        if deal is None:
            return self._result(request, mt5.TRADE_RETCODE_PLACED, order=order.ticket)
        whole = deal.volume_lots >= request.volume
        return self._result(
            request, mt5.TRADE_RETCODE_DONE if whole else mt5.TRADE_RETCODE_DONE_PARTIAL,
            order=order.ticket, deal=deal.ticket, volume=deal.volume_lots, price=deal.price,
        )  # fmt: skip

    def _pending(self, request: TradeRequest) -> OrderSendResult:
        order = self._order(request)
        order.type_filling = mt5.ORDER_FILLING_RETURN
        self._server.submit(order)
        return self._result(request, mt5.TRADE_RETCODE_DONE, order=order.ticket,
                            volume=request.volume)  # fmt: skip

    def _stops(self, request: TradeRequest) -> OrderSendResult:
        position = rules.position_of(self._server, request)
        assert position is not None
        position.stop_loss, position.take_profit = request.sl, request.tp
        position.time_update_ms = self._server.server_ms
        self._server.touch_position(position)
        return self._result(request, mt5.TRADE_RETCODE_DONE)

    def _modify(self, request: TradeRequest) -> OrderSendResult:
        order = self._server.orders[request.order]
        order.price_open = request.price or order.price_open
        order.price_stoplimit = request.stoplimit or order.price_stoplimit
        order.stop_loss, order.take_profit = request.sl, request.tp
        order.type_time, order.time_expiration_s = request.type_time, request.expiration
        self._server.touch(order)
        return self._result(request, mt5.TRADE_RETCODE_DONE, order=order.ticket)

    def _remove(self, request: TradeRequest) -> OrderSendResult:
        order = self._server.orders[request.order]
        self._server.drop(order, mt5.ORDER_STATE_CANCELED)
        return self._result(request, mt5.TRADE_RETCODE_DONE, order=order.ticket)

    def _close_by(self, request: TradeRequest) -> OrderSendResult:
        ledger = self._server.ledger
        first, second = ledger.by_ticket(request.position), ledger.by_ticket(request.position_by)
        assert first is not None
        assert second is not None
        deals = self._server.close_by(
            first, second, magic=request.magic, reason=mt5.ORDER_REASON_EXPERT,
            comment=request.comment,
        )  # fmt: skip
        deal = deals[0]
        return self._result(
            request, mt5.TRADE_RETCODE_DONE, order=deal.order, deal=deal.ticket,
            volume=deal.volume_lots, price=deal.price,
        )  # fmt: skip

    def _order(self, request: TradeRequest) -> BrokerOrder:
        server = self._server
        return BrokerOrder(
            ticket=server.new_ticket(),
            symbol=request.symbol,
            type=request.type,
            volume_initial=request.volume,
            volume_current=request.volume,
            price_open=request.price if request.action == mt5.TRADE_ACTION_PENDING else 0.0,
            price_stoplimit=request.stoplimit,
            stop_loss=request.sl,
            take_profit=request.tp,
            time_setup_ms=server.server_ms,
            type_time=request.type_time,
            type_filling=request.type_filling,
            time_expiration_s=request.expiration,
            magic=request.magic,
            reason=mt5.ORDER_REASON_EXPERT,
            comment=request.comment,
        )

    def _price(self, request: TradeRequest) -> float:
        quote = self._server.valuer.quotes.at(request.symbol, self._server.now_ms) \
            if request.symbol in self._server.valuer.specs else None  # fmt: skip
        return 0.0 if quote is None else quote[1 - request.type % 2]

    def _result(
        self,
        request: TradeRequest,
        retcode: int,
        *,
        order: int = 0,
        deal: int = 0,
        volume: float = 0.0,
        price: float = 0.0,
    ) -> OrderSendResult:
        quote = None
        if request.symbol in self._server.valuer.specs:
            quote = self._server.valuer.quotes.at(request.symbol, self._server.now_ms)
        bid, ask = quote or (0.0, 0.0)
        if retcode == mt5.TRADE_RETCODE_REQUOTE:
            price = bid if request.type % 2 else ask
        text, number = RETCODE_TEXTS.get(retcode, ""), self._server.requests_made + 1
        return OrderSendResult(
            (retcode, deal, order, volume, price, bid, ask, text, number, 0, request)
        )

"""Trade requests: what the broker refuses, and what it does with the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from events.broker import rules
from events.broker.desk import carry_out
from events.broker.requests import RETCODE_TEXTS, Outcome, Request
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.server import TradeServer
from producers.terminals.structs import OrderCheckResult, OrderSendResult, TradeRequest

COMMENT_CHARS_MAX = 29
_NEVER_LEFT = (mt5.TRADE_RETCODE_CLIENT_DISABLES_AT, mt5.TRADE_RETCODE_CONNECTION)
"""Answers the terminal gives itself: the broker never heard."""
_FLOATS = frozenset({"volume", "price", "stoplimit", "sl", "tp"})
_TEXTS = frozenset({"symbol", "comment"})


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
        outcome = carry_out(self._server, Request(*request), refused=refused)
        result = self._result(request, outcome)
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

    def check(self, request: TradeRequest, *, refused: int = 0) -> OrderCheckResult:
        """Whether a request would do, and the account after it; success is retcode 0."""
        server = self._server
        retcode = refused or rules.retcode_of(server, Request(*request))
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

    def _price(self, request: TradeRequest) -> float:
        quote = self._server.valuer.quotes.at(request.symbol, self._server.now_ms) \
            if request.symbol in self._server.valuer.specs else None  # fmt: skip
        return 0.0 if quote is None else quote[1 - request.type % 2]

    def _result(self, request: TradeRequest, outcome: Outcome) -> OrderSendResult:
        quote, price = None, outcome.price
        if request.symbol in self._server.valuer.specs:
            quote = self._server.valuer.quotes.at(request.symbol, self._server.now_ms)
        bid, ask = quote or (0.0, 0.0)
        if outcome.retcode == mt5.TRADE_RETCODE_REQUOTE:
            price = bid if request.type % 2 else ask
        number = self._server.requests_made + 1
        return OrderSendResult(
            (
                outcome.retcode, outcome.deal, outcome.order, outcome.volume, price, bid, ask,
                outcome.text, number, 0, request,
            )
        )  # fmt: skip

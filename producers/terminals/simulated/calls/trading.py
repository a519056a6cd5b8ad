"""Calls about positions, orders, history and requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from events.accounting import BookedDeal, MissingRate
from events.broker.orders import BrokerOrder
from events.broker.requests import RETCODE_TEXTS
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.desk import BadRequest, read_request
from producers.terminals.simulated.broker.records import (
    deal_struct,
    order_struct,
    position_struct,
)
from producers.terminals.simulated.calls.arguments import (
    CallFailed,
    by_group,
    date_at,
    float_at,
    int_at,
    invalid,
    named,
    text_at,
    typed,
    unnamed,
)
from producers.terminals.simulated.calls.copying import CopyCalls
from producers.terminals.simulated.calls.core import api
from producers.terminals.simulated.faults import Fault
from producers.terminals.structs import (
    OrderCheckResult,
    OrderSendResult,
    TradeDeal,
    TradeOrder,
    TradePosition,
    TradeRequest,
)

Record = TypeVar("Record")
Shown = TypeVar("Shown", TradePosition, TradeOrder)
_NEVER_MS = 1 << 62
_FILTERS: dict[str, type] = {"symbol": str, "group": str, "ticket": int}


class TradeCalls(CopyCalls):
    """The account's book and its history."""

    @api(failed=None)
    def positions_total(self, *args: Any, **kwargs: Any) -> int:
        """positions_total() -> int"""
        if self._unsynchronised():
            return 0
        stale = self._shown("positions")
        return len(self.broker.ledger.positions if stale is None else stale)

    @api(failed=None)
    def positions_get(self, *args: Any, **kwargs: Any) -> tuple[TradePosition, ...]:
        """positions_get(*, symbol / group / ticket) -> tuple of TradePosition"""
        given = named(args, kwargs, _FILTERS)
        if self._unsynchronised():
            return ()
        stale = self._shown("positions")
        shown = self._shows("positions", self._positions()) if stale is None else stale
        return tuple(_filtered(shown, given, symbol=_symbol_of, ticket=lambda p: p.ticket))

    @api(failed=None)
    def orders_total(self, *args: Any, **kwargs: Any) -> int:
        """orders_total() -> int"""
        if self._unsynchronised():
            return 0
        stale = self._shown("orders")
        return len(self.broker.orders if stale is None else stale)

    @api(failed=None)
    def orders_get(self, *args: Any, **kwargs: Any) -> tuple[TradeOrder, ...]:
        """orders_get(*, symbol / group / ticket) -> tuple of TradeOrder, the active ones"""
        given = named(args, kwargs, _FILTERS)
        if self._unsynchronised():
            return ()
        stale = self._shown("orders")
        shown = self._shows("orders", self._orders()) if stale is None else stale
        return tuple(_filtered(shown, given, symbol=_symbol_of, ticket=lambda o: o.ticket))

    @api(failed=None)
    def history_orders_total(self, *args: Any, **kwargs: Any) -> int:
        """history_orders_total(date_from, date_to) -> int"""
        unnamed(args, kwargs, least=2, most=2)
        return len(self._done_orders(args, {}))

    @api(failed=None)
    def history_orders_get(self, *args: Any, **kwargs: Any) -> tuple[TradeOrder, ...]:
        """history_orders_get(date_from, date_to, *, group) or (ticket=) or (position=)"""
        given = _history_filters(args, kwargs)
        return tuple(self._order_struct(order) for order in self._done_orders(args, given))

    @api(failed=None)
    def history_deals_total(self, *args: Any, **kwargs: Any) -> int:
        """history_deals_total(date_from, date_to) -> int"""
        unnamed(args, kwargs, least=2, most=2)
        return len(self._deals(args, {}))

    @api(failed=None)
    def history_deals_get(self, *args: Any, **kwargs: Any) -> tuple[TradeDeal, ...]:
        """history_deals_get(date_from, date_to, *, group) or (ticket=ORDER) or (position=)"""
        given = _history_filters(args, kwargs)
        return tuple(deal_struct(deal) for deal in self._deals(args, given))

    @api(failed=None)
    def order_calc_margin(self, *args: Any, **kwargs: Any) -> float:
        """order_calc_margin(action, symbol, volume, price) -> float, account currency"""
        unnamed(args, kwargs, least=4, most=4)
        side, symbol = self._side(args), self._known(text_at(args, 1))
        volume, price = float_at(args, 2), float_at(args, 3)
        server = self.broker
        try:
            return server.valuer.margin(symbol, side, volume, price=price, utc_ms=server.now_ms)
        except MissingRate:
            raise CallFailed(mt5.RES_E_FAIL) from None

    @api(failed=None)
    def order_calc_profit(self, *args: Any, **kwargs: Any) -> float:
        """order_calc_profit(action, symbol, volume, price_open, price_close) -> float"""
        unnamed(args, kwargs, least=5, most=5)
        side, symbol = self._side(args), self._known(text_at(args, 1))
        volume, opened, closed = (float_at(args, place) for place in (2, 3, 4))
        server = self.broker
        try:
            return server.valuer.profit(
                symbol, side, volume, opened=opened, closed=closed, utc_ms=server.now_ms
            )
        except MissingRate:
            raise CallFailed(mt5.RES_E_FAIL) from None

    @api(failed=None)
    def order_check(self, *args: Any, **kwargs: Any) -> OrderCheckResult:
        """order_check(request) -> OrderCheckResult; success is retcode 0"""
        request = self._read(args, kwargs)
        return self.desk().check(request, refused=self._forbidden())

    @api(failed=None)
    def order_send(self, *args: Any, **kwargs: Any) -> OrderSendResult:
        """order_send(request) -> OrderSendResult"""
        request, now = self._read(args, kwargs), self.clock.utc_ms()
        if self.faults.active("api_off", now):
            raise CallFailed(mt5.RES_E_AUTO_TRADING_DISABLED)
        if self._hit("never_sent", request):
            raise CallFailed(mt5.RES_E_INTERNAL_FAIL_SEND)
        scripted = self._hit("retcode", request)
        refused = (scripted.code if scripted else 0) or self._forbidden()
        return self._told(request, self.desk().send(request, refused=refused))

    def _told(self, request: TradeRequest, result: OrderSendResult) -> OrderSendResult:
        """What of a broker's answer arrives. Raises CallFailed."""
        if self._hit("exit_after", request):
            self.ends_unanswered = True
        if late := self._hit("late_answer", request):
            self.answer_later(late.seconds)
        if lost := self._hit("lost_answer", request):
            code = lost.code if lost.codes else mt5.RES_E_INTERNAL_FAIL_RECEIVE
            raise CallFailed(code)
        values = dict(zip(OrderSendResult.FIELDS, result, strict=True))
        if false := self._hit("false_answer", request):
            text = RETCODE_TEXTS.get(false.code, "")
            return OrderSendResult.of(
                **{**values, "retcode": false.code, "deal": 0, "order": 0, "comment": text}
            )
        if self._hit("bare_answer", request):
            return OrderSendResult.of(**{**values, "deal": 0, "order": 0})
        return result

    def _hit(self, kind: str, request: TradeRequest) -> Fault | None:
        """The fault that hits a request; requests without a symbol have their position's."""
        position = self.broker.ledger.by_ticket(request.position) if request.position else None
        symbol = request.symbol or (position.symbol if position else "")
        return self.faults.take(
            kind, self.clock.utc_ms(), method="order_send", symbol=symbol, request=request
        )

    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TradeRequest:
        unnamed(args, kwargs, least=1, most=1)
        if not isinstance(args[0], dict):
            raise invalid("Invalid 1st unnamed argument")
        try:
            return read_request(args[0], comment_chars_max=self.options.comment_chars_max)
        except BadRequest as error:
            raise invalid(str(error)) from None

    def _forbidden(self) -> int:
        """Why this terminal or account may not trade at all; 0 when it may."""
        now, account = self.clock.utc_ms(), self.account_now()
        if not self.feed.connected(now):
            return mt5.TRADE_RETCODE_CONNECTION
        if self.faults.active("algo_off", now):
            return mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
        if self.faults.active("expert_off", now) or not account.trade_expert:
            return mt5.TRADE_RETCODE_SERVER_DISABLES_AT
        if self.faults.active("investor", now) or not account.trade_allowed:
            return mt5.TRADE_RETCODE_TRADE_DISABLED
        return 0

    def _unsynchronised(self) -> bool:
        """Whether the terminal wrongly shows an empty book."""
        now = self.clock.utc_ms()
        return self.feed.resyncing(now) or self.faults.active("empty_account", now) is not None

    def _positions(self) -> tuple[TradePosition, ...]:
        server = self.broker
        marks = server.valuer.marks(server.ledger, server.now_ms)
        return tuple(
            position_struct(
                position,
                price_current=marks[position.identifier][0],
                profit=marks[position.identifier][1],
            )
            for position in server.ledger.positions.values()
        )

    def _orders(self) -> tuple[TradeOrder, ...]:
        return tuple(self._order_struct(order) for order in self.broker.orders.values())

    def _shown(self, what: str) -> tuple[Any, ...] | None:
        """What a stale_book fault shows instead of the account: the last look, while it is young
        enough."""
        now = self.clock.utc_ms()
        fault, last = self.faults.active("stale_book", now), self.last_looks.get(what)
        if fault is None or last is None or now - last[0] > fault.seconds * 1000:
            return None
        return last[1]

    def _shows(self, what: str, rows: tuple[Shown, ...]) -> tuple[Shown, ...]:
        self.last_looks[what] = (self.clock.utc_ms(), rows)
        return rows

    def _history_until_ms(self) -> int:
        """Records of the history are seen up to this server time."""
        fault = self.faults.active("late_history", self.clock.utc_ms())
        return _NEVER_MS if fault is None else self.broker.server_ms - int(fault.seconds * 1000)

    def _order_struct(self, order: BrokerOrder) -> TradeOrder:
        server = self.broker
        quote = server.valuer.quotes.at(order.symbol, server.now_ms)
        price = 0.0 if quote is None else quote[1 - order.side]
        return order_struct(order, order.price_open if order.time_done_ms and not price else price)

    def _side(self, args: tuple[Any, ...]) -> int:
        side = int_at(args, 0)
        if side not in (mt5.ORDER_TYPE_BUY, mt5.ORDER_TYPE_SELL):
            raise CallFailed(mt5.RES_E_INVALID_PARAMS)
        return side

    def _span_s(self, args: tuple[Any, ...]) -> tuple[int, int]:
        zone = self.options.pc_zone
        return date_at(args, 0, pc_zone=zone), date_at(args, 1, pc_zone=zone)

    def _done_orders(self, args: tuple[Any, ...], given: dict[str, Any]) -> list[BrokerOrder]:
        until_ms = self._history_until_ms()
        done = sorted(
            (order for order in self.broker.orders_done if order.time_done_ms <= until_ms),
            key=lambda o: (o.time_setup_ms, o.ticket),
        )
        if "ticket" in given:
            return [order for order in done if order.ticket == given["ticket"]]
        if "position" in given:
            return [order for order in done if order.position_id == given["position"]]
        low, high = self._span_s(args)
        chosen = [order for order in done if low <= order.time_setup_ms // 1000 <= high]
        return _filtered(chosen, given, symbol=lambda order: order.symbol)

    def _deals(self, args: tuple[Any, ...], given: dict[str, Any]) -> list[BookedDeal]:
        deals, until_ms = self.broker.deals, self._history_until_ms()
        if until_ms < _NEVER_MS:
            deals = [deal for deal in deals if deal.time_ms <= until_ms]
        if "ticket" in given:
            return [deal for deal in deals if deal.order == given["ticket"]]
        if "position" in given:
            return [deal for deal in deals if deal.position_id == given["position"]]
        low, high = self._span_s(args)
        chosen = [deal for deal in deals if low <= deal.time_ms // 1000 <= high]
        return _filtered(chosen, given, symbol=lambda deal: deal.symbol)


def _symbol_of(record: TradePosition | TradeOrder) -> str:
    symbol: str = record.symbol
    return symbol


def _history_filters(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Either two dates and perhaps a group, or one of ticket and position. Names that these
    functions do not know are ignored: packages pass theirs on. Raises CallFailed."""
    kinds = {"group": str, "ticket": int, "position": int}
    given = typed({name: kwargs[name] for name in kwargs.keys() & kinds.keys()}, kinds)
    by_number = "ticket" in given or "position" in given
    if not by_number and len(args) != 2:
        raise invalid()
    return given


def _filtered(
    records: Iterable[Record],
    given: dict[str, Any],
    *,
    symbol: Callable[[Record], str],
    ticket: Callable[[Record], int] | None = None,
) -> list[Record]:
    """Records by symbol, else by ticket, else by group: the first that is given counts."""
    rows = list(records)
    if not given:
        return rows
    if "symbol" in given:
        return [row for row in rows if symbol(row) == given["symbol"]]
    if "ticket" in given and ticket is not None:
        return [row for row in rows if ticket(row) == given["ticket"]]
    if "group" in given:
        names = by_group({symbol(row) for row in rows}, given["group"])
        return [row for row in rows if symbol(row) in names]
    return rows

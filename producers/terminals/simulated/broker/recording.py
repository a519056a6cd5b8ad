"""What changed at a trade server, as plain values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from events.accounting import TYPE_CREDIT, BookedDeal, Ledger, OpenPosition, RefusedFill
from events.broker.orders import BrokerOrder
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.server import TradeServer

CARRYING_DEALS = 2
_POSITION_FIELDS = ("ticket", "stop_loss", "take_profit", "swap", "comment", "time_update_ms")
"""What changes on an open position without a deal."""
_ORDER_DEFAULTS = {field.name: field.default for field in fields(BrokerOrder)}
_DEAL_DEFAULTS = {field.name: field.default for field in fields(BookedDeal)}


class Recorder:
    """Follows one trade server. Deals are kept one by one and applied again in their order, so
    that the account is made of the same deals, and to the same cent."""

    def __init__(self, server: TradeServer) -> None:
        self._server = server
        self._deals = len(server.deals)
        self._requests = server.requests_made
        self._revisions = self._revisions_now()
        self._day = server.swapped_day

    def changes(self) -> dict[str, Any] | None:
        """What happened since the last question; None: nothing."""
        server = self._server
        revisions = self._revisions_now()
        fresh_requests = server.requests_made - self._requests
        orders = [_plain(order, _ORDER_DEFAULTS) for order in server.touched_orders.values()]
        positions = [
            _patch(server.ledger.positions[identifier])
            for identifier in server.touched_positions
            if identifier in server.ledger.positions
        ]
        deals = [_plain(deal, _DEAL_DEFAULTS) for deal in server.deals[self._deals :]]
        same = server.swapped_day == self._day and revisions == self._revisions
        if same and not (orders or positions or deals or fresh_requests):
            return None
        requests = list(server.requests)[-fresh_requests:] if fresh_requests else []
        self._caught_up()
        return {
            "login": server.account.login,
            "now_ms": server.now_ms,
            "swapped_day": server.swapped_day,
            "orders_made": server.orders_made,
            "executions": [[due, ticket] for due, ticket in server.executions],
            "deals": deals,
            "orders": orders,
            "positions": positions,
            "requests": requests,
            "actors": {name: actor.state() for name, actor in server.actors.items()},
        }

    def recall(self, line: Mapping[str, Any]) -> None:
        """Let what another process (or an earlier one) recorded take effect. Raises RefusedFill,
        KeyError or TypeError on a line that does not fit."""
        server = self._server
        if "deals_before" in line:
            server.begin_again(line["deals_before"], requests_before=line["requests_before"])
        for values in line["deals"]:
            deal = BookedDeal(**values)
            server.ledger.apply(deal)
            server.deals.append(deal)
        for values in line["orders"]:
            server.put_back(BrokerOrder(**values))
        for values in line["positions"]:
            position = server.ledger.positions[values["identifier"]]
            for name in _POSITION_FIELDS:
                setattr(position, name, values[name])
        for request in line["requests"]:
            server.keep_request(request)
        server.executions = [(due, ticket) for due, ticket in line["executions"]]
        server.now_ms = max(server.now_ms, line["now_ms"])
        server.swapped_day = line["swapped_day"]
        server.orders_made = line["orders_made"]
        for name, state in line["actors"].items():
            if name in server.actors:
                server.actors[name].restore(state)
        server.ledger.revision += 1
        self._caught_up()

    def shortened(self, kept_since_ms: int) -> dict[str, Any] | None:
        """The account as one change of an empty one, without trades that ended before a time
        (server ms): two deals carry what they came to. None when that would not be the same
        account."""
        server = self._server
        held = server.ledger.positions
        recent = {deal.position_id for deal in server.deals if deal.time_ms >= kept_since_ms}
        whole = (recent | held.keys()) - {0}
        kept = [
            deal
            for deal in server.deals
            if deal.time_ms >= kept_since_ms or deal.position_id in whole
        ]
        put_away = len(server.deals) - len(kept)
        if put_away < CARRYING_DEALS:
            kept, put_away = list(server.deals), 0
        carried = _carried(server, kept) if put_away else []
        if not _same_account(server, [*carried, *kept]):
            return None
        orders = [o for o in server.orders_done if o.time_done_ms >= kept_since_ms]
        return {
            "login": server.account.login,
            "now_ms": server.now_ms,
            "swapped_day": server.swapped_day,
            "orders_made": server.orders_made,
            "deals_before": server.deals_before + put_away - len(carried),
            "requests_before": server.requests_made - len(server.requests),
            "executions": [[due, ticket] for due, ticket in server.executions],
            "deals": [_plain(deal, _DEAL_DEFAULTS) for deal in (*carried, *kept)],
            "orders": [
                _plain(order, _ORDER_DEFAULTS) for order in (*orders, *server.orders.values())
            ],
            "positions": [_patch(position) for position in held.values()],
            "requests": list(server.requests),
            "actors": {name: actor.state() for name, actor in server.actors.items()},
        }

    def _caught_up(self) -> None:
        server = self._server
        self._deals, self._requests = len(server.deals), server.requests_made
        self._revisions = self._revisions_now()
        server.touched_orders.clear()
        server.touched_positions.clear()
        self._day = server.swapped_day

    def _revisions_now(self) -> dict[str, int]:
        return {name: actor.revision for name, actor in self._server.actors.items()}


def _plain(record: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that differ from their defaults."""
    values = {name: getattr(record, name) for name in defaults}
    return {
        name: int(value) if isinstance(value, int) else value
        for name, value in values.items()
        if value != defaults[name]
    }


def _same_account(server: TradeServer, deals: list[BookedDeal]) -> bool:
    """Whether these deals make the account that the server has."""
    now = server.ledger
    again = Ledger(now.mode, now.currency_digits)
    try:
        again.apply_all(deals)
    except RefusedFill:
        return False
    volumes = [
        [(p.identifier, p.side, p.volume_lots, p.price_open) for p in ledger.positions.values()]
        for ledger in (again, now)
    ]
    return (again.balance, again.credit, volumes[0]) == (now.balance, now.credit, volumes[1])


def _carried(server: TradeServer, kept: list[BookedDeal]) -> list[BookedDeal]:
    """Two deals that bring an account without its older deals to the same balance and credit,
    with the tickets of the last that are put away."""
    ledger = server.ledger
    balance = ledger.money(ledger.balance - sum(d.amount for d in kept if d.type != TYPE_CREDIT))
    credit = ledger.money(ledger.credit - sum(d.amount for d in kept if d.type == TYPE_CREDIT))
    known = {deal.ticket for deal in kept}
    gone = [deal for deal in server.deals if deal.ticket not in known]
    amounts = ((TYPE_CREDIT, credit), (mt5.DEAL_TYPE_BALANCE, balance))
    return [
        BookedDeal(
            ticket=deal.ticket, type=type_, time_ms=deal.time_ms, profit=amount,
            comment="Carried forward",
        )
        for deal, (type_, amount) in zip(gone[-CARRYING_DEALS:], amounts, strict=True)
    ]  # fmt: skip


def _patch(position: OpenPosition) -> dict[str, Any]:
    values = {name: getattr(position, name) for name in _POSITION_FIELDS}
    return {"identifier": position.identifier, **values}

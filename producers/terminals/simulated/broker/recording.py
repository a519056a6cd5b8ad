"""What changed at a trade server, as plain values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from events.accounting import BookedDeal, OpenPosition
from producers.terminals.simulated.broker.records import BrokerOrder
from producers.terminals.simulated.broker.server import TradeServer

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


def _patch(position: OpenPosition) -> dict[str, Any]:
    values = {name: getattr(position, name) for name in _POSITION_FIELDS}
    return {"identifier": position.identifier, **values}

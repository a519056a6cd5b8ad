"""What others do to an account: positions and orders of theirs, deposits and withdrawals."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from events.accounting import RefusedFill
from events.broker.orders import BrokerOrder
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.server import TradeServer
from producers.terminals.simulated.faults import Fault

PLANNED_MAX = 10_000
_NEVER = 1 << 62


@dataclass(order=True, slots=True)
class _Plan:
    utc_ms: int
    number: int
    fault: Fault = field(compare=False)


class Outsiders:
    """People and programs at other terminals of the account, and its back office. Each of their
    acts happens once, at its moment, whoever looks and when."""

    def __init__(self, planned: Iterable[Fault] = (), *, start_utc_ms: int = 0) -> None:
        self._plans: list[_Plan] = []
        self._number = 0
        self.revision = 0
        for fault in planned:
            self.plan(fault, start_utc_ms + int(fault.at_s * 1000))

    def plan(self, fault: Fault, utc_ms: int) -> None:
        """Let something happen at a moment. Raises ValueError when too much is planned."""
        if len(self._plans) >= PLANNED_MAX:
            raise ValueError(f"more than {PLANNED_MAX} happenings are planned")
        self._number += 1
        self.revision += 1
        heapq.heappush(self._plans, _Plan(utc_ms, self._number, fault))

    def next_utc_ms(self) -> int:
        return self._plans[0].utc_ms if self._plans else _NEVER

    def act(self, server: TradeServer) -> None:
        """Let the next thing happen."""
        fault = heapq.heappop(self._plans).fault
        self.revision += 1
        if fault.kind == "balance":
            type_ = mt5.DEAL_TYPE_BALANCE if fault.code < mt5.DEAL_TYPE_BALANCE else fault.code
            server.balance_operation(type_, fault.amount, fault.text)
        elif fault.kind == "foreign_close":
            self._close(server, fault)
        else:
            for symbol in fault.symbols or tuple(server.valuer.specs)[:1]:
                for _ in range(fault.count):
                    self._open(server, fault, symbol)

    def state(self) -> Any:
        """What is still to come."""
        plans = [
            [plan.utc_ms, plan.number, plan.fault.model_dump(mode="json", exclude_defaults=True)]
            for plan in sorted(self._plans)
        ]
        return [self._number, plans]

    def restore(self, state: Any) -> None:
        self.revision += 1
        self._number, plans = state
        self._plans = [_Plan(at, number, Fault.model_validate(kept)) for at, number, kept in plans]

    def _close(self, server: TradeServer, fault: Fault) -> None:
        for position in list(server.ledger.positions.values()):
            meant = not fault.symbols or position.symbol in fault.symbols
            if meant and server.is_open(position.symbol):
                server.close(position, reason=mt5.ORDER_REASON_CLIENT, comment=fault.text)

    def _open(self, server: TradeServer, fault: Fault, symbol: str) -> None:
        """Open a position, or place an order; what the broker refuses does not happen."""
        spec = server.valuer.specs.get(symbol)
        quote = server.valuer.quotes.at(symbol, server.now_ms)
        if spec is None or quote is None or not server.is_open(symbol):
            return
        pending = fault.kind == "foreign_order"
        price = quote[1 - fault.side]
        if not pending and not server.affords(symbol, fault.side, fault.lots, price):
            return
        away = fault.points * spec.point * (1 if fault.side else -1)
        order = BrokerOrder(
            ticket=server.new_ticket(), symbol=symbol,
            type=(mt5.ORDER_TYPE_BUY_LIMIT if pending else mt5.ORDER_TYPE_BUY) + fault.side,
            volume_initial=fault.lots, volume_current=fault.lots,
            price_open=round(price + away, spec.digits) if pending else 0.0,
            type_filling=mt5.ORDER_FILLING_RETURN if pending else mt5.ORDER_FILLING_FOK,
            time_setup_ms=server.server_ms, comment=fault.text,
        )  # fmt: skip
        server.orders[order.ticket] = order
        server.touch(order)
        if not pending:
            try:
                server.fill(order)
            except RefusedFill:
                return  # it is in the history as rejected

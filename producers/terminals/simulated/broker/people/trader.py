"""A background trader: positions and orders that nobody asked the bridge for."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from random import Random
from typing import Any

from events.accounting import RefusedFill
from events.broker.orders import BrokerOrder
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.server import TradeServer
from producers.terminals.simulated.options import TraderOptions

FLASH_MS = (20, 250)
HOLD_MIN_MS = 1500
STOP_POINTS = (60, 400)
PENDING_POINTS = (5, 120)
POSITIONS_MAX = 20
CLOSED_RETRY_MS = 600_000


@dataclass(order=True, slots=True)
class _Appointment:
    """What he does at a moment; `ticket` 0 is the next opening."""

    utc_ms: int
    number: int
    ticket: int = field(compare=False, default=0)


class BackgroundTrader:
    """Opens one position or pending order per span and ends each after a while. His moments and
    choices follow from the seed alone, not from when anybody looks."""

    def __init__(
        self, seed: int, options: TraderOptions, *, symbols: tuple[str, ...], start_utc_ms: int
    ) -> None:
        self._seed = seed
        self._options = options
        self._symbols = symbols
        self._begun_ms = start_utc_ms
        self._span = 0
        self._number = 0
        self.revision = 0
        self._appointments: list[_Appointment] = []
        self._plan_opening()

    def next_utc_ms(self) -> int:
        return self._appointments[0].utc_ms

    def act(self, server: TradeServer) -> None:
        """Keep the appointment that is due."""
        due = heapq.heappop(self._appointments)
        self.revision += 1
        if not due.ticket:
            self._open(server)
            self._plan_opening()
            return
        position = server.ledger.by_ticket(due.ticket)
        order = server.orders.get(due.ticket)
        if position is not None and not server.is_open(position.symbol):
            self._plan(server.now_ms + CLOSED_RETRY_MS, due.ticket)
        elif position is not None:
            server.close(position, reason=mt5.ORDER_REASON_CLIENT)
        elif order is not None:
            server.drop(order, mt5.ORDER_STATE_CANCELED)

    def state(self) -> Any:
        """Which span comes next, and his appointments."""
        kept = [[item.utc_ms, item.number, item.ticket] for item in self._appointments]
        return [self._span, self._number, kept]

    def restore(self, state: Any) -> None:
        self.revision += 1
        self._span, self._number, kept = state
        self._appointments = [_Appointment(*item) for item in kept]

    def rest_until(self, utc_ms: int) -> None:
        """Open nothing before a moment; what is open is ended as it was planned."""
        span = max(0, -(-(utc_ms - self._begun_ms) // int(self._options.every_s * 1000)))
        if span <= self._span:
            return
        self._span = span
        self._appointments = [item for item in self._appointments if item.ticket]
        heapq.heapify(self._appointments)
        self.revision += 1
        self._plan_opening()

    def _draws(self, span: int) -> Random:
        """All he decides in a span. Each has its own, so that nothing of what was drawn before
        must be known to go on."""
        return Random(f"{self._seed} {span}")  # noqa: S311  # a made-up trader, not a secret

    def _plan_opening(self) -> None:
        span_ms = self._options.every_s * 1000
        at = (
            self._begun_ms
            + (self._span + self._draws(-self._span - 1).uniform(0.05, 0.95)) * span_ms
        )
        self._span += 1
        self._plan(int(at))

    def _plan(self, utc_ms: int, ticket: int = 0) -> None:
        self._number += 1
        heapq.heappush(self._appointments, _Appointment(utc_ms, self._number, ticket))

    def _open(self, server: TradeServer) -> None:
        options, random = self._options, self._draws(self._span)
        symbol = random.choice(self._symbols)
        side = random.randrange(2)
        spec = server.valuer.specs[symbol]
        lots_max = max(options.volume_lots_max, spec.volume_min)
        steps = random.randint(1, max(1, round((lots_max - spec.volume_min) / spec.volume_step)))
        volume = round(spec.volume_min + (steps - 1) * spec.volume_step, 8)
        flash = random.random() < options.flash_share
        pending = random.random() < options.pending_share and not flash
        hold_ms = random.uniform(HOLD_MIN_MS, max(HOLD_MIN_MS, options.hold_max_s * 1000))
        if flash:
            hold_ms = random.uniform(*FLASH_MS)
        points = random.randint(*PENDING_POINTS), random.randint(*STOP_POINTS)
        with_stops = random.random() < options.stops_share and not flash
        quote = server.valuer.quotes.at(symbol, server.now_ms)
        if quote is None or not server.is_open(symbol):
            return
        if len(server.ledger.positions) + len(server.orders) >= POSITIONS_MAX:
            return
        price = quote[1 - side]
        away = points[0] * spec.point * (1 if side else -1)
        base = price + away if pending else quote[side]
        stop = points[1] * spec.point * (-1 if side else 1)
        if not server.affords(symbol, side, volume, price):
            return
        order = BrokerOrder(
            ticket=server.new_ticket(), symbol=symbol, volume_initial=volume,
            volume_current=volume, time_setup_ms=server.server_ms,
            type=(mt5.ORDER_TYPE_BUY_LIMIT if pending else mt5.ORDER_TYPE_BUY) + side,
            price_open=round(price + away, spec.digits) if pending else 0.0,
            stop_loss=round(base - stop, spec.digits) if with_stops else 0.0,
            take_profit=round(base + stop, spec.digits) if with_stops else 0.0,
        )  # fmt: skip
        self._submit(server, order, int(server.now_ms + hold_ms))

    def _submit(self, server: TradeServer, order: BrokerOrder, ends_utc_ms: int) -> None:
        """He answers for what he opened: on netting accounts he closes what the symbol holds."""
        try:
            deal = server.submit(order)
        except RefusedFill:
            return
        ticket = order.ticket
        if deal is not None:
            position = server.ledger.positions.get(deal.position_id)
            if position is None:
                return
            ticket = position.ticket
        self._plan(ends_utc_ms, ticket)

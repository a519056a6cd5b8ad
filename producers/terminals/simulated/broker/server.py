"""The broker's trade server of one account: orders become deals as virtual time goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from events.accounting import (
    BookedDeal,
    Fill,
    Ledger,
    MarginMode,
    OpenPosition,
    RefusedFill,
    stop_out_first,
    swap_nights,
)
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.records import BrokerOrder
from producers.terminals.simulated.broker.triggers import Trigger, first_trigger
from producers.terminals.simulated.broker.valuation import Valuer
from producers.terminals.simulated.market.generated import Market
from producers.terminals.simulated.options import AccountOptions
from producers.terminals.simulated.server_clock import DAY_MS, ServerClock

STEP_MAX_MS = 3_600_000
STOP_OUT_GRID_MS = 1000
STOP_OUTS_PER_STEP_MAX = 1000
FIRST_ORDER_TICKET = 100_000_001
FIRST_DEAL_TICKET = 80_000_001
TICKETS_SINCE_MS = 1_577_836_800_000
"""2020. An account that begins anew later numbers from further on, ten tickets a second: brokers
never give a ticket twice, and who has seen one takes it for known. The deposit is always the same
deal."""
_THURSDAY = 4  # 1 January 1970, with Sunday as 0
_FOREVER = 1 << 62


class Actor(Protocol):
    """Somebody else who trades on the account at times of his own."""

    def next_utc_ms(self) -> int:
        """When he acts next."""
        ...

    def act(self, server: TradeServer) -> None:
        """Let him do what he does at that time (`server.now_ms`)."""
        ...


class TradeServer:
    """Keeps orders, deals and positions of an account. `now_ms` is how far it has come (UTC);
    records carry server time."""

    def __init__(
        self,
        account: AccountOptions,
        valuer: Valuer,
        market: Market,
        clock: ServerClock,
        *,
        start_utc_ms: int,
        execution_ms: float = 0.0,
    ) -> None:
        self.account = account
        self.valuer = valuer
        self.now_ms = start_utc_ms
        self.clock = clock
        self.execution_ms = int(execution_ms)
        self.ledger = Ledger(MarginMode(account.margin_mode), account.currency_digits)
        self.orders: dict[int, BrokerOrder] = {}
        self.orders_done: list[BrokerOrder] = []
        self.deals: list[BookedDeal] = []
        self.actor: Actor | None = None
        self.market = market
        self._orders_made = 0
        self._tickets_before = max(0, start_utc_ms - TICKETS_SINCE_MS) // 100
        self._executions: list[tuple[int, BrokerOrder]] = []
        self._swapped_day = clock.server_ms(start_utc_ms) // DAY_MS
        self._deposit()

    @property
    def server_ms(self) -> int:
        """The broker's clock, as records carry it."""
        return self.clock.server_ms(self.now_ms)

    def new_ticket(self) -> int:
        self._orders_made += 1
        return FIRST_ORDER_TICKET + self._tickets_before + self._orders_made - 1

    def process(self, until_utc_ms: int) -> None:
        """Let everything happen up to a moment, in order of time, however far apart the calls."""
        while self.now_ms < until_utc_ms:
            due, happen = self._next_event()
            target = min(max(due, self.now_ms), until_utc_ms, self.now_ms + STEP_MAX_MS)
            self._prices_until(target)
            self.now_ms = target
            if due <= target:
                happen()

    def submit(self, order: BrokerOrder) -> BookedDeal | None:
        """Accept an order: a market order fills now (or after `execution_ms`: None), a pending
        one waits. Raises RefusedFill."""
        self.orders[order.ticket] = order
        if not order.is_market:
            return None
        if self.execution_ms:
            self._executions.append((self.now_ms + self.execution_ms, order))
            return None
        return self.fill(order)

    def fill(self, order: BrokerOrder, price: float | None = None) -> BookedDeal:
        """Execute an order at a price, or at the market. Raises RefusedFill."""
        if price is None:
            quote = self.valuer.quotes.at(order.symbol, self.now_ms)
            if quote is None:
                self.drop(order, mt5.ORDER_STATE_REJECTED)
                raise RefusedFill(f"there is no price for {order.symbol}")
            price = quote[1] if order.side == 0 else quote[0]
        fill = Fill(
            symbol=order.symbol,
            side=order.side,
            volume_lots=order.volume_current,
            price=price,
            order=order.ticket,
            time_ms=self.server_ms,
            position=order.position_ticket,
            magic=order.magic,
            reason=order.reason,
            comment=order.comment,
        )
        try:
            deal = self.ledger.book(
                fill,
                ticket=self._deal_ticket(),
                profit_of=self._profit_of,
                commission_of=self.valuer.commission,
            )
        except RefusedFill:
            self.drop(order, mt5.ORDER_STATE_REJECTED)
            raise
        self.deals.append(deal)
        order.position_id = deal.position_id
        self._set_stops(order, deal)
        self.drop(order, mt5.ORDER_STATE_FILLED)
        return deal

    def drop(self, order: BrokerOrder, state: int) -> None:
        """Take an order out of the active ones in a final state."""
        self.orders.pop(order.ticket, None)
        order.finish(state, self.server_ms)
        self.orders_done.append(order)

    def close(self, position: OpenPosition, *, reason: int, comment: str = "") -> BookedDeal:
        """Close a position whole at the market, as the broker does it."""
        return self.fill(self._closing_order(position, reason=reason, comment=comment))

    def close_by(self, first: OpenPosition, second: OpenPosition, *, magic: int, reason: int,
                 comment: str) -> tuple[BookedDeal, BookedDeal]:  # fmt: skip
        """Close two opposite positions against each other. Raises RefusedFill."""
        volume = min(first.volume_lots, second.volume_lots)
        order = BrokerOrder(
            ticket=self.new_ticket(), symbol=first.symbol, type=mt5.ORDER_TYPE_CLOSE_BY,
            volume_initial=volume, volume_current=volume, price_open=second.price_open,
            time_setup_ms=self.server_ms, magic=magic, reason=reason, comment=comment,
            position_id=first.identifier, position_by_id=second.identifier,
        )  # fmt: skip
        tickets = (self._deal_ticket(), self._deal_ticket() + 1)
        deals = self.ledger.close_by(
            first, second, order=order.ticket, tickets=tickets, time_ms=self.server_ms,
            profit_of=self._profit_of,
        )  # fmt: skip
        self.deals += deals
        self.drop(order, mt5.ORDER_STATE_FILLED)
        return deals

    def balance_operation(self, type_: int, amount: float, comment: str) -> BookedDeal:
        """A deposit, withdrawal, credit, dividend: any deal type from 2 on."""
        deal = BookedDeal(
            ticket=self._deal_ticket(), type=type_, time_ms=self.server_ms, profit=amount,
            comment=comment,
        )  # fmt: skip
        self.ledger.apply(deal)
        self.deals.append(deal)
        return deal

    def _deal_ticket(self) -> int:
        return FIRST_DEAL_TICKET + (self._tickets_before + len(self.deals) if self.deals else 0)

    def _deposit(self) -> None:
        self.balance_operation(mt5.DEAL_TYPE_BALANCE, self.account.balance, "Initial deposit")
        if self.account.credit:
            self.balance_operation(mt5.DEAL_TYPE_CREDIT, self.account.credit, "Credit")

    def _profit_of(self, position: OpenPosition, volume_lots: float, price: float) -> float:
        return self.valuer.profit(
            position.symbol, position.side, volume_lots, opened=position.price_open,
            closed=price, utc_ms=self.now_ms,
        )  # fmt: skip

    def _set_stops(self, order: BrokerOrder, deal: BookedDeal) -> None:
        position = self.ledger.positions.get(deal.position_id)
        if position is not None and (order.stop_loss or order.take_profit):
            position.stop_loss, position.take_profit = order.stop_loss, order.take_profit

    def _closing_order(self, position: OpenPosition, *, reason: int, comment: str) -> BrokerOrder:
        order = BrokerOrder(
            ticket=self.new_ticket(), symbol=position.symbol, type=1 - position.side,
            volume_initial=position.volume_lots, volume_current=position.volume_lots,
            price_open=0.0, time_setup_ms=self.server_ms, reason=reason, comment=comment,
            magic=position.magic, position_ticket=position.ticket,
        )  # fmt: skip
        self.orders[order.ticket] = order
        return order

    # What happens by itself -------------------------------------------------------------------

    def _next_event(self) -> tuple[int, Callable[[], None]]:
        """The next thing due by the clock, not by prices: (when, what)."""
        events: list[tuple[int, Callable[[], None]]] = [(self._next_midnight(), self._midnight)]
        if self._executions:
            events.append((self._executions[0][0], self._execute_first))
        if self.actor is not None:
            events.append((self.actor.next_utc_ms(), self._let_act))
        expiring = min(self.orders.values(), key=_expires_s, default=None)
        if expiring is not None and _expires_s(expiring) < _FOREVER:
            when = _expires_s(expiring) * 1000 - self.clock.offset_s(self.now_ms) * 1000
            events.append((when, lambda: self.drop(expiring, mt5.ORDER_STATE_EXPIRED)))
        return min(events, key=lambda event: event[0])

    def _let_act(self) -> None:
        if self.actor is not None:
            self.actor.act(self)

    def _execute_first(self) -> None:
        _, order = self._executions.pop(0)
        if order.ticket not in self.orders:
            return
        try:
            self.fill(order)
        except RefusedFill:
            return  # the order is in the history as rejected, which is the answer

    def _next_midnight(self) -> int:
        midnight = (self._swapped_day + 1) * DAY_MS
        return midnight - self.clock.offset_s(self.now_ms) * 1000

    def _midnight(self) -> None:
        """Charge the swap of the night that begins, and end orders of the day."""
        nights_of = (self._swapped_day + _THURSDAY) % 7
        self._swapped_day += 1
        for position in self.ledger.positions.values():
            contract = self.valuer.contract(position.symbol)
            nights = swap_nights(nights_of, contract.swap_rollover_weekday)
            if nights:
                amount = self.valuer.swap(position, self.now_ms) * nights
                self.ledger.charge_swap(position.identifier, amount)
        for order in list(self.orders.values()):
            if order.type_time == mt5.ORDER_TIME_DAY and not order.is_market:
                self.drop(order, mt5.ORDER_STATE_EXPIRED)

    def _prices_until(self, target_ms: int) -> None:
        """Stops, targets, pending orders and stop-outs up to a moment."""
        for _ in range(STOP_OUTS_PER_STEP_MAX):
            trigger = self._first_trigger(target_ms)
            price_time = target_ms if trigger is None else trigger.utc_ms
            stopped = self._first_stop_out(price_time)
            if stopped is not None:
                self.now_ms = stopped
                self._stop_out()
            elif trigger is not None:
                self.now_ms = trigger.utc_ms
                self._pull(trigger)
            else:
                return

    def _first_trigger(self, target_ms: int) -> Trigger | None:
        positions = [p for p in self.ledger.positions.values() if p.stop_loss or p.take_profit]
        pending = [order for order in self.orders.values() if not order.is_market]
        if not positions and not pending:
            return None
        return first_trigger(
            self.market, positions, pending,
            after_utc_ms=self.now_ms, until_utc_ms=target_ms,
        )  # fmt: skip

    def _pull(self, trigger: Trigger) -> None:
        if trigger.position is not None:
            tag = "sl" if trigger.reason == mt5.ORDER_REASON_SL else "tp"
            level = trigger.position.stop_loss if tag == "sl" else trigger.position.take_profit
            order = self._closing_order(
                trigger.position, reason=trigger.reason, comment=f"[{tag} {level:g}]"
            )
            self.fill(order, trigger.price)
            return
        order = trigger.order  # type: ignore[assignment]  # a trigger has one of the two
        if order.type in (mt5.ORDER_TYPE_BUY_STOP_LIMIT, mt5.ORDER_TYPE_SELL_STOP_LIMIT):
            order.type = mt5.ORDER_TYPE_BUY_LIMIT + order.side
            order.price_open, order.price_stoplimit = order.price_stoplimit, 0.0
        elif self.affords(order.symbol, order.side, order.volume_current, trigger.price):
            self.fill(order, trigger.price)
        else:
            self.drop(order, mt5.ORDER_STATE_REJECTED)

    def affords(self, symbol: str, side: int, volume_lots: float, price: float) -> bool:
        """Whether free margin carries a new volume; what only reduces exposure always is."""
        opposite = sum(p.volume_lots for p in self.ledger.of_symbol(symbol) if p.side != side)
        added = volume_lots - opposite
        if added <= 0:
            return True
        needed = self.valuer.margin(symbol, side, added, price=price, utc_ms=self.now_ms)
        return needed <= self.valuer.figures(self.ledger, self.now_ms).margin_free

    def _first_stop_out(self, target_ms: int) -> int | None:
        if not self.ledger.positions:
            return None
        first = (self.now_ms // STOP_OUT_GRID_MS + 1) * STOP_OUT_GRID_MS
        grid = np.arange(first, target_ms + 1, STOP_OUT_GRID_MS, dtype=np.int64)
        if not len(grid):
            return None
        at = self.valuer.stopped_out(self.ledger, grid)
        return None if at is None else int(grid[at])

    def _stop_out(self) -> None:
        """Close the biggest loser, and the next, until the level holds again."""
        while self.ledger.positions:
            figures = self.valuer.figures(self.ledger, self.now_ms)
            mode, level = self.account.margin_so_mode, self.account.margin_so_so
            if not figures.stopped_out(mode=mode, level=level):
                return
            marks = self.valuer.marks(self.ledger, self.now_ms)
            worst = stop_out_first(self.valuer.valuations(self.ledger, marks))
            assert worst is not None
            text = f"so: {figures.margin_level_percent:.2f}%"
            self.close(self.ledger.positions[worst], reason=mt5.ORDER_REASON_SO, comment=text)


def _expires_s(order: BrokerOrder) -> int:
    timed = order.type_time in (mt5.ORDER_TIME_SPECIFIED, mt5.ORDER_TIME_SPECIFIED_DAY)
    return order.time_expiration_s if timed and not order.is_market else _FOREVER

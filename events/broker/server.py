"""The broker's trade server of one account: orders become deals."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from events import mt5
from events.accounting import (
    BookedDeal,
    Entry,
    Fill,
    Ledger,
    MarginMode,
    OpenPosition,
    RefusedFill,
)
from events.broker.orders import BrokerOrder
from events.broker.terms import NO_CONDITIONS, AccountTerms, Clock, Conditions, Hours
from events.broker.valuation import Valuer

REFILL_MS = 1000
"""How long the rest of an order waits for more to be offered."""
REQUESTS_KEPT_MAX = 10_000
FIRST_ORDER_TICKET = 100_000_001
FIRST_DEAL_TICKET = 80_000_001
TICKETS_SINCE_MS = 1_577_836_800_000
"""2020. An account that begins anew later numbers from further on, ten tickets a second: brokers
never give a ticket twice, and who has seen one takes it for known. The deposit is always the same
deal."""
_LOTS_DUST = 1e-9
DAY_MS = 86_400_000


class TradeServer:
    """Keeps orders, deals and positions of an account. `now_ms` is how far it has come (UTC), and
    is moved by whoever plays its prices; records carry server time."""

    def __init__(
        self,
        account: AccountTerms,
        valuer: Valuer,
        clock: Clock,
        *,
        hours: Hours,
        start_utc_ms: int,
        execution_ms: float = 0.0,
        conditions: Conditions = NO_CONDITIONS,
    ) -> None:
        self.account = account
        self.valuer = valuer
        self.now_ms = start_utc_ms
        self.clock = clock
        self.execution_ms = int(execution_ms)
        self.conditions = conditions
        self.ledger = Ledger(MarginMode(account.margin_mode), account.currency_digits)
        self.orders: dict[int, BrokerOrder] = {}
        self.orders_done: list[BrokerOrder] = []
        self.deals: list[BookedDeal] = []
        self.deals_before = 0
        """Older deals that were put away; the first of `deals` carries what they came to."""
        self.executions: list[tuple[int, int]] = []
        """(UTC ms, order ticket): market orders that are carried out later."""
        self.requests: deque[dict[str, Any]] = deque(maxlen=REQUESTS_KEPT_MAX)
        """The newest requests that reached the broker, as plain values, oldest first."""
        self.requests_made = 0
        self.hours = hours
        self.orders_made = 0
        self.swapped_day = clock.server_ms(start_utc_ms) // DAY_MS
        self.touched_orders: dict[int, BrokerOrder] = {}
        """Orders that changed since somebody recorded them, the last changed last."""
        self.touched_positions: dict[int, None] = {}
        self._tickets_before = max(0, start_utc_ms - TICKETS_SINCE_MS) // 100
        self._deposit()

    @property
    def server_ms(self) -> int:
        """The broker's clock, as records carry it."""
        return self.clock.server_ms(self.now_ms)

    def new_ticket(self) -> int:
        self.orders_made += 1
        return FIRST_ORDER_TICKET + self._tickets_before + self.orders_made - 1

    def is_open(self, symbol: str) -> bool:
        """Whether the symbol trades now."""
        closed = self.conditions.closed(symbol, self.now_ms)
        return not closed and self.hours.is_open(symbol, self.now_ms)

    def touch(self, order: BrokerOrder) -> None:
        """An order changed."""
        self.touched_orders.pop(order.ticket, None)
        self.touched_orders[order.ticket] = order

    def touch_position(self, position: OpenPosition) -> None:
        """Something of a position changed that no deal tells of."""
        self.touched_positions[position.identifier] = None
        self.ledger.revision += 1

    def submit(self, order: BrokerOrder) -> BookedDeal | None:
        """Accept an order: a market order is carried out now (or after `execution_ms`: None), a
        pending one waits. Raises RefusedFill."""
        self.orders[order.ticket] = order
        self.touch(order)
        if not order.is_market:
            return None
        if self.execution_ms:
            self.executions.append((self.now_ms + self.execution_ms, order.ticket))
            return None
        return self.execute(order)

    def execute(self, order: BrokerOrder) -> BookedDeal | None:
        """Carry out a market order as far as its symbol is offered: a rest of IOC is cancelled,
        of RETURN waits on (None: all of it). Raises RefusedFill."""
        spec = self.valuer.specs.get(order.symbol)
        offered = self.conditions.liquidity_lots(order.symbol, self.now_ms)
        price = self._market_price(order)
        if offered is None or spec is None or offered >= order.volume_current - _LOTS_DUST:
            return self.fill(order, price)
        lots = round(int(offered / spec.volume_step + 1e-6) * spec.volume_step, 8)
        returns = order.type_filling == mt5.ORDER_FILLING_RETURN
        if order.type_filling == mt5.ORDER_FILLING_FOK or (lots <= 0 and not returns):
            self.drop(order, mt5.ORDER_STATE_REJECTED)
            raise RefusedFill(f"{offered} of {order.volume_current} lots are offered")
        deal = self.fill(order, price, volume_lots=lots) if lots > 0 else None
        if returns:
            self.executions.append((self.now_ms + REFILL_MS, order.ticket))
        else:
            self.drop(order, mt5.ORDER_STATE_CANCELED)
        return deal

    def execute_due(self) -> None:
        """Carry out the market order that is due first."""
        first = min(self.executions)
        self.executions.remove(first)
        order = self.orders.get(first[1])
        if order is None:
            return
        self.touch(order)
        try:
            self.execute(order)
        except RefusedFill:
            return  # the order is in the history as rejected, which is the answer

    def slipped(self, order: BrokerOrder, price: float) -> float:
        """Where an order at market is filled: away from a price by what slips on the way. Request
        and instant execution do not slip."""
        points = self.conditions.slippage_points(order.ticket)
        spec = self.valuer.specs.get(order.symbol)
        if not points or spec is None or spec.execution_mode <= mt5.SYMBOL_TRADE_EXECUTION_INSTANT:
            return price
        away = points * spec.point
        return round(price + away if order.side == 0 else price - away, spec.digits)

    def _market_price(self, order: BrokerOrder) -> float | None:
        """Where an order at market is filled now; None: there is no price."""
        quote = self.valuer.quotes.at(order.symbol, self.now_ms)
        return None if quote is None else self.slipped(order, quote[1 - order.side])

    def fill(
        self, order: BrokerOrder, price: float | None = None, *, volume_lots: float | None = None
    ) -> BookedDeal:
        """Execute an order, or part of it, at a price, or at the market. Raises RefusedFill."""
        if price is None:
            quote = self.valuer.quotes.at(order.symbol, self.now_ms)
            if quote is None:
                self.drop(order, mt5.ORDER_STATE_REJECTED)
                raise RefusedFill(f"there is no price for {order.symbol}")
            price = quote[1] if order.side == 0 else quote[0]
        fill = Fill(
            symbol=order.symbol,
            side=order.side,
            volume_lots=order.volume_current if volume_lots is None else volume_lots,
            price=price,
            order=order.ticket,
            time_ms=self.server_ms,
            position=order.position_ticket,
            magic=order.magic,
            reason=order.reason,
            comment=self.conditions.comment(order.comment, self.now_ms),
        )
        try:
            deal = self.ledger.book(
                fill,
                ticket=self.deal_ticket(),
                profit_of=self.profit_of,
                commission_of=self.valuer.commission,
                fee_of=self.valuer.fee,
            )
        except RefusedFill:
            self.drop(order, mt5.ORDER_STATE_REJECTED)
            raise
        self.deals.append(deal)
        order.position_id = deal.position_id
        self._set_stops(order, deal)
        order.volume_current = round(order.volume_current - deal.volume_lots, 8)
        if order.volume_current > 0:
            order.state = mt5.ORDER_STATE_PARTIAL
            self.touch(order)
        else:
            self.drop(order, mt5.ORDER_STATE_FILLED)
        return deal

    def drop(self, order: BrokerOrder, state: int) -> None:
        """Take an order out of the active ones in a final state."""
        self.orders.pop(order.ticket, None)
        order.finish(state, self.server_ms)
        self.orders_done.append(order)
        self.touch(order)

    def put_back(self, order: BrokerOrder) -> None:
        """An order as it was recorded, active or final."""
        if order.time_done_ms:
            self.orders.pop(order.ticket, None)
            self.orders_done.append(order)
        else:
            self.orders[order.ticket] = order

    def begin_again(self, deals_before: int, *, requests_before: int) -> None:
        """Be empty, to be filled with an account that put its older deals away."""
        revision = self.ledger.revision + 1
        self.ledger = Ledger(MarginMode(self.account.margin_mode), self.account.currency_digits)
        self.ledger.revision = revision
        self.orders.clear()
        self.orders_done.clear()
        self.deals.clear()
        self.requests.clear()
        self.deals_before, self.requests_made = deals_before, requests_before

    def close(self, position: OpenPosition, *, reason: int, comment: str = "",
              price: float | None = None, slips: bool = False) -> BookedDeal:  # fmt: skip
        """Close a position whole at a price, or at the market, as the broker does it."""
        order = self.closing_order(position, reason=reason, comment=comment)
        if slips and price is not None:
            price = self.slipped(order, price)
        return self.fill(order, price)

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
        deals = self.ledger.close_by(
            first, second, order=order.ticket, tickets=self.deal_tickets(),
            time_ms=self.server_ms, profit_of=self.profit_of,
        )  # fmt: skip
        self.deals += deals
        self.drop(order, mt5.ORDER_STATE_FILLED)
        return deals

    def balance_operation(self, type_: int, amount: float, comment: str) -> BookedDeal:
        """A deposit, withdrawal, credit, dividend: any deal type from 2 on."""
        deal = BookedDeal(
            ticket=self.deal_ticket(), type=type_, time_ms=self.server_ms,
            profit=self.ledger.money(amount), comment=comment,
        )  # fmt: skip
        self.ledger.apply(deal)
        self.deals.append(deal)
        return deal

    def affords(self, symbol: str, side: int, volume_lots: float, price: float) -> bool:
        """Whether free margin carries a new volume; what only reduces exposure always is."""
        opposite = sum(p.volume_lots for p in self.ledger.of_symbol(symbol) if p.side != side)
        added = volume_lots - opposite
        if added <= 0:
            return True
        needed = self.valuer.margin(symbol, side, added, price=price, utc_ms=self.now_ms)
        return needed <= self.valuer.figures(self.ledger, self.now_ms).margin_free

    def keep_request(self, request: Mapping[str, Any]) -> None:
        """Note a request that reached the broker, and what was answered."""
        self.requests_made += 1
        self.requests.append({**request, "number": self.requests_made})

    def deal_ticket(self) -> int:
        made = self.deals_before + len(self.deals)
        return FIRST_DEAL_TICKET + (self._tickets_before + made if made else 0)

    def deal_tickets(self) -> tuple[int, int]:
        """Two that follow each other."""
        return self.deal_ticket(), self.deal_ticket() + 1

    def profit_of(self, position: OpenPosition, volume_lots: float, price: float) -> float:
        """Profit in account currency of closing a volume at a price now."""
        return self.valuer.profit(
            position.symbol, position.side, volume_lots, opened=position.price_open,
            closed=price, utc_ms=self.now_ms,
        )  # fmt: skip

    def closing_order(self, position: OpenPosition, *, reason: int, comment: str) -> BrokerOrder:
        """The broker's own order that closes a position whole."""
        order = BrokerOrder(
            ticket=self.new_ticket(), symbol=position.symbol, type=1 - position.side,
            volume_initial=position.volume_lots, volume_current=position.volume_lots,
            price_open=0.0, time_setup_ms=self.server_ms, reason=reason, comment=comment,
            magic=position.magic, position_ticket=position.ticket,
        )  # fmt: skip
        self.orders[order.ticket] = order
        return order

    def _deposit(self) -> None:
        self.balance_operation(mt5.DEAL_TYPE_BALANCE, self.account.balance, "Initial deposit")
        if self.account.credit:
            self.balance_operation(mt5.DEAL_TYPE_CREDIT, self.account.credit, "Credit")

    def _set_stops(self, order: BrokerOrder, deal: BookedDeal) -> None:
        position = self.ledger.positions.get(deal.position_id)
        opens = deal.entry in (Entry.IN, Entry.IN_OUT)
        if position is not None and opens and (order.stop_loss or order.take_profit):
            position.stop_loss, position.take_profit = order.stop_loss, order.take_profit
            self.touch_position(position)

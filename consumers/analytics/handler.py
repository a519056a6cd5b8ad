"""Trades, deals and prices to what trading brought and cost, and to the spreads of each hour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, TypedDict

from consumers.analytics import prices, spreads
from consumers.analytics.hours import Hours, Sums
from consumers.analytics.newest import Newest
from consumers.analytics.slippage import Arithmetic, slippage, wanted_price
from consumers.runtime.handler import Handler, Inputs, Order
from consumers.trades.strategies import names_of, strategy_of
from events.accounting import SELL, Entry
from events.codec import AnyEvent
from events.log import SOURCE, Lane
from events.market import Contracts, Instrument, Quotes
from events.ticks import TickBatch
from events.trading import Book, Deal, OrderDone, Position, TradeUpdate
from events.trading import Order as TradeOrder

TRADES = "trades"
"""The group whose trades are counted."""
DEALS_MAX = 16_384
"""Deals whose costs are remembered until their trade is closed."""
ORDERS_MAX = 1_024
WAITING_MAX = 1_024
"""Deals that a trade names and that are not here yet: ids of two slots tell no order."""


class Cost(TypedDict):
    """What one deal cost; None where it is not known. Money in account currency."""

    side: int
    turns: bool
    slippage: float | None
    points: float
    spread: float | None


class AnalyticsHandler(Handler):
    """An Analytics event for each hour that a closed trade changes; a SpreadHour for each hour of
    each symbol.

    `names` gives strategies names by magic number: `1001=ema,2002=grid`.
    """

    order: ClassVar[Order] = Order.LOG
    inputs: ClassVar[Inputs] = Inputs(writers=(SOURCE, TRADES), lanes=(Lane.HIGH, Lane.NORMAL))
    tasks: ClassVar[int | None] = 1
    types: ClassVar[frozenset[str]] = frozenset(
        {"ticks", "quotes", "contracts", "instrument", "order_done", "deal", "book", "trade"}
    )
    halts_on: ClassVar[frozenset[str]] = frozenset()  # figures for people, nothing depends on them
    names: str = ""

    def setup(self) -> None:
        self._names = names_of(self.names)
        self._hours = Hours(self.state)
        self._costs = Newest(self.state, "cost", DEALS_MAX)
        self._orders = Newest(self.state, "order", ORDERS_MAX)
        self._waiting = Newest(self.state, "waiting", WAITING_MAX)

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        if isinstance(event, TickBatch):
            yield from self._ticks(event)
        elif isinstance(event, TradeUpdate):
            yield from self._trade(event)
        elif isinstance(event, Deal):
            yield from self._deal(event)
        elif isinstance(event, OrderDone):
            self._orders.put(event.order.ticket, event.order.model_dump(mode="json"))
        elif isinstance(event, Book):
            self.state[f"book:{event.login}"] = {
                str(one.identifier): one.model_dump(mode="json") for one in event.positions
            }
        elif isinstance(event, Contracts):
            self._learn(event.instruments)
        elif isinstance(event, Instrument):
            self._learn([event])
        elif isinstance(event, Quotes):
            self._quotes(event)

    def _ticks(self, batch: TickBatch) -> Iterator[AnyEvent]:
        name = f"prices:{batch.symbol}"
        self.state[name] = prices.remember(self.state.get(name, []), batch)
        arithmetic = self._arithmetic(batch.symbol)
        name = f"spread:{batch.symbol}"
        point = arithmetic.point if arithmetic is not None else 0.0
        self.state[name], told = spreads.take(self.state.get(name), batch, point)
        yield from told

    def _quotes(self, event: Quotes) -> None:
        """Prices of held symbols, which may come before their ticks."""
        for quote in event.quotes:
            kept = self.state.get(f"prices:{quote.symbol}", [])
            if quote.bid > 0 and (not kept or quote.time_server_ms > kept[-1][0]):
                new = [float(quote.time_server_ms), quote.bid, quote.ask]
                self.state[f"prices:{quote.symbol}"] = [*kept, new][-prices.KEPT_MAX :]

    def _learn(self, instruments: Iterable[Instrument]) -> None:
        for one in instruments:
            self.state[f"contract:{one.symbol}"] = [one.point, one.tick_size, one.tick_value]

    def _deal(self, deal: Deal) -> Iterator[AnyEvent]:
        if deal.type <= SELL:
            self._costs.put(deal.ticket, self._cost(deal))
            waiting = self._waiting.get(deal.ticket)
            if waiting is not None:
                yield from self._trade(TradeUpdate.model_validate(waiting))

    def _cost(self, deal: Deal) -> Cost:
        """From what is known at this moment."""
        order = self._orders.get(deal.order)
        position = self.state.get(f"book:{deal.login}", {}).get(str(deal.position_id))
        price = prices.price_at(
            self.state.get(f"prices:{deal.symbol}", []), deal.time_server_ms
        )  # fmt: skip
        wanted = wanted_price(
            deal,
            order=TradeOrder.model_validate(order) if order is not None else None,
            position=Position.model_validate(position) if position is not None else None,
            price=price,
        )
        cost = Cost(
            side=deal.type, turns=deal.entry == Entry.IN_OUT, slippage=None, points=0.0, spread=None
        )
        arithmetic = self._arithmetic(deal.symbol)
        if arithmetic is not None:
            if wanted is not None:
                worse = slippage(deal, wanted)
                cost["slippage"] = arithmetic.money(worse, deal.volume_lots)
                cost["points"] = arithmetic.points(worse)
            if price is not None and deal.entry != Entry.OUT_BY:
                cost["spread"] = arithmetic.money(price.spread / 2, deal.volume_lots)
        return cost

    def _trade(self, update: TradeUpdate) -> Iterator[AnyEvent]:
        for ticket in update.trade.deals:
            if update.state == "closed" and self._costs.get(ticket) is None:
                self._waiting.put(ticket, update.model_dump(mode="json"))
        costs = self._costs_of(update)
        before = self._hours.sums_before(update.key)
        if before.get("slippage_deals", 0) > costs["slippage_deals"]:  # forgotten meanwhile
            costs = {name: before[name] for name in costs}
        strategy = strategy_of(update.trade.magic, update.trade.comment, self._names)
        yield from self._hours.count(update, strategy, costs)

    def _costs_of(self, update: TradeUpdate) -> Sums:
        """Of its deals; a deal that turned a netting position counts where it opened."""
        names = ("slippage", "slippage_points", "slippage_deals", "spread_cost", "spread_deals")
        sums: Sums = dict.fromkeys(names, 0.0)
        for ticket in update.trade.deals:
            cost: Cost | None = self._costs.get(ticket)
            if cost is None or (cost["turns"] and cost["side"] != update.trade.side):
                continue
            if cost["slippage"] is not None:
                sums["slippage"] += cost["slippage"]
                sums["slippage_points"] += cost["points"]
                sums["slippage_deals"] += 1
            if cost["spread"] is not None:
                sums["spread_cost"] += cost["spread"]
                sums["spread_deals"] += 1
        return {name: round(value, 8) for name, value in sums.items()}

    def _arithmetic(self, symbol: str) -> Arithmetic | None:
        known = self.state.get(f"contract:{symbol}")
        return Arithmetic(*known) if known is not None else None

"""A handler of group execute over a small broker of events: what the tests of targets stand on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from consumers.execute import ExecuteHandler
from consumers.runtime.state import State
from events.accounting import Fill, Ledger, MarginMode, OpenPosition
from events.alerts import Alert
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.executing import ExecutionSet, OrderAnswer, OrderIntent, TargetState
from events.market import Contracts, Instrument, Quote, Quotes
from events.trading import Account, Book, Deal, Order, OrderDone, Orders, Position

BEGIN_MS = 1_790_000_000_000
LOGIN = 7
EXPERT, CLIENT, STOP_LOSS, TAKE_PROFIT, STOP_OUT = 3, 0, 4, 5, 6
DONE, PARTIAL, MARKET_CLOSED, NO_MONEY, REQUOTE = 10009, 10010, 10018, 10019, 10004


def instrument(symbol: str = "EURUSD", **changed: Any) -> Instrument:
    """Facts of a currency pair; five digits, a hundred thousand per lot."""
    facts: dict[str, Any] = {
        "event_time_ms": BEGIN_MS, "recv_time_ms": BEGIN_MS, "symbol": symbol,
        "broker_symbol": symbol, "currency_base": symbol[:3], "currency_profit": symbol[3:],
        "currency_margin": symbol[:3], "digits": 5, "point": 1e-5, "tick_size": 1e-5,
        "contract_size": 100_000.0, "volume_min_lots": 0.01, "volume_max_lots": 5.0,
        "volume_step_lots": 0.01,
    }  # fmt: skip
    return Instrument(**{**facts, **changed})


class Desk:
    """One account: the handler, a ledger, and whoever else trades on it."""

    def __init__(
        self,
        *,
        hedging: bool = True,
        switched: bool = True,
        symbols: Iterable[Instrument] = (),
        **switch: Any,
    ) -> None:
        self.hedging, self.now_ms, self.ticket = hedging, BEGIN_MS, 1_000
        mode = MarginMode.HEDGING if hedging else MarginMode.NETTING
        self.ledger = Ledger(mode, balance=10_000.0)
        self.symbols = {one.symbol: one for one in (*symbols, instrument())}
        self.prices = {symbol: (1.1, 1.1001) for symbol in self.symbols}
        self.state = State()
        self.orders: dict[int, OrderIntent] = {}
        """Pending orders that stand, by ticket."""
        self.told: list[TargetState] = []
        self.alerts: list[Alert] = []
        self.intents: list[OrderIntent] = []
        """Every one so far."""
        self.waiting: list[OrderIntent] = []
        """Not carried out yet."""
        self.restart()
        self.account()
        self.contracts()
        self.book()
        if switched:
            self.switch("paper", **switch)

    # --- what the handler is handed

    def restart(self) -> None:
        """Another process goes on from the durable state."""
        self.handler = ExecuteHandler()
        self.handler.state = self.state
        self.handler.setup()

    def give(self, *events: AnyEvent) -> None:
        """Each is handled and committed."""
        for event in events:
            for output in self.handler.handle(event):
                if isinstance(output, OrderIntent):
                    assert not self.under_way(output), "two intents of one target are under way"
                    self.intents.append(output)
                    self.waiting.append(output)
                elif isinstance(output, Alert):
                    self.alerts.append(output)
                else:
                    assert isinstance(output, TargetState)
                    self.told.append(output)
            self.state.settle(*self.state.changes())

    def under_way(self, intent: OrderIntent) -> bool:
        return any(
            (one.strategy, one.symbol, one.leg) == (intent.strategy, intent.symbol, intent.leg)
            for one in self.waiting
        )

    @property
    def header(self) -> dict[str, int]:
        return {"event_time_ms": self.now_ms, "recv_time_ms": self.now_ms, "login": LOGIN}

    def wait(self, ms: int) -> None:
        """Time passes; the account is told again."""
        self.now_ms += ms
        self.account()

    def account(self, **changed: Any) -> None:
        fields: dict[str, Any] = {
            **self.header, "server": "Test", "currency": "USD", "trade_mode": 0,
            "margin_mode": 2 if self.hedging else 0, "leverage": 100,
            "balance": self.ledger.balance, "credit": 0.0, "profit": 0.0,
            "equity": self.ledger.balance, "margin": 0.0, "margin_free": self.ledger.balance,
            "margin_level_percent": 0.0,
        }  # fmt: skip
        self.give(Account(**{**fields, **changed}))

    def contracts(self) -> None:
        facts = tuple(self.symbols.values())
        self.give(Contracts(**self.header, instruments=facts, quotes=self._quotes()))

    def quote(self, symbol: str, bid: float, ask: float) -> None:
        self.prices[symbol] = (bid, ask)
        self.give(Quotes(**self.header, quotes=self._quotes()))

    def _quotes(self) -> tuple[Quote, ...]:
        return tuple(
            Quote(symbol=symbol, bid=bid, ask=ask, time_ms=self.now_ms, time_server_ms=self.now_ms)
            for symbol, (bid, ask) in self.prices.items()
        )

    def switch(self, mode: str, **more: Any) -> None:
        fields = {"event_time_ms": self.now_ms, "login": LOGIN, "set_by": "test", "set_id": "1"}
        self.give(ExecutionSet.model_validate({**fields, "mode": mode, **more}))

    def signal(self, target: str, strategy: str = "ema", **more: Any) -> None:
        """A signal with a stop-loss, unless told otherwise."""
        symbol = more.pop("symbol", "EURUSD")
        if target != "flat" and "no_stop" not in more:
            more.setdefault("stop_loss", 1.09 if target == "long" else 1.11)
        fields = {"event_time_ms": self.now_ms, "strategy": strategy, "symbol": symbol}
        self.give(TradeSignal.model_validate({**fields, "target": target, **more}))

    # --- what the broker does

    def book(self) -> None:
        """The book as it is now."""
        self.give(
            Book(
                **self.header, positions=tuple(map(self._position, self.ledger.positions.values()))
            )
        )

    def _position(self, one: OpenPosition) -> Position:
        return Position(
            ticket=one.ticket, identifier=one.identifier, symbol=one.symbol, side=one.side,
            volume_lots=one.volume_lots, price_open=one.price_open, magic=one.magic,
            stop_loss=one.stop_loss, take_profit=one.take_profit,
            time_ms=one.time_ms, time_server_ms=one.time_ms,
        )  # fmt: skip

    def new_ticket(self) -> int:
        self.ticket += 1
        return self.ticket

    def fill(
        self,
        symbol: str,
        side: int,
        lots: float,
        *,
        position: int = 0,
        magic: int = 0,
        reason: int = CLIENT,
        order: int = 0,
    ) -> Deal:
        """A deal at the present price, which is not told yet."""
        bid, ask = self.prices[symbol]
        fill = Fill(
            symbol=symbol, side=side, volume_lots=lots, price=bid if side else ask,
            order=order or self.new_ticket(), time_ms=self.now_ms, position=position, magic=magic,
            reason=reason,
        )  # fmt: skip
        booked = self.ledger.book(fill, ticket=self.new_ticket(), profit_of=lambda *_: 0.0)
        return Deal(
            **self.header, ticket=booked.ticket, order=booked.order,
            position_id=booked.position_id, symbol=symbol, type=side, entry=booked.entry,
            reason=reason, magic=magic, volume_lots=lots, price=booked.price, profit=0.0,
            commission=0.0, swap=0.0, fee=0.0, time_server_ms=self.now_ms,
        )  # fmt: skip

    def answer(self, intent: OrderIntent, state: str, **more: Any) -> OrderAnswer:
        fields = {
            "event_time_ms": self.now_ms, "intent_id": intent.intent_id, "login": LOGIN,
            "strategy": intent.strategy, "symbol": intent.symbol, "leg": intent.leg,
        }  # fmt: skip
        return OrderAnswer.model_validate({**fields, "state": state, **more})

    def next(self) -> OrderIntent:
        """The intent that waits longest, taken by the sender."""
        return self.waiting[0]

    def refuse(self, intent: OrderIntent, retcode: int = 0, detail: str = "refused") -> None:
        self.waiting.remove(intent)
        self.give(self.answer(intent, "refused", retcode=retcode, detail=detail))

    def expire(self, intent: OrderIntent) -> None:
        self.waiting.remove(intent)
        self.give(self.answer(intent, "expired", detail="too late"))

    def carry_out(
        self, intent: OrderIntent, *, lots: float | None = None, order: str = "answer deals book"
    ) -> None:
        """As the broker would; `order` is that of the events that tell it."""
        if intent.verb == "modify":
            self._modify(intent)
        elif intent.verb == "cancel":
            self._cancel(intent)
        elif intent.verb == "open" and (intent.price_limit or intent.price_stop):
            self._place(intent)
        else:
            self._deal(intent, lots or intent.volume_lots, order)

    def _deal(self, intent: OrderIntent, lots: float, order: str) -> None:
        position = intent.position if self.hedging else 0
        if intent.verb == "close":
            held = self.ledger.by_ticket(intent.position)
            if held is None or held.volume_lots < lots - 1e-9:
                self.refuse(intent, 10036 if held is None else 10038, "position closed")
                return
        deal = self.fill(
            intent.symbol, intent.side, lots, position=position, magic=intent.magic, reason=EXPERT
        )
        self._stops(intent, deal)
        state = "done" if lots >= intent.volume_lots - 1e-9 else "partial"
        told = self.answer(
            intent, state, retcode=DONE if state == "done" else PARTIAL, deal=deal.ticket,
            order=deal.order, volume_lots=lots, price=deal.price,
        )  # fmt: skip
        self.waiting.remove(intent)
        for part in order.split():
            if part == "answer":
                self.give(told)
            elif part == "deals":
                self.give(deal)
            else:
                self.book()

    def _stops(self, intent: OrderIntent, deal: Deal) -> None:
        position = self.ledger.positions.get(deal.position_id)
        if position is not None and intent.verb == "open" and intent.stop_loss:
            position.stop_loss = intent.stop_loss
            position.take_profit = intent.take_profit or 0.0

    def _modify(self, intent: OrderIntent) -> None:
        self.waiting.remove(intent)
        position = self.ledger.by_ticket(intent.position)
        if position is None:
            self.give(self.answer(intent, "refused", retcode=10036, detail="position closed"))
            return
        position.stop_loss, position.take_profit = intent.stop_loss or 0, intent.take_profit or 0
        self.give(self.answer(intent, "done", retcode=DONE))
        self.book()

    def _place(self, intent: OrderIntent) -> None:
        self.waiting.remove(intent)
        ticket = self.new_ticket()
        self.orders[ticket] = intent
        self.give(self.answer(intent, "placed", retcode=DONE, order=ticket))

    def _cancel(self, intent: OrderIntent) -> None:
        self.waiting.remove(intent)
        if self.orders.pop(intent.order, None) is None:
            self.give(self.answer(intent, "refused", retcode=10013, detail="no such order"))
            return
        self.give(self.answer(intent, "done", retcode=DONE))

    def tell_orders(self) -> None:
        """Every pending order as it stands."""
        orders = tuple(self._order(ticket, intent) for ticket, intent in self.orders.items())
        self.give(Orders(**self.header, orders=orders))

    def _order(self, ticket: int, intent: OrderIntent, state: int = 1) -> Order:
        return Order(
            ticket=ticket, symbol=intent.symbol, type=2, state=state, magic=intent.magic,
            volume_initial_lots=intent.volume_lots, volume_current_lots=intent.volume_lots,
            price_open=1.0, time_setup_ms=self.now_ms, time_setup_server_ms=self.now_ms,
        )  # fmt: skip

    def order_done(self, ticket: int, state: int) -> None:
        """A pending order ends by itself, or by hand (MT5's ORDER_STATE)."""
        intent = self.orders.pop(ticket)
        self.give(OrderDone(**self.header, order=self._order(ticket, intent, state)))

    def fill_pending(self, ticket: int) -> None:
        """The price reached it."""
        intent = self.orders.pop(ticket)
        deal = self.fill(
            intent.symbol, intent.side, intent.volume_lots, magic=intent.magic, reason=EXPERT,
            order=ticket,
        )  # fmt: skip
        self._stops(intent, deal)
        self.give(deal)
        self.book()

    def close_by_others(
        self, position: OpenPosition, reason: int = CLIENT, lots: float | None = None
    ) -> None:
        """Stop-loss, stop-out or a human: the broker closes with the position's own magic."""
        magic = position.magic if reason in (STOP_LOSS, TAKE_PROFIT, STOP_OUT) else 0
        deal = self.fill(
            position.symbol, 1 - position.side, lots or position.volume_lots,
            position=position.ticket if self.hedging else 0, magic=magic, reason=reason,
        )  # fmt: skip
        self.give(deal)
        self.book()

    def run(self, **how: Any) -> None:
        """Carry out whatever waits, until nothing does."""
        for _ in range(100):
            if not self.waiting:
                return
            self.carry_out(self.next(), **how)
        raise AssertionError(f"there is no end of intents: {self.intents[-3:]}")

    # --- what is asserted

    def held(self, strategy: str = "ema", symbol: str = "EURUSD", leg: str = "") -> float:
        """As it was told last."""
        return self.target(strategy, symbol, leg).held_lots

    def target(self, strategy: str = "ema", symbol: str = "EURUSD", leg: str = "") -> TargetState:
        key = (strategy, symbol, leg)
        return [one for one in self.told if (one.strategy, one.symbol, one.leg) == key][-1]

    def net(self, symbol: str = "EURUSD") -> float:
        """Of the account, signed."""
        signed = (
            one.volume_lots if one.side == 0 else -one.volume_lots
            for one in self.ledger.of_symbol(symbol)
        )
        return round(sum(signed), 8)

    def open_position(self, magic: int | None = None) -> OpenPosition:
        """The first one, or that of a magic."""
        return next(
            one for one in self.ledger.positions.values() if magic is None or one.magic == magic
        )

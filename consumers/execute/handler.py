"""Group `execute`: from targets, the book and answers to order intents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from consumers.execute import answering, checks
from consumers.execute.deciding import NO_ANSWER_MS, Deciding
from consumers.execute.memory import Known, Memory, Target
from consumers.execute.signals import refused_state, retire, take_signal, tell
from consumers.execute.sizing import Refused
from consumers.runtime.handler import EVERY_WRITER, Handler, Inputs, Order
from consumers.trades.tickets import KnownTickets
from events.accounting import SELL
from events.codec import AnyEvent
from events.decisions import Command, RiskMetrics, TradeSignal
from events.executing import ExecutionSet, OrderAnswer
from events.guarding import GuardState, LatchChanged
from events.log import SOURCE, Lane
from events.magic import parts_of
from events.market import Contracts, Instrument, Quotes
from events.ownership import book_deal, disagrees, follow_book, follow_tickets
from events.trading import Account, Book, Deal, OrderDone, Orders

EXPERT = 3
"""MT5's DEAL_REASON of orders that programs send."""


class ExecuteHandler(Handler):
    """Yields OrderIntent and TargetState; at most one intent of a target is under way.

    Signals of every group are acted on, once an operator has switched the account on
    (`ExecutionSet`). A backtest hands over the same events itself.
    """

    order: ClassVar[Order] = Order.PRIORITY
    inputs: ClassVar[Inputs] = Inputs(
        writers=(EVERY_WRITER,),
        lanes=(Lane.CRITICAL, Lane.HIGH, Lane.NORMAL),
        lanes_of=((SOURCE, (Lane.CRITICAL, Lane.HIGH)),),
    )
    tasks: ClassVar[int | None] = 1
    live_only: ClassVar[bool] = True
    types: ClassVar[frozenset[str]] = frozenset(
        {
            "account", "book", "command", "contracts", "deal", "execution_set", "guard_state",
            "instrument", "latch", "order_answer", "order_done", "orders", "quotes",
            "risk_metrics", "terminal_up", "trade_signal",
        }
    )  # fmt: skip

    def setup(self) -> None:
        """Nothing is known yet of what lies in the state."""
        self._known: dict[int, Known] = {}
        self._memories: dict[int, Memory] = {}
        self._tickets: dict[int, KnownTickets] = {}
        self._takers: dict[type, Callable[[Memory, Any], list[Target]]] = {
            Account: self._account,
            Book: self._book,
            Deal: self._deal,
            OrderDone: self._order_done,
            Orders: answering.take_orders,
            OrderAnswer: self._answer,
            ExecutionSet: _only(Memory.take_switch),
            Contracts: _only(Memory.take_contracts),
            Quotes: _only(Memory.take_quotes),
            Instrument: _only(Memory.take_instrument),
            RiskMetrics: _only(Memory.take_metrics),
            LatchChanged: _only(checks.take_latch),
            GuardState: _only(checks.take_guard),
            Command: _only(checks.take_command),
        }

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        """What follows from an event; see the class."""
        login = getattr(event, "login", None) or self.state.get("login")
        if login is None:
            return
        if isinstance(event, Account):
            self.state["login"] = login
        memory = self._memory(login)
        memory.pass_time(event.event_time_ms)
        touched: list[Target] = []
        if isinstance(event, TradeSignal):
            place = "" if self.entry is None else self.entry.place
            try:
                touched = [take_signal(memory, event, place)]
            except Refused as refused:
                yield refused_state(memory, event, place, str(refused))
        else:
            taker = self._takers.get(type(event))
            touched = [] if taker is None else taker(memory, event)
        touched += self._by_time(memory)
        if touched or memory.active:
            yield from self._stepped(memory, touched)

    def _memory(self, login: int) -> Memory:
        memory = self._memories.get(login)
        if memory is None or not memory.is_of(self.state):
            known = self._known.setdefault(login, Known())
            memory = self._memories[login] = Memory(self.state, login, known)
        return memory

    def _stepped(self, memory: Memory, touched: list[Target]) -> Iterator[AnyEvent]:
        """Every target that was touched or has something to wait for takes a step."""
        active, waiting = memory.active, memory.now_ms - NO_ANSWER_MS
        new = {one["key"] for one in touched}
        deciding = Deciding(memory)
        for key in dict.fromkeys([*(one["key"] for one in touched), *active]):
            target = memory.target(key)
            if target is None:
                active.remove(key)
                continue
            intent = memory.intents.get(target["intent"])
            if intent is not None and key not in new and intent["valid_until_ms"] >= waiting:
                continue  # its answer is still to come
            yield from deciding.step(target)
            yield from tell(memory, target)
            if _idle(target, memory.now_ms):
                if key in active:
                    active.remove(key)
            elif key not in active:
                active.append(key)

    def _by_time(self, memory: Memory) -> list[Target]:
        """What is due: deals that did not come, a book that goes on telling otherwise."""
        touched = answering.give_up_deals(memory)
        if memory.strays:
            touched += answering.take_strays(memory)
        since_ms = memory.doubt_since_ms
        if since_ms and memory.now_ms - since_ms >= answering.APART_MS:
            memory.doubt_since_ms = 0
            book = memory.book
            if book is not None:
                before = memory.held_of_all()
                closed = list(
                    follow_book(memory.holdings, book, hedging=memory.hedging, now_ms=memory.now_ms)
                )
                touched += _retired(memory, closed, before)
        return touched

    def _account(self, memory: Memory, event: Account) -> list[Target]:
        memory.take_account(event)
        return []

    def _book(self, memory: Memory, event: Book) -> list[Target]:
        memory.take_book(event)
        if memory.book is not None:
            follow_tickets(memory.holdings, memory.book)
        self._compare(memory)
        return []

    def _compare(self, memory: Memory) -> None:
        """Doubt what deals and the book tell differently."""
        book = memory.book
        if book is None:
            return
        if not disagrees(memory.holdings, book, hedging=memory.hedging):
            memory.doubt_since_ms = 0
        elif not memory.doubt_since_ms:
            memory.doubt_since_ms = memory.now_ms

    def _deal(self, memory: Memory, deal: Deal) -> list[Target]:
        tickets = self._tickets.get(memory.login)
        if tickets is None:
            tickets = self._tickets[memory.login] = KnownTickets(self.state, memory.login)
        if not tickets.add(deal.ticket, deal.event_time_ms):
            return []
        if deal.type > SELL or not deal.position_id:
            return []
        asked = deal.reason == EXPERT and deal.magic in memory.intents
        before = memory.held_of_all()
        closed = book_deal(memory.holdings, deal, hedging=memory.hedging, asked=asked)
        touched = _retired(memory, closed, before)
        ours = parts_of(deal.magic)
        if ours is not None:
            owner = memory.of_owner(ours[0])
            touched += [owner] if owner is not None else []
        if asked:
            self._note_stops(memory, deal)
            answering.take_fill(memory, deal)
        self._compare(memory)
        return touched

    def _note_stops(self, memory: Memory, deal: Deal) -> None:
        """What an entry carried is what its position has."""
        intent = memory.intents[deal.magic]
        key = str(deal.position_id) if memory.hedging else deal.symbol
        held = memory.holdings.get(key)
        if held is not None and intent["verb"] == "open" and any(intent["stops"]):
            held["stops"] = list(intent["stops"])

    def _order_done(self, memory: Memory, event: OrderDone) -> list[Target]:
        answering.take_order_done(memory, event)
        return []

    def _answer(self, memory: Memory, answer: OrderAnswer) -> list[Target]:
        target = answering.take_answer(memory, answer)
        return [] if target is None else [target]


def _only(take: Callable[[Memory, Any], None]) -> Callable[[Memory, Any], list[Target]]:
    """For what is only remembered: it touches no target by itself."""

    def taken(memory: Memory, event: Any) -> list[Target]:
        take(memory, event)
        return []

    return taken


def _retired(
    memory: Memory, closed: list[tuple[int, str]], before: dict[int, float]
) -> list[Target]:
    """Targets of which somebody else closed something."""
    touched = []
    for owner, why in closed:
        target = memory.of_owner(owner)
        if target is None:
            continue
        reason = "flatten" if why == "other" and checks.flattened(memory) else why
        retire(target, reason, owned_before=before.get(owner, 0.0))
        touched.append(target)
    return touched


def _idle(target: Target, now_ms: int) -> bool:
    """Whether there is nothing to do or to wait for."""
    if target["intent"] or target["order"]:
        return False
    if target["state"] in ("retired", "refused", "expired"):
        return True
    return target["state"] == "reached" and now_ms >= target["not_before_ms"]

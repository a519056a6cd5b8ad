"""Sending what a plan says, a few requests at a time, and settling what was sent.

Nothing is sent for an item whose last request may still take effect. A refusal of one item never
stops the others: it comes back in its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from producers.guard.flatten.account import AccountCalls, Key, Look, Scope, known
from producers.guard.flatten.course.telling import Teller
from producers.guard.flatten.decisions import (
    SLOW_S,
    Act,
    Decision,
    decide_cancel,
    decide_close,
    decide_close_by,
)
from producers.guard.flatten.instruments import InstrumentBook
from producers.guard.flatten.items import (
    CONFIRM_S,
    DEALS_S,
    QUIET_S,
    Item,
    Sent,
    Stand,
    held_of_item,
    stand_of,
    stuck_order,
    sum_deals,
)
from producers.guard.flatten.planning import Close, Plan, plan_round
from producers.guard.flatten.requests import Answer, Kind, Quotes, Ready, RequestDesk, answer_of
from producers.guard.journal import IntentJournal
from producers.terminals import constants as mt5

ROUND_REQUESTS_MAX = 32
"""Requests until the account is looked at again."""
FREE_TRIES = 10
"""Requests of an item before it comes back in rounds."""
REOPEN_S = 0.5
"""A parked symbol with fresh prices is tried again after that."""
BEHIND_S = 0.1
ROUND_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_OUTCOMES = {
    Act.CONFIRM: "done", Act.AWAIT: "unknown", Act.RECONCILE: "unknown", Act.PARK: "parked",
    Act.HUMAN: "refused",
}  # fmt: skip
_DECIDE: dict[Kind, Callable[[int | None, tuple[int, str], int], Decision]] = {
    "cancel": decide_cancel, "close": decide_close, "close_by": decide_close_by,
}  # fmt: skip
_KEEP_CLOSE_BY = frozenset({Act.CONFIRM, Act.AWAIT, Act.RECONCILE, Act.PARK, Act.RECONNECT})


@dataclass(slots=True)
class Rounds:
    """One flatten's requests. Not thread-safe: one thread runs a flatten.

    `items` are kept under ("position", identifier) and ("order", ticket).
    """

    calls: AccountCalls
    journal: IntentJournal
    tell: Teller
    book: InstrumentBook
    desk: RequestDesk
    flatten_id: str
    parallel_max: int
    clock: Callable[[], float]
    jitter: Callable[[], float]
    items: dict[Key, Item] = field(default_factory=dict)
    requests: int = 0
    round_trip_s: float = 0.25
    hold_until_s: float = 0.0
    """Monotonic: nothing at all is sent before (the broker counts requests)."""
    fifo: bool = False
    _no_close_by: set[str] = field(default_factory=set)
    _probe_s: float = 0.0
    _quoted: dict[str, int] = field(default_factory=dict)
    _was_off: bool = False

    # Settling ---------------------------------------------------------------------------------

    def settle(self, look: Look) -> bool:
        """Bring every item in line with a good look; True when something came nearer to its end."""
        now, progress = self.clock(), False
        doubtful: list[Item] = []
        orders = {order.ticket for order in look.orders}
        for item in self.items.values():
            if item.done:
                self._reappeared(item, look, orders)
            elif item.kind == "order":
                progress |= self._settle_order(item, orders, now)
            else:
                stand = stand_of(item, look, now)
                progress |= stand in (Stand.GONE, Stand.MOVED)
                self._settle_position(item, stand)
                if stand is Stand.DOUBTFUL:
                    doubtful.append(item)
        self._ask_deals(doubtful, look, now)
        for item in list(self.items.values()):
            self._cancel_stuck(item, look)
        return progress

    def _settle_position(self, item: Item, stand: Stand) -> None:
        if stand is Stand.GONE:
            self._settled(item, "done")
            item.gone()
        elif stand is Stand.MOVED:
            self._settled(item, "partial")
            item.status, item.due_s, item.share = "open", 0.0, 1.0

    def _settle_order(self, item: Item, orders: set[int], now: float) -> bool:
        if item.ticket not in orders:
            detail = "" if item.sent is not None else "gone without us: cancelled or filled"
            self._settled(item, "done")
            item.gone(detail)
            return True
        # Cancelling twice does no harm.
        if item.sent is not None and now >= item.sent.at_s + item.sent.patience_s:
            self._settled(item, "nothing")
        return False

    def _reappeared(self, item: Item, look: Look, orders: set[int]) -> None:
        """Lists are not atomic: what was gone and is there again was never gone."""
        held = held_of_item(item, look) if item.kind == "position" else None
        if held is not None and held.volume_lots > item.keep_lots + 1e-8:
            item.status, item.explained = "open", False
            item.sent = Sent((), held.volume_lots, self.clock(), CONFIRM_S)
        elif item.kind == "order" and item.ticket in orders:
            item.status, item.explained = "open", False

    def _settled(self, item: Item, outcome: str) -> None:
        """What was sent for an item is known now."""
        if item.sent is not None:
            for intent in item.sent.intents:
                self.journal.outcome(intent, outcome, detail="found by looking")
        item.sent = None

    def _ask_deals(self, doubtful: Sequence[Item], look: Look, now: float) -> None:
        """Let deals tell whether requests that nobody answered did nothing."""
        asked = [
            (item, self.calls.submit("history_deals_get", position=item.identifier))
            for item in doubtful
        ]
        for item, call in asked:
            deals, held = known(call), held_of_item(item, look)
            assert item.sent is not None
            nothing = held is not None and deals is not None and sum_deals(deals).agrees_with(held)
            if nothing or now >= item.sent.at_s + DEALS_S:
                self._settled(item, "nothing")
                item.due_s = 0.0

    def _cancel_stuck(self, item: Item, look: Look) -> None:
        order = stuck_order(item, look, self.clock(), magic=self.desk.magic)
        if order is not None and item.due_s <= self.clock():
            item.due_s = self.clock() + SLOW_S
            ready = self.desk.cancel(order)
            [answer] = self._send([ready])
            self.tell.answered(
                answer[0], ready, answer[1], "done" if answer[1].retcode else "retry"
            )

    # Sending ----------------------------------------------------------------------------------

    def send(self, look: Look, scope: Scope) -> bool:
        """Send what is due; True when something was sent."""
        now = self.clock()
        if now < self.hold_until_s:
            return False
        plan = self._plan(look, scope, now)
        work: list[Ready | Close] = [
            *map(self.desk.cancel, plan.first),
            *(self._sized(close) for close in plan.closes),
            *map(self.desk.cancel, plan.last),
        ]
        if look.trade_off and work:
            self.tell.page(look.trade_off)
            self._was_off = True
            if now < self._probe_s:
                return False
            self._probe_s = now + SLOW_S
            work = work[:1]
        for at in range(0, min(len(work), ROUND_REQUESTS_MAX), self.parallel_max):
            if not self._wave(work[at : at + self.parallel_max]):
                break
        return bool(work)

    def close_singly(self, symbols: set[str]) -> None:
        """Close no positions of these symbols against each other."""
        self._no_close_by |= symbols

    def next_due_s(self) -> float | None:
        """When something may be sent or settled again; None: nothing waits."""
        dues = [
            item.sent.at_s if item.sent else max(item.due_s, self.hold_until_s)
            for item in self.items.values()
            if not item.done and not item.others
        ]
        return min(dues, default=None)

    def _plan(self, look: Look, scope: Scope, now: float) -> Plan:
        if self._was_off and not look.trade_off:
            self._was_off = False
            for item in self.items.values():
                item.due_s = 0.0
        skip = {
            key
            for key, item in self.items.items()
            if item.sent is not None or item.others or item.due_s > now
        }
        plan = plan_round(
            look, scope, self.book, skip=frozenset(skip), fifo=self.fifo,
            no_close_by=frozenset(self._no_close_by), round_trip_s=self.round_trip_s,
        )  # fmt: skip
        return self._known_only(plan)

    def _known_only(self, plan: Plan) -> Plan:
        """Without what nobody decided to end: only items are touched."""
        return Plan(
            tuple(order for order in plan.first if order.key in self.items),
            tuple(close for close in plan.closes if close.keys <= self.items.keys()),
            tuple(order for order in plan.last if order.key in self.items),
        )

    def _sized(self, close: Close) -> Close:
        """A close of what its item asks for: a share where margin is short, less what stays."""
        item = self.items.get(close.held.key)
        if item is None or close.against is not None:
            return close
        volume = close.held.volume_lots - item.keep_lots
        if item.share < 1.0:
            volume = self.book.of(item.symbol).part(volume, item.share)
        return Close(close.held, round(volume, 8))

    def _wave(self, work: Sequence[Ready | Close]) -> bool:
        """Send some requests at once and take their answers; False: look again first."""
        closes = [piece for piece in work if isinstance(piece, Close)]
        quotes = Quotes(self.calls)
        quotes.ask({close.held.symbol for close in closes if close.against is None})
        if not self.calls.on_right_account():
            return False
        ready = [
            piece if isinstance(piece, Ready) else self._ready(piece, quotes) for piece in work
        ]
        going_on = True
        for (intent, answer), one in zip(self._send(ready), ready, strict=True):
            going_on &= self._take(intent, one, answer)
        return going_on

    def _ready(self, close: Close, quotes: Quotes) -> Ready:
        if close.against is not None:
            return self.desk.close_by(close)
        return self.desk.close(close, quotes.price(close.held))

    def _send(self, ready: Sequence[Ready]) -> Iterable[tuple[int, Answer]]:
        """Write each down, send it, and give the answers in their order, as they come."""
        begun = self.clock()
        sent = []
        for one in ready:
            intent = self.journal.intend(
                self.flatten_id, one.kind, ticket=one.ticket, symbol=one.symbol,
                volume_lots=one.before_lots, request={**one.request, "legs": one.legs()},
            )  # fmt: skip
            sent.append((intent, self.calls.submit("order_send", one.request)))
            self.requests += 1
        for intent, call in sent:
            yield intent, answer_of(call)
        self.round_trip_s = max(0.001, (self.clock() - begun) / len(sent))

    # Answers ----------------------------------------------------------------------------------

    def _take(self, intent: int, ready: Ready, answer: Answer) -> bool:
        """Act on an answer; False when the rest of the round had better wait for a look."""
        legs = self._legs_of(ready)
        items = [item for item, _ in legs]
        code = answer.error[0] if answer.retcode is None else answer.retcode
        attempt = max((item.attempt(code) for item in items), default=1)
        decision = _DECIDE[ready.kind](answer.retcode, answer.error, attempt)
        if decision.page:
            self.tell.page(f"{ready.kind} of {ready.ticket} {ready.symbol}: {decision.page}")
        lost = decision.act is Act.RECONNECT and answer.retcode is not None
        outcome = "unknown" if lost else _OUTCOMES.get(decision.act, "retry")
        if answer.retcode == mt5.TRADE_RETCODE_DONE_PARTIAL:
            outcome = "partial"
        self.tell.answered(intent, ready, answer, outcome)
        open_intents = (intent,) if outcome == "unknown" else ()
        for item, before_lots in legs:
            self._apply(item, before_lots, answer, decision, open_intents)
        self._learn(ready, answer, decision)
        return decision.act not in (Act.RECONCILE, Act.RECONNECT, Act.HUMAN) and (
            self.clock() >= self.hold_until_s
        )

    def _legs_of(self, ready: Ready) -> list[tuple[Item, float]]:
        """The items a request is for, and the volume each had."""
        if ready.close is None:
            item = self.items.get(("order", ready.ticket))
            return [] if item is None else [(item, ready.before_lots)]
        legs = ready.close.legs
        return [(self.items[leg.key], leg.volume_lots) for leg in legs if leg.key in self.items]

    def _apply(
        self, item: Item, before_lots: float, answer: Answer, decision: Decision,
        intents: tuple[int, ...],
    ) -> None:  # fmt: skip
        now = self.clock()
        item.retcode = answer.retcode
        item.requests += 1
        if decision.act in (Act.CONFIRM, Act.AWAIT):
            item.price_closed = answer.price or item.price_closed
            item.sent = Sent(intents, before_lots, now, CONFIRM_S)
        elif intents:
            item.sent = Sent(intents, before_lots, now, QUIET_S)
        elif decision.act is Act.PARK:
            self._park(item.symbol, now + decision.wait_s)
        elif decision.act is Act.HUMAN:
            item.status, item.detail = "refused", decision.page
        elif decision.act is Act.SMALLER:
            item.share /= 2
        if item.sent is None:
            item.due_s = max(item.due_s, now + max(decision.wait_s, _round_delay_s(item.requests)))

    def _park(self, symbol: str, until_s: float) -> None:
        """The market of a symbol is closed: none of its items is sent for a while."""
        for item in self.items.values():
            if item.symbol == symbol and not item.done and item.sent is None:
                item.status, item.due_s = "parked", max(item.due_s, until_s)
        self._quoted.pop(symbol, None)

    def quoted(self, symbol: str, time_msc: int) -> None:
        """A parked symbol shows a price of that time: a newer one says that it trades again."""
        seen = self._quoted.setdefault(symbol, time_msc)
        if time_msc <= seen:
            return
        soon_s = self.clock() + REOPEN_S
        for item in self.items.values():
            if item.symbol == symbol and item.status == "parked" and item.due_s > soon_s:
                item.due_s = soon_s

    def _learn(self, ready: Ready, answer: Answer, decision: Decision) -> None:
        """What an answer says of the symbol, the account or the way requests are written."""
        if decision.act is Act.NEXT_FILLING and "type_filling" in ready.request:
            self.book.next_filling(ready.symbol, int(ready.request["type_filling"]))
        if decision.act is Act.DROP_COMMENT:
            self.desk.drop_comment()
        if answer.retcode == mt5.TRADE_RETCODE_TOO_MANY_REQUESTS:
            self.hold_until_s = self.clock() + decision.wait_s * (1.0 + self.jitter())
            self.parallel_max = max(1, self.parallel_max // 2)
            for item, _ in self._legs_of(ready):  # the others come first
                item.due_s = self.hold_until_s + BEHIND_S
        if answer.retcode == mt5.TRADE_RETCODE_INVALID_VOLUME:
            self.book.forget(ready.symbol)
            self.book.prime(self.calls, {ready.symbol})
        if answer.retcode == mt5.TRADE_RETCODE_FIFO_CLOSE:
            self.fifo = True
        gone = answer.retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
        if ready.kind == "close_by" and decision.act not in _KEEP_CLOSE_BY and not gone:
            self._no_close_by.add(ready.symbol)


def _round_delay_s(requests: int) -> float:
    """What an item waits that was sent for so often."""
    if requests < FREE_TRIES:
        return 0.0
    return ROUND_DELAYS_S[min(requests - FREE_TRIES, len(ROUND_DELAYS_S) - 1)]

"""Carrying out intents, one step at a time: check, write down, hand over, judge the answer.

Used by one thread. Nothing here waits for an order's answer: it comes back as a step of its own.
An intent is handed over again only when the last answer says that nothing was done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from events.executing import OrderAnswer, OrderIntent
from producers.ordering.carrying import requests
from producers.ordering.carrying.answers import Fate, Meaning, Result, meaning_of, result_of
from producers.ordering.carrying.finding import position_of
from producers.ordering.carrying.matters import Matter, Phase
from producers.ordering.carrying.permits import Permits, expired, wrong_account
from producers.ordering.carrying.reading import AccountReads, Scene, Unreadable
from producers.ordering.carrying.watching import Watching, WatchSurroundings
from producers.ordering.journal import Begun, OrderJournal, OrderJournalUnusable
from producers.ordering.options import OrderingOptions
from producers.terminals import constants as mt5
from producers.terminals.interface import Priority, Reply, TerminalLost
from producers.terminals.wire import WireError

IN_FLIGHT_MAX = 32
"""Intents on their way at once; more are refused: whoever sends so many does not wait for
answers."""

JOURNAL_AGAIN_S = 1.0


class Surroundings(WatchSurroundings, Protocol):
    """The producer, as far as carrying out needs it."""

    def broker_symbol(self, symbol: str) -> str:
        """The broker's name of a symbol."""
        ...

    def not_ready(self) -> str:
        """Why nothing may be sent: the terminal is down, another producer took over; "" if it
        may."""
        ...


class OrderLine(Protocol):
    """The way to the terminal (see HostClient.submit_call)."""

    def submit_call(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        priority: Priority = ...,
        timeout_s: float | None = ...,
        still: Callable[[], str | None] | None = ...,
    ) -> Future[Reply]: ...


class Carrying:
    """Every intent that is on its way for one account. `on_answered` is called, from whatever
    thread, with an intent's id and its call when the call is done."""

    def __init__(
        self,
        options: OrderingOptions,
        login: int,
        *,
        line: OrderLine,
        reads: AccountReads,
        journal: OrderJournal,
        permits: Permits,
        around: Surroundings,
        on_answered: Callable[[int, Future[Reply]], None],
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._options, self._login = options, login
        self._line, self._reads, self._journal = line, reads, journal
        self._permits, self._around, self._on_answered = permits, around, on_answered
        self._monotonic, self._wall = monotonic, wall
        self.matters: dict[int, Matter] = {}
        self._fillings: dict[str, int] = {}
        """Symbol -> place of the filling mode its broker took last."""
        self._comments = True
        self._watching = Watching(options, login, reads=reads, around=around, monotonic=monotonic)

    def resume(self, begun: Begun) -> None:
        """An intent that an earlier process may have sent: only the account can tell."""
        intent = begun.intent
        matter = Matter(
            intent, begun.place, self._around.broker_symbol(intent.symbol), order=begun.order,
            request=begun.request, before_lots=begun.before_lots, attempts=begun.attempts,
            sent_ms=begun.sent_ms or intent.event_time_ms,
        )  # fmt: skip
        offset_s = self._around.offset_s()
        if offset_s is not None:
            matter.server_ms = matter.sent_ms + offset_s * 1000
        self.matters[intent.intent_id] = matter
        self._lost(matter, "the sender ended before the answer was written down")

    def take(self, intent: OrderIntent, place: str, facts: Mapping[str, Any]) -> None:
        """An intent from the log; one that is known already changes nothing. Raises
        OrderJournalUnusable: then it is as if it had not come."""
        if self._journal.state_of(intent.intent_id) is not None:
            self._journal.set_facts(facts)
            return
        matter = Matter(intent, place, self._around.broker_symbol(intent.symbol))
        matter.reference = intent.price_seen or None
        why = self._permits.refusal(intent, login=self._login)
        if not why and len(self.matters) >= IN_FLIGHT_MAX:
            why = f"{IN_FLIGHT_MAX} intents are on their way already"
        if why:
            self._settle(matter, "refused", why, facts=facts)
            return
        self._try(matter, facts)

    def answered(self, intent_id: int, call: Future[Reply]) -> None:
        """The answer to an order came, or will not come."""
        matter = self.matters.get(intent_id)
        if matter is None or matter.phase is not Phase.FLYING:
            return
        result = matter.result = result_of(call)
        matter.order = result.order or matter.order
        meaning = meaning_of(
            result, matter.count(result), verb=matter.intent.verb, pending=matter.pending,
            requotes_max=self._options.requotes_max, busy_tries_max=self._options.busy_tries_max,
        )  # fmt: skip
        try:
            self._follow(matter, result, meaning)
        except OrderJournalUnusable:  # the account remembers what we cannot write down now
            matter.watch(self._monotonic() + JOURNAL_AGAIN_S)
            raise

    def turn(self) -> float:
        """Everything that is due; returns when to come again (seconds from now)."""
        for matter in list(self.matters.values()):
            if matter.phase is Phase.FLYING or matter.due_s > self._monotonic():
                continue
            if matter.phase is Phase.AGAIN:
                matter.due_s = self._monotonic() + JOURNAL_AGAIN_S  # if it cannot be written down
                self._try(matter, {})
            else:
                self._watch(matter)
        due = [m.due_s for m in self.matters.values() if m.phase is not Phase.FLYING]
        return max(0.0, min(due) - self._monotonic()) if due else 3600.0

    @property
    def flying(self) -> int:
        """Orders with the terminal now."""
        return sum(matter.phase is Phase.FLYING for matter in self.matters.values())

    # --- before

    def _try(self, matter: Matter, facts: Mapping[str, Any]) -> None:
        """Check everything, write it down, hand it over."""
        intent = matter.intent
        why = self._still(intent) or self._permits.too_much(intent, now_ms=self._wall_ms())
        if why:
            state = "expired" if self._expired(intent) else "refused"
            self._settle(matter, state, why, facts=facts)
            return
        try:
            scene = self._reads.scene(matter.symbol, login=self._login)
            wrong = wrong_account(self._options, scene.account, login=self._login)
            if wrong:
                raise Unreadable(wrong)
            if late := self._expired(intent, now_ms=scene.utc_ms):
                self._settle(matter, "expired", late, facts=facts)
                return
            matter.request = self._request(matter, scene)
        except (Unreadable, requests.Unfit) as error:
            self._settle(matter, "refused", str(error), facts=facts)
            return
        if matter.before_lots is None:
            matter.before_lots = scene.net_lots(matter.symbol)
        self._hand_over(matter, scene.utc_ms, facts)

    def _request(self, matter: Matter, scene: Scene) -> dict[str, Any]:
        """Raises Unfit."""
        intent = matter.intent
        modes = scene.symbol.rules.fillings()
        market = requests.Market(
            scene.symbol, scene.bid, scene.ask, self._around.offset_s(),
            modes[self._fillings.get(matter.symbol, 0) % len(modes)],
        )  # fmt: skip
        if intent.verb == "cancel":
            request = requests.cancel(intent.order)
        elif intent.verb == "modify" and intent.order:
            order = next((o for o in scene.orders if o.ticket == intent.order), None)
            if order is None:
                raise requests.Unfit(f"order {intent.order} is not pending any more")
            request = requests.modify_order(intent, market, order)
        elif intent.verb == "open":
            request = self._opening(matter, market, scene)
        else:
            held = position_of(intent, scene.positions, symbol=matter.symbol)
            if held is None:
                raise requests.Unfit(f"position {intent.position or matter.symbol} is not open")
            matter.position = int(held.identifier or held.ticket)
            build = requests.close if intent.verb == "close" else requests.modify_position
            request = build(intent, market, held)
        if not self._comments:
            request.pop("comment", None)
        return request

    def _opening(self, matter: Matter, market: requests.Market, scene: Scene) -> dict[str, Any]:
        if not scene.hedging:
            held = position_of(matter.intent, scene.positions, symbol=matter.symbol)
            matter.position = int(held.identifier or held.ticket) if held is not None else 0
        if matter.pending:
            return requests.open_pending(matter.intent, market)
        request = requests.open_at_market(matter.intent, market, reference=matter.reference)
        if matter.reference is None:
            matter.reference = float(request["price"])
        return request

    def _hand_over(self, matter: Matter, utc_ms: int, facts: Mapping[str, Any]) -> None:
        """From here on it may have been sent, whatever happens to us."""
        intent = matter.intent
        offset_s = self._around.offset_s()
        matter.sent_ms = utc_ms
        if matter.server_ms is None and offset_s is not None:
            matter.server_ms = utc_ms + offset_s * 1000
        matter.attempts += 1
        self._journal.send(
            intent, matter.place, request=matter.request, before_lots=matter.before_lots,
            sent_ms=utc_ms, facts=facts, answer=matter.answer("sent", now_ms=utc_ms),
        )  # fmt: skip
        self._permits.rate.sent(self._wall_ms())
        self.matters[intent.intent_id] = matter
        matter.phase = Phase.FLYING
        self._submit(matter.request, intent)

    def _submit(self, request: dict[str, Any], intent: OrderIntent) -> None:
        try:
            call = self._line.submit_call(
                "order_send", (request,), {}, priority=Priority.TRADE,
                timeout_s=self._options.order_s, still=lambda: self._still(intent) or None,
            )  # fmt: skip
        except (TerminalLost, ValueError, WireError) as error:  # it never left
            call = Future()
            call.set_result(Reply(None, (mt5.RES_E_INVALID_PARAMS, str(error)), 0, 0.0))
        call.add_done_callback(lambda done: self._on_answered(intent.intent_id, done))

    def _still(self, intent: OrderIntent) -> str:
        """Why it must not be sent at this moment; "" when it may. Asked once more, in whatever
        thread, when it leaves for the terminal."""
        return (
            self._around.not_ready()
            or self._permits.refusal(intent, login=self._login)
            or self._expired(intent)
        )

    def _expired(self, intent: OrderIntent, *, now_ms: int = 0) -> str:
        """`now_ms`: what an answer of the terminal told just now."""
        if intent.verb == "cancel" or (intent.verb == "close" and intent.valid_until_ms is None):
            return ""  # what ends something is late at worst
        now_ms = max(now_ms, self._around.now_ms())
        return expired(intent, now_ms=now_ms, age_max_s=self._options.age_max_s)

    # --- after

    def _follow(self, matter: Matter, result: Result, meaning: Meaning) -> None:
        fate, now_s = meaning.fate, self._monotonic()
        if fate in (Fate.RETRY, Fate.FILLING, Fate.COMMENT):
            if fate is Fate.FILLING:
                self._fillings[matter.symbol] = self._fillings.get(matter.symbol, 0) + 1
            self._comments = self._comments and fate is not Fate.COMMENT
            matter.phase, matter.due_s = Phase.AGAIN, now_s + meaning.wait_s
        elif fate is Fate.UNKNOWN:
            self._lost(matter, result.text)
        elif fate is Fate.AWAIT or (fate is Fate.PART and self._rest_works(matter)):
            matter.accepted = True
            if matter.order:
                self._journal.know_order(matter.intent.intent_id, matter.order)
            matter.watch(now_s)
        elif fate is Fate.REFUSED:
            if result.retcode in (
                mt5.TRADE_RETCODE_INVALID_VOLUME,
                mt5.TRADE_RETCODE_INVALID_STOPS,
            ):
                self._reads.forget(matter.symbol)
            self._settle(matter, "refused", result.text)
        else:
            self._carried_out(matter, result, fate)

    def _carried_out(self, matter: Matter, result: Result, fate: Fate) -> None:
        state = {Fate.PART: "partial", Fate.PLACED: "placed"}.get(fate, "done")
        lots = 0.0 if fate is Fate.PLACED else result.volume_lots
        if matter.intent.verb == "open" and fate is not Fate.PLACED:
            matter.position = matter.position or result.order
        self._settle(
            matter, state, "", deal=result.deal, volume_lots=lots,
            price=0.0 if fate is Fate.PLACED else result.price,
        )  # fmt: skip

    @staticmethod
    def _rest_works(matter: Matter) -> bool:
        """Whether what was not filled stays with the broker."""
        return bool(matter.request.get("type_filling") == mt5.ORDER_FILLING_RETURN)

    def _lost(self, matter: Matter, why: str) -> None:
        matter.lost = True
        now_ms = self._around.now_ms()
        self._journal.tell(matter.answer("unknown", now_ms=now_ms, detail=why), matter.place)
        matter.watch(self._monotonic())

    def _watch(self, matter: Matter) -> None:
        step = self._watching.look(matter)
        if step.answer is not None:
            self._written(matter, step.answer)
        elif step.cancel:
            self._cancel_rest(matter)

    def _cancel_rest(self, matter: Matter) -> None:
        """A market order that the broker does not finish is ended, so that nothing of it comes
        later. What became of it is seen by looking on."""
        try:
            self._line.submit_call(
                "order_send", (requests.cancel(matter.order),), {}, priority=Priority.TRADE,
                timeout_s=self._options.order_s, still=self._around.not_ready,
            )  # fmt: skip
        except (TerminalLost, ValueError, WireError):
            matter.rest_cancelled = False

    def _settle(
        self,
        matter: Matter,
        state: str,
        detail: str,
        *,
        facts: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        now_ms = self._around.now_ms()
        answer = matter.answer(state, now_ms=now_ms, detail=detail, answered_ms=now_ms, **more)
        self._written(matter, answer, facts)

    def _written(
        self, matter: Matter, answer: OrderAnswer, facts: Mapping[str, Any] | None = None
    ) -> None:
        self._journal.settle(matter.intent, matter.place, answer, facts=facts)
        self.matters.pop(matter.intent.intent_id, None)

    def _wall_ms(self) -> int:
        return int(self._wall() * 1000)

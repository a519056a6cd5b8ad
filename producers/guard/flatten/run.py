"""One flatten: looks, rounds, sweeps, until its scope is flat, and watching that it stays so.

The states at its end: FLAT (three sweeps agreed that nothing is there, and deals account for what
was), FLAT_EXCEPT (what remains is named), UNKNOWN (the account cannot be read, or contradicts
itself): a human must look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from events.guarding import FlattenEnded
from producers.guard.flatten.account import AccountCalls, Held, Key, Look, Working, known
from producers.guard.flatten.course.cause import Cause, FlattenOptions
from producers.guard.flatten.course.telling import Teller
from producers.guard.flatten.intents import FLATTEN_FACT
from producers.guard.flatten.items import (
    CONFIRM_S,
    DEALS_S,
    QUIET_S,
    Item,
    Sent,
    item_of,
    sum_deals,
)
from producers.guard.flatten.rounds import Rounds
from producers.guard.journal import Intent, IntentJournal

State = Literal["FLAT", "FLAT_EXCEPT", "UNKNOWN"]
SETTLE_WAITS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Between looks while requests take effect; begins anew with each progress."""
BLIND_WAITS_S = (0.05, 0.1, 0.2, 0.5, 1.0)
BLIND_PAGE_S = 2.0
PARKED_S = 6.0
"""Closed markets are tried twice before a flatten ends without them."""
MINUTE_S = 60.0
OUTCOMES_MAX = 2000
"""Outcomes that are reported one by one."""


@dataclass(slots=True)
class Run:
    """Drives one flatten by `advance`, from one thread. Times are monotonic seconds."""

    cause: Cause
    login: int
    terminal: str
    calls: AccountCalls
    rounds: Rounds
    journal: IntentJournal
    tell: Teller
    options: FlattenOptions
    clock: Callable[[], float]
    wall_ms: Callable[[], int]
    before: dict[Key, Item] = field(default_factory=dict)
    """What its guard saw in the scope a moment ago: lists that do not show it are not believed
    until history accounts for its end."""
    sound_s: float = 0.0
    """For how long that guard could read the account, up to the beginning."""
    ours: dict[Key, Item] | None = None
    """What was there when it began, as it was then; None: not seen yet."""
    ended: FlattenEnded | None = None
    """How it stands, once it ended; may be corrected later."""
    settled: bool = False
    """An earlier process brought it to its end: it is looked after."""
    _begun_s: float = 0.0
    _late_ms: float = 0.0
    _sound_at_s: float = 0.0
    """Since when the account can be read."""
    _progress_s: float = 0.0
    _blind_since_s: float | None = None
    _flat_s: float | None = None
    _sweeps: int = 0
    _swept_s: float = 0.0
    _waits: int = 0
    _blind_waits: int = 0
    _recloses: deque[float] = field(default_factory=deque)
    _missing: dict[Key, Item] = field(default_factory=dict)
    """Ours, not shown since, and not accounted for."""

    def begin(self, intents: tuple[Intent, ...], *, state: str = "") -> None:
        """Start, or go on after somebody who died: `intents` of this flatten so far, `state` how
        it had ended."""
        now = self.clock()
        self._begun_s = self._progress_s = now
        self._sound_at_s = now - self.sound_s
        self._late_ms = max(0.0, float(self.wall_ms() - self.cause.since_ms))
        self._missing = {key: one for key, one in (self.ours or {}).items() if one.volume_lots}
        for intent in intents:
            self._resume(intent, now)
        if intents:
            self.tell.step("wait", detail=f"goes on after {len(intents)} requests")
        self.settled = bool(state)
        self.write_down(state)

    def take_over(self, others: Iterable[Run]) -> None:
        """Before `begin`: close what others had not ended to close. What they sent is settled
        before anything is sent again."""
        for other in others:
            for key, item in other.rounds.items.items():
                if not (item.done and item.explained):
                    item.keep_lots, item.others = 0.0, False
                    self.rounds.items[key] = item
            self.before |= other._missing

    def write_down(self, state: str) -> None:
        """Keep what the next process must know of this flatten. One of the whole account takes
        the place of all others."""
        ours = None if self.ours is None else [one.as_row() for one in self.ours.values()]
        scope = self.cause.scope
        kept = {} if scope.whole else dict(self.journal.fact(FLATTEN_FACT) or {})
        self.journal.set_facts({FLATTEN_FACT: {**kept, str(scope): self.cause.kept(state, ours)}})

    def advance(self) -> float:
        """Look, and do what is to be done now. Returns how long to wait before the next one."""
        self.calls.urgent = self._urgent()
        look = self.calls.look()
        self.calls.urgent = True
        now = self.clock()
        if look.blind:
            return self._blind(look, now)
        if self._blind_since_s is not None:
            self._sees_again(now)
        self._take_in(look, now)
        if self.rounds.settle(look):
            self._progress_s, self._waits = now, 0
        self._unpark()
        left = self._left()
        if not left and not self._others_fly(look):
            return self._sweep(look, now)
        self._sweeps, self._flat_s = 0, None
        if self.rounds.send(look, self.cause.scope):
            self._waits = 0
            return 0.0
        if self._hopeless(left, now):
            self._end("FLAT_EXCEPT", look)
        return self._wait_s(now)

    def _urgent(self) -> bool:
        """Whether a look may end a host that is stuck in a read. Sweeps afterwards take their
        turn: where history is slow, they would end one host after the other. One that was
        answered by nothing is followed by one that is urgent."""
        if (self.ended is None and not self.settled) or self._blind_since_s is not None:
            return True
        return any(item.status != "parked" for item in self._left())

    # Looking ----------------------------------------------------------------------------------

    def _blind(self, look: Look, now: float) -> float:
        if self._blind_since_s is None:
            self._blind_since_s, self._blind_waits = now, 0
            self.tell.step("wait", outcome="unknown", detail=look.blind)
        self._sweeps = 0
        blind_s = now - self._blind_since_s
        if look.wrong_account:
            self.tell.page(f"{look.blind}: nothing is sent", "log in to the right account")
        elif blind_s >= BLIND_PAGE_S:
            self.tell.page(f"the account cannot be read: {look.blind}")
        if blind_s >= self.options.blind_s:
            self._end("UNKNOWN", None, look.blind)
        wait_s = BLIND_WAITS_S[min(self._blind_waits, len(BLIND_WAITS_S) - 1)]
        self._blind_waits += 1
        return wait_s

    def _sees_again(self, now: float) -> None:
        self._blind_since_s = None
        self._sound_at_s = self._progress_s = now
        self._waits = 0
        self.tell.step("wait", outcome="clear", detail="the account can be read again")

    def _take_in(self, look: Look, now: float) -> None:
        """Make items of what is in the scope: all that was there at first, and what rules say of
        what came later."""
        scope = self.cause.scope
        found: list[Held | Working] = [
            *(p for p in look.positions if scope.holds(p.magic, p.symbol)),
            *(o for o in look.orders if o.pending and scope.holds(o.magic, o.symbol)),
        ]
        fresh = [one for one in found if one.key not in self.rounds.items]
        if self.ours is None:
            self._begin_with(found, look)
        for one in found:
            self._missing.pop(one.key, None)
        if fresh:
            self.rounds.book.prime(self.calls, {one.symbol for one in fresh})
        for one in fresh:
            self._adopt(one, now)
        for one in found:
            item = self.rounds.items[one.key]
            if item.others and self.options.others == "close" and self._may_reclose(now):
                item.others, item.detail = False, ""

    def _begin_with(self, found: list[Held | Working], look: Look) -> None:
        """The first good look: what it shows is ours, and what was there right before."""
        shown = {one.key: item_of(one) for one in found}
        self.ours = {**self.before, **shown}
        self._missing = {key: item for key, item in self.before.items() if key not in shown}
        self.write_down("")
        held = sum(isinstance(one, Held) for one in found)
        text = f"{held} positions, {len(found) - held} pending orders, equity {look.equity:.2f}"
        if self._missing:
            text += f"; not shown, and there a moment ago: {len(self._missing)}"
        clear = not found and not self._missing
        self.tell.step("snapshot", outcome="clear" if clear else "remaining", detail=text)

    def _adopt(self, one: Held | Working, now: float) -> None:
        item = item_of(one)
        self.rounds.items[one.key] = item
        assert self.ours is not None
        # A pending order of ours that was filled meanwhile has its position's number.
        if one.key in self.ours or ("order", one.key[1]) in self.ours:
            return
        text = f"{item.kind} {item.ticket} {item.symbol} appeared after the flatten began"
        if self.options.others == "close" and self._may_reclose(now):
            self.tell.step("sweep", outcome="remaining", detail=text)
            return
        item.others, item.detail = True, "opened by others, left alone"
        if self.options.others == "close":
            text += "; too many a minute"
            item.detail = "opened by others, too many a minute: ended later"
        self.tell.page(text)

    def _may_reclose(self, now: float) -> bool:
        """Whether one more of what others opened may be ended in this minute."""
        while self._recloses and now - self._recloses[0] >= MINUTE_S:
            self._recloses.popleft()
        if len(self._recloses) >= self.options.recloses_per_minute_max:
            self.tell.page(
                f"others keep opening: {len(self._recloses)} were ended within a minute",
                "find the program or person who trades on this account and stop it",
            )
            return False
        self._recloses.append(now)
        return True

    def _left(self) -> list[Item]:
        """What is still there, or may be, apart from what rules leave to others."""
        return [i for i in self.rounds.items.values() if not i.done and not i.others]

    def _others_fly(self, look: Look) -> bool:
        """Whether a market order in the scope is not final yet: it may open something."""
        scope = self.cause.scope
        return any(not o.pending and scope.holds(o.magic, o.symbol) for o in look.orders)

    def _unpark(self) -> None:
        """A market that shows a new price is open again."""
        parked = {i.symbol for i in self.rounds.items.values() if i.status == "parked"}
        asked = [(name, self.calls.submit("symbol_info_tick", name)) for name in sorted(parked)]
        for name, call in asked:
            tick = known(call)
            if tick is not None:
                self.rounds.quoted(name, tick.time_msc)

    # Ending -----------------------------------------------------------------------------------

    def _sweep(self, look: Look, now: float) -> float:
        """Nothing is left: look again until it is certain, and then whether it stays so."""
        if self._flat_s is None:
            self._flat_s = now
        if self._sweeps and now < self._swept_s + self.options.sweep_s:
            return self._swept_s + self.options.sweep_s - now
        self._sweeps += 1
        self._swept_s = now
        unexplained = self._explain()
        if self._sweeps <= self.options.sweeps:
            remaining = [i for i in self.rounds.items.values() if i.others and not i.done]
            self.tell.step(
                "sweep", outcome="remaining" if remaining else "clear",
                detail=f"sweep {self._sweeps} of {self.options.sweeps}",
            )  # fmt: skip
        if self._sweeps >= self.options.sweeps:
            self._verified(look, now, unexplained)
        return self.options.sweep_s

    def _verified(self, look: Look, now: float, unexplained: list[Item]) -> None:
        if unexplained and self._flat_s is not None and now < self._flat_s + DEALS_S:
            return
        if (
            not self.ours
            and not self.rounds.items
            and (now < self._sound_at_s + self.options.empty_s)
        ):
            return  # nothing was ever seen here: its lists may not be filled yet
        others = any(i.others and not i.done for i in self.rounds.items.values())
        if unexplained:
            tickets = ", ".join(str(item.ticket) for item in unexplained[:5])
            self._end("UNKNOWN", look, f"history does not account for the end of {tickets}")
        else:
            self._end("FLAT_EXCEPT" if others else "FLAT", look)

    def _explain(self) -> list[Item]:
        """Ask history for whatever is gone: deals for a position, the order itself for an order.
        Those it does not account for: an empty list may have been read while it was filled."""
        gone = [item for item in self.rounds.items.values() if item.done and not item.explained]
        gone += self._vanished()
        asked = [
            (
                item,
                self.calls.submit("history_deals_get", position=item.identifier)
                if item.kind == "position"
                else self.calls.submit("history_orders_get", ticket=item.ticket),
            )
            for item in gone
        ]
        for item, call in asked:
            found = known(call)
            if found is None:
                continue
            if item.kind == "order":
                item.explained = bool(found)
                continue
            total = sum_deals(found)
            item.explained = total.explains_end_of(item.volume_lots)
            item.price_closed = total.price_closed or item.price_closed
        self._missing = {key: one for key, one in self._missing.items() if not one.explained}
        return [item for item in gone if not item.explained]

    def _vanished(self) -> list[Item]:
        """What was there before the first look, and was never seen since."""
        items = self.rounds.items
        vanished = [one for key, one in self._missing.items() if key not in items]
        for one in vanished:
            one.gone("there a moment before, and not shown since")
        return vanished

    def _hopeless(self, left: list[Item], now: float) -> bool:
        """Whether waiting here makes no sense: all markets are closed, or nothing moves."""
        parked = bool(left) and all(item.status == "parked" for item in left)
        patience_s = self.options.patience_s
        return now >= self._progress_s + (min(PARKED_S, patience_s) if parked else patience_s)

    def _wait_s(self, now: float) -> float:
        settle_s = SETTLE_WAITS_S[min(self._waits, len(SETTLE_WAITS_S) - 1)]
        self._waits += 1
        due_s = self.rounds.next_due_s()
        if due_s is None or due_s <= now:
            return settle_s
        return min(max(due_s - now, 0.001), 0.5)

    def _end(self, state: State, look: Look | None, detail: str = "") -> None:
        """Tell how it stands, unless that is told already."""
        if look is not None:
            self._explain()
        items = [*self.rounds.items.values(), *self._vanished()]
        scope = self.cause.scope
        outcomes = tuple(item.outcome() for item in items[:OUTCOMES_MAX])
        was = self.ended
        if was is not None and was.state == state and was.outcomes == outcomes:
            return
        flat_ms = None
        if state == "FLAT" and self._flat_s is not None:
            flat_ms = self._late_ms + (self._flat_s - self._begun_s) * 1000
            if was is not None and was.breach_to_flat_ms is not None:
                flat_ms = was.breach_to_flat_ms
        held = working = None
        if look is not None:
            held = sum(scope.holds(p.magic, p.symbol) for p in look.positions)
            working = sum(scope.holds(o.magic, o.symbol) for o in look.orders)
        self.ended = FlattenEnded(
            event_time_ms=self.wall_ms(), login=self.login, terminal=self.terminal,
            flatten_id=self.cause.flatten_id, state=state, scope=str(scope),
            reason=self.cause.reason, by=self.cause.by, outcomes=outcomes, positions=held,
            orders=working, requests=self.rounds.requests, breach_to_flat_ms=flat_ms,
            command_id=self.cause.command_id, latch_id=self.cause.latch_id,
            took_over=self.cause.commands,
            verified_ms=self._late_ms + (self.clock() - self._begun_s) * 1000,
        )  # fmt: skip
        self.journal.emit(self.ended)
        self.write_down(state)
        if state == "UNKNOWN":
            self.tell.page(f"the outcome is UNKNOWN: {detail or 'see the tickets'}")
        elif state == "FLAT_EXCEPT":
            left = [o for o in outcomes if o.outcome not in ("closed", "cancelled")]
            names = ", ".join(f"{o.ticket} {o.symbol} ({o.detail or o.outcome})" for o in left[:5])
            self.tell.page(f"not flat, {len(left)} remain: {names}")

    def _resume(self, intent: Intent, now: float) -> None:
        """Take up a request of an earlier process; without an outcome it may have done anything,
        and of what was done lists may be older."""
        for kind, number, ticket, lots in intent.request.get("legs", ()):
            key: Key = ("order" if kind == "order" else "position", int(number))
            item = self.rounds.items.get(key)
            if item is None:
                price = float(intent.request.get("price", 0.0))
                item = Item(key[0], int(ticket), int(number), intent.symbol, float(lots), price)
                self.rounds.items[key] = item
            item.requests += 1
            if intent.outcome is None:
                known_before = item.sent.intents if item.sent is not None else ()
                item.sent = Sent((*known_before, intent.id), float(lots), now, QUIET_S)
            elif intent.outcome == "done" and item.sent is None:
                item.sent = Sent((), float(lots), now, CONFIRM_S)

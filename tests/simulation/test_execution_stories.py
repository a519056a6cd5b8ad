"""Random stories of targets: the account ends with what was wanted, or it is said why not."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from events.accounting import OpenPosition
from events.executing import OrderIntent
from events.guarding import LatchChanged
from events.magic import owner_of, parts_of
from tests.unit.execution_desk import (
    LOGIN,
    MARKET_CLOSED,
    NO_MONEY,
    REQUOTE,
    STOP_LOSS,
    TAKE_PROFIT,
    Desk,
)

NAMES = ("a", "b")
SYMBOL = "EURUSD"
LATCH = "latch"
ENDS = {"reached", "retired", "refused", "expired"}
ORDERS = ("answer deals book", "deals book answer", "book deals answer", "deals answer book")


class Story(RuleBasedStateMachine):
    """Two strategies, strangers, a broker with moods, a guard, and restarts at any place."""

    @initialize(hedging=st.booleans())
    def begin(self, hedging: bool) -> None:
        self.desk = Desk(hedging=hedging)
        self.strangers: dict[int, float] = {}
        """Ticket -> lots of positions of other people, on accounts that hedge."""
        self.still: dict[str, int] = {}
        """Strategy, or the latch, that may open nothing now -> entries asked for before."""

    @rule(
        name=st.sampled_from(NAMES),
        side=st.sampled_from(("long", "short", "flat")),
        lots=st.sampled_from((0.1, 0.2, 0.35)),
        limit=st.booleans(),
        valid_ms=st.sampled_from((None, 1_000, 100_000)),
    )
    def signal(self, name: str, side: str, lots: float, limit: bool, valid_ms: int | None) -> None:
        self.still.pop(name, None)
        price = {"long": 1.095, "short": 1.105}.get(side) if limit else None
        self.desk.signal(
            side, strategy=name, volume_lots=lots if side != "flat" else None,
            price_limit=price,
            valid_until_ms=None if valid_ms is None else self.desk.now_ms + valid_ms,
        )  # fmt: skip

    @precondition(lambda self: self.desk.waiting)
    @rule(
        order=st.sampled_from(ORDERS),
        part=st.sampled_from((1.0, 1.0, 0.5)),
        number=st.integers(0, 9),
    )
    def carry_out(self, order: str, part: float, number: int) -> None:
        intent = self._some(number)
        lots = round(intent.volume_lots * part, 2) or None
        self.desk.carry_out(intent, lots=lots, order=order)

    @precondition(lambda self: self.desk.waiting)
    @rule(code=st.sampled_from((0, REQUOTE, NO_MONEY, MARKET_CLOSED)), number=st.integers(0, 9))
    def refuse(self, code: int, number: int) -> None:
        self.desk.refuse(self._some(number), code, "refused")

    @precondition(lambda self: self.desk.waiting)
    @rule(number=st.integers(0, 9))
    def lose_the_answer(self, number: int) -> None:
        self.desk.give(self.desk.answer(self._some(number), "unknown"))

    @precondition(lambda self: self.desk.waiting)
    @rule(number=st.integers(0, 9))
    def expire(self, number: int) -> None:
        self.desk.expire(self._some(number))

    @rule(ms=st.sampled_from((100, 5_000, 15_000, 400_000)))
    def wait(self, ms: int) -> None:
        self.desk.wait(ms)

    @rule()
    def restart(self) -> None:
        self.desk.restart()

    @rule(latched=st.booleans())
    def latch(self, latched: bool) -> None:
        desk = self.desk
        if latched:
            self.still.setdefault(LATCH, self._entries())
        else:
            self.still.pop(LATCH, None)
        desk.give(
            LatchChanged(event_time_ms=desk.now_ms, login=LOGIN, terminal="t", latched=latched,
                         latch_id="1", reason="test", by="test")
        )  # fmt: skip

    @precondition(lambda self: self.desk.orders)
    @rule()
    def price_reaches_an_order(self) -> None:
        self.desk.fill_pending(min(self.desk.orders))

    @precondition(lambda self: self.desk.orders)
    @rule(state=st.sampled_from((2, 5, 6)))
    def order_ends(self, state: int) -> None:
        self.desk.order_done(min(self.desk.orders), state)

    @precondition(lambda self: self._ours())
    @rule(reason=st.sampled_from((0, STOP_LOSS, TAKE_PROFIT)), number=st.integers(0, 9))
    def somebody_closes_ours(self, reason: int, number: int) -> None:
        ours = self._ours()
        position = ours[number % len(ours)]
        parts = parts_of(position.magic)
        name = next(name for name in NAMES if parts and owner_of(name, SYMBOL) == parts[0])
        now = self.desk.target(name)
        sign = {"long": 0, "short": 1}.get(now.target)
        self.desk.close_by_others(position, reason)
        if self.desk.hedging and sign == position.side:
            self.still[name] = self._entries(name)

    @rule(side=st.integers(0, 1))
    def a_stranger_opens(self, side: int) -> None:
        if not self.desk.hedging and self.desk.net() * (1 - 2 * side) < 0:
            return  # that would be a close
        deal = self.desk.fill(SYMBOL, side, 0.1)
        if self.desk.hedging:
            self.strangers[deal.position_id] = 0.1
        self.desk.give(deal)
        self.desk.book()

    @invariant()
    def what_is_believed_is_what_is_there(self) -> None:
        desk = self.desk
        if not desk.hedging:
            held = desk.state.get(f"{LOGIN}:holdings", {}).get(SYMBOL)
            parts = {} if held is None else held["parts"]
            told = sum(part["lots"] for part in parts.values())
            assert round(told + (held["strangers"] if held else 0.0) - desk.net(), 8) == 0
            return
        for name in NAMES:
            told = [one for one in desk.told if one.strategy == name]
            if told:
                assert told[-1].held_lots == self._owned(name), told[-1]
        there = {one.identifier: one.volume_lots for one in desk.ledger.positions.values()}
        for identifier, lots in self.strangers.items():
            assert there.get(identifier) == lots, "a stranger's position was touched"

    @invariant()
    def who_must_keep_still_opens_nothing(self) -> None:
        for name, before in self.still.items():
            assert self._entries("" if name == LATCH else name) == before, name

    @invariant()
    def nothing_is_asked_for_behind_its_time(self) -> None:
        for one in self.desk.intents:
            assert one.valid_until_ms is not None
            assert one.event_time_ms <= one.valid_until_ms

    def teardown(self) -> None:
        """Everything is answered, the latch is gone, hours pass."""
        desk = self.desk
        self.latch(False)
        for _ in range(60):
            desk.run()
            desk.wait(400_000)
        for name in NAMES:
            told = [one for one in desk.told if one.strategy == name]
            if not told:
                continue
            last = told[-1]
            stands = any(one.strategy == name for one in desk.orders.values())
            assert last.state in ENDS or (last.state == "wanted" and stands), last
            if last.state == "reached":
                sign = {"long": 1, "short": -1, "flat": 0}[last.target]
                assert last.held_lots == round(sign * last.volume_lots, 8), last
            elif last.state != "wanted":
                assert last.reason, last
        self.what_is_believed_is_what_is_there()

    def _some(self, number: int) -> OrderIntent:
        return self.desk.waiting[number % len(self.desk.waiting)]

    def _ours(self) -> list[OpenPosition]:
        desk = self.desk
        return [
            one for one in desk.ledger.positions.values()
            if parts_of(one.magic) is not None
        ]  # fmt: skip

    def _entries(self, name: str = "") -> int:
        """Intents that open, of a strategy or of all."""
        opening = [one for one in self.desk.intents if one.verb == "open"]
        return sum(1 for one in opening if not name or one.strategy == name)

    def _owned(self, name: str) -> float:
        owner = owner_of(name, SYMBOL)
        signed = (
            one.volume_lots * (1 - 2 * one.side)
            for one in self._ours()
            if (parts_of(one.magic) or (0, 0))[0] == owner
        )
        return round(sum(signed), 8)


def test_the_account_ends_with_the_targets_or_says_why_not() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # of hypothesis
        Story,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip

"""Strategies that signal and group execute over the log of a real sender and host, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consumers.execute import ExecuteHandler
from consumers.replay.verification import verify_task
from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from events.codec import decode, decode_data, encode
from events.decisions import TradeSignal
from events.executing import OrderIntent, TargetState
from events.log import Claim, Lane, Log, Slot
from events.memory_log import MemoryLog
from events.trading import Account, Book, Deal
from tests.integration.ordering import (
    NAMESPACE,
    SYMBOL,
    Desk,
    inject,
    sending,
    settings_in,
    terminal_of,
)
from tests.servers import wait_until

HEDGING, NETTING = 2, 0
STRATEGIES_MAX = 48
"""Of all tests that share a desk; each takes two that nobody used."""
FAST = {"account_idle_interval_s": 0.05, "account_interval_s": 0.05}


class Trader:
    """Strategies `a` and `b` that signal, and group execute over the same log, stepped by hand."""

    def __init__(self, desk: Desk, log: Log, symbol: str = SYMBOL) -> None:
        self.desk, self.log, self.symbol = desk, log, symbol
        for number in range(STRATEGIES_MAX):
            log.tasks.open_group(NAMESPACE, f"strategy.s{number}", 1)
        log.tasks.open_group(NAMESPACE, "execute", 1)
        self._claims: dict[str, Claim] = {}
        self._used, self._intents_before = 0, 0
        self._names: dict[str, str] = {}
        self.restart()

    def begin_anew(self) -> None:
        """For the next of several tests: nothing is open, two strategies that never signalled."""
        self.desk.begin_anew()
        self.until("an empty book", lambda: self.book() == ())
        self.until("nothing under way", lambda: not self.desk.under_way())
        self._intents_before = 0
        self._intents_before = len(self.intents())
        self.name_strategies()

    def name_strategies(self) -> None:
        """`a` and `b` are two that never signalled."""
        for alias in ("a", "b"):
            assert self._used < STRATEGIES_MAX, "more strategies are needed"
            name = self._names[alias] = f"s{self._used}"
            self._used += 1
            slot = Slot(NAMESPACE, f"strategy.{name}", 0)
            self._claims[alias] = self.log.claim(slot, "test", alive_within_s=0.05)

    def name(self, alias: str = "a") -> str:
        """Of a strategy of this test, as the log has it."""
        return self._names[alias]

    def book(self) -> tuple[Any, ...] | None:
        """As it was told last; None: never."""
        slot = Slot(NAMESPACE, "source", 0)
        for (type_, key), data in self.log.last_states(slot).items():
            if type_.startswith("book."):
                told = decode_data(type_, key, data)
                assert isinstance(told, Book)
                return told.positions
        return None

    def looked(self) -> bool:
        """Whether the account, its book, its past and the facts of its symbols were told."""
        states = self.log.last_states(Slot(NAMESPACE, "source", 0))
        told = {"account.1", "book.1", "contracts.1"} <= {type_ for type_, _ in states}
        account = self.account()
        return told and account is not None and not account.deals_pending

    def told_of_deal(self, position: int) -> bool:
        """Whether the log has a deal of a position."""
        stream = Slot(NAMESPACE, "source", 0).stream(Lane.HIGH)
        deals = (decode(e) for e in self.log.between(stream, count_max=100_000)
                 if e.type.startswith("deal."))  # fmt: skip
        return any(isinstance(one, Deal) and one.position_id == position for one in deals)

    def restart(self) -> None:
        """Another worker takes the group over."""
        group = Group("execute", ExecuteHandler, namespaces=(NAMESPACE,))
        [spec] = group.specs(self.log)
        seen = self.log.tasks.look([spec.slot])[0].token
        taken = self.log.tasks.acquire(spec.slot, "test", seen=seen)
        assert taken is not None
        self.group, self.spec = group, spec
        self.task = TaskRun(self.log, group, spec, *taken)

    def pump(self) -> None:
        """Handle what is there."""
        while True:
            step = self.task.step()
            assert not step.halted, step.halted
            if not step.entries:
                return

    def signal(self, target: str, strategy: str = "a", **more: Any) -> None:
        """With a stop 5 % away."""
        quote = self.desk.quote(self.symbol)
        share = 0.95 if target == "long" else 1.05
        more.setdefault("stop_loss", None if target == "flat" else round(quote.bid * share, 2))
        fields = {
            "event_time_ms": self.desk.now_ms(), "strategy": self.name(strategy),
            "symbol": self.symbol,
            "target": target, "bid": quote.bid, "ask": quote.ask,
            "price_deviation_points_max": 1_000_000,
        }  # fmt: skip
        signal = TradeSignal.model_validate({**fields, **more})
        self.log.append(self._claims[strategy], [encode(signal)])

    def state(self, strategy: str = "a") -> TargetState | None:
        """As it was told last."""
        stream = Slot(NAMESPACE, "execute", 0).stream(Lane.HIGH)
        told = [decode(one) for one in self.log.newest(stream, count_max=10_000)
                if one.type.startswith("target.")]  # fmt: skip
        name = self.name(strategy)
        return next((o for o in told if isinstance(o, TargetState) and o.strategy == name), None)

    def becomes(self, state: str, strategy: str = "a", **more: Any) -> TargetState:
        """Wait for a target to be told so."""

        def there() -> bool:
            self.pump()
            told = self.state(strategy)
            return (
                told is not None
                and told.state == state
                and all(getattr(told, name) == value for name, value in more.items())
            )

        try:
            wait_until(there, timeout_s=25.0, what=f"{strategy}: {state} {more}")
        except AssertionError as error:
            error.add_note(f"told last: {self.state(strategy)}")
            raise
        told = self.state(strategy)
        assert told is not None
        return told

    def looked_again(self) -> None:
        """Handle a whole look at the account that began now: a deposit shows that it is there."""
        before = self.account()
        inject(self.desk, kind="balance", amount=1.0)
        assert before is not None
        self.until("a deposit", lambda: (self.account() or before).balance != before.balance)
        self.until("the end of every intent", lambda: not self.desk.under_way())

    def account(self) -> Account | None:
        """As it was told last."""
        slot = Slot(NAMESPACE, "source", 0)
        for (type_, key), data in self.log.last_states(slot).items():
            if type_.startswith("account."):
                told = decode_data(type_, key, data)
                assert isinstance(told, Account)
                return told
        return None

    def intents(self) -> list[OrderIntent]:
        stream = Slot(NAMESPACE, "execute", 0).stream(Lane.HIGH)
        entries = self.log.between(stream, count_max=100_000)
        found = (decode(one) for one in entries if one.type.startswith("order_intent."))
        return [one for one in found if isinstance(one, OrderIntent)][self._intents_before :]

    def until(self, what: str, there: Callable[[], bool]) -> None:
        def pumped() -> bool:
            self.pump()
            return there()

        wait_until(pumped, timeout_s=25.0, what=what)

    def verify(self) -> None:
        """What was derived is derived again, to the byte."""
        self.pump()
        again = verify_task(self.log, self.group, self.spec)
        assert again.good, again.as_json()


@contextmanager
def trading(folder: Path, *, margin_mode: int = HEDGING, **more: Any) -> Iterator[Trader]:
    """When it ends, what was derived is derived again, to the byte."""
    log = MemoryLog()
    symbol = more.pop("symbol", SYMBOL)
    terminal = terminal_of(
        account={"margin_mode": margin_mode, "balance": 1_000_000.0},
        settings={"symbols": (symbol,)}, **more,
    )  # fmt: skip
    settings = settings_in(folder, **FAST)
    with sending(folder, log, terminal=terminal, settings=settings) as desk:
        trader = Trader(desk, log, symbol)
        trader.until("a look at the account", trader.looked)
        yield trader
        trader.verify()

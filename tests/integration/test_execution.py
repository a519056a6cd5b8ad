"""From a strategy's signal to what the simulated terminal made of it: the group, the order sender
and a real host together. What a sender does with one intent is told by test_order_sending."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from consumers.execute import ExecuteHandler
from consumers.replay.verification import verify_task
from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from events.accounting import BUY
from events.codec import decode, encode
from events.decisions import TradeSignal
from events.executing import OrderIntent, TargetState
from events.log import Claim, Lane, Log, LogError, Slot
from events.magic import parts_of
from events.memory_log import MemoryLog
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
STRATEGIES = ("a", "b")
FAST = {"account_idle_interval_s": 0.05, "account_interval_s": 0.05}


class Trader:
    """Strategies that signal, and group execute over the same log, stepped by hand."""

    def __init__(self, desk: Desk, log: Log) -> None:
        self.desk, self.log = desk, log
        self._claims: dict[str, Claim] = {}
        for name in STRATEGIES:
            slot = Slot(NAMESPACE, f"strategy.{name}", 0)
            log.tasks.open_group(NAMESPACE, slot.writer, 1)
            self._claims[name] = log.claim(slot, "test", alive_within_s=0.05)
        log.tasks.open_group(NAMESPACE, "execute", 1)
        self.restart()

    def looked(self) -> bool:
        """Whether the account, its book and the facts of its symbols were told."""
        states = self.log.last_states(Slot(NAMESPACE, "source", 0))
        return {"account.1", "book.1", "contracts.1"} <= {type_ for type_, _ in states}

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
        quote = self.desk.quote()
        more.setdefault("stop_loss", round(quote.bid * (0.95 if target == "long" else 1.05), 2))
        fields = {
            "event_time_ms": int(time.time() * 1000), "strategy": strategy, "symbol": SYMBOL,
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
        mine = (one for one in told if isinstance(one, TargetState) and one.strategy == strategy)
        return next(mine, None)

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
        except BaseException as error:
            error.add_note(f"told last: {self.state(strategy)}")
            raise
        told = self.state(strategy)
        assert told is not None
        return told

    def quiet(self, for_s: float = 0.4) -> None:
        """Handle what comes within this time."""
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            self.pump()
            time.sleep(0.02)

    def intents(self) -> list[OrderIntent]:
        stream = Slot(NAMESPACE, "execute", 0).stream(Lane.HIGH)
        entries = self.log.between(stream, count_max=10_000)
        return [decode(one) for one in entries if one.type.startswith("order_intent.")]  # type: ignore[misc]  # nothing else has that type

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
    log = MemoryLog()
    terminal = terminal_of(account={"margin_mode": margin_mode, "balance": 1_000_000.0}, **more)
    settings = settings_in(folder, **FAST)
    with sending(folder, log, terminal=terminal, settings=settings) as desk:
        trader = Trader(desk, log)
        trader.until("a look at the account", trader.looked)
        yield trader
        trader.verify()


def ours(desk: Desk) -> list[Any]:
    return [one for one in desk.positions() if parts_of(one.magic) is not None]


def by_hand(desk: Desk, side: int, lots: float, *, position: int = 0) -> None:
    """An order of somebody else."""
    quote = desk.quote()
    request = {
        "action": 1, "symbol": SYMBOL, "volume": lots, "type": side,
        "price": quote.bid if side else quote.ask, "type_filling": 1, "deviation": 1_000,
    }  # fmt: skip
    answer = desk.client.call("order_send", request | ({"position": position} if position else {}))
    assert answer.value.retcode == 10009, answer.value


def test_a_target_is_opened_turned_around_and_closed(tmp_path: Path) -> None:
    with trading(tmp_path, margin_mode=NETTING) as trader:
        desk = trader.desk
        trader.signal("long", volume_lots=0.3)
        trader.becomes("reached", held_lots=0.3)
        [held] = desk.positions()
        assert held.sl > 0, "the stop-loss went with the entry"
        trader.restart()
        trader.signal("short", volume_lots=0.2)
        trader.becomes("reached", held_lots=-0.2)
        [held] = desk.positions()
        assert (held.type, held.volume) == (1, 0.2)
        trader.signal("flat", stop_loss=None)
        trader.becomes("reached", target="flat", held_lots=0.0)
        assert desk.positions() == ()
        assert [one.verb for one in trader.intents()] == ["open", "close", "open", "close"]


@pytest.mark.parametrize("margin_mode", [HEDGING, NETTING], ids=["hedging", "netting"])
def test_two_strategies_and_a_stranger_on_one_symbol(tmp_path: Path, margin_mode: int) -> None:
    with trading(tmp_path, margin_mode=margin_mode) as trader:
        desk = trader.desk
        by_hand(desk, BUY, 0.5)
        [stranger] = desk.positions()
        trader.signal("long", "a", volume_lots=0.3)
        trader.becomes("reached", "a", held_lots=0.3)
        trader.signal("short", "b", volume_lots=0.1)
        trader.becomes("reached", "b", held_lots=-0.1)
        if margin_mode == HEDGING:
            assert sorted(one.volume for one in ours(desk)) == [0.1, 0.3]
        else:
            assert [round(one.volume, 2) for one in desk.positions()] == [0.7]
        for name in STRATEGIES:
            trader.signal("flat", name, stop_loss=None)
            trader.becomes("reached", name, target="flat", held_lots=0.0)
        assert [(one.ticket, one.volume) for one in desk.positions()] == [(stranger.ticket, 0.5)]


def test_a_stop_loss_and_a_close_by_hand_retire_the_target_until_a_new_signal(
    tmp_path: Path,
) -> None:
    with trading(tmp_path) as trader:
        desk = trader.desk
        trader.signal("long", volume_lots=0.2)
        trader.becomes("reached", held_lots=0.2)
        inject(desk, kind="price_jump", symbols=(SYMBOL,), percent=-8.0)
        told = trader.becomes("retired", held_lots=0.0)
        assert told.reason == "stop_loss"
        trader.quiet()
        assert desk.positions() == ()
        trader.signal("long", volume_lots=0.2)
        trader.becomes("reached", held_lots=0.2)
        inject(desk, kind="foreign_close", symbols=(SYMBOL,))
        told = trader.becomes("retired", held_lots=0.0)
        assert told.reason == "manual"
        trader.quiet()
        assert len(trader.intents()) == 2
        assert desk.positions() == ()


def test_an_expired_target_is_not_opened_when_the_market_opens_again(tmp_path: Path) -> None:
    with trading(tmp_path) as trader:
        desk = trader.desk
        inject(desk, kind="market_closed", symbols=(SYMBOL,))
        until_ms = int(time.time() * 1000) + 3_000
        trader.signal("long", volume_lots=0.2, valid_until_ms=until_ms)
        trader.until("a refused intent", lambda: bool(trader.desk.signals.answers()))
        wait_until(lambda: time.time() * 1000 > until_ms, what="the end of its time")
        desk.client.call("clear", "market_closed")
        trader.becomes("expired")
        trader.quiet()
        assert desk.positions() == ()
        trader.signal("long", volume_lots=0.2)
        trader.becomes("reached", held_lots=0.2)


def test_a_partial_fill_is_topped_up_once_and_a_lost_answer_doubles_nothing(
    tmp_path: Path,
) -> None:
    with trading(tmp_path) as trader:
        desk = trader.desk
        inject(desk, kind="liquidity", lots=0.1)
        trader.signal("long", volume_lots=0.3)
        told = trader.becomes("reached", held_lots=0.2)
        assert "the rest is let be" in told.reason
        desk.client.call("clear", "liquidity")
        inject(desk, kind="lost_answer", codes=(-10002,))
        trader.signal("flat", stop_loss=None)
        trader.becomes("reached", target="flat", held_lots=0.0)
        inject(desk, kind="never_sent", calls_max=1)
        trader.signal("short", volume_lots=0.1)
        trader.becomes("reached", target="short", held_lots=-0.1)
        assert len(ours(desk)) == 1


def test_a_pending_order_is_filled_or_cancelled(tmp_path: Path) -> None:
    with trading(tmp_path) as trader:
        desk = trader.desk
        below = round(desk.quote().bid * 0.98, 2)
        trader.signal("long", volume_lots=0.1, price_limit=below)
        trader.becomes("wanted", reason="a pending order stands")
        [order] = desk.orders()
        trader.signal("flat", stop_loss=None)
        trader.becomes("reached", target="flat")
        assert desk.orders() == ()
        trader.signal("long", volume_lots=0.1, price_limit=below)
        trader.until("another order", lambda: any(o.ticket != order.ticket for o in desk.orders()))
        inject(desk, kind="price_jump", symbols=(SYMBOL,), percent=-3.0)
        trader.becomes("reached", held_lots=0.1)


def test_namespaces_that_no_terminal_wrote_are_refused() -> None:
    log = MemoryLog()
    log.open_namespace("again", origin="replay")
    log.open_namespace("demo")
    assert {one.slot.namespace for one in Group("execute", ExecuteHandler).specs(log)} == {"demo"}
    with pytest.raises(LogError, match="acts on live terminals only"):
        Group("execute", ExecuteHandler, namespaces=("again",)).specs(log)

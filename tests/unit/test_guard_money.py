"""What a guard makes of deals by itself: the balance at a reset, whatever the server's clock is."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consumers.risk.figures import realised
from events.rules import Reading, References, Rules, advance
from events.trading import OPERATION_TYPES
from producers.guard.watch.blocks import Block
from producers.guard.watch.minding import Windows, mind_references
from producers.guard.watch.money import balance_at_reset, operations_since
from producers.terminals.interface import Reply
from tests.unit.risk_desk import deal as told_deal

RESET_MS = 1_794_870_000_000
NOW_MS = RESET_MS + 9 * 3_600_000
HOUR_MS = 3_600_000


def deal(ticket: int, utc_ms: int, profit: float, *, kind: int = 1, hours: float = 3.0) -> Any:
    return SimpleNamespace(
        ticket=ticket, time_msc=utc_ms + int(hours * HOUR_MS), type=kind, profit=profit, swap=0.0,
        commission=0.0, fee=0.0, symbol="EURUSD",
    )  # fmt: skip


class Broker:
    """Answers with deals, and with a tick of an age."""

    def __init__(self, *deals: Any, hours: float = 3.0, tick_age_ms: int = 500) -> None:
        self.deals: tuple[Any, ...] | None = deals
        self._tick_msc = NOW_MS - tick_age_ms + int(hours * HOUR_MS)
        self.loading = False

    def submit(self, method: str, *args: Any, **_: Any) -> Future[Reply]:
        answered: Future[Reply] = Future()
        value: Any = self.deals
        if method == "symbol_info_tick":
            value = SimpleNamespace(time_msc=self._tick_msc)
        elif self.loading and self.deals:
            self.deals = self.deals[1:]
        answered.set_result(Reply(value, (1, "") if value is not None else (-1, "no"), NOW_MS, 1.0))
        return answered


def at_reset(broker: Broker) -> float | None:
    return balance_at_reset(
        cast(Any, broker), balance=10_000.0, reset_ms=RESET_MS, utc_ms=NOW_MS, within_s=1.0
    )


@pytest.mark.parametrize("hours", [-11.0, 0.0, 3.0, 5.5, 13.0], ids=str)
def test_trades_since_the_reset_are_taken_off_whatever_the_servers_clock_is(hours: float) -> None:
    broker = Broker(
        deal(1, RESET_MS - 60_000, -70.0, hours=hours),
        deal(2, RESET_MS, -200.0, hours=hours),
        deal(3, NOW_MS - 60_000, 50.0, hours=hours),
        deal(4, NOW_MS - 60_000, 900.0, kind=2, hours=hours),
        deal(5, NOW_MS - 60_000, -3.0, kind=7, hours=hours),
        hours=hours,
    )
    assert at_reset(broker) == pytest.approx(10_153.0)


def test_what_nobody_knows_stays_unknown() -> None:
    near = (deal(1, RESET_MS + HOUR_MS, -200.0),)
    assert at_reset(Broker(*near)) == pytest.approx(10_200.0)
    assert at_reset(Broker(*near, tick_age_ms=10 * 60_000)) is None, "no tick tells the clock"
    silent = Broker()
    silent.deals = None
    assert at_reset(silent) is None
    loading = Broker(*near, deal(2, NOW_MS, 5.0))
    loading.loading = True
    assert at_reset(loading) is None, "two answers differ"
    assert at_reset(Broker()) == 10_000.0, "without trades no clock is needed"


def test_guard_and_group_risk_call_the_same_deals_operations() -> None:
    kinds = range(19)
    broker = Broker(*(deal(kind, NOW_MS, 1.0, kind=kind) for kind in kinds))
    found = operations_since(
        cast(Any, broker), set(), since_ms=NOW_MS, utc_ms=NOW_MS, within_s=1.0
    )  # fmt: skip
    assert found is not None
    counts = realised.new_counts()
    ledger = realised.new_ledger()
    for kind in kinds:
        realised.book_deal(ledger, counts, told_deal(kind, NOW_MS, type=kind, profit=1.0))
    assert {ticket for ticket, _ in found} == OPERATION_TYPES == {2, 3, 5, 6}
    assert {row[0] for row in counts["waiting"]["operations"]} == OPERATION_TYPES


# --- what it blocks for


class Owner:
    """Takes blocks and alerts."""

    def __init__(self) -> None:
        self.blocks: dict[str, Block] = {}
        self.said: list[str] = []
        self.closed: list[tuple[str, str]] = []
        self.voice = self

    def close_ahead(self, window: str, reason: str, until_ms: int, symbol: str = "") -> None:
        self.closed.append((window, symbol))

    def currencies(self, symbol: str) -> tuple[str, ...] | None:
        return None if symbol == "UNSEEN" else (symbol[:3], symbol[3:])

    def block(self, block: Block) -> None:
        self.blocks[block.cause] = block

    def unblock(self, cause: str) -> bool:
        return self.blocks.pop(cause, None) is not None

    def alert(self, severity: str, topic: str, text: str, *, cure: str = "") -> None:
        self.said.append(f"{severity} {topic}")

    def resolve(self, topic: str, text: str) -> None:
        self.said.append(f"over {topic}")


@pytest.fixture
def owner() -> Owner:
    return Owner()


def rules(**more: Any) -> Rules:
    daily = {"name": "day", "figure": "daily_loss", "act": 500.0, "action": "flatten",
             "lock": "until_reset", "hard": True}  # fmt: skip
    return Rules.model_validate(
        {"account": {"initial_balance": 10_000, "high_water": 10_000}, "limits": [daily], **more}
    )


def reading(**more: Any) -> Reading:
    return Reading(time_ms=NOW_MS, login=1, equity=10_000.0, balance=10_000.0, positions=0, **more)


def test_the_guard_blocks_by_itself_while_a_hard_limit_rests_on_the_unknown(owner: Owner) -> None:
    unseen = advance(None, reading(), rules())
    mind_references(cast(Any, owner), rules(), unseen, "demo")
    assert "day_balance" in owner.blocks["references"].reason
    known = advance(None, reading(reset_balance=10_000.0), rules())
    mind_references(cast(Any, owner), rules(), known, "demo")
    assert not owner.blocks
    assert owner.said == ["critical references", "over references"]
    mind_references(cast(Any, owner), Rules(), References(), "demo")
    assert not owner.blocks


def test_the_guard_blocks_by_itself_in_a_window(owner: Owner) -> None:
    news = {"name": "news", "times": [{"at_ms": NOW_MS, "name": "NFP"}], "before_minutes": 2,
            "after_minutes": 3, "block": True}  # fmt: skip
    held, windows = rules(windows=[news]), Windows()
    windows.mind(cast(Any, owner), held, None, NOW_MS - 121_000)
    assert not owner.blocks
    windows.mind(cast(Any, owner), held, None, NOW_MS - 120_000)
    assert owner.blocks["window:news"].reason == "news NFP"
    assert owner.blocks["window:news"].until_ms == NOW_MS + 180_000
    assert owner.blocks["window:news"].whole
    windows.mind(cast(Any, owner), held, None, NOW_MS + 180_000)
    assert not owner.blocks


def test_a_window_about_some_symbols_or_currencies_blocks_these_alone(owner: Owner) -> None:
    gold = {"name": "gold", "times": [{"at_ms": NOW_MS}], "after_minutes": 5, "block": True,
            "symbols": ["XAUUSD"]}  # fmt: skip
    news = {"name": "news", "after_minutes": 5, "block": True, "times": [
        {"at_ms": NOW_MS, "name": "NFP", "concerns": ["USD"]},
        {"at_ms": NOW_MS + 60_000, "name": "rate", "concerns": ["GBP"]},
    ]}  # fmt: skip
    held, windows = rules(windows=[gold, news]), Windows()
    windows.mind(cast(Any, owner), held, None, NOW_MS)
    one, two = owner.blocks["window:gold"], owner.blocks["window:news"]
    assert (one.only, two.only) == (("XAUUSD",), ("USD",))
    assert one.about("XAUUSD")
    assert not one.about("EURUSD")
    assert two.about("EURUSD", owner.currencies)
    assert not two.about("EURGBP", owner.currencies)
    assert two.about("UNSEEN", owner.currencies), "nobody knows its currencies yet"
    assert two.about(None)
    windows.mind(cast(Any, owner), held, None, NOW_MS + 60_000)
    assert owner.blocks["window:news"].concerns == ("GBP", "USD"), "two at once"
    assert owner.blocks["window:news"].about("EURGBP", owner.currencies)
    windows.mind(cast(Any, owner), held, None, NOW_MS + 400_000)
    assert not owner.blocks


def test_the_guard_closes_ahead_of_a_window_once_and_again_when_a_human_resumed(
    owner: Owner,
) -> None:
    news = {"name": "news", "times": [{"at_ms": NOW_MS, "concerns": ["USD"]}],
            "flatten_before_minutes": 5, "after_minutes": 5}  # fmt: skip
    friday = {"name": "close", "times": [{"at_ms": NOW_MS}], "flatten_before_minutes": 2,
              "after_minutes": 5}  # fmt: skip
    held, windows = rules(windows=[news, friday]), Windows()
    book = {"EURUSD", "EURGBP", "UNSEEN"}
    windows.mind(cast(Any, owner), held, book, NOW_MS - 301_000)
    assert owner.closed == []
    for _ in range(3):
        windows.mind(cast(Any, owner), held, book, NOW_MS - 300_000)
    assert owner.closed == [("news", "EURUSD")], "what is open and concerned, once"
    windows.mind(cast(Any, owner), held, (), NOW_MS - 120_000)
    assert owner.closed == [("news", "EURUSD")], "nothing is open"
    windows.mind(cast(Any, owner), held, None, NOW_MS - 119_000)
    assert owner.closed[1:] == [("close", "")], "what nobody knows may be open"
    windows.forget()
    windows.mind(cast(Any, owner), held, book, NOW_MS - 118_000)
    assert owner.closed[2:] == [("news", "EURUSD"), ("close", "")]
    windows.mind(cast(Any, owner), held, book, NOW_MS + 1)
    assert len(owner.closed) == 4, "it has begun: nothing is closed in it"

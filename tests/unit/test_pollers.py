"""Pollers against a terminal that the test writes on, and the log in memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.clock_rules import ClockRule
from events.codec import AnyEvent, decode
from events.log import SOURCE, Lane, LogUnavailable, Slot
from events.market import Closes, Contracts, Instrument, Quotes
from events.marks import Marks
from events.memory_log import MemoryLog
from events.operations import GapHealed, TerminalDown, TerminalUp
from events.ticks import Mark, OffsetSource, TickArray, TickBatch
from events.trading import Account, Book, Deal, OrderDone, Orders
from producers.clock.broker_clock import BrokerClock
from producers.pollers.connection import Attached
from producers.pollers.context import ProducerOptions
from producers.producer import Producer
from producers.terminals.constants import TIMEFRAME_H1
from producers.terminals.interface import HistoryLost, Reply, TerminalHung, TerminalLost
from tests.fake_terminal import (
    OFFSET_S,
    SERVER_NOW_S,
    DirectClient,
    FakeTerminal,
    candle_rows,
    deal,
    order,
    position,
    tick_rows,
)

NAMESPACE = "demo"
NOW_MS = SERVER_NOW_S * 1000


class FlakyLog(MemoryLog):
    """`fail` names what happens to the next appends: request (lost), reply (lost), "" (well)."""

    def __init__(self) -> None:
        super().__init__()
        self.fail: list[str] = []

    def append(self, claim: Any, entries: Any, cursors: Any = ()) -> Any:
        fate = self.fail.pop(0) if self.fail and cursors else ""
        if fate == "request":
            raise LogUnavailable("request lost")
        appended = super().append(claim, entries, cursors)
        if fate == "reply":
            raise LogUnavailable("reply lost")
        return appended


@dataclass
class House:
    """A producer whose jobs the test runs by hand, and the world around it."""

    terminal: FakeTerminal
    client: DirectClient
    log: FlakyLog
    producer: Producer
    now: list[float]

    def events(self, *kinds: type, lane: Lane | None = None) -> list[Any]:
        found: list[AnyEvent] = []
        for partition in range(self.log.namespaces()[NAMESPACE]):
            slot = Slot(NAMESPACE, SOURCE, partition)
            for stream in slot.streams():
                if lane is None or stream.lane is lane:
                    found += [decode(entry) for entry in self.log.between(stream, count_max=10_000)]
        return [event for event in found if isinstance(event, kinds)]

    def ticks(self, symbol: str) -> TickArray:
        batches = [b for b in self.events(TickBatch, lane=Lane.NORMAL) if b.symbol == symbol]
        return np.concatenate([b.ticks for b in batches]) if batches else tick_rows()

    def pass_time(self, seconds: float) -> None:
        self.now[0] += seconds
        self.terminal.server_now_s += seconds

    def sweep(self, times: int = 1) -> None:
        for _ in range(times):
            for poller in self.producer.tick_pollers:
                poller.sweep()
            self.pass_time(1.1)

    def look_at_account(self) -> None:
        self.producer._account.expire()
        self.producer._account.poll()
        assert self.producer._sender.drain(5)

    def look_back(self) -> None:
        """A turn of the job that pulls deals of the past."""
        self.producer._past.poll()
        assert self.producer._sender.drain(5)

    def come_up(self) -> None:
        assert self.producer.connection.try_to_come_up(), self.producer.report.incidents
        self.producer._sender.drain(5)


def options(tmp_path: Path, *symbols: str, **more: Any) -> ProducerOptions:
    fields = {
        "namespace": NAMESPACE, "terminal": "demo", "kind": "native", "state_dir": tmp_path,
        "holder": "test", "partitions": 2, "timeframes": ("M1",), "price_interval_s": 0.05,
    }  # fmt: skip
    return ProducerOptions(symbols=symbols, **{**fields, **more})


class Houses:
    """Builds houses, also a second one on the same log and spool, as after a restart."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.open: list[House] = []

    def build(
        self,
        *symbols: str,
        terminal: FakeTerminal | None = None,
        log: FlakyLog | None = None,
        clock: BrokerClock | None = None,
        **more: Any,
    ) -> House:
        terminal = terminal or FakeTerminal(*symbols)
        log = log or FlakyLog()
        client = DirectClient(terminal)
        now = [1_000.0]
        producer = Producer(
            options(self.tmp_path, *symbols, **more),
            client,
            log,
            attach=lambda: Attached({symbol: symbol for symbol in symbols}),
            clock=clock or BrokerClock(ClockRule.parse("fixed+3h")),
            monotonic=lambda: now[0],
        )
        house = House(terminal, client, log, producer, now)
        producer._writer._alive_within_s = 0.02
        producer.prepare()
        house.come_up()
        self.open.append(house)
        return house

    def close(self, house: House) -> None:
        """Stop as a crash would: nothing is said or flushed."""
        self.open.remove(house)
        house.producer._sender.stop()
        house.producer._writer.close()
        house.producer._spool.close()


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[Houses]:
    houses = Houses(tmp_path)
    yield houses
    for house in list(houses.open):
        houses.close(house)


def burst(begin_ms: int, count: int, *, step_ms: int = 100) -> TickArray:
    return tick_rows(*((begin_ms + n * step_ms, 1.1 + n * 1e-5, 1.1002) for n in range(count)))


def same(left: TickArray, right: TickArray) -> bool:
    return left.tobytes() == right.tobytes()


# ---- terminal


def test_up_names_account_and_down_tells_the_reason_once(houses: Houses) -> None:
    house = houses.build("EURUSD")
    [up] = house.events(TerminalUp)
    assert (up.login, up.server, up.build, up.offset_s) == (7, "Demo", 5000, OFFSET_S)
    for _ in range(3):
        house.producer.connection.lost(TerminalHung("copy_ticks_from took 30 s"))
    house.producer._sender.drain(5)
    [down] = house.events(TerminalDown)
    assert (down.reason, down.terminal) == ("hung", "demo")
    assert not house.producer.connection.up
    house.come_up()
    assert len(house.events(TerminalUp)) == 2


def test_another_account_is_an_incident_and_none_of_its_facts_are_recorded(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.look_at_account()
    before = len(house.events(Account))
    house.terminal.account = house.terminal.account.replaced(login=8, balance=5.0)
    house.terminal.positions = (position(1),)
    house.look_at_account()
    assert len(house.events(Account)) == before
    assert house.events(Book) == []
    [down] = house.events(TerminalDown)
    assert down.reason == "wrong_account"
    assert "expected" in down.detail
    assert not house.producer.connection.try_to_come_up()
    house.terminal.account = house.terminal.account.replaced(login=7)
    house.come_up()


def test_an_account_switched_in_the_middle_of_a_look_records_nothing(houses: Houses) -> None:
    house = houses.build("EURUSD")
    foreign = house.terminal.account.replaced(login=8)

    def before(method: str, args: tuple[Any, ...]) -> None:
        if method == "history_deals_get":
            house.terminal.account = foreign
            house.terminal.positions = (position(666),)

    house.client.before = before
    house.look_at_account()
    assert house.events(Book, Account, Marks) == []
    assert house.producer.connection.reason == "wrong_account"


@pytest.mark.parametrize(("field", "value"), [("server", "Other"), ("trade_mode", 2)])
def test_another_server_or_kind_of_account_is_refused(
    houses: Houses, field: str, value: object
) -> None:
    house = houses.build("EURUSD", trade_mode=0)
    house.terminal.account = house.terminal.account.replaced(**{field: value})
    house.producer.connection.down("lost", "for a moment")
    assert not house.producer.connection.try_to_come_up()
    assert house.producer.connection.reason == "wrong_account"


def test_a_terminal_without_broker_is_down_until_it_is_connected_again(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.terminal = house.terminal.terminal.replaced(connected=False)
    house.look_at_account()
    assert [down.reason for down in house.events(TerminalDown)] == ["disconnected"]
    assert not house.producer.connection.try_to_come_up()
    house.terminal.terminal = house.terminal.terminal.replaced(connected=True)
    house.come_up()


def test_one_account_is_recorded_by_one_namespace_only(houses: Houses, tmp_path: Path) -> None:
    first = houses.build("EURUSD")
    producer = Producer(
        options(tmp_path / "other", "EURUSD", namespace="second", holder="the second"),
        first.client,
        first.log,
        attach=lambda: Attached({}),
        clock=BrokerClock(),
    )
    producer._writer._alive_within_s = 0.2
    producer._writer.open()
    first.producer._writer._beat_s = 0.02
    first.producer._writer.start_beating(lambda: None)
    assert not producer.connection.try_to_come_up()
    assert "held by test" in str(producer.connection.refusal)
    assert producer.context.stopping.is_set()
    producer.stop()


# ---- ticks


def test_ticks_arrive_once_in_order_with_offset_and_utc(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.ticks["EURUSD"] = burst(NOW_MS - 5_000, 20)
    house.sweep(3)
    house.terminal.add_ticks("EURUSD", burst(NOW_MS - 2_000, 3, step_ms=0))
    house.sweep(3)
    assert same(house.ticks("EURUSD"), house.terminal.ticks["EURUSD"])
    for batch in house.events(TickBatch):
        assert batch.offset_s == OFFSET_S
        assert batch.event_time_ms == int(batch.ticks["time_msc"].max()) - OFFSET_S * 1000
    state = house.producer.report.symbols["EURUSD"]
    assert (state.ticks, state.state) == (23, "live")


def test_a_first_start_takes_the_last_minute_and_the_backfill_asked_for(houses: Houses) -> None:
    house = houses.build("EURUSD", backfill_s=100)
    house.terminal.ticks["EURUSD"] = burst(NOW_MS - 400_000, 400, step_ms=1_000)
    house.sweep(4)
    assert int(house.ticks("EURUSD")["time"][0]) == pytest.approx(SERVER_NOW_S - 160, abs=3)
    assert same(house.ticks("EURUSD")[-1:], house.terminal.ticks["EURUSD"][-1:])


def test_without_a_clock_a_first_start_begins_at_the_newest_quote(houses: Houses) -> None:
    house = houses.build("EURUSD", clock=BrokerClock())
    house.terminal.ticks["EURUSD"] = burst(NOW_MS - 86_400_000, 200, step_ms=1_000)
    house.sweep(4)
    assert 60 <= len(house.ticks("EURUSD")) <= 63
    assert {b.offset_source for b in house.events(TickBatch)} == {OffsetSource.UNKNOWN}


@pytest.mark.parametrize("seed", range(8))
def test_lost_requests_and_replies_of_the_log_lose_and_double_no_tick(
    houses: Houses, seed: int
) -> None:
    chance = random.Random(seed)
    house = houses.build("EURUSD", "GBPUSD", "USDJPY", page_ticks=chance.choice([5, 50, 1_000]))
    for _ in range(40):
        for symbol in house.terminal.ticks:
            at_ms = int(house.terminal.server_now_s * 1000) - 500
            rows = burst(at_ms, chance.randint(0, 12), step_ms=chance.choice([0, 1, 40]))
            house.terminal.add_ticks(symbol, rows)
        house.log.fail = [chance.choice(["", "", "request", "reply"]) for _ in range(3)]
        house.sweep()
    house.log.fail = []
    house.sweep(8)
    for symbol, truth in house.terminal.ticks.items():
        assert same(house.ticks(symbol), truth), f"seed {seed}, {symbol}"


@pytest.mark.parametrize("seed", range(4))
def test_restarts_at_any_moment_lose_and_double_no_tick(houses: Houses, seed: int) -> None:
    chance = random.Random(seed)
    house = houses.build("EURUSD", "GBPUSD")
    for _ in range(12):
        for _ in range(chance.randint(1, 4)):
            for symbol in house.terminal.ticks:
                at_ms = int(house.terminal.server_now_s * 1000) - 300
                rows = burst(at_ms, chance.randint(0, 6), step_ms=chance.choice([0, 0, 30]))
                house.terminal.add_ticks(symbol, rows)
            house.log.fail = [chance.choice(["", "", "reply"])]
            house.sweep()
        house.log.fail = []
        houses.close(house)
        house = houses.build("EURUSD", "GBPUSD", terminal=house.terminal, log=house.log)
    house.sweep(6)
    for symbol, truth in house.terminal.ticks.items():
        assert same(house.ticks(symbol), truth), f"seed {seed}, {symbol}"


def test_after_an_outage_the_gap_is_pulled_marked_and_told(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.ticks["EURUSD"] = burst(NOW_MS - 5_000, 20)
    house.sweep(4)
    house.producer.connection.lost(TerminalLost("the host died"))
    house.sweep()
    house.pass_time(1_800)
    missed = burst(NOW_MS + 600_000, 50, step_ms=1_000)
    house.terminal.add_ticks("EURUSD", missed)
    house.come_up()
    house.sweep(6)
    assert same(house.ticks("EURUSD"), house.terminal.ticks["EURUSD"])
    late = [b for b in house.events(TickBatch) if b.marks & Mark.BACKFILL]
    assert sum(map(len, late)) >= 50
    house.producer._sender.drain(5)
    healed = house.events(GapHealed)
    assert [(g.symbol, g.reason, g.ticks) for g in healed] == [("EURUSD", "lost", 50)]
    assert healed[0].from_ms == NOW_MS - 5_000 + 1_900 - OFFSET_S * 1000


def test_back_fill_that_comes_in_later_is_found_and_told_again(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.ticks["EURUSD"] = burst(NOW_MS - 5_000, 20)
    house.sweep(4)
    house.producer.connection.lost(TerminalLost("the host died"))
    house.pass_time(600)
    at_ms = int(house.terminal.server_now_s * 1000)
    house.terminal.add_ticks("EURUSD", burst(at_ms, 5))
    house.come_up()
    house.sweep(3)
    rows = house.terminal.ticks["EURUSD"]
    filled = burst(NOW_MS + 60_000, 40, step_ms=1_000)
    house.terminal.ticks["EURUSD"] = np.concatenate([rows[:20], filled, rows[20:]])
    house.sweep(60)
    found = np.sort(house.ticks("EURUSD"), order="time_msc", kind="stable")
    assert same(found, house.terminal.ticks["EURUSD"])
    house.producer._sender.drain(5)
    assert [(g.reason, g.ticks) for g in house.events(GapHealed)] == [
        ("lost", 5),
        ("lost: late back-fill", 40),
    ]


def test_one_hung_symbol_does_not_stop_the_others(houses: Houses) -> None:
    house = houses.build("EURUSD", "GBPUSD", workers=1)
    hanging: Future[Reply] = Future()

    def before(method: str, args: tuple[Any, ...]) -> Future[Reply] | None:
        return hanging if args[:1] == ("EURUSD",) else None

    house.client.before = before
    for number in range(5):
        house.terminal.add_ticks("GBPUSD", burst(NOW_MS + number * 1_000, 4))
        house.terminal.add_ticks("EURUSD", burst(NOW_MS + number * 1_000, 4))
        house.sweep()
    assert len(house.ticks("GBPUSD")) >= 16
    assert len(house.ticks("EURUSD")) == 0
    house.client.before = lambda *_: None
    hanging.set_exception(TerminalHung("symbol_info_tick took 30 s"))
    house.sweep()
    assert house.producer.connection.reason == "hung"
    house.come_up()
    house.sweep(4)
    assert same(house.ticks("EURUSD"), house.terminal.ticks["EURUSD"])


def test_an_unknown_answer_is_no_answer(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.ticks["EURUSD"] = burst(NOW_MS - 5_000, 20)
    house.terminal.unknown = {"copy_ticks_from": (-1, "Terminal: Call failed")}
    house.sweep(4)
    assert "Call failed" in house.producer.report.incidents["EURUSD"]
    assert house.producer.connection.up
    house.terminal.unknown = {}
    house.sweep(4)
    assert same(house.ticks("EURUSD"), house.terminal.ticks["EURUSD"])
    assert "EURUSD" not in house.producer.report.incidents
    house.terminal.unknown = {"copy_ticks_from": (-10004, "No IPC connection")}
    house.sweep(2)
    assert house.producer.connection.reason == "lost"


# ---- account


def test_levels_are_told_when_they_change(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.positions = (position(1),)
    house.terminal.orders = (order(9),)
    house.look_at_account()
    house.look_at_account()
    assert len(house.events(Book)) == 1
    assert len(house.events(Orders)) == 1
    assert len(house.events(Account)) == 1
    assert len(house.events(Marks)) == 2
    house.terminal.positions = (position(1, sl=1.05),)
    house.terminal.orders = ()
    house.terminal.account = house.terminal.account.replaced(equity=1001.0)
    house.look_at_account()
    books = house.events(Book)
    assert [book.positions[0].stop_loss for book in books] == [0.0, 1.05]
    assert house.events(Orders)[-1].orders == ()
    assert house.events(Account)[-1].equity == 1001.0


def test_no_positions_right_after_connecting_is_believed_the_second_time(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.look_at_account()
    assert house.events(Book, Account) == []
    house.pass_time(1.1)
    house.look_at_account()
    assert [book.positions for book in house.events(Book)] == [()]


def test_none_for_positions_is_not_an_empty_book(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.positions = (position(1),)
    house.look_at_account()
    house.terminal.unknown = {"positions_get": (-1, "Terminal: Call failed")}
    house.pass_time(5)
    house.look_at_account()
    assert len(house.events(Book)) == 1


def test_a_trade_opened_and_closed_between_two_polls_is_told_by_its_deals(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.look_at_account()
    house.pass_time(2)
    house.look_at_account()
    house.terminal.deals = (
        deal(11, entry=0, position_id=11),
        deal(12, entry=1, position_id=11, at_s=SERVER_NOW_S + 1, profit=-3.0),
    )
    house.terminal.done_orders = (order(11, done_s=SERVER_NOW_S),)
    for _ in range(3):
        house.pass_time(1)
        house.look_at_account()
    deals = house.events(Deal)
    assert [(d.ticket, d.profit) for d in deals] == [(11, 0.0), (12, -3.0)]
    assert deals[0].event_time_ms == (SERVER_NOW_S - OFFSET_S) * 1000
    assert [done.order.ticket for done in house.events(OrderDone)] == [11]


def test_deals_are_told_once_across_restarts_and_a_lost_spool(
    houses: Houses, tmp_path: Path
) -> None:
    house = houses.build("EURUSD")
    house.terminal.positions = (position(1),)
    house.terminal.deals = tuple(deal(n, at_s=SERVER_NOW_S - n) for n in range(1, 6))
    house.look_at_account()
    houses.close(house)
    house = houses.build("EURUSD", terminal=house.terminal, log=house.log)
    house.terminal.deals += (deal(99),)
    house.look_at_account()
    assert sorted(d.ticket for d in house.events(Deal)) == [1, 2, 3, 4, 5, 99]
    houses.close(house)
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    house = houses.build("EURUSD", terminal=house.terminal, log=house.log)
    house.terminal.deals += (deal(100),)
    house.look_at_account()
    assert sorted(d.ticket for d in house.events(Deal)) == [1, 2, 3, 4, 5, 99, 100]


def test_an_old_pending_order_cancelled_while_we_were_away_is_told(houses: Houses) -> None:
    house = houses.build("EURUSD")
    old_s = SERVER_NOW_S - 20 * 86_400
    house.terminal.positions = (position(1),)
    house.terminal.deals = (deal(1),)
    house.terminal.orders = (order(5, setup_s=old_s),)
    house.look_at_account()
    houses.close(house)
    house = houses.build("EURUSD", terminal=house.terminal, log=house.log)
    house.terminal.orders = ()
    house.terminal.done_orders = (order(5, setup_s=old_s, done_s=SERVER_NOW_S),)
    house.look_at_account()
    assert house.events(OrderDone) == []
    for _ in range(3):
        house.look_back()
    assert [done.order.ticket for done in house.events(OrderDone)] == [5]


# ---- deals of the past

DAY_S = 86_400


def asked_windows(house: House, method: str = "history_deals_get") -> list[tuple[int, int]]:
    return [args for name, args in house.terminal.calls if name == method]


def month_of_deals() -> tuple[Any, ...]:
    return tuple(deal(n, at_s=SERVER_NOW_S - n * DAY_S // 2 - 5) for n in range(50, -1, -1))


def test_a_first_start_looks_at_the_last_days_and_pulls_the_month_before_apart(
    houses: Houses,
) -> None:
    house = houses.build("EURUSD")
    house.terminal.positions = (position(1),)
    house.terminal.deals = month_of_deals()
    house.look_back()
    assert asked_windows(house) == [], "the newest deals come with the first look"
    house.look_at_account()
    [(begin_s, _)] = asked_windows(house)
    assert begin_s >= SERVER_NOW_S - OFFSET_S - 2 * DAY_S
    assert {d.ticket for d in house.events(Deal)} <= set(range(6))
    assert [seen.deals_pending for seen in house.events(Account)] == [True]
    house.terminal.calls.clear()
    for _ in range(4):
        house.look_back()
    windows = asked_windows(house)
    assert max(until_s - begin_s for begin_s, until_s in windows) <= DAY_S + 1
    told = [d.ticket for d in house.events(Deal)]
    assert sorted(told) == list(range(51))
    late = told[told.index(50) :]
    assert late == sorted(late, reverse=True), "oldest first"
    house.look_at_account()
    assert [seen.deals_pending for seen in house.events(Account)] == [True, False]


def test_deals_of_the_past_are_pulled_on_after_a_restart(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.positions = (position(1),)
    house.terminal.deals = month_of_deals()
    house.look_at_account()
    house.look_back()
    came = max(until_s for _, until_s in asked_windows(house)[1:])
    houses.close(house)
    house.terminal.calls.clear()
    house = houses.build("EURUSD", terminal=house.terminal, log=house.log)
    house.look_at_account()
    for _ in range(4):
        house.look_back()
    assert asked_windows(house)[1][0] == came - 1
    assert sorted(d.ticket for d in house.events(Deal)) == list(range(51))


def test_a_history_that_is_still_loading_is_asked_for_again(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.positions = (position(1),)
    house.look_at_account()
    for _ in range(4):
        house.look_back()
    assert house.events(Deal) == []
    house.terminal.deals = month_of_deals()  # now it is there
    for _ in range(3):
        house.pass_time(61)
        for _ in range(4):
            house.look_back()
    house.look_at_account()
    assert sorted(d.ticket for d in house.events(Deal)) == list(range(51))
    house.terminal.calls.clear()
    house.pass_time(61)
    house.look_back()
    assert asked_windows(house) == [], "nothing new came: it is all there"
    houses.close(house)
    house = houses.build("EURUSD", terminal=house.terminal, log=house.log)
    house.look_at_account()
    house.look_back()
    assert len(asked_windows(house)) == 1, "and it stays so after a restart"


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_after_a_long_outage_what_the_look_leaves_out_is_pulled(
    houses: Houses, restart: bool
) -> None:
    house = houses.build("EURUSD", kind="simulated")
    house.terminal.positions = (position(1),)
    house.terminal.deals = (deal(1),)
    house.look_at_account()
    for _ in range(4):
        house.look_back()
    house.pass_time(5 * DAY_S)
    if restart:
        houses.close(house)
        house = houses.build("EURUSD", terminal=house.terminal, log=house.log, kind="simulated")
    house.terminal.calls.clear()
    away = tuple(deal(n, at_s=SERVER_NOW_S + n * DAY_S // 4) for n in range(2, 20))
    house.terminal.deals += away
    house.producer.context.clock.host.heard(Reply(None, (1, ""), house.terminal.utc_now_ms(), 0.0))
    house.look_at_account()
    told = {d.ticket for d in house.events(Deal)}
    assert {19, 18, 17} <= told
    assert not {2, 3, 4} & told
    house.look_back()
    assert sorted(d.ticket for d in house.events(Deal)) == list(range(1, 20))


def test_deals_of_the_past_are_taken_from_our_account_only(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.positions = (position(1),)
    house.look_at_account()
    house.terminal.deals = month_of_deals()
    foreign = house.terminal.account.replaced(login=8)

    def before(method: str, args: tuple[Any, ...]) -> None:
        if method == "history_deals_get":
            house.terminal.account = foreign

    house.client.before = before
    house.look_back()
    assert house.events(Deal) == []
    assert house.producer.connection.reason == "wrong_account"


def test_a_history_host_that_fails_leaves_the_terminal_up(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.positions = (position(1),)
    house.look_at_account()
    house.terminal.deals = month_of_deals()

    def before(method: str, args: tuple[Any, ...]) -> None:
        if method == "history_deals_get":
            raise HistoryLost("no second host")

    house.client.before = before
    house.look_back()
    assert house.producer.connection.up
    assert "no second host" in house.producer.report.incidents["history"]
    house.client.before = lambda *_: None
    house.pass_time(6)
    for _ in range(4):
        house.look_back()
    house.look_at_account()
    assert sorted(d.ticket for d in house.events(Deal)) == list(range(51))


def test_quotes_follow_held_and_conversion_symbols(houses: Houses) -> None:
    house = houses.build("EURJPY", "USDJPY", "EURUSD", "GBPUSD")
    for symbol in house.terminal.ticks:
        house.terminal.ticks[symbol] = burst(NOW_MS, 1)
    house.terminal.positions = (position(1, symbol="EURJPY"),)
    house.look_at_account()
    house.look_at_account()
    [quotes] = house.events(Quotes)
    assert [quote.symbol for quote in quotes.quotes] == ["EURJPY", "EURUSD", "USDJPY"]
    assert quotes.quotes[0].time_ms == NOW_MS - OFFSET_S * 1000


def test_contracts_lie_beside_the_account_with_held_and_conversion_symbols(houses: Houses) -> None:
    house = houses.build("EURJPY", terminal=FakeTerminal("EURJPY", "USDJPY", "EURUSD", "GBPUSD"))
    known = house.terminal.symbols
    known["EURJPY"] = known["EURJPY"].replaced(bid=160.0, ask=160.1, time=SERVER_NOW_S)
    poll = house.producer._contracts.poll
    poll()
    poll()
    house.look_at_account()
    [first] = house.events(Contracts)
    assert [one.symbol for one in first.instruments] == ["EURJPY"]
    [quote] = first.quotes
    assert (quote.bid, quote.ask, quote.time_ms) == (160.0, 160.1, NOW_MS - OFFSET_S * 1000)
    house.terminal.positions = (position(1, symbol="EURJPY"),)
    house.look_at_account()
    poll()
    house.look_at_account()
    told = house.events(Contracts)[1]
    assert {one.symbol for one in told.instruments} == {"EURJPY", "USDJPY", "EURUSD"}
    house.pass_time(301)
    poll()
    house.look_at_account()
    assert len(house.events(Contracts)) == 3


def test_closes_of_held_symbols_are_told_once_per_candle(houses: Houses) -> None:
    house = houses.build("EURUSD", "GBPUSD")
    hours = [SERVER_NOW_S // 3600 * 3600 - 3600 * n for n in range(5, -1, -1)]
    for symbol in ("EURUSD", "GBPUSD"):
        house.terminal.rates[symbol, TIMEFRAME_H1] = candle_rows(3600, hours)
    poll = house.producer._contracts.poll
    poll()
    house.look_at_account()
    assert house.events(Closes) == []
    house.terminal.positions = (position(1, symbol="GBPUSD"),)
    for _ in range(3):
        house.look_at_account()
        house.pass_time(601)
        poll()
    house.look_at_account()
    [closes] = house.events(Closes)
    assert (closes.symbol, closes.timeframe) == ("GBPUSD", "H1")
    assert closes.time_server_s == tuple(hours[:-1])  # the last one is not closed yet
    assert set(closes.close) == {1.15}
    house.terminal.rates["GBPUSD", TIMEFRAME_H1] = candle_rows(3600, [*hours, hours[-1] + 3600])
    house.pass_time(601)
    poll()
    house.look_at_account()
    assert house.events(Closes)[1].time_server_s == tuple(hours)


def test_a_full_spool_loses_no_deal_and_no_level(houses: Houses) -> None:
    house = houses.build("EURUSD")
    house.terminal.positions = (position(1),)
    house.terminal.deals = (deal(1),)
    spool = house.producer._spool
    limit, spool.bytes_max = spool.bytes_max, 10
    house.look_at_account()
    assert house.events(Book, Deal) == []
    assert "bring the log back" in house.producer.report.incidents["spool"]
    spool.bytes_max = limit
    house.look_at_account()
    assert [d.ticket for d in house.events(Deal)] == [1]
    assert len(house.events(Book)) == 1


# ---- instruments


def test_instruments_are_told_when_they_change_and_not_again_after_a_restart(
    houses: Houses,
) -> None:
    house = houses.build("EURUSD")
    poll = house.producer._instruments.poll
    poll()
    house.terminal.symbols["EURUSD"] = house.terminal.symbols["EURUSD"].replaced(
        trade_tick_value=1.001, select=False
    )
    house.producer._instruments.expire()
    poll()
    house.producer._sender.drain(5)
    assert len(house.events(Instrument)) == 1
    assert house.terminal.symbols["EURUSD"].select
    houses.close(house)
    house = houses.build("EURUSD", terminal=house.terminal, log=house.log)
    house.producer._instruments.poll()
    house.terminal.symbols["EURUSD"] = house.terminal.symbols["EURUSD"].replaced(swap_long=-3.0)
    house.producer._instruments.expire()
    house.producer._instruments.poll()
    house.producer._sender.drain(5)
    assert [i.swap_long for i in house.events(Instrument)] == [0.0, -3.0]

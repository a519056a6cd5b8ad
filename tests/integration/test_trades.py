"""An account that trades on its own, through producer, log, groups trades and analytics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from consumers.analytics import AnalyticsHandler
from consumers.analytics import recorded as analytics
from consumers.analytics.adding import added
from consumers.replay.verification import verify_task
from consumers.replay.why.cli import ticket_archive
from consumers.replay.why.ticket import evidence
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.runtime.task import TaskRun
from consumers.trades import TradesHandler
from consumers.trades.asked import opened_archive
from consumers.trades.holdings import holdings
from consumers.trades.recorded import Wanted, recorded
from events.accounting import SELL
from events.analytics import Analytics, SpreadHour
from events.codec import decode, encode
from events.log import SOURCE, Entry, Lane, Log, Slot
from events.memory_log import MemoryLog
from events.postgres import connect, read_newest
from events.redis import RedisLog
from events.settings import Settings, TerminalKind, TerminalSettings
from events.trading import Account, BalanceUnexplained, Book, Deal, TradeUpdate
from producers.cli import build_producer
from tests.integration.persisting import drain
from tests.servers import wait_until

SYMBOLS = ("BTCUSD", "ETHUSD")
"""Open on every day of the week."""
TRADER = {"every_s": 0.12, "hold_max_s": 2.0, "flash_share": 0.3, "pending_share": 0.2}
DEALS_MIN = 50
ALL = Wanted(0, 2**62, open_too=True)


def entries(log: Log, writer: str, lane: Lane) -> list[Entry]:
    return log.between(Slot("demo", writer, 0).stream(lane), count_max=100_000)


def traded(log: Log) -> int:
    return sum(entry.type.startswith("deal.") for entry in entries(log, SOURCE, Lane.HIGH))


def trade_for_a_while(log: Log, folder: Path, margin_mode: int) -> None:
    terminal = TerminalSettings(
        name="demo",
        kind=TerminalKind.SIMULATED,
        symbols=SYMBOLS,
        clock="America/New_York+7h",
        options={
            "seed": 11, "symbols": list(SYMBOLS), "clock": "America/New_York+7h",
            "trader": TRADER, "account": {"margin_mode": margin_mode},
        },
    )  # fmt: skip
    settings = Settings(
        _env_file=None, bridge_state_dir=folder / "state", worker_timeout=5.0,
        price_interval_s=0.1, candle_timeframes=("M1",),
    )  # fmt: skip
    producer, client = build_producer(settings, terminal, log)
    try:
        producer.start()
        wait_until(lambda: traded(log) >= DEALS_MIN, timeout_s=60)
    finally:
        producer.stop()
        client.close()


def derived(log: Log, name: str, handler: type[Handler]) -> None:
    """Run a group over everything there is, and derive it again to the byte."""
    group = Group(name, handler, namespaces=("demo",))
    log.tasks.open_group("demo", name, 1)
    [spec] = group.specs(log)
    taken = log.tasks.acquire(spec.slot, "test", seen=log.tasks.look([spec.slot])[0].token)
    assert taken is not None
    task = TaskRun(log, group, spec, *taken)
    while task.step().entries:
        pass
    again = verify_task(log, group, spec)
    assert again.good, again.as_json()


@pytest.fixture(scope="module", params=[2, 0], ids=["hedging", "netting"])
def traded_log(
    request: pytest.FixtureRequest, servers: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisLog]:
    """An account that traded, with both groups behind it."""
    from events.redis import open_log
    from tests.conftest import REDIS_KINDS

    if not REDIS_KINDS:
        pytest.skip("no Redis binary comes from pip for this system")
    log = open_log(servers.redis(REDIS_KINDS[0]).url)
    log.client.flushall()
    trade_for_a_while(log, tmp_path_factory.mktemp("trading"), request.param)
    derived(log, "trades", TradesHandler)
    derived(log, "analytics", AnalyticsHandler)
    yield log
    log.client.flushall()
    log.close()


def events_of(log: Log, writer: str, lane: Lane, kind: type) -> list[Any]:
    return [e for e in map(decode, entries(log, writer, lane)) if isinstance(e, kind)]


def test_trades_are_the_change_of_the_balance_to_the_cent(traded_log: RedisLog) -> None:
    deals = events_of(traded_log, SOURCE, Lane.HIGH, Deal)
    amounts = {d.ticket: d.profit + d.commission + d.swap + d.fee for d in deals}
    assert len(amounts) == len(deals) >= DEALS_MIN
    updates = {one.key: one for one in events_of(traded_log, "trades", Lane.HIGH, TradeUpdate)}
    operations = sum(amounts[deal.ticket] for deal in deals if deal.type > SELL)
    net = sum(one.trade.net_profit for one in updates.values())
    assert round(net + operations, 2) == round(sum(amounts.values()), 2)
    assert events_of(traded_log, "trades", Lane.HIGH, BalanceUnexplained) == []
    assert all(one.trade.entry_known and not one.doubt for one in updates.values())
    assert sum(one.state == "closed" for one in updates.values()) >= DEALS_MIN // 4
    # Deals and account are no one snapshot, but nearly always both tell of the same moment.
    agreed, looks, told = 0, 0, 0.0
    for event in map(decode, entries(traded_log, SOURCE, Lane.HIGH)):
        if isinstance(event, Deal):
            told += amounts[event.ticket]
        elif isinstance(event, Account):
            looks += 1
            agreed += round(told, 2) == event.balance
    assert agreed >= looks * 0.8 > 0, f"{agreed} of {looks} looks agree"


def test_open_trades_are_the_open_positions(traded_log: RedisLog) -> None:
    """At the last book, but for deals that were told behind it."""
    log = traded_log
    ordered = [decode(entry) for entry in entries(log, SOURCE, Lane.HIGH)]
    last = max(at for at, event in enumerate(ordered) if isinstance(event, Book))
    book = ordered[last]
    assert isinstance(book, Book)
    later = {event.position_id for event in ordered[last:] if isinstance(event, Deal)}
    held = {one.identifier: one.volume_lots for one in book.positions}
    open_now = {
        one.trade.position_id: one.trade.volume_open_lots
        for one in recorded(log, "demo", ALL).updates
        if one.state != "closed"
    }
    for identifier in (held.keys() | open_now.keys()) - later:
        assert open_now.get(identifier) == held.get(identifier), identifier
    [account] = holdings(log)
    assert {one.identifier for one in account.holdings} == held.keys()


def test_analytics_count_every_closed_trade_once_and_know_what_most_deals_cost(
    traded_log: RedisLog,
) -> None:
    told = events_of(traded_log, "analytics", Lane.LOW, Analytics)
    levels = {one.key: one for one in told}
    closed = [one for one in recorded(traded_log, "demo", ALL).updates if one.state == "closed"]
    assert sum(one.trades for one in levels.values()) == len(closed)
    assert sum(one.net_profit for one in levels.values()) == pytest.approx(
        sum(one.trade.net_profit for one in closed)
    )
    measured = sum(one.slippage_deals for one in levels.values())
    assert measured >= len(closed), "of most deals the wanted price is known"
    assert sum(one.spread_cost for one in levels.values()) > 0
    spreads = [
        event
        for number in range(traded_log.namespaces()["demo"])
        for event in map(
            decode,
            traded_log.between(Slot("demo", "analytics", number).stream(Lane.LOW), count_max=9_999),
        )
        if isinstance(event, SpreadHour)
    ]
    assert all(one.symbol in SYMBOLS and one.mean > 0 for one in spreads)


def test_a_ticket_leads_to_its_whole_story(traded_log: RedisLog) -> None:
    closed = [one for one in recorded(traded_log, "demo", ALL).updates if one.state == "closed"]
    for ticket in closed[0].trade.deals[-1], closed[-1].trade.position_id:
        found = evidence(traded_log, "demo", ticket)
        assert found is not None
        kinds = {seen.event.TYPE for seen in found.entries}
        assert {"order_done", "deal", "trade"} <= kinds


def test_trades_come_from_the_database_as_from_the_log(
    traded_log: RedisLog, postgres_url: str
) -> None:
    drain(traded_log, postgres_url)
    updates = {
        one.key: one
        for one in events_of(traded_log, "trades", Lane.HIGH, TradeUpdate)
    }  # fmt: skip
    with connect(postgres_url, application="test") as connection:
        stream = Slot("demo", "trades", 0).stream(Lane.HIGH)
        stored = [decode(one) for one in read_newest(connection, stream, "trade", since_ms=0)]
        rows = connection.execute("SELECT count(*), sum(net_profit) FROM trades").fetchone()
        open_rows = connection.execute("SELECT count(*) FROM trades_open").fetchone()
        hours = connection.execute("SELECT sum(trades) FROM analytics").fetchone()
        some = next(one.trade for one in updates.values() if one.state == "closed")
        forgetful = MemoryLog()
        forgetful.open_namespace("demo", 1)
        archive = ticket_archive(connection, postgres_url)
        story = evidence(forgetful, "demo", some.deals[0], archive=archive)
        nothing = evidence(forgetful, "demo", 424_242, archive=archive)
    assert nothing is None
    live = evidence(traded_log, "demo", some.deals[0])
    assert live is not None
    assert story is not None
    told = {seen.entry for seen in live.entries if isinstance(seen.event, Deal | TradeUpdate)}
    assert told <= {seen.entry for seen in story.entries}
    assert story.archived == len(story.entries)
    assert {one.key: one for one in stored if isinstance(one, TradeUpdate)} == updates
    closed = [one.trade for one in updates.values() if one.state == "closed"]
    assert rows == (len(closed), pytest.approx(sum(trade.net_profit for trade in closed)))
    assert open_rows == (len(updates) - len(closed),)
    assert hours is not None
    assert hours[0] == len(closed)


def test_analytics_come_from_the_database_as_from_the_log_and_add_up_to_the_trades(
    traded_log: RedisLog, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain(traded_log, postgres_url)
    monkeypatch.setenv("POSTGRES_URL", postgres_url)
    wanted = analytics.Wanted(0, 2**62)
    live = analytics.recorded(traded_log, "demo", wanted)
    forgetful = MemoryLog()
    forgetful.open_namespace("demo", 1)
    forgetful.tasks.open_group("demo", "analytics", 1)
    assert analytics.recorded(forgetful, "demo", wanted).trading == ()
    with opened_archive(Settings(_env_file=None), "analytics", "spread") as stored:
        assert analytics.recorded(forgetful, "demo", wanted, stored=stored) == live
        assert analytics.recorded(traded_log, "demo", wanted, stored=stored) == live
    closed = [one for one in recorded(traded_log, "demo", ALL).updates if one.state == "closed"]
    [account] = added(live, "strategy", ZoneInfo("UTC"))
    assert account.total.sums["trades"] == len(closed)
    net = sum(one.trade.net_profit for one in closed)
    assert account.total.sums["net_profit"] == pytest.approx(net)


def test_spreads_come_from_the_database_too(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account above trades for seconds: no hour of a spread is told so soon."""
    monkeypatch.setenv("POSTGRES_URL", postgres_url)
    hour = SpreadHour(event_time_ms=3_600_000, symbol="EURUSD", hour_ms=0, mean=1e-4, point=1e-5)
    full, forgetful = MemoryLog(), MemoryLog()
    for log in full, forgetful:
        log.open_namespace("demo", 1)
        log.tasks.open_group("demo", "analytics", 1)
    claim = full.claim(Slot("demo", "analytics", 0), "test", alive_within_s=0)
    full.append(claim, [encode(hour.model_copy(update={"mean": 9.0})), encode(hour)])
    drain(full, postgres_url)
    with opened_archive(Settings(_env_file=None), "analytics", "spread") as stored:
        found = analytics.recorded(forgetful, "demo", analytics.Wanted(0, 2**62), stored=stored)
    assert found.spreads == (hour,)

"""Group persist against a real database: everything in the log, once, to the byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from events.candles import CandleBatch
from events.codec import AnyEvent, encode
from events.decisions import Command
from events.log import (
    SOURCE,
    Lane,
    NewEntry,
    Slot,
    partition_of,
)
from events.market import Instrument
from events.marks import MARK_DTYPE, Marks
from events.memory_log import MemoryLog
from events.operations import ClockTick
from events.postgres import (
    connect,
    read_entries,
    read_ticks,
)
from events.ticks import RATE_DTYPE, TICK_DTYPE, OffsetSource, TickBatch
from events.trading import (
    Book,
    Deal,
    Order,
    OrderDone,
    Orders,
    Position,
    Trade,
    TradeUpdate,
)
from tests.integration.persisting import (
    BASE_MS,
    PARTITIONS,
    Feed,
    account,
    drain,
    stored_equals_log,
)


def every_kind_of_event() -> list[AnyEvent]:
    """One of each, with values at the edges of what MT5 can give."""
    common: dict[str, Any] = {"event_time_ms": BASE_MS, "recv_time_ms": BASE_MS + 5, "login": 7}
    ticks = np.zeros(3, TICK_DTYPE)
    ticks["time_msc"] = BASE_MS
    ticks["time"] = BASE_MS // 1000
    ticks["volume"][1] = 2**64 - 1
    ticks["flags"] = 6
    ticks["bid"] = [np.nan, np.inf, 1.1]
    zero_time = ticks[:1].copy()
    zero_time["time_msc"] = 0
    candles = np.zeros(1, RATE_DTYPE)
    candles["time"], candles["close"], candles["tick_volume"] = 1_700_000_000 - 800, 1.25, 2**63
    marks = np.zeros(1, MARK_DTYPE)
    marks["ticket"] = 2**63 + 5
    live = OffsetSource.LIVE
    position = Position(
        ticket=2**63 + 5, identifier=1, symbol="EURUSD", side=1, volume_lots=0.1, price_open=1.1,
        magic=2**64 - 1, comment="a\0b", time_ms=BASE_MS, time_server_ms=BASE_MS,
    )  # fmt: skip
    order = Order(
        ticket=1, symbol="EURUSD", type=2, state=1, volume_initial_lots=1, volume_current_lots=1,
        price_open=1.0, time_setup_ms=BASE_MS, time_setup_server_ms=BASE_MS,
    )  # fmt: skip
    deal = Deal(
        **common, ticket=3, order=1, position_id=9, symbol="EURUSD", type=0, entry=0, reason=0,
        volume_lots=1, price=1.1, profit=0, commission=-1.25, swap=0, fee=0, time_server_ms=1,
    )  # fmt: skip
    return [
        TickBatch("EURUSD", ticks, 7200, live, BASE_MS, BASE_MS),
        TickBatch("EURUSD", zero_time, 7200, live, BASE_MS, BASE_MS),
        TickBatch("EURUSD", ticks[:0], 0, OffsetSource.UNKNOWN, 0, 0),
        CandleBatch("EURUSD", "H1", candles, 7200, live, BASE_MS, BASE_MS),
        Marks(7, marks, BASE_MS, BASE_MS, 7200, live),
        Book(**common, positions=(position, position)),
        Book(**common, positions=(position,)),
        Orders(**common, orders=(order,)),
        OrderDone(**common, order=order.model_copy(update={"ticket": 2, "time_done_ms": BASE_MS})),
        deal,
        deal.model_copy(update={"ticket": 4, "type": 1, "entry": 1, "profit": 10.0}),
        deal.model_copy(update={"ticket": 5, "type": 2, "symbol": "", "position_id": 0}),
        *trade_levels(common),
        account(BASE_MS, 1000.0).model_copy(update={"balance": float("nan")}),
        Instrument(
            event_time_ms=BASE_MS, recv_time_ms=BASE_MS, symbol="EURUSD", broker_symbol="EURUSD.x",
            digits=5, point=1e-5, tick_size=1e-5, contract_size=1e5, volume_min_lots=0.01,
            volume_max_lots=100, volume_step_lots=0.01,
        ),
        ClockTick(event_time_ms=2**62),
        Command(event_time_ms=BASE_MS, command_id="c1", verb="halt", issued_by="test"),
    ]  # fmt: skip


def trade_levels(common: dict[str, Any]) -> list[AnyEvent]:
    """A trade while it is open and when it is closed, an open one, and one that never was."""
    trade = Trade(
        position_id=2**63 + 9, symbol="EURUSD", side=1, volume_lots=1, price_entry=1.1,
        price_exit=0.0, open_time_ms=BASE_MS, close_time_ms=0, profit=0.0, commission=-1.25,
        swap=0, fee=0, magic=2**64 - 1, comment="a\0b",
    )  # fmt: skip
    closed = trade.model_copy(
        update={"profit": 10.0, "commission": -2.5, "close_time_ms": BASE_MS + 1}
    )
    reversed_ = trade.model_copy(update={"leg": 1, "entry_known": False, "open_time_ms": 0})
    return [
        TradeUpdate(**common, state="open", trade=trade),
        TradeUpdate(**common, state="closed", trade=closed),
        TradeUpdate(**common, state="open", trade=reversed_, doubt="odd"),
        TradeUpdate(**common, state="closed", trade=closed.model_copy(update={"leg": 2})),
        TradeUpdate(**common, state="withdrawn", trade=trade.model_copy(update={"leg": 2})),
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_in_the_log_is_stored_once_to_the_byte(postgres_url: str, workers: int) -> None:
    feed = Feed(MemoryLog(), seed=1)
    feed.append(200)
    group = drain(feed.log, postgres_url, workers=workers)
    stored_equals_log(feed, postgres_url)
    feed.append(50)
    again = drain(feed.log, postgres_url, workers=workers)
    stored_equals_log(feed, postgres_url)
    assert group.progress().ticks > again.progress().ticks > 0


def test_every_kind_of_event_comes_back_to_the_byte_and_in_the_views(postgres_url: str) -> None:
    log = MemoryLog()
    log.open_namespace("demo", 1)
    claim = log.claim(Slot("demo", SOURCE, 0), "test", alive_within_s=0.1)
    log.append(claim, [encode(event) for event in every_kind_of_event()])
    drain(log, postgres_url)
    with connect(postgres_url, application="test") as connection:
        for stream in claim.slot.streams():
            assert read_entries(connection, stream) == log.between(stream, count_max=1000)

        def rows(query: str) -> list[tuple[object, ...]]:
            return connection.execute(query).fetchall()

        assert rows("SELECT ticket, magic, comment FROM positions_open") == [
            (2**63 + 5, 2**64 - 1, "a\ufffdb")
        ]
        assert rows("SELECT ticket FROM marks") == [(2**63 + 5,)]
        assert rows(
            "SELECT symbol, position_id, side, net_profit, magic, close_time > open_time"
            " FROM trades"
        ) == [("EURUSD", 2**63 + 9, "sell", 7.5, 2**64 - 1, True)]
        assert rows("SELECT leg, open_time, entry_known, doubt FROM trades_open") == [
            (1, None, False, "odd")
        ]
        assert rows("SELECT done, ticket FROM orders ORDER BY done") == [(False, 1), (True, 2)]
        assert rows("SELECT count(*) FROM deals WHERE symbol IS NULL") == [(1,)]
        assert rows("SELECT symbol, digits FROM instruments") == [("EURUSD", 5)]
        assert rows("SELECT volume, flags FROM ticks WHERE volume > 0") == [(2**64 - 1, 6)]
        assert rows("SELECT timeframe, close, server_time::text FROM candles") == [
            ("H1", 1.25, "2023-11-14 22:00:00")
        ]
        assert rows("SELECT balance::text, free_margin FROM account_metrics") == [("NaN", 1000.0)]
        assert rows("SELECT body->>'verb' FROM events WHERE type = 'command.1'") == [("halt",)]


def test_an_unknown_entry_is_kept_raw_and_the_offset_moves_on(postgres_url: str) -> None:
    feed = Feed(MemoryLog(), seed=2)
    feed.append(5)
    feed.log.append(feed.claims[0], [NewEntry(Lane.HIGH, "surprise.9", "k", b"\x00\xff")])
    feed.append(5)
    assert drain(feed.log, postgres_url).progress().dead == 1
    stored_equals_log(feed, postgres_url)
    assert drain(feed.log, postgres_url).progress().entries == 0


def test_rows_that_the_database_refuses_are_kept_raw_and_the_others_stored(
    postgres_url: str,
) -> None:
    feed = Feed(MemoryLog(), seed=3)
    with connect(postgres_url, application="test") as connection:
        connection.execute("ALTER TABLE raw.accounts ADD CHECK (balance < 1e6)")
    for balance in (1.0, 2e6, 2.0):
        feed.append(3)
        feed.log.append(feed.claims[0], [encode(account(feed.now_ms, balance))])
    assert drain(feed.log, postgres_url).progress().dead == 1
    stored_equals_log(feed, postgres_url)
    with connect(postgres_url, application="test") as connection:
        [(error,)] = connection.execute("SELECT error FROM dead_entries").fetchall()
        assert "accounts_balance_check" in error
        balances = connection.execute("SELECT balance FROM accounts WHERE balance < 10").fetchall()
        assert sorted(balances) == [(1.0,), (2.0,)]


def test_operators_see_the_durable_offset(postgres_url: str) -> None:
    feed = Feed(MemoryLog(), seed=12)
    feed.append(30)
    drain(feed.log, postgres_url)
    for stream, entries in feed.entries().items():
        mirrored = feed.log.groups(stream)[f"persist.{stream.slot.partition}"]
        assert mirrored.offset == entries[-1].id
        assert mirrored.entries_read == len(entries)
        assert mirrored.lag == 0


def test_ticks_of_a_span_are_read_back_in_the_order_of_the_log(postgres_url: str) -> None:
    feed = Feed(MemoryLog(), seed=13)
    feed.append(60)
    drain(feed.log, postgres_url)
    partition = partition_of("EURUSD", PARTITIONS)
    stream = feed.claims[partition].slot.stream(Lane.NORMAL)
    batches = [
        TickBatch.from_bytes("EURUSD", entry.data).ticks
        for entry in feed.log.between(stream, count_max=1000)
        if entry.key == "EURUSD"
    ]
    expected = np.concatenate(batches)
    until_ms = int(np.median(expected["time_msc"]))
    with connect(postgres_url, application="test") as connection:
        whole = read_ticks(connection, "demo", "EURUSD")
        half = read_ticks(connection, "demo", "EURUSD", until_server_ms=until_ms)
        nothing = read_ticks(connection, "demo", "NZDUSD")
        place = feed.log.between(stream, count_max=5)[-1].id
        later = read_ticks(connection, "demo", "EURUSD", after={stream: place})
    assert whole.tobytes() == expected.tobytes()
    assert half.tobytes() == expected[expected["time_msc"] < until_ms].tobytes()
    assert len(nothing) == 0
    behind = [
        TickBatch.from_bytes("EURUSD", entry.data).ticks
        for entry in feed.log.between(stream, place.next(), count_max=1000)
        if entry.key == "EURUSD"
    ]
    assert 0 < len(later) < len(whole)
    assert later.tobytes() == np.concatenate(behind).tobytes()

"""Group persist against a real database: every row once, whatever fails."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from consumers.persist import PersistGroup, PersistOptions, all_slots
from consumers.persist.reading import advanced
from events.candles import CandleBatch
from events.codec import AnyEvent, encode
from events.decisions import Command
from events.log import (
    SOURCE,
    Claim,
    Entry,
    Lane,
    Log,
    LogUnavailable,
    NewEntry,
    Slot,
    Stream,
    StreamInfo,
    partition_of,
)
from events.market import Instrument
from events.marks import MARK_DTYPE, Marks
from events.memory_log import MemoryLog
from events.operations import ClockTick
from events.postgres import (
    DatabaseUnavailable,
    OffsetMove,
    Sink,
    SinkBatch,
    SinkFenced,
    StoredOffset,
    connect,
    count_ticks,
    migrate,
    read_entries,
    read_offsets,
    read_ticks,
)
from events.postgres.connection import Connection
from events.postgres.offsets import Ownership
from events.ticks import RATE_DTYPE, TICK_DTYPE, Mark, OffsetSource, TickBatch
from events.trading import Account, Book, Deal, Order, OrderDone, Orders, Position
from tests.postgres_server import PostgresServer
from tests.servers import wait_until

SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD")
BASE_MS = 1_700_000_000_000
PARTITIONS = 2


@dataclass
class Feed:
    """Appends random batches to a log and remembers every entry as the log has it."""

    log: Log
    seed: int
    namespace: str = "demo"
    now_ms: int = BASE_MS
    claims: dict[int, Claim] = field(default_factory=dict)
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.log.open_namespace(self.namespace, PARTITIONS)
        for partition in range(PARTITIONS):
            slot = Slot(self.namespace, SOURCE, partition)
            self.claims[partition] = self.log.claim(slot, "feed", alive_within_s=0.1)

    def append(self, batches: int) -> None:
        for _ in range(batches):
            symbol = self.random.choice(SYMBOLS)
            partition = partition_of(symbol, PARTITIONS)
            entries: list[NewEntry] = [encode(self.ticks(symbol))]
            if self.random.random() < 0.1 and partition == 0:
                entries.append(encode(account(self.now_ms)))
            self.log.append(self.claims[partition], entries)

    def ticks(self, symbol: str) -> TickBatch:
        count = self.random.randint(1, 40)
        self.now_ms += self.random.randint(0, 2000)
        return ticks_of(symbol, self.now_ms, count, chance=self.random)

    def entries(self) -> dict[Stream, list[Entry]]:
        streams = [stream for claim in self.claims.values() for stream in claim.slot.streams()]
        return {
            stream: entries
            for stream in streams
            if (entries := self.log.between(stream, count_max=100_000))
        }


def ticks_of(symbol: str, server_ms: int, count: int, *, chance: random.Random) -> TickBatch:
    ticks = np.zeros(count, TICK_DTYPE)
    ticks["time_msc"] = server_ms + np.sort([chance.randint(0, 50) for _ in range(count)])
    ticks["time"] = ticks["time_msc"] // 1000
    ticks["bid"] = 1 + chance.random()
    ticks["ask"] = ticks["bid"] + 0.0001
    ticks["flags"] = 6
    newest_ms = int(ticks["time_msc"].max()) - 7_200_000
    source = OffsetSource.LIVE
    return TickBatch(symbol, ticks, 7200, source, newest_ms, newest_ms + 5, Mark.NONE)


def account(now_ms: int, balance: float = 1000.5) -> Account:
    return Account(
        event_time_ms=now_ms, recv_time_ms=now_ms, login=7, server="Demo", currency="USD",
        trade_mode=0, margin_mode=2, leverage=100, balance=balance, credit=0, profit=0,
        equity=balance, margin=0, margin_free=balance, margin_level_percent=0,
    )  # fmt: skip


@dataclass
class Shared:
    """A log whose `close` leaves it open for the next session."""

    log: Log
    fail: bool = False

    def __getattr__(self, name: str) -> object:
        if self.fail and name in {"read", "info", "between"}:
            raise LogUnavailable("log is away")
        return getattr(self.log, name)

    def close(self) -> None:
        """The test closes it."""


def options(log: Log | Shared, dsn: str, **changes: object) -> PersistOptions:
    shared = log if isinstance(log, Shared) else Shared(log)
    made = PersistOptions(dsn, lambda: shared, all_slots(), "test:1")  # type: ignore[arg-type, return-value] # forwards all
    return replace(made, **changes)  # type: ignore[arg-type] # names of its fields


def drain(log: Log | Shared, dsn: str, *, workers: int = 1, **changes: object) -> PersistGroup:
    group = PersistGroup(options(log, dsn, until_idle=True, **changes), workers=workers)
    group.start()
    assert group.join(60), group.progress()
    return group


def stored_equals_log(feed: Feed, dsn: str) -> None:
    """Every entry of the log is stored once, equal to the byte."""
    expected = feed.entries()
    with connect(dsn, application="test") as connection:
        for stream, entries in expected.items():
            assert read_entries(connection, stream) == entries
        stored = sum(count_ticks(connection, feed.namespace).values())
    assert stored == ticks_in(feed)


@pytest.fixture(scope="module")
def crashing_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A durable server that tests may crash."""
    server = PostgresServer(tmp_path_factory.mktemp("crash") / "pgdata", durable=True).start()
    try:
        yield server
    finally:
        server.kill()


class NotVolatile(MemoryLog):
    """A log in memory that claims to be durable; `removed` entries are gone from each stream."""

    volatile = False
    removed = 0

    def info(self, stream: Stream) -> StreamInfo:
        return replace(info := super().info(stream), length=max(0, info.length - self.removed))


@dataclass
class Held:
    """A sink and the offsets it read when it took the slots."""

    sink: Sink
    offsets: dict[Stream, StoredOffset]


@contextmanager
def fenced_pair(feed: Feed, dsn: str, *, lives_on: bool = False) -> Iterator[tuple[Held, Held]]:
    """A sink that was stopped for a while, and the one that took its slots over."""
    now = [0.0]
    slots = [claim.slot for claim in feed.claims.values()]
    with closing(Sink(dsn, "persist", holder="zombie")) as zombie:
        taken = zombie.acquire(slots)
        heir = Sink(dsn, "persist", holder="heir", lease_s=5, monotonic=lambda: now[0])
        with closing(heir):
            assert heir.acquire(slots) == {}
            assert heir.holder_of(slots[0]) == "zombie"
            zombie.beat()
            now[0] = 6.0
            assert heir.acquire(slots) == {}, "the zombie still beat"
            now[0] = 12.0
            if lives_on:
                with connect(dsn, application="test") as connection:
                    connection.execute("UPDATE raw.offsets SET backend_pid = 0")
            inherited = heir.acquire(slots)
            assert inherited == taken
            yield tuple(
                Held(sink, {o.stream: o for offsets in each.values() for o in offsets})
                for sink, each in ((zombie, taken), (heir, inherited))
            )  # type: ignore[misc] # two of two


def one_portion(held: Held, feed: Feed) -> tuple[SinkBatch, list[OffsetMove]]:
    entries = [entry for entries in feed.entries().values() for entry in entries]
    batch = held.sink.build(entries)
    after = advanced(held.offsets, entries, batch.ticks_by_stream)
    return batch, [OffsetMove(held.offsets[stream], offset) for stream, offset in after.items()]


def waits_for_lock(connection: Connection) -> bool:
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").fetchone()
    return bool(row and row[0])


@contextmanager
def flowing(feed: Feed) -> Iterator[None]:
    """Entries flow into the log meanwhile."""
    stop = threading.Event()

    def flow() -> None:
        while not stop.wait(0.005):
            feed.append(4)

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def ticks_in(feed: Feed) -> int:
    return sum(
        (len(entry.data) - 32) // TICK_DTYPE.itemsize
        for entries in feed.entries().values()
        for entry in entries
        if entry.type.startswith("ticks")
    )


def stored_all(feed: Feed, dsn: str) -> bool:
    with connect(dsn, application="test") as connection:
        return sum(count_ticks(connection, feed.namespace).values()) == ticks_in(feed)


def finish(group: PersistGroup, feed: Feed, dsn: str) -> None:
    """Let the group store what is left, then end it."""
    wait_until(lambda: stored_all(feed, dsn), timeout_s=60, what="everything to be stored")
    group.stop()
    assert group.join(20)


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
        account(BASE_MS, 1000.0).model_copy(update={"balance": float("nan")}),
        Instrument(
            event_time_ms=BASE_MS, recv_time_ms=BASE_MS, symbol="EURUSD", broker_symbol="EURUSD.x",
            digits=5, point=1e-5, tick_size=1e-5, contract_size=1e5, volume_min_lots=0.01,
            volume_max_lots=100, volume_step_lots=0.01,
        ),
        ClockTick(event_time_ms=2**62),
        Command(event_time_ms=BASE_MS, command_id="c1", verb="halt", issued_by="test"),
    ]  # fmt: skip


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
        assert rows("SELECT symbol, net_profit FROM trades") == [("EURUSD", 7.5)]
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


def test_a_full_disk_is_waited_for_and_nothing_is_lost_or_doubled(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed(MemoryLog(), seed=4)
    feed.append(20)
    with connect(postgres_url, application="test") as connection:
        connection.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;"
            " CREATE TRIGGER full_disk BEFORE INSERT ON raw.ticks EXECUTE FUNCTION full_disk()"
        )
        group = PersistGroup(options(feed.log, postgres_url))
        group.start()
        wait_until(lambda: "disk is full" in group.progress().waiting, what="the full disk")
        feed.append(20)
        connection.execute("DROP TRIGGER full_disk ON raw.ticks")
        wait_until(lambda: not group.progress().waiting, what="storing again")
    finish(group, feed, postgres_url)
    assert sum("disk is full" in record.message for record in caplog.records) == 1
    stored_equals_log(feed, postgres_url)


def test_a_locked_table_holds_storing_up_and_loses_nothing(postgres_url: str) -> None:
    feed = Feed(MemoryLog(), seed=5)
    group = PersistGroup(options(feed.log, postgres_url))
    with connect(postgres_url, application="test", autocommit=False) as connection:
        connection.execute("LOCK TABLE raw.ticks IN ACCESS EXCLUSIVE MODE")
        group.start()
        feed.append(30)
        wait_until(lambda: waits_for_lock(connection), what="the sink to wait for the lock")
        connection.rollback()
    finish(group, feed, postgres_url)
    stored_equals_log(feed, postgres_url)


def test_a_log_that_is_away_is_waited_for(postgres_url: str) -> None:
    feed = Feed(MemoryLog(), seed=6)
    shared = Shared(feed.log)
    feed.append(10)
    group = PersistGroup(options(shared, postgres_url))
    group.start()
    wait_until(lambda: group.progress().entries > 0, what="the first entries")
    shared.fail = True
    wait_until(lambda: "log is away" in group.progress().waiting, what="the log to be missed")
    feed.append(10)
    shared.fail = False
    finish(group, feed, postgres_url)
    stored_equals_log(feed, postgres_url)


def test_a_second_group_stands_by_and_takes_over(postgres_url: str) -> None:
    feed = Feed(MemoryLog(), seed=7)
    first, second = (PersistGroup(options(feed.log, postgres_url)) for _ in range(2))
    first.start()
    wait_until(lambda: len(first.progress().held) == PARTITIONS + 1, what="the first to hold all")
    second.start()
    feed.append(10)
    wait_until(lambda: stored_all(feed, postgres_url), what="the first to store")
    assert second.progress().held == ()
    first.stop()
    assert first.join(20)
    feed.append(10)
    wait_until(lambda: len(second.progress().held) == PARTITIONS + 1, what="the take-over")
    finish(second, feed, postgres_url)
    stored_equals_log(feed, postgres_url)


def test_a_zombie_is_fenced_and_stores_nothing(postgres_url: str) -> None:
    feed = Feed(MemoryLog(), seed=8)
    feed.append(20)
    with fenced_pair(feed, postgres_url) as (zombie, heir):
        zombie_batch, heir_batch = (one_portion(sink, feed) for sink in (zombie, heir))
        heir.sink.write(*heir_batch)
        with pytest.raises((SinkFenced, DatabaseUnavailable)):
            zombie.sink.write(*zombie_batch)
        with pytest.raises((SinkFenced, DatabaseUnavailable)):
            zombie.sink.beat()
    drain(feed.log, postgres_url)
    stored_equals_log(feed, postgres_url)


def test_without_the_fence_the_zombie_doubles_rows_and_the_checker_sees_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(MemoryLog(), seed=8)
    feed.append(20)
    with fenced_pair(feed, postgres_url, lives_on=True) as (zombie, heir):
        monkeypatch.setattr(Ownership, "advance", lambda self, moves: None)
        for sink in (zombie, heir):
            sink.sink.write(*one_portion(sink, feed))
    with pytest.raises((AssertionError, LookupError)):
        stored_equals_log(feed, postgres_url)


@pytest.mark.parametrize("cut", ["gone", "another"])
def test_a_log_that_was_cut_and_regrown_halts_its_slot(postgres_url: str, cut: str) -> None:
    former = Feed(NotVolatile(now_ms=lambda: BASE_MS), seed=9)
    former.append(20)
    drain(former.log, postgres_url)
    # The same ids again, with other entries; or a log whose ids have not come so far.
    regrown = Feed(NotVolatile(now_ms=lambda: BASE_MS - (cut == "gone")), seed=10)
    regrown.append(30)
    progress = drain(regrown.log, postgres_url).progress()
    assert len(progress.halted) == PARTITIONS
    why = "gone from the log" if cut == "gone" else "is not the one that was stored"
    assert all(why in text and "--accept-new-log" in text for text in progress.halted.values())
    stored_equals_log(former, postgres_url)
    with connect(postgres_url, application="test") as connection:
        assert any("is halted" in row.halted for row in read_offsets(connection, "persist"))
    drain(regrown.log, postgres_url, accept_new_log=True)
    stored = {**{symbol: 0 for symbol in SYMBOLS}}
    with connect(postgres_url, application="test") as connection:
        for stream, entries in regrown.entries().items():
            assert read_entries(connection, stream) == entries
        stored |= count_ticks(connection, "demo")
    assert sum(stored.values()) == ticks_in(former) + ticks_in(regrown)


def test_entries_trimmed_before_they_were_stored_halt_the_slot(postgres_url: str) -> None:
    feed = Feed(NotVolatile(), seed=11)
    feed.append(20)
    drain(feed.log, postgres_url)
    feed.append(20)
    assert isinstance(feed.log, NotVolatile)
    feed.log.removed = 25
    progress = drain(feed.log, postgres_url).progress()
    assert progress.halted
    assert all("removed from the log before" in why for why in progress.halted.values())


def test_operators_see_the_durable_offset(postgres_url: str) -> None:
    feed = Feed(MemoryLog(), seed=12)
    feed.append(30)
    drain(feed.log, postgres_url)
    for stream, entries in feed.entries().items():
        mirrored = feed.log.groups(stream)["persist"]
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


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3))])
def test_crashes_of_the_database_under_load_lose_and_double_nothing(
    crashing_postgres: PostgresServer, seed: int
) -> None:
    name = f"crash_{seed}"
    dsn = crashing_postgres.create_database(name)
    migrate(dsn)
    feed = Feed(MemoryLog(), seed=seed)
    group = PersistGroup(options(feed.log, dsn), workers=2)
    group.start()
    chance = random.Random(seed)
    with flowing(feed):
        for _ in range(2):
            commits = group.progress().commits
            wait_until(lambda seen=commits: group.progress().commits > seen + 3, what="storing")  # type: ignore[misc] # mypy cannot infer
            threading.Event().wait(chance.random() / 5)
            crashing_postgres.restart("immediate")
    finish(group, feed, dsn)
    stored_equals_log(feed, dsn)

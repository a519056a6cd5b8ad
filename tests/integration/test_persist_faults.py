"""Group persist when database, log or another holder fails: nothing lost, nothing doubled."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from consumers.persist import PersistGroup
from consumers.persist.reading import advanced
from events.log import Slot, Stream
from events.memory_log import MemoryLog
from events.postgres import (
    DatabaseUnavailable,
    OffsetMove,
    Sink,
    SinkBatch,
    SinkFenced,
    StoredOffset,
    connect,
    migrate,
    read_offsets,
)
from events.postgres.connection import Connection
from events.postgres.offsets import Ownership
from tests.integration.persisting import (
    BASE_MS,
    PARTITIONS,
    Feed,
    NotVolatile,
    Shared,
    drain,
    finish,
    flowing,
    options,
    stored_equals_log,
)
from tests.postgres_server import PostgresServer
from tests.servers import wait_until


@pytest.fixture(scope="module")
def crashing_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A durable server that tests may crash."""
    server = PostgresServer(tmp_path_factory.mktemp("crash") / "pgdata", durable=True).start()
    try:
        yield server
    finally:
        server.kill()


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
    shared.fail = False
    wait_until(lambda: not group.progress().waiting, what="the log to be back, with nothing new")
    feed.append(10)
    finish(group, feed, postgres_url)
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


def test_who_was_late_takes_nothing_and_ends_nobody(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(MemoryLog(), seed=8)
    slots = [claim.slot for claim in feed.claims.values()]
    take = Ownership._take
    with (
        closing(Sink(postgres_url, "persist", holder="fast")) as fast,
        closing(Sink(postgres_url, "persist", holder="late")) as late,
    ):

        def overtaken(self: Ownership, slot: Slot, free: Any) -> tuple[StoredOffset, ...]:
            if self is late._ownership:
                fast.acquire([slot])
            return take(self, slot, free)

        monkeypatch.setattr(Ownership, "_take", overtaken)
        assert late.acquire(slots) == {}
        assert set(fast.slots) == set(slots)
        fast.beat()
        fast._connection.execute("SELECT 1")


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
    why = "the log ends at" if cut == "gone" else "is not the one that was done"
    assert all(why in text and "bridgectl repair" in text for text in progress.halted.values())
    stored_equals_log(former, postgres_url)
    with connect(postgres_url, application="test") as connection:
        assert any("is halted" in row.halted for row in read_offsets(connection, "persist"))


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

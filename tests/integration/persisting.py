"""A log that is fed from a seed, group persist over it, and the checker of what was stored."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from consumers.persist import PersistGroup, PersistOptions, all_slots
from events.codec import encode
from events.log import (
    SOURCE,
    Claim,
    Entry,
    Log,
    LogUnavailable,
    NewEntry,
    Slot,
    Stream,
    StreamInfo,
    partition_of,
)
from events.memory_log import MemoryLog
from events.postgres import (
    connect,
    count_ticks,
    read_entries,
)
from events.ticks import TICK_DTYPE, Mark, OffsetSource, TickBatch
from events.trading import Account
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


class NotVolatile(MemoryLog):
    """A log in memory that claims to be durable; `removed` entries are gone from each stream."""

    volatile = False
    removed = 0

    def info(self, stream: Stream) -> StreamInfo:
        return replace(info := super().info(stream), length=max(0, info.length - self.removed))


def options(log: Log | Shared, dsn: str, **changes: object) -> PersistOptions:
    shared = log if isinstance(log, Shared) else Shared(log)
    made = PersistOptions(dsn, lambda: shared, all_slots(), "test:1")  # type: ignore[arg-type, return-value] # forwards all
    return replace(made, **changes)  # type: ignore[arg-type] # names of its fields


def drain(log: Log | Shared, dsn: str, *, workers: int = 1, **changes: object) -> PersistGroup:
    group = PersistGroup(options(log, dsn, until_idle=True, **changes), workers=workers)
    group.start()
    assert group.join(60), group.progress()
    return group


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


def stored_equals_log(feed: Feed, dsn: str) -> None:
    """Every entry of the log is stored once, equal to the byte."""
    expected = feed.entries()
    with connect(dsn, application="test") as connection:
        for stream, entries in expected.items():
            assert read_entries(connection, stream) == entries
        stored = sum(count_ticks(connection, feed.namespace).values())
    assert stored == ticks_in(feed)


def finish(group: PersistGroup, feed: Feed, dsn: str) -> None:
    """Let the group store what is left, then end it."""
    wait_until(lambda: stored_all(feed, dsn), timeout_s=60, what="everything to be stored")
    group.stop()
    assert group.join(20)

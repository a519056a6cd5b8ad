"""The whole chain (terminal, producer, log, a group of handlers, persist) while the log suffers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from consumers.persist import PersistGroup, all_slots
from consumers.persist.worker import PersistOptions
from consumers.repair import Repair
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.workers.taking import WorkerOptions
from consumers.workers.worker import Worker
from events.codec import AnyEvent, decode, encode
from events.decisions import TradeSignal
from events.log import SOURCE, Entry, Lane, Log, Slot
from events.postgres import connect, read_entries, read_ticks
from events.postgres.connection import Connection
from events.redis import RedisLog, open_log
from events.ticks import TickArray, TickBatch
from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal
from tests.integration.persisting import Feed
from tests.integration.test_producer import (
    OPTIONS,
    SYMBOLS,
    assert_is_truth,
    running,
    settings_in,
    simulated,
    ticks_in,
    wait_for_ticks,
)
from tests.integration.test_repair import SOURCE_SLOTS, Past
from tests.redis_topologies import BINARY, redis_cluster, sentinel_desk
from tests.servers import RedisServer, wait_until

PARTITIONS = 4
GROUP = "count"


class Counting(Handler):
    """Says how many ticks of a symbol it has seen, and a checksum over all of them in order."""

    types = frozenset({"ticks"})

    def handle(self, event: AnyEvent) -> Iterable[AnyEvent]:
        assert isinstance(event, TickBatch)
        count, checksum = self.state.get(event.symbol, [0, 0])
        count += len(event.ticks)
        checksum = crc32(event.ticks.tobytes(), checksum)
        self.state[event.symbol] = [count, checksum]
        yield TradeSignal(
            event_time_ms=event.event_time_ms, strategy=GROUP, symbol=event.symbol, target="flat",
            reason=f"{count} {checksum}",
        )  # fmt: skip


@dataclass
class Chain:
    """Everything behind the producer, each with connections of its own."""

    url: str
    dsn: str
    logs: list[RedisLog] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def open(self) -> RedisLog:
        self.logs.append(open_log(self.url))
        return self.logs[-1]

    def start(self) -> None:
        group = Group(GROUP, Counting)
        # Opening the group needs the namespace, which the producer makes.
        self.worker = Worker(
            self.open(), group, WorkerOptions("test", lease_s=1.0, mirror_s=0.2),
            beat_log=self.open(),
        )  # fmt: skip
        self.persist = PersistGroup(
            PersistOptions(self.dsn, self.open_for_persist, all_slots(), "test:1")
        )
        self.threads = [threading.Thread(target=self.worker.run, name="worker", daemon=True)]
        self.threads[0].start()
        self.persist.start()

    def open_for_persist(self) -> Log:
        return open_log(self.url)  # it closes its own

    def stop(self) -> None:
        self.worker.stopping = True
        self.persist.stop()
        for thread in self.threads:
            thread.join(20)
        assert self.persist.join(20)
        for log in self.logs:
            log.close()


@contextmanager
def chain(url: str, dsn: str) -> Iterator[Chain]:
    made = Chain(url, dsn)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def source_ticks(log: Log, partition: int) -> list[Entry]:
    stream = Slot("demo", SOURCE, partition).stream(Lane.NORMAL)
    return [e for e in log.between(stream, count_max=100_000) if e.type.startswith("ticks.")]


def derived(log: Log, partition: int) -> list[Entry]:
    return log.between(Slot("demo", GROUP, partition).stream(Lane.NORMAL), count_max=100_000)


def expected(log: Log, partition: int) -> list[tuple[str, bytes]]:
    """What the group must have derived of what is in the log: the same function, run once."""
    handler = Counting()
    handler.state = {}  # type: ignore[assignment] # a plain dict does for this
    found = []
    for entry in source_ticks(log, partition):
        for event in handler.handle(decode(entry)):
            found.append((entry.place, encode(event).data))
    return found


def check_derived(log: Log) -> None:
    for partition in range(PARTITIONS):
        outputs = derived(log, partition)
        assert [(entry.cause, entry.data) for entry in outputs] == expected(log, partition)
        assert [entry.id.seq for entry in outputs] == list(range(1, len(outputs) + 1))


def all_derived(log: Log) -> bool:
    return all(
        len(derived(log, number)) == len(source_ticks(log, number)) for number in range(PARTITIONS)
    )


def stored_all_ticks(log: Log, dsn: str) -> bool:
    with connect(dsn, application="test") as connection:
        return all(
            np.array_equal(
                np.sort(read_ticks(connection, "demo", symbol)),
                np.sort(ticks_in(log, "demo", symbol)),
            )
            for symbol in SYMBOLS
        )


def check_everything(log: Log, dsn: str) -> None:
    wait_until(lambda: all_derived(log), timeout_s=40, what="everything is derived")
    check_derived(log)
    wait_until(lambda: stored_all_ticks(log, dsn), timeout_s=40, what="every tick is stored")
    assert_is_truth(log)
    with connect(dsn, application="test") as connection:
        for partition in range(PARTITIONS):
            stream = Slot("demo", GROUP, partition).stream(Lane.NORMAL)
            wait_until(
                lambda stream=stream, partition=partition: (
                    read_entries(connection, stream)  # type: ignore[misc] # mypy cannot infer
                    == derived(log, partition)
                ),
                what="what was derived is stored",
            )


def test_after_a_failover_that_lost_its_tail_everything_is_whole_again(
    postgres_url: str, tmp_path: Path
) -> None:
    """The replica lacks what came last; the database has it. Producers heal by themselves,
    persist halts, `repair` finds the last common entry, and all goes on."""
    with (
        sentinel_desk(tmp_path / "desk") as desk,
        closing(open_log(desk.url)) as log,
        running(settings_in(tmp_path), simulated(), log) as (producer, _),
        chain(desk.url, postgres_url) as behind,
    ):
        wait_for_ticks(log, 20)
        wait_until(lambda: behind.persist.progress().ticks > 20, what="stored")
        desk.lose_tail()
        wait_for_ticks(log, 20)
        stored = behind.persist.progress().ticks
        wait_until(lambda: behind.persist.progress().ticks > stored + 10, what="stored")
        desk.fail_over()
        wait_until(
            lambda: bool(producer.context.report.counters["log_rewinds"]),
            timeout_s=30, what="the producer notices",
        )  # fmt: skip
        wait_until(lambda: bool(behind.persist.progress().halted), what="persist halts")
        wait_for_ticks(log, 20)
        with connect(postgres_url, application="test") as connection:
            mend = Repair(log, connection, kept_folder=tmp_path / "forks", stamp="now")
            steps = list(mend.run())
        assert any(done.rows_removed.get("ticks") for _, done in steps)
        wait_until(lambda: not behind.persist.progress().halted, what="persist goes on")
        wait_for_ticks(log, 10)
        producer.stop()
        check_everything(log, postgres_url)


@pytest.mark.slow
def test_a_log_emptied_under_everything_is_filled_again_and_doubles_no_row(
    redis_server: RedisServer, postgres_url: str, tmp_path: Path
) -> None:
    """The producer pulls from before the loss; the group begins anew; of the database's rows
    those go that the new log holds again."""
    with (
        closing(open_log(redis_server.url)) as log,
        running(settings_in(tmp_path), simulated(), log) as (producer, _),
        chain(redis_server.url, postgres_url) as behind,
    ):
        wait_for_ticks(log, 20)
        wait_until(lambda: behind.persist.progress().ticks > 20, what="something is stored")
        log.client.flushall()
        wait_until(lambda: bool(behind.persist.progress().halted), what="persist halts")
        wait_until(lambda: log.namespaces() == {"demo": 4}, what="the namespace is back")
        wait_for_ticks(log, 20)
        with connect(postgres_url, application="test") as connection:
            steps = list(Repair(log, connection, kept_folder=tmp_path / "forks", stamp="now").run())
            assert {plan.cure.partition(":")[0] for plan, _ in steps} == {"a log begun anew"}
            wait_for_ticks(log, 10)
            producer.stop()
            wait_until(lambda: all_derived(log), timeout_s=40, what="everything is derived")
            check_derived(log)
            assert_is_truth(log)
            for symbol in SYMBOLS:
                new = ticks_in(log, "demo", symbol)
                wait_until(lambda new=new, symbol=symbol: _once(connection, symbol, new),  # type: ignore[misc] # mypy cannot infer
                           what=f"every tick of {symbol} is stored once")  # fmt: skip
            [told] = connection.execute(
                "SELECT count(*) - count(DISTINCT body::text) FROM raw.events WHERE type LIKE"
                " 'account.%'"
            ).fetchall()
            assert told == (0,), "account events that were sent again are stored once"


def _once(connection: Connection, symbol: str, new: TickArray) -> bool:
    """Stored: what came before the new log, without a gap, and the new log; nothing twice."""
    stored = np.sort(read_ticks(connection, "demo", symbol))
    older = stored[stored["time_msc"] < new["time_msc"].min()]
    whole = np.sort(np.concatenate([older, new]))
    if not np.array_equal(stored, whole):
        return False
    truth = SimulatedTerminal(SimulatedOptions.model_validate({**OPTIONS, "trader": None}))
    begin_ms = int(stored["time"].min()) * 1000
    end_ms = int(stored["time_msc"].max()) // 1000 * 1000
    return len(truth.truth(symbol, begin_ms, end_ms)) == int((stored["time_msc"] < end_ms).sum())


def test_a_running_group_halts_on_inputs_that_are_no_more_and_goes_on_after_a_repair(
    redis_log: RedisLog, redis_url: str, tmp_path: Path
) -> None:
    """In a cluster slots fail over one by one: the group keeps what it derived of lost entries."""
    feed = Feed(redis_log, seed=41)
    with closing(open_log(redis_url)) as first, closing(open_log(redis_url)) as second:
        worker = Worker(
            first, Group(GROUP, Counting), WorkerOptions("test", lease_s=1.0), beat_log=second
        )
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        try:
            feed.append(40)
            wait_until(lambda: all_derived(redis_log), what="derived")
            past = Past(redis_log, *SOURCE_SLOTS)
            feed.append(40)
            wait_until(lambda: all_derived(redis_log), what="derived")
            past.come_back()
            feed.append(45)
            wait_until(lambda: len(worker.progress.halted) == 2, what="both tasks halt")
            assert all("bridgectl repair" in why for why in worker.progress.halted.values())
            mend = Repair(redis_log, None, kept_folder=tmp_path, stamp="now")
            assert {plan.reader for plan, _ in mend.run()} == {f"{GROUP}.0", f"{GROUP}.1"}
            wait_until(lambda: all_derived(redis_log), timeout_s=30, what="derived again")
            check_derived(redis_log)
            wait_until(lambda: not worker.progress.halted, what="nobody is halted any more")
            assert mend.plans() == []
        finally:
            worker.stopping = True
            thread.join(20)


@pytest.mark.slow
@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_kill_9_of_the_server_is_waited_out(postgres_url: str, tmp_path: Path, fsync: str) -> None:
    (tmp_path / "redis").mkdir()
    server = RedisServer(BINARY, tmp_path / "redis", ["--appendfsync", fsync]).start()
    try:
        _suffer(server, postgres_url, tmp_path, lambda _log: _restart(server), times=2)
    finally:
        server.kill()


def _restart(server: RedisServer) -> None:
    server.kill()
    threading.Event().wait(0.3)
    server.start()


@pytest.mark.slow
def test_a_storm_of_lost_scripts_groups_and_connections_changes_nothing(
    redis_server: RedisServer, postgres_url: str, tmp_path: Path
) -> None:
    def storm(log: RedisLog) -> None:
        for _ in range(10):
            log.client.script_flush()
            for key in log.client.keys("{demo:source:*}:normal"):
                for group in log.client.xinfo_groups(key):
                    log.client.xgroup_destroy(key, group["name"])
            log.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            threading.Event().wait(0.1)

    _suffer(redis_server, postgres_url, tmp_path, storm, times=2)
    with closing(open_log(redis_server.url)) as log:
        groups = {
            name
            for partition in range(PARTITIONS)
            for name in log.groups(Slot("demo", SOURCE, partition).stream(Lane.NORMAL))
        }
        assert {f"{GROUP}.{number}" for number in range(PARTITIONS)} & groups, "mirrored again"


def _suffer(
    server: RedisServer,
    dsn: str,
    folder: Path,
    harm: Callable[[RedisLog], None],
    *,
    times: int,
) -> None:
    with (
        closing(open_log(server.url)) as log,
        closing(open_log(server.url)) as harmed,
        running(settings_in(folder), simulated(), log) as (producer, _),
        chain(server.url, dsn) as behind,
    ):
        for _ in range(times):
            wait_for_ticks(log, 15)
            harm(harmed)
        wait_for_ticks(log, 15)
        producer.stop()
        check_everything(log, dsn)
        assert not behind.persist.progress().halted
        assert not behind.worker.progress.halted


def test_producer_group_and_persist_run_on_a_cluster(postgres_url: str, tmp_path: Path) -> None:
    with redis_cluster(tmp_path / "cluster") as nodes:
        url = f"redis+cluster://127.0.0.1:{nodes[0].port}"
        with closing(open_log(url)) as log:
            with (
                running(settings_in(tmp_path), simulated(), log) as (producer, _),
                chain(url, postgres_url),
            ):
                wait_for_ticks(log, 40)
                producer.stop()
                check_everything(log, postgres_url)
            lag = log.groups(Slot("demo", SOURCE, 0).stream(Lane.NORMAL))[f"{GROUP}.0"].lag
            assert lag == 0

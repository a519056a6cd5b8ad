"""The log loses its tail under running programs: failover, power failure, FLUSHALL, deleted keys.
What was lost is pulled or sent again, by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from events.log import SOURCE, Slot
from events.operations import GapHealed
from events.redis import RedisLog, open_log
from events.trading import Account, Deal
from producers.producer import Producer
from tests.integration.test_producer import (
    assert_is_truth,
    count_in,
    events_of,
    running,
    settings_in,
    simulated,
    wait_for_ticks,
)
from tests.redis_topologies import BINARY, SentinelDesk, sentinel_desk
from tests.servers import RedisServer, wait_until


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SentinelDesk]:
    with sentinel_desk(tmp_path / "desk") as found:
        yield found


def rewound(producer: Producer) -> bool:
    return bool(producer.context.report.counters["log_rewinds"])


def accounts_told(log: RedisLog) -> list[int]:
    return [account.recv_time_ms for account in events_of(log, "demo", Account)]


@pytest.mark.slow
def test_what_a_failover_lost_is_pulled_and_sent_again(desk: SentinelDesk, tmp_path: Path) -> None:
    with closing(open_log(desk.url)) as log:
        with running(settings_in(tmp_path), simulated(), log) as (producer, _):
            wait_for_ticks(log, 20)
            desk.lose_tail()
            before = {"BTCUSD": count_in(log, "BTCUSD"), "ETHUSD": count_in(log, "ETHUSD")}
            deals = len(events_of(log, "demo", Deal))
            wait_for_ticks(log, 20)
            wait_until(lambda: len(events_of(log, "demo", Deal)) > deals, what="deals")
            lost_accounts = accounts_told(log)
            desk.fail_over()
            wait_until(lambda: rewound(producer), timeout_s=30, what="the producer notices")
            wait_for_ticks(log, 20)
            wait_until(
                lambda: set(lost_accounts) <= set(accounts_told(log)),
                what="account events are sent again",
            )
            wait_until(lambda: bool(events_of(log, "demo", GapHealed)), what="the gap is told")
        assert all(count_in(log, symbol) > seen for symbol, seen in before.items())
        assert_is_truth(log)
        tickets = [deal.ticket for deal in events_of(log, "demo", Deal)]
        assert len(set(tickets)) == len(tickets)
        told = accounts_told(log)
        assert told == sorted(told)


@pytest.mark.parametrize(
    "gone",
    ["everything", *(pytest.param(one, marks=pytest.mark.slow) for one in ("a slot", "claims"))],
)
def test_a_log_emptied_by_hand_is_filled_again_from_where_it_was(
    redis_server: RedisServer, tmp_path: Path, gone: str
) -> None:
    with closing(open_log(redis_server.url)) as log:
        with running(settings_in(tmp_path), simulated(), log) as (producer, _):
            wait_for_ticks(log, 20)
            wait_until(lambda: len(accounts_told(log)) > 2, what="account events")
            known = accounts_told(log)
            if gone == "everything":
                log.client.flushall()
            elif gone == "claims":
                log.client.delete(*(f"{Slot('demo', SOURCE, n)}:meta" for n in range(4)))
            else:
                log.client.delete(*log.client.keys(f"{Slot('demo', SOURCE, 0)}:*"))
            wait_until(lambda: rewound(producer), timeout_s=30, what="the producer notices")
            wait_until(lambda: log.namespaces() == {"demo": 4}, what="the namespace is there")
            wait_for_ticks(log, 20)
            wait_until(
                lambda: set(known) <= set(accounts_told(log)), what="account events are there"
            )
        assert_is_truth(log)
        tickets = [deal.ticket for deal in events_of(log, "demo", Deal)]
        assert len(set(tickets)) == len(tickets)


def test_a_power_failure_that_cut_the_append_only_file_misses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(BINARY, folder).start()
    try:
        with closing(open_log(server.url)) as log:
            with running(settings_in(tmp_path), simulated(), log) as (producer, _):
                wait_for_ticks(log, 20)
                [file] = folder.glob("appendonlydir/*.incr.aof")
                synced = file.stat().st_size
                wait_for_ticks(log, 15)
                server.kill()
                with file.open("r+b") as opened:
                    opened.truncate(synced + 7)  # in the midst of a command
                server.start()
                wait_until(lambda: rewound(producer), timeout_s=30, what="the producer notices")
                wait_for_ticks(log, 20)
            assert_is_truth(log)
            told = accounts_told(log)
            assert told == sorted(set(told))
    finally:
        server.kill()


def test_a_producer_whose_slot_was_taken_over_still_ends(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Claiming again is for claims that were lost, not for those of others."""
    with closing(open_log(redis_server.url)) as log:
        with running(settings_in(tmp_path), simulated(), log) as (producer, _):
            wait_for_ticks(log, 5)
            slot = Slot("demo", SOURCE, 0)
            log.client.hset(f"{slot}:meta", mapping={"token": "other", "holder": "somebody else"})
            wait_until(lambda: producer._writer.fenced is not None, what="it is fenced")
            assert producer.context.stopping.wait(10)
        assert log.holder(slot) == "somebody else"


def test_quiet_feeds_notice_too(redis_log: RedisLog) -> None:
    """Nobody appends, and the log lost its tail: the watch compares cursors."""
    from producers.append import Writer
    from producers.report import Report
    from tests.unit.test_producer_parts import ENTRY

    report = Report()
    writer = Writer(redis_log, "demo", 1, holder="me", report=report, beat_s=0.02, look_s=0.04)
    writer.open()
    writer.append(0, [ENTRY], {"quiet": "1"})
    former = writer.cursor(0, "quiet")
    writer.append(0, [ENTRY], {"quiet": "2"})
    writer.start_beating(lambda: None)
    try:
        redis_log.client.hset(f"{writer.slot(0)}:cursors", "quiet", former)
        wait_until(lambda: writer.rewinds(0) == 1, timeout_s=5, what="it notices")
        assert writer.cursor(0, "quiet") == former
        writer.append(0, [ENTRY], {"quiet": "2"})
        assert writer.fenced is None
    finally:
        writer.close()

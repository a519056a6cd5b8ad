"""Group persist in several programs at once: slots are shared out, handed over, taken over."""

from __future__ import annotations

import time

import pytest

from consumers.persist import PersistGroup
from events.codec import encode
from events.decisions import RiskMetrics
from events.log import EntryId, Lane, Slot
from events.memory_log import MemoryLog
from events.postgres import connect, read_entries
from events.redis import RedisLog
from events.tasks import Commit, Output
from tests.integration.persisting import (
    BASE_MS,
    PARTITIONS,
    Feed,
    Shared,
    drain,
    finish,
    flowing,
    options,
    stored_all,
    stored_equals_log,
)
from tests.servers import wait_until

SLOTS = PARTITIONS + 1
HAND_OVER_S_MAX = 1.0
"""What a busy machine may take; some 0.1 s are usual."""


def held(*groups: PersistGroup) -> list[int]:
    return [len(group.progress().held) for group in groups]


def test_programs_share_the_slots_and_one_that_ends_hands_over_at_once(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = Feed(MemoryLog(), seed=7)
    first, second = (PersistGroup(options(feed.log, postgres_url)) for _ in range(2))
    first.start()
    with flowing(feed):
        wait_until(lambda: held(first) == [SLOTS], what="the first to hold all")
        second.start()
        wait_until(lambda: sorted(held(first, second)) == [1, 2], what="an even share")
        first.stop()
        assert first.join(20)
        ended = time.monotonic()
        wait_until(lambda: held(second) == [SLOTS], what="the hand-over")
        paused_s = time.monotonic() - ended
    with capsys.disabled():
        print(f"\npersist: taken {paused_s * 1000:.0f} ms after the end")  # noqa: T201 - measured
    assert paused_s < HAND_OVER_S_MAX
    finish(second, feed, postgres_url)
    stored_equals_log(feed, postgres_url)


def test_workers_come_and_go_while_entries_flow(
    redis_log: RedisLog, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    feed = Feed(redis_log, seed=8)
    groups = [PersistGroup(options(Shared(redis_log), postgres_url)) for _ in range(4)]
    with flowing(feed):
        for group in groups:
            group.start()
        wait_until(lambda: sorted(held(*groups)) == [0, 1, 1, 1], what="a slot for each of three")
        wait_until(lambda: "4 workers for 3 slots" in caplog.text, what="the surplus to be told")
        for group in groups[:3]:
            group.stop()
            assert group.join(20)
        wait_until(lambda: held(groups[3]) == [SLOTS], what="the last one to hold all")
    finish(groups[3], feed, postgres_url)
    stored_equals_log(feed, postgres_url)
    assert redis_log.tasks.workers("persist") == {}, "who ends says so"


def test_what_groups_derive_is_stored_too_and_every_task_is_seen_by_operators(
    redis_log: RedisLog, postgres_url: str
) -> None:
    feed = Feed(redis_log, seed=9)
    feed.append(20)
    slot = Slot("demo", "risk", 1)
    redis_log.tasks.open_group("demo", "risk", PARTITIONS)
    lane = slot.stream(Lane.HIGH)
    redis_log.mirror("persist", feed.claims[0].slot.stream(Lane.NORMAL), EntryId(1, 1), 1)
    acquired = redis_log.tasks.acquire(slot, "test", seen="")
    assert acquired is not None
    claim, record = acquired
    metrics = RiskMetrics(
        event_time_ms=BASE_MS, login=7, equity=1.0, balance=1.0, floating=0.0, margin_free=1.0,
        margin_level_percent=None,
    )  # fmt: skip
    derived = encode(metrics, cause=f"{feed.claims[0].slot}:high@1-1")
    redis_log.tasks.commit(
        Commit(claim, record.newest, {}, outputs=[Output(EntryId(BASE_MS, 1), derived)])
    )
    drain(Shared(redis_log), postgres_url)
    stored_equals_log(feed, postgres_url)
    with connect(postgres_url, application="test") as connection:
        assert read_entries(connection, lane) == redis_log.between(lane, count_max=9)
    assert redis_log.groups(lane)["persist.1"].lag == 0
    for stream in feed.entries():
        seen = redis_log.groups(stream)
        assert seen.keys() == {f"persist.{stream.slot.partition}"}
        assert seen[f"persist.{stream.slot.partition}"].lag == 0
    readers = redis_log.tasks.readers("demo")
    assert readers[lane] == {"persist.1"}
    assert readers[Slot("demo", "operator", 0).stream(Lane.CRITICAL)] == {"persist.0"}


def test_a_run_until_idle_beside_another_program_ends_when_all_is_stored(
    postgres_url: str,
) -> None:
    feed = Feed(MemoryLog(), seed=10)
    staying = PersistGroup(options(feed.log, postgres_url))
    staying.start()
    feed.append(50)
    drain(feed.log, postgres_url)
    assert stored_all(feed, postgres_url)
    finish(staying, feed, postgres_url)
    stored_equals_log(feed, postgres_url)

"""Group persist was away while memory was short: it stores from segments, then from the log."""

from __future__ import annotations

from pathlib import Path

from consumers.captured import LOG, Captured
from events.postgres import connect, read_entries
from events.redis import RedisLog
from events.retention import Limits, Retention, SegmentFolder, WholeLog
from tests.integration.persisting import PARTITIONS, SYMBOLS, Feed, drain


def kept_in(retention: Retention, feed: Feed) -> tuple[int, int]:
    """Entries spilled and trimmed."""
    done = [retention.keep(claim.slot) for claim in feed.claims.values()]
    return sum(one.spilled for one in done), sum(one.trimmed for one in done)


def test_what_was_spilled_while_persist_was_away_is_stored_once_to_the_byte(
    redis_log: RedisLog, postgres_url: str, tmp_path: Path
) -> None:
    folder = SegmentFolder(tmp_path / "segments", bytes_max=1 << 30)
    whole = WholeLog(redis_log, folder)
    feed = Feed(whole, seed=21)
    feed.append(100)
    drain(whole, postgres_url)
    feed.append(3_000)
    expected = feed.entries()
    short = Retention(redis_log, folder, Limits(memory_bytes_max=1_000_000))
    spilled, _ = kept_in(short, feed)
    assert spilled > 1_000
    for claim in feed.claims.values():
        redis_log.retained.refuse(claim.slot, "")  # memory is there again
    for stream, entries in feed.entries().items():
        assert entries == expected[stream][-len(entries) :], "what is left is whole"
    drain(whole, postgres_url, workers=2)
    with connect(postgres_url, application="test") as connection:
        for stream, entries in expected.items():
            assert read_entries(connection, stream) == entries
    feed.append(50)
    drain(whole, postgres_url)
    for reader, lag in {
        (name, group.lag)
        for claim in feed.claims.values()
        for stream in claim.slot.streams()
        for name, group in redis_log.groups(stream).items()
    }:
        assert lag == 0, reader


def test_a_comparison_asks_only_for_what_the_log_still_holds(
    redis_log: RedisLog, redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    feed = Feed(redis_log, seed=22)
    feed.append(300)
    folder = SegmentFolder(tmp_path / "segments", bytes_max=1 << 30)
    drain(redis_log, postgres_url)
    with Captured(redis_url, postgres_url, feed.namespace) as captured:
        spans = dict(captured.spans(LOG, SYMBOLS, ended=True))
        assert captured.still_held(LOG, spans) == spans
    half = {claim.slot: redis_log.info(claim.slot.streams()[2]) for claim in feed.claims.values()}
    for slot, info in half.items():
        stream = slot.streams()[2]
        middle = redis_log.between(stream, count_max=info.length // 2)[-1].id
        assert redis_log.retained.trim(stream, middle, []).entries == info.length // 2 - 1
    with Captured(redis_url, postgres_url, feed.namespace) as captured:
        held = captured.still_held(LOG, spans)
        assert all(held[one][0] > spans[one][0] for one in spans)
        assert all(held[one][1] == spans[one][1] for one in spans)
        assert captured.still_held("database", spans) == spans
    assert len(half) == PARTITIONS
    assert folder.used_bytes == 0

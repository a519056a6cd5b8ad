"""What the previous release left on disk is opened by this one: decoded, migrated, gone on with."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from consumers.repair import Repair
from events.backup import Archive, restore
from events.codec import decode
from events.log import SOURCE, Lane, NewEntry, Slot, Stream
from events.postgres import connect, current, read_entries
from events.redis import RedisLog
from producers.append import Writer
from producers.report import Report
from producers.spool.file import Spool
from producers.spool.sender import FEED, Sender
from producers.ticks.cursor import TickCursor
from producers.ticks.log_windows import read_windows
from tests.integration.persisting import drain
from tests.previous_release import FOLDER

FACTS = json.loads((FOLDER / "facts.json").read_text())
NAMESPACE: str = FACTS["namespace"]


@pytest.fixture
def restored(redis_log: RedisLog, empty_postgres_url: str, tmp_path: Path) -> RedisLog:
    done = restore(
        FOLDER / "backup.zip", redis_log, empty_postgres_url, segments=tmp_path / "segments"
    )
    assert (done.entries, done.rows) == (FACTS["entries"], FACTS["rows"])
    return redis_log


def streams_of(log: RedisLog) -> list[Stream]:
    return [
        stream
        for writer, slots in log.tasks.writers(NAMESPACE).items()
        for number in range(slots)
        for stream in Slot(NAMESPACE, writer, number).streams()
    ]


def test_every_entry_is_decoded(restored: RedisLog) -> None:
    entries = [e for s in streams_of(restored) for e in restored.between(s, count_max=10_000)]
    assert len(entries) == FACTS["entries"]
    kinds = {type(decode(entry)).__name__ for entry in entries}
    assert kinds >= {"TickBatch", "CandleBatch", "Account", "Instrument", "TerminalUp"}


def test_the_database_is_migrated_and_the_rest_is_stored(
    restored: RedisLog, empty_postgres_url: str, tmp_path: Path
) -> None:
    with Archive(FOLDER / "backup.zip") as archive:
        assert archive.manifest["database"]["revision"] <= (
            current(empty_postgres_url).current or ""
        )
    assert current(empty_postgres_url).ready
    with connect(empty_postgres_url, application="test") as connection:
        mend = Repair(restored, connection, kept_folder=tmp_path, stamp="now")
        assert mend.plans() == [], "offsets of that time are understood"
        assert drain(restored, empty_postgres_url).progress().entries > 0, "some was not stored"
        for stream in streams_of(restored):
            expected = restored.between(stream, count_max=10_000)
            assert read_entries(connection, stream) == expected


def test_the_spool_is_opened_and_sends_nothing_twice(restored: RedisLog, tmp_path: Path) -> None:
    shutil.copy(FOLDER / "spool.sqlite", tmp_path / "spool.sqlite")
    high = Slot(NAMESPACE, SOURCE, 0).stream(Lane.HIGH)
    before = restored.info(high).entries_added
    writer = Writer(
        restored, NAMESPACE, restored.namespaces()[NAMESPACE], holder="test", report=Report()
    )
    writer.open()
    with closing(Spool(tmp_path / "spool.sqlite")) as spool:
        assert spool.known_newest_s("deal"), "tickets of that time are known"
        sender = Sender(spool, writer, Report())
        sender.start()
        try:
            assert sender.drain(10)
            assert restored.info(high).entries_added == before
            row = spool.put([(0, NewEntry(Lane.HIGH, "test.1", "k", b"{}"))])
            assert sender.drain(10)
        finally:
            sender.stop()
        assert restored.info(high).entries_added == before + 1
        assert writer.cursor(0, FEED).startswith(f"{spool.id}:{row}@")
    writer.close()


def test_tick_cursors_go_on_where_they_were(restored: RedisLog) -> None:
    found = 0
    for number in range(restored.namespaces()[NAMESPACE]):
        slot = Slot(NAMESPACE, SOURCE, number)
        texts = {
            feed.removeprefix("ticks:"): text
            for feed, text in restored.cursors(slot).items()
            if feed.startswith("ticks:")
        }
        for window in read_windows(restored, slot, texts).values():
            cursor = TickCursor.resume(window.text, window.entries)
            assert cursor.hi_msc
            assert window.entries
            found += 1
    assert found == 2

"""Redis, segments, the archive and PostgreSQL read as one source: real servers, every border."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from consumers.backtest.sources.recorded import RecordedSource
from consumers.backtest.sources.source import Portion, Span
from consumers.replay.into import ReplayInto
from events.archive import exporting
from events.archive.exporting import Exporter
from events.archive.folder import ArchiveFolder
from events.archive.importing import import_archive
from events.archive.source import EntrySource, Wanted
from events.archive.stored import DatabaseEntries
from events.codec import encode
from events.log import BEGIN, SOURCE, Entry, EntryId, Lane, NewEntry, Slot, Stream
from events.marks import MARK_DTYPE, Marks
from events.postgres import connect
from events.redis import RedisLog
from events.retained import Placed
from events.retention import Limits, Retention, SegmentFolder, WholeLog, keeper
from events.ticks import OffsetSource
from tests.integration.persisting import PARTITIONS, Feed, NotVolatile, drain
from tests.postgres_server import TEMPLATE, PostgresServer

PARTS = 3
BATCHES = 30
SEED = 20240506
WANTED = Wanted("demo")
"""Two partitions, all lanes."""

Entries = dict[Stream, list[Entry]]


@dataclass
class Recording:
    """What was recorded: its first part is archived, the first two are in the database."""

    original: Entries
    ends: Sequence[Mapping[Stream, EntryId]]
    """Where each of three parts ends."""
    archive: Path
    dsn: str


@dataclass
class Places:
    """That recording, all of it in the log too."""

    log: RedisLog
    folder: ArchiveFolder
    stored: DatabaseEntries
    original: Entries
    ends: Sequence[Mapping[Stream, EntryId]]

    def trim(self, part: int) -> None:
        """The log forgets everything up to the end of a part."""
        for stream, end in self.ends[part].items():
            self.log.retained.trim(stream, end.next(), ())


def by_stream(entries: Iterator[Entry]) -> Entries:
    found: Entries = {}
    for entry in entries:
        found.setdefault(entry.stream, []).append(entry)
    return found


def marks(now_ms: int, chance: random.Random) -> Marks:
    rows = np.zeros(chance.randint(1, 5), MARK_DTYPE)
    rows["ticket"] = np.arange(len(rows)) + 7
    rows["profit"] = chance.random()
    return Marks(7, rows, now_ms, now_ms + 3, 7200, OffsetSource.LIVE)


@pytest.fixture(scope="module")
def recording(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recording]:
    dsn = postgres_server.create_database("one_source", template=TEMPLATE)
    folder = ArchiveFolder(tmp_path_factory.mktemp("archive"))
    log, ends = NotVolatile(), []
    feed = Feed(log, SEED)
    for part in range(PARTS):
        feed.append(BATCHES)
        log.append(feed.claims[0], [encode(marks(feed.now_ms, feed.random))])
        ends.append({stream: own[-1].id for stream, own in feed.entries().items()})
        if part == 0:
            Exporter(log, folder, "demo").run()
        if part == 1:
            drain(log, dsn)
    yield Recording(feed.entries(), ends, folder.root, dsn)
    postgres_server.drop_database("one_source")


@pytest.fixture
def places(recording: Recording, redis_log: RedisLog, tmp_path: Path) -> Iterator[Places]:
    redis_log.open_namespace("demo", PARTITIONS)
    for number in range(PARTITIONS):
        slot = Slot("demo", SOURCE, number)
        claim = redis_log.claim(slot, "test", alive_within_s=0.0)
        own = [entry for lane in Lane for entry in recording.original.get(slot.stream(lane), [])]
        redis_log.retained.put(
            claim,
            [
                Placed(e.id, NewEntry(e.stream.lane, *e[2:]))
                for e in sorted(own, key=lambda e: e.id)
            ],
        )
        redis_log.release(claim)
    shutil.copytree(recording.archive, tmp_path / "archive")
    with connect(recording.dsn, application="test") as connection:
        yield Places(
            redis_log, ArchiveFolder(tmp_path / "archive"), DatabaseEntries(connection),
            recording.original, recording.ends,
        )  # fmt: skip


def test_spans_join_without_gap_or_double_wherever_they_lie(places: Places) -> None:
    """Whatever the log has forgotten, and wherever reading begins."""
    whole = EntrySource(places.log, places.folder, places.stored)
    assert by_stream(whole.entries(WANTED)) == places.original
    for part in range(2):
        places.trim(part)
        source = EntrySource(places.log, places.folder, places.stored)
        assert by_stream(source.entries(WANTED)) == places.original
        assert source.holes == []
        without_files = EntrySource(places.log, None, places.stored)
        assert by_stream(without_files.entries(WANTED)) == places.original
        assert without_files.holes == []
    source = EntrySource(places.log, places.folder, places.stored)
    for stream, entries in places.original.items():
        ids = [entry.id for entry in entries]
        for border in {ends[stream] for ends in places.ends[:2] if stream in ends}:
            at = ids.index(border)
            assert list(source.of_stream(stream, WANTED, after=border)) == entries[at + 1 :]
            before = ids[at - 1] if at else BEGIN
            assert list(source.of_stream(stream, WANTED, after=before)) == entries[at:]
            assert list(source.of_stream(stream, WANTED, until=border)) == entries[: at + 1]


def test_what_no_place_holds_is_told_with_its_number(places: Places) -> None:
    """Part 2 is in the database alone once the log forgot it."""
    places.trim(1)
    source = EntrySource(places.log, places.folder)
    found = by_stream(source.entries(WANTED))
    missing = 0
    for stream, entries in places.original.items():
        first, second = (ends.get(stream, BEGIN) for ends in places.ends[:2])
        lost = [entry for entry in entries if first < entry.id <= second]
        assert found[stream] == [entry for entry in entries if entry not in lost]
        missing += len(lost)
    assert missing > 0
    assert sum(hole.entries or 0 for hole in source.holes) == missing


def test_an_export_takes_from_the_database_what_left_the_log(
    places: Places, tmp_path: Path
) -> None:
    places.trim(1)
    other = ArchiveFolder(tmp_path / "other")
    done = Exporter(places.log, other, "demo", stored=places.stored).run()
    assert done.holes == []
    assert by_stream(EntrySource(None, other).entries(WANTED)) == places.original
    # The first archive goes on behind what it holds, and comes to the same.
    more = Exporter(places.log, places.folder, "demo", stored=places.stored).run()
    assert more.holes == []
    assert by_stream(EntrySource(None, places.folder).entries(WANTED)) == places.original
    assert 0 < more.entries < done.entries


def test_an_export_reads_on_from_segments(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has read lies on disk where memory had no room for it."""
    monkeypatch.setattr(exporting, "CHUNK_ENTRIES_MAX", 25)
    monkeypatch.setattr(keeper, "LANE_BYTES_MIN", 0)
    segments = SegmentFolder(tmp_path / "segments", bytes_max=1 << 30)
    whole = WholeLog(places.log, segments)
    other = ArchiveFolder(tmp_path / "other")
    Exporter(whole, other, "demo").hold()
    retention = Retention(places.log, segments, Limits(age_s=0.0, memory_bytes_max=1))
    slots = [Slot("demo", SOURCE, number) for number in range(PARTITIONS)]
    assert sum(retention.keep(slot).spilled for slot in slots) > 0
    left = sum(places.log.info(stream).length for stream in places.original)
    assert left < sum(map(len, places.original.values())) / 2
    Exporter(whole, other, "demo").run()
    assert by_stream(EntrySource(None, other).entries(WANTED)) == places.original
    assert by_stream(EntrySource(whole).entries(WANTED)) == places.original


def seen_by_a_backtest(source: EntrySource) -> list[bytes]:
    """Every portion of ticks, in order."""
    symbols = ("EURUSD", "GBPUSD", "BTCUSD")
    recorded = RecordedSource(source, "demo", symbols, Span())
    batches = [
        one for found in recorded.portions() if isinstance(found, Portion) for one in found.batches
    ]
    assert len(batches) > BATCHES
    assert recorded.warnings == []
    return [one.to_bytes() for one in batches]


def test_entries_may_leave_the_log_for_good_once_they_are_exported(places: Places) -> None:
    """Then a backtest and a replay of the whole span see what they saw, and an import has the same
    ids and bytes."""
    before = seen_by_a_backtest(EntrySource(places.log))
    ReplayInto(EntrySource(places.log), places.log, WANTED, into="before", holder="test").run()
    Exporter(places.log, places.folder, "demo").run()
    places.trim(2)
    assert not any(places.log.info(stream).length for stream in places.original)
    source = EntrySource(places.log, places.folder)
    assert by_stream(source.entries(WANTED)) == places.original
    assert seen_by_a_backtest(source) == before
    ReplayInto(source, places.log, WANTED, into="after", holder="test").run()
    for number in range(PARTITIONS):
        for lane in Lane:
            first, second = (
                places.log.between(Slot(name, SOURCE, number).stream(lane), count_max=10_000)
                for name in ("before", "after")
            )
            assert [entry[2:] for entry in first] == [entry[2:] for entry in second]
    done = import_archive(places.folder, places.log, WANTED, into="copy", holder="test")
    assert (done.entries, done.holes) == (sum(map(len, places.original.values())), ())
    for stream, entries in places.original.items():
        copied = Slot("copy", *stream.slot[1:]).stream(stream.lane)
        assert [(e.id, *e[2:]) for e in places.log.between(copied, count_max=10_000)] == [
            (e.id, *e[2:]) for e in entries
        ]

"""From a log into the archive and back: nothing lost or doubled, however it is interrupted."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from events.archive import exporting, importing
from events.archive.errors import ArchiveError
from events.archive.exporting import READER, Exporter
from events.archive.folder import ArchiveFolder
from events.archive.importing import import_archive
from events.archive.source import EntrySource, Wanted
from events.archive.verifying import Verified, verify_stream
from events.codec import encode
from events.log import BEGIN, OPERATOR, SOURCE, Entry, Lane, Log, LogUnavailable, NewEntry, Slot
from events.memory_log import MemoryLog
from events.operations import ClockTick
from events.retention import Limits, Retention, SegmentFolder, WholeLog
from tests.unit.test_archive import T0, batch, ticks

DAY_MS = 86_400_000
SLOTS = [Slot("demo", SOURCE, 0), Slot("demo", SOURCE, 1), Slot("demo", OPERATOR, 0),
         Slot("demo", "risk", 0)]  # fmt: skip


class Clock:
    """The clock of a log, moved by hand."""

    def __init__(self) -> None:
        self.ms = T0

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> MemoryLog:
    log = MemoryLog(now_ms=clock)
    log.open_namespace("demo", 2)
    log.tasks.open_group("demo", "risk", 1)
    return log


@pytest.fixture
def folder(tmp_path: Path) -> ArchiveFolder:
    return ArchiveFolder(tmp_path / "archive")


def grow(log: MemoryLog, clock: Clock, count: int, *, step_ms: int = 7_000) -> None:
    claims = [log.claim(slot, "me", alive_within_s=0) for slot in SLOTS]
    for number in range(count):
        clock.ms += step_ms
        claim = claims[number % len(claims)]
        cause = f"{SLOTS[0].stream(Lane.NORMAL)}@{clock.ms}-0" if number % 5 == 0 else ""
        tick = encode(batch(ticks(3, from_ms=clock.ms)), history=number % 3 == 0)
        level = NewEntry(Lane.HIGH, "terminal_up.1", "demo", b"{}", cause, last=b"{}")
        log.append(claim, [encode(ClockTick(event_time_ms=clock.ms)), tick, level])
    for claim in claims:
        log.release(claim)


def everything(log: Log, namespace: str = "demo") -> list[Entry]:
    found = []
    for slot in SLOTS:
        for lane in Lane:
            stream = Slot(namespace, slot.writer, slot.partition).stream(lane)
            found += log.between(stream, count_max=100_000)
    return found


def archived(folder: ArchiveFolder) -> list[Entry]:
    wanted = Wanted("demo", writers=(SOURCE, OPERATOR, "risk"))
    found = list(EntrySource(None, folder).entries(wanted))
    return sorted(found, key=lambda entry: (SLOTS.index(entry.stream.slot), entry.stream, entry.id))


def test_what_was_exported_comes_back_the_same(
    memory: MemoryLog, clock: Clock, folder: ArchiveFolder
) -> None:
    grow(memory, clock, 40)
    first = Exporter(memory, folder, "demo").run()
    assert (first.entries, first.ticks, first.holes) == (120, 120, [])
    grow(memory, clock, 20)
    second = Exporter(memory, folder, "demo").run()
    assert second.entries == 60
    assert Exporter(memory, folder, "demo").run().chunks == 0, "nothing is new"
    assert archived(folder) == everything(memory)
    found = Verified()
    for stream in folder.streams("demo"):
        verify_stream(folder, stream, found)
    assert (found.good, found.entries) == (True, 180)

    other = MemoryLog()
    wanted = Wanted("demo", writers=(SOURCE, OPERATOR, "risk"))
    done = import_archive(folder, other, wanted, into="demo", holder="test")
    assert (done.entries, done.holes) == (180, ())
    assert everything(other) == everything(memory)
    assert other.origin("demo") == "import"
    assert other.tasks.writers("demo") == {"operator": 1, "risk": 1, "source": 2}
    assert other.last_states(SLOTS[0]) == memory.last_states(SLOTS[0])
    again = import_archive(folder, other, wanted, into="demo", holder="test")
    assert again.entries == 0
    assert everything(other) == everything(memory)


def test_an_import_under_another_name_differs_by_the_name_alone(
    memory: MemoryLog, clock: Clock, folder: ArchiveFolder
) -> None:
    grow(memory, clock, 30)
    Exporter(memory, folder, "demo").run()
    wanted = Wanted("demo", writers=(SOURCE, OPERATOR, "risk"))
    import_archive(folder, memory, wanted, into="copy", holder="test")
    copied = everything(memory, "copy")
    renamed = [str(entry).replace("demo:", "copy:") for entry in everything(memory)]
    plain = [str(entry).replace("namespace='demo'", "namespace='copy'") for entry in renamed]
    texts = [str(entry).replace("namespace='demo'", "namespace='copy'") for entry in copied]
    assert [t.replace("'demo'", "'x'") for t in texts] == [
        t.replace("'demo'", "'x'") for t in plain
    ]
    assert any(entry.cause.startswith("{copy:source:0}") for entry in copied)
    with pytest.raises(ArchiveError, match="terminal's own"):
        import_archive(folder, memory, wanted, into="demo", holder="test")
    with pytest.raises(ArchiveError, match="it has demo"):
        import_archive(folder, memory, Wanted("nobody"), into="x", holder="test")


def test_an_import_may_take_a_part(memory: MemoryLog, clock: Clock, folder: ArchiveFolder) -> None:
    grow(memory, clock, 40)
    Exporter(memory, folder, "demo").run()
    middle = T0 + 20 * 7_000
    wanted = Wanted("demo", writers=(SOURCE,), lanes=(Lane.NORMAL,), from_ms=middle)
    import_archive(folder, memory, wanted, into="part", holder="test")
    clocks = [e for e in everything(memory, "part") if e.type == "clock.1"]
    own = [e for e in everything(memory) if e.type == "clock.1" and e.stream.slot.writer == SOURCE]
    assert [e.id for e in clocks] == [e.id for e in own if e.id.ms >= middle]


class Killed(Exception):
    """Stands for the end of the process."""


def dying(chance: random.Random, what: Callable[..., object]) -> Callable[..., object]:
    """A step before or after which the process may die."""

    def step(*arguments: object, **named: object) -> object:
        if chance.random() < 0.15:
            raise Killed
        found = what(*arguments, **named)
        if chance.random() < 0.15:
            raise Killed
        return found

    return step


@pytest.mark.parametrize("seed", range(8))
def test_whoever_dies_in_between_goes_on_without_loss_or_doubles(
    memory: MemoryLog, clock: Clock, folder: ArchiveFolder, monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:  # fmt: skip
    """Steps that end the process: names of files that appear, and puts into the log."""
    chance = random.Random(seed)
    monkeypatch.setattr(exporting, "CHUNK_ENTRIES_MAX", 7)
    monkeypatch.setattr(importing, "PUT_ENTRIES_MAX", 5)
    other = MemoryLog()
    wanted = Wanted("demo", writers=(SOURCE, OPERATOR, "risk"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(chance, os.replace))
        for _ in range(3):
            grow(memory, clock, 15)
            for _ in range(200):
                try:
                    Exporter(memory, folder, "demo").run()
                    break
                except Killed:
                    continue
    assert archived(folder) == everything(memory), f"seed {seed}"
    with monkeypatch.context() as patch:
        patch.setattr(other.retained, "put", dying(chance, other.retained.put))
        for _ in range(200):
            try:
                import_archive(folder, other, wanted, into="demo", holder=f"seed {seed}")
                break
            except Killed:
                for slot in SLOTS:
                    other.slot(slot).token = ""
    assert everything(other) == everything(memory), f"seed {seed}"


def test_days_and_sizes_end_a_chunk(
    memory: MemoryLog, clock: Clock, folder: ArchiveFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHUNK_ENTRIES_MAX", 10)
    grow(memory, clock, 48, step_ms=3_600_000)
    waiting = Exporter(memory, folder, "demo", whole_only=True).run()
    Exporter(memory, folder, "demo").run()
    chunks = [chunk for stream in folder.streams("demo") for chunk in folder.chunks(stream)]
    assert all(chunk.first.ms // DAY_MS == chunk.last.ms // DAY_MS for chunk in chunks)
    assert all(chunk.entries <= 10 for chunk in chunks)
    assert 0 < waiting.entries < 144, "the newest day may still grow"
    assert sum(chunk.entries for chunk in chunks) == 144


def test_nothing_leaves_the_log_unarchived_where_it_is_held(
    memory: MemoryLog, clock: Clock, folder: ArchiveFolder, tmp_path: Path
) -> None:
    grow(memory, clock, 40)
    segments = SegmentFolder(tmp_path / "segments", bytes_max=1 << 30)
    whole = WholeLog(memory, segments)
    retention = Retention(memory, segments, Limits(age_s=60))
    Exporter(whole, folder, "demo").hold()
    clock.ms += DAY_MS
    before = everything(memory)
    for slot in SLOTS:
        assert retention.keep(slot).trimmed == 0
    done = Exporter(whole, folder, "demo").run()
    assert done.entries == len(before)
    streams = len({entry.stream for entry in before})
    gone = sum(retention.keep(slot).trimmed for slot in SLOTS)
    assert gone == len(before) - streams, "each stream keeps the entry its reader stands at"
    grow(memory, clock, 8)
    clock.ms += DAY_MS
    assert sum(retention.keep(slot).trimmed for slot in SLOTS) == 0
    source = EntrySource(whole, folder)
    found = list(source.entries(Wanted("demo", writers=(SOURCE, OPERATOR, "risk"))))
    assert len(found) == len(before) + 24
    assert source.holes == []
    Exporter(whole, folder, "demo").release()
    assert READER not in {r for rs in memory.tasks.readers("demo").values() for r in rs}
    assert sum(retention.keep(slot).trimmed for slot in SLOTS) == 24 + streams
    late = Exporter(whole, folder, "demo").run()
    assert sum(hole.entries or 0 for hole in late.holes) == 24, "told, not passed over"


def test_another_log_is_not_mixed_into_an_archive(
    memory: MemoryLog, clock: Clock, folder: ArchiveFolder
) -> None:
    grow(memory, clock, 8)
    Exporter(memory, folder, "demo").run()
    begun_anew = MemoryLog(now_ms=clock)
    begun_anew.open_namespace("demo", 2)
    with pytest.raises(ArchiveError, match="emptied or begun anew"):
        Exporter(begun_anew, folder, "demo").run()
    with pytest.raises(ArchiveError, match="no namespace 'other': there is demo"):
        Exporter(memory, folder, "other").run()
    with pytest.raises(ArchiveError, match="nobody called nobody writes"):
        Exporter(memory, folder, "demo", writers=("nobody",)).run()


def test_a_log_that_does_not_answer_costs_nothing(
    memory: MemoryLog, clock: Clock, folder: ArchiveFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(memory, clock, 12)
    Exporter(memory, folder, "demo").run()
    other, done = MemoryLog(), iter((True, False, True))

    def away(*arguments: object) -> Iterator[None]:
        if next(done):
            put(*arguments)  # type: ignore[arg-type] # as they came
        raise LogUnavailable("no answer")

    put = other.retained.put
    wanted = Wanted("demo", writers=(SOURCE, OPERATOR, "risk"))
    monkeypatch.setattr(other.retained, "put", away)
    for _ in range(3):
        with pytest.raises(LogUnavailable):
            import_archive(folder, other, wanted, into="demo", holder="test")
    monkeypatch.setattr(other.retained, "put", put)
    import_archive(folder, other, wanted, into="demo", holder="test")
    assert everything(other) == everything(memory)
    assert BEGIN not in {entry.id for entry in everything(other)}

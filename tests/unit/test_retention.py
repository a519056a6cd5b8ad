"""What leaves the log, what stays, and that nothing is lost on the way to disk and back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from events.log import (
    BEGIN,
    Claim,
    Entry,
    EntryId,
    Lane,
    LogFull,
    LogUnavailable,
    NewEntry,
    Slot,
    Stream,
)
from events.memory_log import MemoryLog
from events.retained import linked
from events.retention import (
    Limits,
    Retention,
    RetentionLoop,
    SegmentDamaged,
    SegmentFolder,
    SegmentMissing,
    WholeLog,
)
from events.retention.folder import DiskFull
from events.retention.segment import Segment, write_segment
from tests.servers import wait_until

SLOT = Slot("demo", "source", 0)
NORMAL = SLOT.stream(Lane.NORMAL)
HOUR_MS = 3_600_000


def entry(number: int, size: int = 10) -> Entry:
    return Entry(NORMAL, EntryId(number, 0), "t.1", "k", b"%d " % number + b"x" * size, "a@1-1")


@dataclass
class World:
    """A log whose clock and memory the test sets, and a retention that is called by hand."""

    tmp_path: Path
    age_s: float = 24 * 3600.0
    memory_bytes_max: int = 10_000_000
    disk_bytes_max: int = 1 << 30
    now_ms: int = 100 * HOUR_MS
    log: MemoryLog = field(init=False)
    claim: Claim = field(init=False)

    def __post_init__(self) -> None:
        self.log = MemoryLog(now_ms=lambda: self.now_ms)
        self.log.open_namespace("demo", 1)
        self.claim = self.log.claim(SLOT, "me", alive_within_s=0)
        self.anew()

    def anew(self) -> None:
        """The program starts again: nothing in memory is left."""
        path = self.tmp_path / "segments"
        self.folder = SegmentFolder(path, bytes_max=self.disk_bytes_max)
        limits = Limits(self.age_s, self.memory_bytes_max)
        self.retention = Retention(self.log, self.folder, limits)
        self.whole = WholeLog(self.log, self.folder)

    def append(self, count: int, size: int = 10, *, ms: int = 1) -> list[EntryId]:
        ids = []
        for _ in range(count):
            self.now_ms += ms
            [id_] = self.log.append(
                self.claim, [NewEntry(Lane.NORMAL, "t.1", "k", b"x" * size)]
            ).ids
            ids.append(id_)
        return ids

    def read_to(self, reader: str, ids: list[EntryId], count: int) -> None:
        self.log.mirror(reader, NORMAL, ids[count - 1] if count else BEGIN, count)

    def in_log(self) -> list[EntryId]:
        return [one.id for one in self.log.between(NORMAL, count_max=1_000_000)]

    def all(self) -> list[EntryId]:
        return [one.id for one in self.whole.between(NORMAL, count_max=1_000_000)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ---- segments


def test_a_segment_gives_back_what_was_written(tmp_path: Path) -> None:
    entries = [entry(n, size=n % 7 * 200_000) for n in range(1, 60)]
    path = tmp_path / "a" / "1-0.seg"
    written = write_segment(path, NORMAL, entries, before=17)
    assert (written.first, written.last, written.entries) == (EntryId(1, 0), EntryId(59, 0), 59)
    assert written.size_bytes == path.stat().st_size
    assert [one.name for one in path.parent.iterdir()] == ["1-0.seg"]
    segment = Segment(path)
    assert (segment.stream, segment.before, segment.entries) == (NORMAL, 17, 59)
    assert list(segment.after(BEGIN)) == entries
    for middle in (1, 20, 58, 59, 99):
        after = [one for one in entries if one.id > EntryId(middle, 0)]
        until = [one for one in reversed(entries) if one.id <= EntryId(middle, 0)]
        assert list(segment.after(EntryId(middle, 0))) == after
        assert list(segment.until(EntryId(middle, 0))) == until


def test_foreign_characters_in_keys_come_back(tmp_path: Path) -> None:
    odd = Entry(NORMAL, EntryId(1, 2**53), "t.1", "k\udcff", b"\x00\xff", "")
    write_segment(tmp_path / "1-0.seg", NORMAL, [odd], before=0)
    assert list(Segment(tmp_path / "1-0.seg").after(BEGIN)) == [odd]


def test_a_torn_or_altered_segment_is_noticed_and_named(tmp_path: Path) -> None:
    path = tmp_path / "1-0.seg"
    entries = [entry(n) for n in range(1, 9)]
    write_segment(path, NORMAL, entries, before=0)
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(SegmentDamaged, match=r"1-0\.seg"):
            list(Segment(path).after(BEGIN))
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x20]) + good[place + 1 :])
        with pytest.raises(SegmentDamaged, match=r"1-0\.seg is damaged .* good copy"):
            list(Segment(path).after(BEGIN))


def test_a_segment_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[Entry]:
        yield entry(1)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_segment(tmp_path / "1-0.seg", NORMAL, failing(), before=0)
    assert list(tmp_path.iterdir()) == []


def test_names_that_a_file_system_refuses_are_changed(tmp_path: Path) -> None:
    folder = SegmentFolder(tmp_path, bytes_max=1)
    path = folder.path_of(Stream(Slot("con", "a.", 0), Lane.LOW), EntryId(1, 2))
    assert path.relative_to(tmp_path).as_posix() == "con_/a_/0/low/1-2.seg"


# ---- age


def test_what_is_old_and_read_by_all_is_trimmed(world: World) -> None:
    ids = world.append(10, ms=HOUR_MS * 6)
    world.log.tasks.join("a.0", [NORMAL])
    world.read_to("a.0", ids, 10)
    done = world.retention.keep(SLOT)
    assert done.trimmed == 5
    assert world.in_log() == ids[5:], "24 h are 5 entries: the one of 24 h ago stays"


def test_what_somebody_has_not_read_stays_however_old(world: World) -> None:
    ids = world.append(10, ms=HOUR_MS * 6)
    world.log.tasks.join("a.0", [NORMAL])
    world.log.tasks.join("b.0", [NORMAL])
    world.read_to("a.0", ids, 10)
    world.read_to("b.0", ids, 2)
    world.retention.keep(SLOT)
    assert world.in_log() == ids[1:]
    world.log.tasks.leave("b.0", [NORMAL])
    world.retention.keep(SLOT)
    assert world.in_log() == ids[5:]


def test_a_registered_reader_that_never_began_holds_back_everything(world: World) -> None:
    ids = world.append(4, ms=HOUR_MS * 12)
    world.log.tasks.join("a.0", [NORMAL])
    world.log.stream(NORMAL).groups.clear()  # as an older program registered
    assert world.retention.keep(SLOT).trimmed == 0
    world.read_to("a.0", ids, 4)
    assert world.retention.keep(SLOT).trimmed > 0


# ---- memory


def pressed(tmp_path: Path, **more: Any) -> World:
    """2 MB of entries where 1 MB is allowed."""
    world = World(tmp_path, memory_bytes_max=1_000_000, **more)
    world.append(2_000, size=900)
    return world


def test_over_budget_read_entries_are_trimmed_early(tmp_path: Path) -> None:
    world = pressed(tmp_path)
    ids = world.in_log()
    world.log.tasks.join("a.0", [NORMAL])
    world.read_to("a.0", ids, 2_000)
    for _ in range(10):
        world.retention.keep(SLOT)
    assert world.log.retained.look(SLOT).used_bytes <= 800_000
    assert world.in_log()[-1] == ids[-1]
    assert not list((tmp_path / "segments").rglob("*.seg")), "nothing needs to be on disk"


def test_over_budget_unread_entries_go_to_disk_and_are_read_back_in_order(tmp_path: Path) -> None:
    world = pressed(tmp_path)
    ids = world.in_log()
    world.log.tasks.join("slow.0", [NORMAL])
    world.read_to("slow.0", ids, 3)
    done = world.retention.keep(SLOT)
    assert done.spilled > 1_000
    assert not done.pressed
    assert world.log.retained.look(SLOT).used_bytes <= 800_000
    assert len(world.in_log()) < 1_000
    assert world.all() == ids[ids.index(world.all()[0]) :]
    at, seen = ids[2], []
    while found := world.whole.read({NORMAL: at}, count_max=70):
        seen += [one.id for one in found[NORMAL]]
        at = seen[-1]
    assert seen == ids[3:]
    world.read_to("slow.0", ids, 2_000)
    world.now_ms += 25 * HOUR_MS
    assert world.retention.keep(SLOT).dropped >= 1
    assert not list((tmp_path / "segments").rglob("*.seg"))
    assert world.all() == [ids[-1]]


def test_what_nobody_registered_for_is_spilled_and_not_lost(tmp_path: Path) -> None:
    """As after an import that is stored later."""
    world = pressed(tmp_path)
    ids = world.in_log()
    assert world.retention.keep(SLOT).spilled > 1_000
    assert world.all() == ids


def test_small_lanes_are_left_alone(tmp_path: Path) -> None:
    world = pressed(tmp_path)
    [high] = world.log.append(world.claim, [NewEntry(Lane.HIGH, "t.1", "k", b"x")]).ids
    world.retention.keep(SLOT)
    assert world.log.info(SLOT.stream(Lane.HIGH)).first_id == high


def test_with_the_disk_full_too_appends_are_refused_until_there_is_room(tmp_path: Path) -> None:
    world = pressed(tmp_path, disk_bytes_max=0)
    ids = world.in_log()
    world.log.tasks.join("slow.0", [NORMAL])
    done = world.retention.keep(SLOT)
    assert "RETENTION_DISK_MB" in done.full
    with pytest.raises(LogFull, match="takes no more"):
        world.append(1)
    assert world.in_log() == ids, "and nothing is lost"
    world.read_to("slow.0", ids, 2_000)
    for _ in range(10):
        done = world.retention.keep(SLOT)
    assert done.full == ""
    assert len(world.append(1)) == 1


def test_a_disk_that_fills_up_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = SegmentFolder(tmp_path, bytes_max=6_000)
    for number in range(1, 60):
        try:
            folder.write(NORMAL, [entry(number)], first=EntryId(number, 0), before=0)
        except DiskFull:
            break
    assert folder.used_bytes >= 6_000
    told = [one for one in caplog.messages if "RETENTION_DISK_MB" in one]
    assert len(told) == 1


def test_a_segment_on_another_host_is_named(tmp_path: Path) -> None:
    world = pressed(tmp_path)
    world.folder.host = "elsewhere"
    world.retention.keep(SLOT)
    other = WholeLog(world.log, SegmentFolder(tmp_path / "own", bytes_max=1 << 30))
    assert len(other.between(NORMAL, count_max=9)) == 9, "the path can be read: a shared disk"
    for path in (tmp_path / "segments").rglob("*.seg"):
        path.rename(path.with_suffix(".gone"))
    fresh = WholeLog(world.log, SegmentFolder(tmp_path / "own", bytes_max=1 << 30))
    with pytest.raises(SegmentMissing, match=r"segments.*\.seg on host elsewhere"):
        fresh.read({NORMAL: BEGIN})
    own = SegmentFolder(tmp_path / "own", bytes_max=1 << 30)
    for path in (tmp_path / "segments").rglob("*.gone"):
        moved = own.path_of(NORMAL, EntryId.parse(path.stem))
        moved.parent.mkdir(parents=True, exist_ok=True)
        moved.write_bytes(path.read_bytes())
    assert len(WholeLog(world.log, own).read({NORMAL: BEGIN})[NORMAL]) == 2_000


# ---- crashes


class Crash(BaseException):
    """The process is gone."""


def crash_points(world: World, at: str) -> None:
    """Make one call of the next spill the last thing the process does."""
    retained, folder = world.log.retained, world.folder

    def lost(*_: Any, **__: Any) -> Any:
        raise Crash

    if at == "before the file":
        folder.write = lost  # type: ignore[method-assign]
    elif at == "file, not registered":
        retained.spill = lost  # type: ignore[method-assign]
    elif at == "registered, no reply":
        spill = type(retained).spill

        def spilled_unheard(span: Any) -> bool:
            spill(retained, span)
            raise Crash

        retained.spill = spilled_unheard  # type: ignore[method-assign]
    else:
        assert at == "reply lost"
        spill = type(retained).spill

        def unanswered(span: Any) -> bool:
            spill(retained, span)
            raise LogUnavailable("reply lost")

        retained.spill = unanswered  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "at", ["before the file", "file, not registered", "registered, no reply", "reply lost"]
)
def test_a_crash_while_spilling_leaves_every_entry_once(tmp_path: Path, at: str) -> None:
    world = pressed(tmp_path)
    ids = world.in_log()
    world.log.tasks.join("slow.0", [NORMAL])
    crash_points(world, at)
    with pytest.raises((Crash, LogUnavailable)):
        world.retention.keep(SLOT)
    world.log.retained.__dict__.pop("spill", None)
    world.anew()
    assert world.all() == ids
    world.retention.keep(SLOT)
    assert world.all() == ids
    registered = {span.path for span in world.log.retained.spans([SLOT])[NORMAL]}
    on_disk = {str(path) for path in (tmp_path / "segments").rglob("*") if path.is_file()}
    assert on_disk == registered, "what a dead writer left is tidied up"


def some_appended(world: World, chance: random.Random) -> list[EntryId]:
    ids: list[EntryId] = []
    for _ in range(chance.randrange(40)):
        with suppress(LogFull):  # while memory is short
            ids += world.append(1, size=chance.randrange(3_000), ms=20)
    return ids


@pytest.mark.parametrize("seed", range(8))
def test_random_lives_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    """Two readers (one slow), trims, spills, crashes, restarts: each sees every entry once."""
    world = World(tmp_path, memory_bytes_max=500_000, age_s=60.0)
    chance = random.Random(seed)
    readers: dict[str, list[EntryId]] = {"fast.0": [], "slow.0": []}
    for reader in readers:
        world.log.tasks.join(reader, [NORMAL])
    appended: list[EntryId] = []
    for _ in range(120):
        appended += some_appended(world, chance)
        if chance.random() < 0.15:
            crash_points(world, chance.choice(["file, not registered", "registered, no reply"]))
        try:
            world.retention.keep(SLOT)
        except Crash:
            world.anew()
        world.log.retained.__dict__.pop("spill", None)
        world.log.retained.__dict__.pop("write", None)
        if chance.random() < 0.1:
            world.anew()
        for reader, seen in readers.items():
            if chance.random() < (0.9 if reader == "fast.0" else 0.25):
                at = seen[-1] if seen else BEGIN
                found = world.whole.read({NORMAL: at}, count_max=chance.randrange(1, 60))
                seen += [one.id for one in found.get(NORMAL, [])]
                world.read_to(reader, seen, len(seen))
        info, spans = world.log.info(NORMAL), world.log.retained.spans([SLOT]).get(NORMAL, [])
        removed = info.entries_added - info.length
        assert linked(spans, removed) == spans, "spans and log follow each other without a gap"
    for reader, seen in readers.items():
        while found := world.whole.read({NORMAL: seen[-1] if seen else BEGIN}, count_max=500):
            seen += [one.id for one in found[NORMAL]]
        assert seen == appended, reader
    assert any(world.log.retained.spans([SLOT]).values()) or world.retention.keep(SLOT).trimmed >= 0


# ---- the loop


def test_the_loop_goes_on_after_trouble(tmp_path: Path) -> None:
    world = pressed(tmp_path)
    world.log.tasks.join("slow.0", [NORMAL])
    failures = [LogUnavailable("away"), ValueError("odd")]

    def slots() -> list[Slot]:
        if failures:
            raise failures.pop()
        return [SLOT]

    with RetentionLoop(world.retention, slots, look_s=0.01) as loop:
        wait_until(lambda: loop.spilled > 0, what="spilled")
    assert not loop.full

"""Sinks: every effect once where the sink keeps the offset, at least once elsewhere."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from consumers.runtime.handler import Inputs
from consumers.sinks import Batch, Refused, Sink, SinkGroup, SinkRun, SqliteSink, WrittenElsewhere
from consumers.sinks.run import RETRY_MAX_S
from events.codec import encode
from events.log import Entry, Lane, LogUnavailable, NewEntry, Slot
from events.memory_log import MemoryLog
from events.operations import ClockTick, GapHealed, HandlerFailed

SOURCE = Slot("demo", "source", 0)
TASK = Slot("demo", "files", 0)


class Files(SqliteSink):
    types: ClassVar[frozenset[str]] = frozenset({"clock"})
    table = "CREATE TABLE IF NOT EXISTS seen (task TEXT, number INTEGER)"

    def store(self, connection: sqlite3.Connection, batch: Batch) -> None:
        rows = [(str(batch.task), event.event_time_ms) for event in batch.events]
        connection.executemany("INSERT INTO seen VALUES (?, ?)", rows)


class Kept(Sink):
    """Keeps what it was given in a list that outlives it; fails on demand."""

    given: ClassVar[list[int]] = []
    trouble: ClassVar[Exception | None] = None
    opened: ClassVar[int] = 0

    def open(self, task: Slot) -> None:
        Kept.opened += 1

    def write(self, batch: Batch) -> None:
        for entry, event in zip(batch.entries, batch.events, strict=True):
            if isinstance(event, GapHealed):
                raise Refused(entry, "no gaps here")
        if Kept.trouble is not None:
            raise Kept.trouble
        Kept.given += [event.event_time_ms for event in batch.events]


class KeptRaw(Kept):
    raw: ClassVar[bool] = True

    def write(self, batch: Batch) -> None:
        assert batch.events == []
        Kept.given += [len(entry.data) for entry in batch.entries]


@pytest.fixture(autouse=True)
def fresh() -> None:
    Kept.given, Kept.trouble, Kept.opened = [], None, 0


class World:
    """A log in memory, a feed, and runs of one sink over it."""

    def __init__(self, sink: type[Sink], **parameters: Any) -> None:
        self.log, self.now = MemoryLog(now_ms=lambda: 1_000), 0.0
        self.log.open_namespace("demo", 1)
        self.claim = self.log.claim(SOURCE, "test", alive_within_s=0)
        self.group = SinkGroup("files", sink, parameters)
        self.count = 0

    def feed(self, count: int = 1) -> None:
        entries = []
        for _ in range(count):
            self.count += 1
            entries.append(encode(ClockTick(event_time_ms=self.count)))
        self.log.append(self.claim, entries)

    def gap(self) -> None:
        event = GapHealed(event_time_ms=1, symbol="X", reason="", from_ms=0, until_ms=1, ticks=0)
        self.log.append(self.claim, [encode(event)])

    def run(self, *, entries_max: int = 500, log: Any = None) -> SinkRun:
        [spec] = self.group.specs(self.log)
        [held] = self.log.tasks.look([spec.slot])
        taken = self.log.tasks.acquire(spec.slot, "me", seen=held.token)
        assert taken is not None
        return SinkRun(
            log or self.log, self.group.sink(**self.group.parameters), spec, *taken,
            entries_max=entries_max, monotonic=lambda: self.now, chance=random.Random(1),
        )  # fmt: skip

    def drain(self, run: SinkRun) -> None:
        while run.step().entries:
            pass

    def dead(self) -> list[Entry]:
        return self.log.between(TASK.stream(Lane.CRITICAL), count_max=100)


def rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM seen ORDER BY 1")]


class Cut:
    """A log whose commits are lost on the way: before they arrive, or their replies."""

    def __init__(self, log: MemoryLog, *, arrives: bool) -> None:
        self._log, self._arrives = log, arrives
        self.tasks = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def commit(self, commit: Any) -> None:
        if self._arrives:
            self._log.tasks.commit(commit)
        raise LogUnavailable("reply lost")


@pytest.mark.parametrize("arrives", [True, False])
def test_a_crash_between_effect_and_commit_repeats_no_effect(tmp_path: Path, arrives: bool) -> None:
    world = World(Files, path=tmp_path / "a.db")
    world.feed(3)
    with pytest.raises(LogUnavailable):
        (run := world.run(log=Cut(world.log, arrives=arrives))).step()
    run.close()
    world.feed(2)
    run = world.run()
    world.drain(run)
    run.release()
    assert rows(tmp_path / "a.db") == [1, 2, 3, 4, 5]
    assert world.log.tasks.peek(TASK).offsets[SOURCE.stream(Lane.NORMAL)].entries == 5


@pytest.mark.parametrize("seed", range(30))
def test_crashes_at_random_steps_leave_every_row_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    world = World(Files, path=tmp_path / "a.db")
    for _ in range(25):
        world.feed(chance.randint(0, 4))
        if chance.random() < 0.2:
            world.gap()
        if chance.random() < 0.2:
            world.log.append(world.claim, [NewEntry(Lane.HIGH, "clock.99", "k", b"newer")])
        dies = chance.choice(["no", "before", "after"])
        log = world.log if dies == "no" else Cut(world.log, arrives=dies == "after")
        run = world.run(entries_max=chance.randint(1, 5), log=log)
        with suppress(LogUnavailable):
            run.step()
        run.close()
    run = world.run()
    world.drain(run)
    run.close()
    assert rows(tmp_path / "a.db") == list(range(1, world.count + 1)), seed
    newer = world.log.between(SOURCE.stream(Lane.HIGH), count_max=100)
    wanted = [entry.place for entry in newer if entry.type == "clock.99"]
    assert [entry.key for entry in world.dead()] == wanted, "each dead letter once"


def test_a_sink_without_an_offset_of_its_own_may_repeat_what_was_not_committed() -> None:
    world = World(Kept)
    world.feed(2)
    with pytest.raises(LogUnavailable):
        world.run(log=Cut(world.log, arrives=False)).step()
    world.drain(world.run())
    assert Kept.given == [1, 2, 1, 2]
    world.feed(1)
    run = world.run(log=Cut(world.log, arrives=True))
    with pytest.raises(LogUnavailable):
        run.step()
    world.drain(world.run())
    assert Kept.given == [1, 2, 1, 2, 3]


def test_a_sink_that_is_down_is_waited_for_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Kept)
    world.feed(3)
    run, Kept.trouble = world.run(), OSError("no route")
    for _ in range(40):
        assert run.step().entries == 0
        world.now += RETRY_MAX_S / 10
    assert 5 < Kept.opened < 20, "opened anew for each try, and tries back off"
    assert "no route" in run.waiting
    assert sum("does not take entries" in record.message for record in caplog.records) == 1
    Kept.trouble = None
    world.now += RETRY_MAX_S
    assert run.step().entries == 3
    assert (Kept.given, run.waiting) == ([1, 2, 3], "")


def test_what_nobody_can_read_is_a_dead_letter_unless_the_sink_takes_bytes() -> None:
    world = World(Kept)
    world.feed(1)
    world.log.append(world.claim, [NewEntry(Lane.HIGH, "surprise.9", "k", b"abc")])
    world.feed(1)
    run = world.run()
    world.drain(run)
    assert Kept.given == [1, 2]
    [dead] = world.dead()
    assert dead.type.startswith(HandlerFailed.TYPE)
    assert "surprise.9" in dead.data.decode()
    raw = World(KeptRaw)
    raw.log.append(raw.claim, [NewEntry(Lane.HIGH, "surprise.9", "k", b"abc")])
    Kept.given = []
    raw.drain(raw.run())
    assert (Kept.given, raw.dead()) == ([3], [])


@pytest.mark.parametrize("before", [0, 2])
def test_an_entry_that_the_sink_refuses_for_good_is_passed_over(before: int) -> None:
    world = World(Kept)
    if before:
        world.feed(before)
    world.gap()
    world.feed(2)
    world.drain(world.run())
    assert Kept.given == list(range(1, before + 3))
    [dead] = world.dead()
    assert "no gaps here" in dead.data.decode()


def test_of_two_that_write_the_same_batch_one_is_refused(tmp_path: Path) -> None:
    world = World(Files, path=tmp_path / "a.db")
    world.feed(2)
    zombie = world.run()
    zombie.step()
    world.feed(2)
    heir = world.run()
    heir.step()
    with pytest.raises(WrittenElsewhere):
        zombie.step()
    zombie.close()
    heir.close()
    assert rows(tmp_path / "a.db") == [1, 2, 3, 4]


def test_without_the_comparison_the_zombie_doubles_and_the_checker_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(Files, path=tmp_path / "a.db")
    world.feed(2)
    zombie = world.run()
    zombie.step()
    world.feed(2)
    heir = world.run()
    heir.step()
    kept = zombie._own_text
    monkeypatch.setattr(Files, "offset_of", lambda self, task: kept)
    zombie._log = Cut(world.log, arrives=False)
    with pytest.raises(LogUnavailable):
        zombie.step()
    zombie.close()
    heir.close()
    assert rows(tmp_path / "a.db") != [1, 2, 3, 4]


def test_a_file_that_was_lost_or_restored_is_written_again_from_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(Files, path=tmp_path / "a.db")
    world.feed(3)
    run = world.run()
    world.drain(run)
    run.close()
    for path in tmp_path.iterdir():
        path.unlink()
    world.feed(1)
    run = world.run()
    world.drain(run)
    run.close()
    assert rows(tmp_path / "a.db") == [1, 2, 3, 4]
    assert "written again from there" in caplog.text


def test_what_a_sink_does_not_want_is_not_read_again_after_a_restart(tmp_path: Path) -> None:
    world = World(Files, path=tmp_path / "a.db")
    world.feed(1)
    run = world.run()
    world.drain(run)
    world.gap()
    world.drain(run)
    run.close()
    run = world.run()
    assert run.step().entries == 0
    run.close()
    assert rows(tmp_path / "a.db") == [1]


def test_a_log_that_was_cut_behind_the_sink_halts_the_task(tmp_path: Path) -> None:
    world = World(Files, path=tmp_path / "a.db")
    world.feed(3)
    run = world.run()
    world.drain(run)
    run.close()
    world.log.drop(SOURCE.stream(Lane.NORMAL))
    run = world.run()
    assert "does not fit the log" in run.step().halted
    run.close()
    assert world.log.tasks.peek(TASK).halted == run.halted
    assert world.run().halted


def test_a_sink_names_its_file_and_says_what_it_does() -> None:
    with pytest.raises(ValueError, match="name its file"):
        Files()
    with pytest.raises(TypeError, match="does not say how it writes"):
        Sink.write(Kept(), Batch(TASK, [], [], "", ""))


def test_a_group_of_sinks_has_the_tasks_of_its_inputs() -> None:
    class Together(Kept):
        inputs: ClassVar[Inputs] = Inputs(lanes=(Lane.HIGH,))
        tasks: ClassVar[int | None] = 1

    log = MemoryLog()
    log.open_namespace("demo", 3)
    [spec] = SinkGroup("files", Together).specs(log)
    assert (spec.slot, len(spec.inputs)) == (TASK, 3)
    assert len(SinkGroup("files", Kept).specs(log)) == 3

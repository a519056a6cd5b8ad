"""Recorded events played into a namespace of their own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from consumers.replay import into as replaying
from consumers.replay.into import Pace, ReplayInto, ReplayRefused
from events.archive.exporting import Exporter
from events.archive.folder import ArchiveFolder
from events.archive.source import EntrySource, Wanted
from events.codec import encode
from events.log import OPERATOR, SOURCE, Entry, Lane, LogUnavailable, NewEntry, Slot
from events.memory_log import MemoryLog
from events.operations import ClockTick
from tests.unit.test_archive import T0, batch, ticks


@pytest.fixture
def log() -> MemoryLog:
    now = iter(range(T0, T0 + 1_000_000))
    log = MemoryLog(now_ms=lambda: next(now))
    log.open_namespace("demo", 2)
    claims = [log.claim(Slot("demo", SOURCE, n), "me", alive_within_s=0) for n in range(2)]
    for number in range(60):
        event_ms = T0 + number * 1_000
        new = [encode(ClockTick(event_time_ms=event_ms)), encode(batch(ticks(2, from_ms=event_ms)))]
        log.append(claims[number % 2], new)
        if number % 10 == 0:
            text = b'{"event_time_ms":%d}' % event_ms
            log.post(
                Slot("demo", OPERATOR, 0), NewEntry(Lane.CRITICAL, "note.1", f"n{number}", text)
            )
    return log


def of(log: MemoryLog, namespace: str) -> dict[tuple[str, int], list[tuple[str, ...]]]:
    """What each slot holds, in its order, without the ids."""
    found: dict[tuple[str, int], list[tuple[str, ...]]] = {}
    for slot in (
        Slot(namespace, SOURCE, 0),
        Slot(namespace, SOURCE, 1),
        Slot(namespace, OPERATOR, 0),
    ):
        entries: list[Entry] = []
        for lane in Lane:
            entries += log.between(slot.stream(lane), count_max=10_000)
        entries.sort(key=lambda entry: entry.id)
        found[slot.writer, slot.partition] = [
            (e.stream.lane.label, e.type, e.key, e.data.hex(), e.cause) for e in entries
        ]
    return found


def replayed(log: MemoryLog, **more: object) -> ReplayInto:
    return ReplayInto(
        EntrySource(log),
        log,
        Wanted("demo"),
        into="again",
        holder="test",
        **more,  # type: ignore[arg-type] # as named
    )


def test_a_replay_brings_the_same_entries_in_the_same_order(log: MemoryLog) -> None:
    done = replayed(log).run()
    assert done.entries == 126
    assert of(log, "again") == of(log, "demo")
    assert log.origin("again") == "replay"
    assert replayed(log).run().entries == 0, "once"
    assert of(log, "again") == of(log, "demo")


@pytest.mark.parametrize("seed", range(6))
def test_a_replay_that_dies_goes_on_without_loss_or_doubles(
    log: MemoryLog, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    append = log.append
    monkeypatch.setattr(replaying, "BATCH_ENTRIES_MAX", 7)

    def away(*arguments: object) -> object:
        if chance.random() < 0.2:
            raise LogUnavailable("before")
        found = append(*arguments)  # type: ignore[arg-type] # as they came
        if chance.random() < 0.2:
            raise LogUnavailable("after")
        return found

    monkeypatch.setattr(log, "append", away)
    for _ in range(500):
        try:
            replayed(log).run()
            break
        except LogUnavailable:
            continue
    assert of(log, "again") == of(log, "demo"), f"seed {seed}"


def test_a_replay_never_goes_where_something_else_is(log: MemoryLog) -> None:
    for name in ("demo", "import"):
        if name != "demo":
            log.open_namespace(name, 2, "import")
        with pytest.raises(ReplayRefused, match="is there already"):
            ReplayInto(EntrySource(log), log, Wanted("demo"), into=name, holder="t").run()
    replayed(log).run()
    other = Wanted("demo", from_ms=T0)
    with pytest.raises(ReplayRefused, match="another replay"):
        ReplayInto(EntrySource(log), log, other, into="again", holder="t").run()
    with pytest.raises(ReplayRefused, match="nothing was recorded"):
        ReplayInto(EntrySource(log), log, Wanted("nobody"), into="x", holder="t").run()


def test_a_span_comes_from_wherever_it_lies(log: MemoryLog, tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    Exporter(log, folder, "demo").run()
    stream = Slot("demo", SOURCE, 0).stream(Lane.NORMAL)
    middle = log.between(stream, count_max=100)[20]
    log.retained.trim(stream, middle.id, ())
    span = Wanted("demo", from_ms=T0 + 5_000, until_ms=T0 + 50_000)
    ReplayInto(EntrySource(log, folder), log, span, into="part", holder="t").run()
    clocks = [e for e in of(log, "part")["source", 0] if e[1] == "clock.1"]
    assert len(clocks) == 22, "every other second from 6 to 48"


def test_a_replay_keeps_the_pace_of_the_events(log: MemoryLog) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    replayed(log, pace=Pace(10.0, lambda: now[0], sleep)).run()
    assert now[0] == pytest.approx(5.9, abs=0.3), "59 s of events, ten times as fast"

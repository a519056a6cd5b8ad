"""What every log promises of trimming, spilling and kept copies; and of reading it all as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.log import BEGIN, Claim, EntryId, Fenced, Lane, Log, LogFull, NewEntry, Slot
from events.retained import Placed, Span, StalePlace, linked, whole_from
from events.retention import SegmentFolder, WholeLog
from events.retention.copies import Need, copied, copies_before, outdated

SLOT = Slot("demo", "source", 0)
NORMAL = SLOT.stream(Lane.NORMAL)
HIGH = SLOT.stream(Lane.HIGH)


def claimed(log: Log) -> Claim:
    return log.claim(SLOT, "me", alive_within_s=0)


def appended(
    log: Log, claim: Claim, count: int, lane: Lane = Lane.NORMAL, key: str = "k"
) -> list[EntryId]:
    return list(log.append(claim, [NewEntry(lane, "t.1", key, b"x" * 20)] * count).ids)


def spilled(log: Log, folder: SegmentFolder, count: int) -> Span:
    """The oldest entries of NORMAL into a segment."""
    lane = next(lane for lane in log.retained.look(SLOT).lanes if lane.stream == NORMAL)
    assert lane.first_id is not None
    entries = log.between(NORMAL, count_max=count)
    before = lane.entries_added - lane.length
    span = folder.write(NORMAL, entries, first=lane.first_id, before=before)
    assert log.retained.spill(span)
    return span


@pytest.fixture
def folder(tmp_path: Path) -> SegmentFolder:
    return SegmentFolder(tmp_path / "segments", bytes_max=1 << 30)


def test_a_look_tells_sizes_and_who_needs_what(log: Log) -> None:
    ids = appended(log, claimed(log), 5)
    log.tasks.join("risk.0", [NORMAL])
    log.mirror("risk.0", NORMAL, ids[1], 2)
    use = log.retained.look(SLOT)
    lane = use.lanes[Lane.NORMAL]
    assert (lane.length, lane.entries_added, lane.first_id, lane.last_id) == (5, 5, ids[0], ids[4])
    assert lane.offsets == {"risk.0": ids[1]}
    assert (use.spans, use.full) == ((), "")
    assert abs(use.now_ms - ids[4].ms) < 60_000
    empty = use.lanes[Lane.LOW]
    assert (empty.length, empty.first_id, empty.last_id) == (0, None, BEGIN)
    assert whole_from(use, NORMAL) == ids[0]


def test_nothing_that_a_group_needs_is_trimmed(log: Log) -> None:
    ids = appended(log, claimed(log), 10)
    log.tasks.join("fast.0", [NORMAL])
    log.tasks.join("slow.0", [NORMAL])
    log.mirror("fast.0", NORMAL, ids[9], 10)
    log.mirror("slow.0", NORMAL, ids[3], 4)
    done = log.retained.trim(NORMAL, ids[9], ["fast.0", "slow.0"])
    assert done.entries == 3
    assert log.info(NORMAL).first_id == ids[3], "the entry at the slowest offset stays"
    assert log.info(NORMAL).entries_added == 10
    log.mirror("slow.0", NORMAL, ids[9], 10)
    log.retained.trim(NORMAL, ids[6], [])
    assert log.info(NORMAL).first_id == ids[6], "and what is young enough stays too"


def test_a_reader_holds_back_trimming_from_the_moment_it_registered(log: Log) -> None:
    ids = appended(log, claimed(log), 4)
    log.tasks.join("new.0", [NORMAL, HIGH])
    assert log.retained.trim(NORMAL, ids[3], []).entries == 0, "though nobody named it"
    log.tasks.leave("new.0", [NORMAL, HIGH])
    assert log.retained.trim(NORMAL, ids[3], ["late.0"]).entries == 0, "registered, not there yet"
    assert log.retained.trim(NORMAL, ids[3], []).entries == 3


def test_a_trimmed_stream_goes_on_where_it_was(log: Log) -> None:
    claim = claimed(log)
    ids = appended(log, claim, 3)
    log.retained.trim(NORMAL, ids[-1].next(), [])
    info = log.info(NORMAL)
    assert (info.length, info.entries_added, info.first_id, info.last_id) == (0, 3, None, ids[-1])
    [next_id] = appended(log, claim, 1)
    assert next_id > ids[-1]
    assert log.info(NORMAL).entries_added == 4


def test_the_lag_is_right_after_a_trim(log: Log) -> None:
    ids = appended(log, claimed(log), 8)
    log.tasks.join("risk.0", [NORMAL])
    log.mirror("risk.0", NORMAL, ids[4], 5)
    log.retained.trim(NORMAL, ids[7], ["risk.0"])
    log.mirror("risk.0", NORMAL, ids[4], 5)
    assert log.groups(NORMAL)["risk.0"].lag == 3
    log.mirror("risk.0", NORMAL, ids[7], 8)
    log.retained.trim(NORMAL, ids[7].next(), ["risk.0"])
    log.mirror("risk.0", NORMAL, ids[7], 8)
    assert log.groups(NORMAL)["risk.0"].lag == 0


def test_a_refused_slot_takes_nothing_until_there_is_room(log: Log) -> None:
    claim = claimed(log)
    log.retained.refuse(SLOT, "no room")
    with pytest.raises(LogFull, match="no room"):
        appended(log, claim, 1)
    assert log.retained.look(SLOT).full == "no room"
    assert log.info(NORMAL).entries_added == 0
    log.retained.refuse(SLOT, "")
    assert len(appended(log, claim, 1)) == 1


def test_a_slot_is_refused_only_while_that_much_memory_is_used(log: Log) -> None:
    claim = claimed(log)
    appended(log, claim, 1)
    used = log.retained.look(SLOT).used_bytes
    log.retained.refuse(SLOT, "memory is short", above_bytes=2 * used + 1_000_000)
    assert len(appended(log, claim, 1)) == 1
    if used:  # the stand-in does not tell
        log.retained.refuse(SLOT, "memory is short", above_bytes=used // 2)
        with pytest.raises(LogFull, match="memory is short"):
            appended(log, claim, 1)
    assert log.retained.look(SLOT).full_above_bytes > 0


def test_spilled_entries_are_registered_where_they_left(log: Log, folder: SegmentFolder) -> None:
    ids = appended(log, claimed(log), 10)
    first = spilled(log, folder, 4)
    second = spilled(log, folder, 3)
    assert (first.first, first.last, first.entries, first.before) == (ids[0], ids[3], 4, 0)
    assert (second.first, second.before) == (ids[4], 4)
    assert log.retained.spans([SLOT]) == {NORMAL: [first, second]}
    assert log.retained.spilled([SLOT]) == {NORMAL: ids[6]}
    assert log.info(NORMAL).first_id == ids[7]
    assert not log.retained.spill(first), "a stream begins elsewhere by now"
    use = log.retained.look(SLOT)
    assert use.spans == (first, second)
    assert linked(use.spans, 7) == [first, second]
    assert whole_from(use, NORMAL) == ids[0]


def test_spans_leave_when_nobody_needs_them(log: Log, folder: SegmentFolder) -> None:
    ids = appended(log, claimed(log), 10)
    log.tasks.join("slow.0", [NORMAL])
    first, second = spilled(log, folder, 4), spilled(log, folder, 3)
    assert log.retained.trim(NORMAL, ids[9], ["slow.0"]) == (0, (), False)
    log.mirror("slow.0", NORMAL, ids[4], 5)
    assert log.retained.trim(NORMAL, ids[9], ["slow.0"]) == (0, (first,), False)
    assert log.retained.spilled([SLOT]) == {NORMAL: ids[6]}
    log.mirror("slow.0", NORMAL, ids[8], 9)
    assert log.retained.trim(NORMAL, ids[9], ["slow.0"]) == (1, (second,), False)
    assert log.retained.spans([SLOT]) == {}
    assert log.retained.spilled([SLOT]) == {}


def test_the_whole_log_reads_on_across_segments(log: Log, folder: SegmentFolder) -> None:
    claim = claimed(log)
    ids = appended(log, claim, 10)
    high = appended(log, claim, 2, Lane.HIGH)
    whole = WholeLog(log, folder)
    before = whole.between(NORMAL, count_max=100)
    spilled(log, folder, 4)
    spilled(log, folder, 3)
    assert whole.between(NORMAL, count_max=100) == before
    assert whole.between(NORMAL, ids[2], ids[8], count_max=5) == before[2:7]
    assert whole.between(NORMAL, ids[8], count_max=5) == before[8:]
    assert whole.newest(NORMAL, count_max=100) == before[::-1]
    assert whole.newest(NORMAL, count_max=3, before=ids[5]) == before[5:2:-1]
    assert whole.info(NORMAL) == log.info(NORMAL).__class__(10, 10, ids[0], ids[9])
    found = whole.read({NORMAL: ids[1], HIGH: BEGIN}, count_max=4)
    assert [e.id for e in found[NORMAL]] == ids[2:6], "as many as were asked for"
    assert [e.id for e in found[HIGH]] == high
    found = whole.read({NORMAL: ids[4]}, count_max=100, block_ms=50)
    assert [e.id for e in found[NORMAL]] == ids[5:]
    assert whole.read({NORMAL: ids[9]}, block_ms=10) == {}


def test_a_read_is_whole_though_its_entries_are_spilled_under_it(
    log: Log, folder: SegmentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = appended(log, claimed(log), 9)
    whole = WholeLog(log, folder)
    bare, spill = log.read, [3, 2]

    def read(after, **more):  # type: ignore[no-untyped-def]  # stands in for the bare method
        if spill:
            spilled(log, folder, spill.pop())
        return bare(after, **more)

    monkeypatch.setattr(log, "read", read)
    assert [e.id for e in whole.read({NORMAL: BEGIN})[NORMAL]] == ids


def test_copies_survive_what_they_were_made_of(log: Log) -> None:
    claim = claimed(log)
    ids = [id_ for key in ("a", "b", "a") for id_ in appended(log, claim, 2, key=key)]
    types = frozenset({"t"})
    needs = [
        Need("t:a", Lane.NORMAL, types, ids[1], ids[5], "a"),
        Need("t:b", Lane.NORMAL, types, ids[3], ids[3], "b"),
        Need("other", Lane.NORMAL, frozenset({"u"}), BEGIN, ids[5]),
    ]
    wanted = {"t:a": [ids[1], ids[4]], "t:b": [ids[3]]}
    for copies in copies_before(log, NORMAL, needs, begin=ids[0], until=ids[5]):
        log.retained.keep(SLOT, copies)
    log.retained.trim(NORMAL, ids[5], [])
    found = copied(log, SLOT)
    assert {name: [e.id for e in entries] for name, entries in found.items()} == wanted
    moved = [needs[0]._replace(first=ids[5]), *needs[1:]]
    gone = outdated(list(log.retained.kept(SLOT)), moved)
    log.retained.keep(SLOT, {}, gone)
    assert set(copied(log, SLOT)) == {"t:b"}


def test_without_the_look_afterwards_a_read_would_have_a_gap(
    log: Log, folder: SegmentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = appended(log, claimed(log), 9)
    whole = WholeLog(log, folder)
    bare = log.read

    def read(after, **more):  # type: ignore[no-untyped-def]  # stands in for the bare method
        spilled(log, folder, 3)
        return bare(after, **more)

    monkeypatch.setattr(log, "read", read)
    monkeypatch.setattr(whole, "_look", lambda *_: False)
    assert [e.id for e in whole.read({NORMAL: BEGIN})[NORMAL]] == ids[3:]


def test_entries_stand_at_the_ids_they_had_elsewhere(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    first = [
        Placed(EntryId(5, 3), NewEntry(Lane.NORMAL, "test.1", "a", b"1")),
        Placed(EntryId(5, 4), NewEntry(Lane.HIGH, "level.1", "b", b"2", "{a:b:0}:low@1-1", b"2")),
        Placed(EntryId(7, 0), NewEntry(Lane.NORMAL, "test.1", "c", b"3")),
    ]
    log.retained.put(claim, first)
    found = log.between(NORMAL, count_max=10)
    assert [(e.id, e.key, e.data) for e in found] == [((5, 3), "a", b"1"), ((7, 0), "c", b"3")]
    [high] = log.between(SLOT.stream(Lane.HIGH), count_max=10)
    assert (high.id, high.cause) == ((5, 4), "{a:b:0}:low@1-1")
    assert log.last_states(SLOT) == {("level.1", "b"): b"2"}
    for ids in ((EntryId(7, 0),), (EntryId(6, 9),), (EntryId(8, 0), EntryId(8, 0))):
        entries = [Placed(id_, NewEntry(Lane.LOW, "test.1", "d", b"4")) for id_ in ids]
        with pytest.raises(StalePlace, match="nothing can be put before it") as refused:
            log.retained.put(claim, entries)
        assert refused.value.newest >= EntryId(7, 0)
    assert log.between(SLOT.stream(Lane.LOW), count_max=10) == [], "all or nothing"
    [id_] = log.append(claim, [NewEntry(Lane.NORMAL, "test.1", "e", b"5")]).ids
    assert id_ > EntryId(7, 0)
    log.release(claim)
    with pytest.raises(Fenced):
        log.retained.put(claim, [Placed(id_.next(), NewEntry(Lane.LOW, "test.1", "f", b""))])

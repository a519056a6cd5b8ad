"""What every store of tasks promises, run against memory, Redis, Valkey and the stand-in."""

from __future__ import annotations

import dataclasses

import pytest

from events.log import BEGIN, Claim, EntryId, Fenced, Lane, Log, LogError, NewEntry, Slot
from events.memory_log import MemoryLog
from events.offset import Offset, checksum_of
from events.tasks import Commit, OffsetChange, Output, StaleOffset, StaleOutput, TaskRecord

SOURCE_SLOT = Slot("demo", "source", 0)
SLOT = Slot("demo", "risk", 0)
NORMAL = SOURCE_SLOT.stream(Lane.NORMAL)
HIGH = SOURCE_SLOT.stream(Lane.HIGH)


def acquired(log: Log, seen: str = "") -> tuple[Claim, TaskRecord]:
    found = log.tasks.acquire(SLOT, "me", seen=seen)
    assert found is not None
    return found


def output(ms: int, seq: int, *, lane: Lane = Lane.NORMAL, last: bytes | None = None) -> Output:
    return Output(EntryId(ms, seq), NewEntry(lane, "out.1", "k", b"%d" % seq, "a@1-1", last))


def moved(entries: int = 1, *, since: Offset | None = None) -> dict[object, OffsetChange]:
    return {NORMAL: OffsetChange(since or Offset(), Offset(EntryId(5, entries), entries, 77))}


def test_a_group_keeps_its_number_of_tasks_and_is_known_as_a_writer(log: Log) -> None:
    log.open_namespace("demo", 4)
    log.tasks.open_group("demo", "risk", 4)
    log.tasks.open_group("demo", "risk", 4)
    with pytest.raises(LogError, match="has 4 tasks"):
        log.tasks.open_group("demo", "risk", 1)
    with pytest.raises(ValueError, match="no name"):
        log.tasks.open_group("demo", "No Name", 1)
    assert log.tasks.writers("demo") == {"source": 4, "operator": 1, "risk": 4}


def test_a_new_task_is_empty_and_a_commit_is_read_back_whole(log: Log) -> None:
    claim, record = acquired(log)
    assert (dict(record.offsets), dict(record.state), record.newest) == ({}, {}, BEGIN)
    assert (record.commits, record.attempts, record.version) == (0, 0, "")
    log.tasks.commit(
        Commit(
            claim, record.newest, moved(3), {"a": b"\x00\xff", "b": b"2"},
            outputs=[output(9, 1), output(9, 2, lane=Lane.HIGH, last=b"L")],
            journal=b"J", version="1",
        )
    )  # fmt: skip
    log.release(claim)
    _, again = acquired(log)
    assert again.offsets == {NORMAL: Offset(EntryId(5, 3), 3, 77)}
    assert again.state == {"a": b"\x00\xff", "b": b"2"}
    assert (again.newest, again.commits, again.version) == (EntryId(9, 2), 1, "1")
    assert log.tasks.journal(SLOT, count_max=9) == [(1, b"J")]
    [first] = log.newest(SLOT.stream(Lane.NORMAL))
    assert (first.id, first.cause, first.data) == (EntryId(9, 1), "a@1-1", b"1")
    assert log.last_states(SLOT) == {("out.1", "k"): b"L"}


def test_a_commit_writes_only_what_changed_and_removes_what_is_gone(log: Log) -> None:
    claim, record = acquired(log)
    log.tasks.commit(Commit(claim, record.newest, {}, {"a": b"1", "b": b"1", "c": b"1"}))
    log.tasks.commit(Commit(claim, record.newest, {}, {"b": b"2"}, removed=["c"]))
    assert log.tasks.peek(SLOT).state == {"a": b"1", "b": b"2"}


def test_each_guard_refuses_and_nothing_is_written(log: Log) -> None:
    old, record = acquired(log)
    log.tasks.commit(Commit(old, record.newest, moved(1), {"a": b"1"}, outputs=[output(9, 1)]))
    at = log.tasks.peek(SLOT)
    one = at.offsets[NORMAL]
    refused = [
        (StaleOffset, Commit(old, at.newest, moved(2), {"a": b"x"}, outputs=[output(9, 2)])),
        (StaleOutput, Commit(old, BEGIN, moved(2, since=one), {"a": b"x"}, outputs=[output(9, 1)])),
        (StaleOutput, Commit(old, at.newest, moved(2, since=one), outputs=[output(8, 2)])),
        (StaleOutput, Commit(old, at.newest, moved(2, since=one), outputs=[output(9, 3)])),
    ]
    for kind, commit in refused:
        with pytest.raises(kind):
            log.tasks.commit(commit)
    new, _ = acquired(log, seen=old.token)
    with pytest.raises(Fenced):
        log.tasks.commit(Commit(old, at.newest, moved(2, since=one), {"a": b"x"}))
    with pytest.raises(Fenced):
        log.tasks.trying(old, "x")
    with pytest.raises(Fenced):
        log.beat(old)
    after = log.tasks.peek(SLOT)
    assert (after.offsets, after.state, after.newest) == (at.offsets, at.state, at.newest)
    assert log.info(SLOT.stream(Lane.NORMAL)).entries_added == 1
    log.tasks.commit(Commit(new, at.newest, moved(2, since=one), outputs=[output(10, 2)]))


def test_of_two_who_saw_the_same_token_one_wins(log: Log) -> None:
    first, _ = acquired(log)
    assert log.tasks.acquire(SLOT, "you", seen="") is None
    second = log.tasks.acquire(SLOT, "you", seen=first.token)
    assert second is not None
    assert log.tasks.acquire(SLOT, "they", seen=first.token) is None
    [held] = log.tasks.look([SLOT])
    assert (held.token, held.holder) == (second[0].token, "you")


def test_the_beat_moves_with_every_sign_of_life(log: Log) -> None:
    claim, record = acquired(log)
    beats = [log.tasks.look([SLOT])[0].beat]
    log.beat(claim)
    beats.append(log.tasks.look([SLOT])[0].beat)
    log.tasks.commit(Commit(claim, record.newest, {}))
    beats.append(log.tasks.look([SLOT])[0].beat)
    assert beats == sorted(set(beats))
    log.release(claim)
    assert log.tasks.look([SLOT])[0].token == ""


def test_take_overs_without_a_commit_are_counted_and_releases_are_not(log: Log) -> None:
    claim, _ = acquired(log)
    log.release(claim)
    claim, record = acquired(log)
    assert record.attempts == 0
    claim, record = acquired(log, seen=claim.token)
    claim, record = acquired(log, seen=claim.token)
    assert record.attempts == 2
    log.tasks.trying(claim, "place|1")
    assert log.tasks.peek(SLOT).trying == "place|1"
    log.tasks.commit(Commit(claim, record.newest, {}))
    assert (log.tasks.peek(SLOT).attempts, log.tasks.peek(SLOT).trying) == (0, "")


def test_snapshots_are_copies_in_a_ring_and_trim_the_journal(log: Log) -> None:
    claim, record = acquired(log)
    for number in range(1, 4):
        log.tasks.commit(
            Commit(
                claim, record.newest, {}, {"n": b"%d" % number}, journal=b"%d" % number,
                snapshot=number % 2, journal_from=number - 1,
            )
        )  # fmt: skip
    assert [(info.place, info.commit) for info in log.tasks.snapshots(SLOT)] == [(0, 2), (1, 3)]
    assert log.tasks.snapshot(SLOT, 0).state == {"n": b"2"}
    assert log.tasks.snapshot(SLOT, 1).commits == 3
    assert log.tasks.journal(SLOT, count_max=9) == [(2, b"2"), (3, b"3")]
    assert log.tasks.journal(SLOT, after=2, count_max=9) == [(3, b"3")]
    with pytest.raises(LogError, match="no snapshot"):
        log.tasks.snapshot(SLOT, 5)


def test_requests_wait_until_a_commit_answers_them(log: Log) -> None:
    log.tasks.ask(SLOT, "r1", b"one")
    log.tasks.ask(SLOT, "r2", b"two")
    claim, record = acquired(log)
    assert record.requests == {"r1": b"one", "r2": b"two"}
    log.tasks.commit(Commit(claim, record.newest, {}, answered=["r1"]))
    assert log.tasks.requests(SLOT) == {"r2": b"two"}


def test_a_halt_is_durable_until_a_commit_lifts_it(log: Log) -> None:
    claim, record = acquired(log)
    log.tasks.commit(Commit(claim, record.newest, {}, halted="a deal could not be read"))
    assert log.tasks.look([SLOT])[0].halted == "a deal could not be read"
    log.tasks.commit(Commit(claim, record.newest, {}))
    assert log.tasks.peek(SLOT).halted == ""


def test_readers_are_known_per_stream_until_they_leave(log: Log) -> None:
    log.tasks.join("risk.0", [NORMAL, HIGH])
    log.tasks.join("persist.0", [NORMAL])
    assert log.tasks.readers("demo") == {
        HIGH: frozenset({"risk.0"}),
        NORMAL: frozenset({"risk.0", "persist.0"}),
    }
    source = log.claim(SOURCE_SLOT, "me", alive_within_s=0)
    [id_] = log.append(source, [NewEntry(Lane.NORMAL, "t.1", "k", b"x")]).ids
    log.mirror("risk.0", NORMAL, id_, 1)
    log.tasks.leave("risk.0", [NORMAL, HIGH])
    assert log.tasks.readers("demo") == {NORMAL: frozenset({"persist.0"})}
    assert "risk.0" not in log.groups(NORMAL)


def test_workers_beat_until_they_are_dropped(log: Log) -> None:
    for worker in ("b", "a", "a"):
        log.tasks.beat_worker("risk", worker)
    assert log.tasks.workers("risk") == {"a": 2, "b": 1}
    log.tasks.drop_worker("risk", "a")
    assert log.tasks.workers("risk") == {"b": 1}
    assert log.tasks.workers("nobody") == {}


@pytest.mark.parametrize("outputs", [False, True])
def test_a_removed_group_begins_anew(log: Log, outputs: bool) -> None:
    log.open_namespace("demo", 4)
    log.tasks.open_group("demo", "risk", 1)
    claim, record = acquired(log)
    log.tasks.commit(
        Commit(claim, record.newest, moved(1), {"a": b"1"}, outputs=[output(9, 1)], journal=b"J")
    )
    log.tasks.close_group("demo", "risk", outputs=outputs)
    again = log.tasks.peek(SLOT)
    assert (dict(again.offsets), dict(again.state), again.commits) == ({}, {}, 0)
    assert log.tasks.journal(SLOT, count_max=9) == []
    assert log.info(SLOT.stream(Lane.NORMAL)).length == (0 if outputs else 1)
    assert again.newest == (BEGIN if outputs else EntryId(9, 1))
    assert ("risk" in log.tasks.writers("demo")) is not outputs
    with pytest.raises(Fenced):
        log.tasks.commit(Commit(claim, again.newest, {}))


def test_offsets_read_back_from_their_text() -> None:
    offset = Offset(EntryId(5, 7), 12, 2**62)
    assert Offset.parse(str(offset)) == offset
    assert Offset.parse("") == Offset()
    assert str(Offset()) == "0-0:0:0"


def test_a_checksum_tells_entries_apart(log: Log) -> None:
    claim = log.claim(SOURCE_SLOT, "me", alive_within_s=0)
    log.append(claim, [NewEntry(Lane.NORMAL, "t.1", "k", b"x", cause) for cause in ("", "a", "")])
    first, second, third = log.between(NORMAL, count_max=3)
    assert checksum_of(first) == checksum_of(third) != checksum_of(second)


def skip_stand_in(log: Log) -> None:
    if not isinstance(log, MemoryLog) and getattr(log, "volatile", False):
        pytest.skip("the stand-in for Redis knows no XSETID")


def test_a_rewound_task_is_what_it_was_and_derives_the_same_ids_again(log: Log) -> None:
    skip_stand_in(log)
    claim, record = acquired(log)
    first = Commit(
        claim, record.newest, moved(1), {"a": b"1"},
        outputs=[output(9, 1), output(9, 2, lane=Lane.HIGH, last=b"L")],
        journal=b"J1", version="1", snapshot=0,
    )  # fmt: skip
    log.tasks.commit(first)
    then = log.tasks.snapshot(SLOT, 0)
    log.mirror("persist.0", SLOT.stream(Lane.NORMAL), EntryId(9, 1), 1)
    more = {NORMAL: OffsetChange(then.offsets[NORMAL], Offset(EntryId(6, 0), 2, 5))}
    second = Commit(
        claim, then.newest, more, {"a": b"2", "b": b"2"},
        outputs=[output(9, 3), output(10, 4, lane=Lane.HIGH, last=b"M")],
        journal=b"J2", version="1", snapshot=1, halted="a reason",
    )  # fmt: skip
    log.tasks.commit(second)
    after = log.tasks.peek(SLOT)
    high_after = log.between(SLOT.stream(Lane.HIGH), count_max=9)
    log.tasks.ask(SLOT, "r", b"stays")
    assert log.tasks.rewind(claim, then) == 2
    with pytest.raises(Fenced):
        log.tasks.rewind(claim, then)
    back = log.tasks.peek(SLOT)
    assert (back.offsets, back.state, back.newest) == (then.offsets, then.state, then.newest)
    assert (back.commits, back.halted, dict(back.requests)) == (1, "", {"r": b"stays"})
    assert [info.commit for info in log.tasks.snapshots(SLOT)] == [1]
    assert log.tasks.journal(SLOT, count_max=9) == [(1, b"J1")]
    assert [e.id for e in log.between(SLOT.stream(Lane.NORMAL), count_max=9)] == [EntryId(9, 1)]
    info = log.info(SLOT.stream(Lane.HIGH))
    assert (info.length, info.entries_added, info.last_id) == (1, 1, EntryId(9, 2))
    assert log.groups(SLOT.stream(Lane.NORMAL))["persist.0"].offset == EntryId(9, 1)
    assert log.last_states(SLOT) == {}
    claim, record = acquired(log)
    assert record.attempts == 0
    log.tasks.commit(dataclasses.replace(second, claim=claim))
    again = log.tasks.peek(SLOT)
    assert (again.offsets, again.state, again.newest) == (after.offsets, after.state, after.newest)
    assert log.between(SLOT.stream(Lane.HIGH), count_max=9) == high_after


def test_a_task_rewound_to_its_beginning_is_new(log: Log) -> None:
    skip_stand_in(log)
    claim, record = acquired(log)
    log.tasks.commit(
        Commit(claim, record.newest, moved(1), {"a": b"1"}, outputs=[output(9, 1)], journal=b"J")
    )
    assert log.tasks.rewind(claim, TaskRecord(SLOT, {}, {}, BEGIN, 0, "")) == 1
    assert log.info(SLOT.stream(Lane.NORMAL)).length == 0
    claim, record = acquired(log)
    assert (dict(record.offsets), dict(record.state), record.newest) == ({}, {}, BEGIN)
    log.tasks.commit(Commit(claim, BEGIN, moved(1), outputs=[output(3, 1)], journal=b"J"))
    assert log.tasks.journal(SLOT, count_max=9) == [(1, b"J")]

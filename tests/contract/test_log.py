"""What every log promises, run against memory, Redis, Valkey and the stand-in."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.log import (
    APPEND_ENTRIES_MAX,
    BEGIN,
    CursorMove,
    EntryId,
    Fenced,
    Lane,
    Log,
    LogError,
    NewEntry,
    OversizedEntry,
    Slot,
    StaleCursor,
    Stream,
    WriterHeld,
)

SLOT = Slot("demo", "source", 0)


def entry(number: int, lane: Lane = Lane.NORMAL, **more: object) -> NewEntry:
    return NewEntry(lane, "test.1", f"k{number}", str(number).encode(), **more)  # type: ignore[arg-type]


def test_a_namespace_keeps_its_number_of_partitions(log: Log) -> None:
    assert log.open_namespace("demo", 4) == 4
    assert log.open_namespace("demo", 4) == 4
    with pytest.raises(LogError, match="has 4 partitions, not 8"):
        log.open_namespace("demo", 8)
    with pytest.raises(ValueError, match="no name"):
        log.open_namespace("De mo")
    assert log.namespaces() == {"demo": 4}


def test_a_namespace_keeps_how_it_came_about(log: Log) -> None:
    log.open_namespace("demo", 2)
    log.open_namespace("again", 2, "replay")
    log.open_namespace("files", 2, "import")
    assert [log.origin(name) for name in ("demo", "again", "files", "none-yet")] == [
        "live", "replay", "import", "live"
    ]  # fmt: skip
    for name, origin in (("again", "live"), ("files", "live"), ("demo", "replay")):
        with pytest.raises(LogError, match="choose another name"):
            log.open_namespace(name, 2, origin)  # type: ignore[arg-type] # origins, as texts
    assert log.open_namespace("demo", 2, "import") == 2, "history may go into a live one"
    assert log.origin("demo") == "live", "which stays what it is"
    with pytest.raises(LogError, match="no origin"):
        log.open_namespace("odd", 2, "made-up")  # type: ignore[arg-type] # what is refused
    assert "odd" not in log.namespaces()


def test_entries_come_back_in_order_with_every_field(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    new = [entry(0), entry(1, Lane.HIGH, cause="{a:b:0}:low@1-1"), entry(2)]
    ids = log.append(claim, new).ids
    assert list(ids) == sorted(ids)
    normal, high = SLOT.stream(Lane.NORMAL), SLOT.stream(Lane.HIGH)
    found = log.read({normal: BEGIN, high: BEGIN})
    assert [(e.id, e.type, e.key, e.data) for e in found[normal]] == [
        (ids[0], "test.1", "k0", b"0"),
        (ids[2], "test.1", "k2", b"2"),
    ]
    assert found[high][0].cause == "{a:b:0}:low@1-1"
    assert found[high][0].place == f"{high}@{ids[1]}"


def test_ids_order_all_lanes_of_a_slot_over_many_appends(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    ids: list[EntryId] = []
    for number in range(50):
        ids += log.append(claim, [entry(number, Lane(number % 4)), entry(number)]).ids
    assert ids == sorted(set(ids))


def test_read_continues_after_an_offset_and_honours_the_count(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    ids = log.append(claim, [entry(n) for n in range(10)]).ids
    stream = SLOT.stream(Lane.NORMAL)
    first = log.read({stream: BEGIN}, count_max=4)[stream]
    assert [e.id for e in first] == list(ids[:4])
    rest = log.read({stream: first[-1].id})[stream]
    assert [e.id for e in rest] == list(ids[4:])
    assert log.read({stream: ids[-1]}) == {}


def test_a_blocking_read_wakes_when_something_is_appended(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    streams = {SLOT.stream(lane): BEGIN for lane in Lane}
    timer = threading.Timer(0.1, log.append, [claim, [entry(1, Lane.LOW)]])
    timer.start()
    found = log.read(streams, block_ms=5_000)
    timer.join()
    assert [e.key for e in found[SLOT.stream(Lane.LOW)]] == ["k1"]
    assert log.read({SLOT.stream(Lane.HIGH): BEGIN}, block_ms=30) == {}


def test_between_and_newest_reach_any_span(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    ids = log.append(claim, [entry(n) for n in range(6)]).ids
    stream = SLOT.stream(Lane.NORMAL)
    assert [e.id for e in log.between(stream, ids[1], ids[3], count_max=10)] == list(ids[1:4])
    assert [e.id for e in log.between(stream, count_max=2)] == list(ids[:2])
    assert [e.id for e in log.newest(stream, count_max=2)] == [ids[5], ids[4]]
    assert [e.id for e in log.newest(stream, before=ids[2])] == [ids[2]]
    assert log.newest(SLOT.stream(Lane.CRITICAL)) == []


def test_a_cursor_moves_only_from_where_the_caller_thought(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    done = log.append(claim, [entry(1)], [CursorMove("ticks:EURUSD", "", "100:1")])
    stored = done.cursors["ticks:EURUSD"]
    assert stored == f"100:1@{done.ids[-1]}"
    assert log.cursors(SLOT) == {"ticks:EURUSD": stored}
    with pytest.raises(StaleCursor) as stale:
        log.append(claim, [entry(2)], [CursorMove("ticks:EURUSD", "", "200:2")])
    assert stale.value.found == stored
    assert log.info(SLOT.stream(Lane.NORMAL)).length == 1


def test_one_stale_cursor_of_several_stops_the_whole_append(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    moves = [CursorMove("a", "", "1"), CursorMove("b", "wrong", "1")]
    with pytest.raises(StaleCursor):
        log.append(claim, [entry(1, last=b"x")], moves)
    assert log.cursors(SLOT) == {}
    assert log.last_states(SLOT) == {}
    assert log.info(SLOT.stream(Lane.NORMAL)).entries_added == 0


def test_repeating_an_append_whose_reply_was_lost_changes_nothing(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    move = CursorMove("feed", "", "1")
    log.append(claim, [entry(1)], [move])
    with pytest.raises(StaleCursor):
        log.append(claim, [entry(1)], [move])
    assert log.info(SLOT.stream(Lane.NORMAL)).length == 1


def test_the_last_state_is_kept_per_type_and_key(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    log.append(claim, [entry(1, last=b"old"), entry(2)])
    log.append(claim, [entry(1, last=b"new")])
    assert log.last_states(SLOT) == {("test.1", "k1"): b"new"}


def test_a_second_writer_is_refused_with_the_holders_name(log: Log) -> None:
    claim = log.claim(SLOT, "host-a pid 1", alive_within_s=0)
    assert log.holder(SLOT) == "host-a pid 1"
    stop = threading.Event()

    def keep_beating() -> None:
        while not stop.wait(0.02):
            log.beat(claim)

    thread = threading.Thread(target=keep_beating)
    thread.start()
    try:
        with pytest.raises(WriterHeld, match="host-a pid 1"):
            log.claim(SLOT, "host-b", alive_within_s=2)
    finally:
        stop.set()
        thread.join()


def test_a_silent_holder_is_taken_over_and_fenced(log: Log) -> None:
    old = log.claim(SLOT, "old", alive_within_s=0)
    new = log.claim(SLOT, "new", alive_within_s=0.15)
    for act in (lambda: log.append(old, [entry(1)]), lambda: log.beat(old)):
        with pytest.raises(Fenced, match="new"):
            act()
    log.release(old)
    assert log.holder(SLOT) == "new"
    assert len(log.append(new, [entry(1)]).ids) == 1


def test_a_released_slot_is_free_at_once(log: Log) -> None:
    log.release(log.claim(SLOT, "old", alive_within_s=0))
    assert log.holder(SLOT) == ""
    assert log.claim(SLOT, "new", alive_within_s=60).holder == "new"


def test_a_command_is_posted_once(log: Log) -> None:
    slot = Slot("demo", "operator", 0)
    first = log.post(slot, entry(1, Lane.CRITICAL))
    assert first is not None
    assert log.post(slot, entry(1, Lane.CRITICAL)) is None
    second = log.post(slot, entry(2, Lane.CRITICAL))
    assert second is not None
    assert second > first
    assert log.info(slot.stream(Lane.CRITICAL)).length == 2
    assert log.last_states(slot) == {}


def test_a_level_is_posted_again_under_its_key_and_the_newest_is_its_last_state(log: Log) -> None:
    slot = Slot("demo", "operator", 0)
    older, newer = (
        NewEntry(Lane.CRITICAL, "set.1", "me", data, last=data) for data in (b"older", b"newer")
    )
    assert log.post(slot, older, once="first") is not None
    assert log.post(slot, newer, once="second") is not None
    assert log.post(slot, older, once="first") is None
    assert log.last_states(slot) == {("set.1", "me"): b"newer"}
    assert log.info(slot.stream(Lane.CRITICAL)).length == 2


def test_oversized_entries_and_batches_are_refused(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    with pytest.raises(OversizedEntry, match="at most 1000"):
        log.append(claim, [entry(n) for n in range(APPEND_ENTRIES_MAX + 1)])
    monkeypatch.setattr("events.log.ENTRY_BYTES_MAX", 3)
    with pytest.raises(OversizedEntry, match=r"test\.1 k12345: 5 bytes"):
        log.append(claim, [entry(12345)])
    assert log.info(SLOT.stream(Lane.NORMAL)).length == 0


def test_info_counts_entries_and_reach(log: Log) -> None:
    stream = SLOT.stream(Lane.NORMAL)
    assert log.info(stream).length == 0
    ids = log.append(log.claim(SLOT, "me", alive_within_s=0), [entry(n) for n in range(3)]).ids
    info = log.info(stream)
    assert (info.length, info.entries_added) == (3, 3)
    assert (info.first_id, info.last_id) == (ids[0], ids[2])


def test_the_mirror_shows_offset_and_lag_of_a_group(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    ids = log.append(claim, [entry(n) for n in range(5)]).ids
    stream = SLOT.stream(Lane.NORMAL)
    log.mirror("persist.0", stream, ids[1], 2)
    log.mirror("persist.0", stream, ids[2], 3)
    group = log.groups(stream)["persist.0"]
    assert (group.offset, group.entries_read) == (ids[2], 3)
    if not getattr(log, "volatile", False):
        assert group.lag == 2
    assert log.groups(SLOT.stream(Lane.LOW)) == {}


@given(ms=st.integers(0, 2**63), seq=st.integers(0, 2**63))
def test_entry_ids_order_as_numbers_and_read_back(ms: int, seq: int) -> None:
    id_ = EntryId(ms, seq)
    assert EntryId.parse(str(id_)) == EntryId.parse(str(id_).encode()) == id_
    assert id_ < id_.next() < EntryId(ms + 1, 0)


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "a-b", "1-2-3", "1--2"])
def test_text_that_is_no_entry_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an entry id"):
        EntryId.parse(text)


def test_stream_names_read_back() -> None:
    stream = Stream(Slot("ftmo", "risk", 3), Lane.CRITICAL)
    assert str(stream) == "{ftmo:risk:3}:critical"
    assert Stream.parse(str(stream)) == stream


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.binary(max_size=200), key=st.text(max_size=20), cause=st.sampled_from(["", "a@1-1"]))
def test_any_bytes_survive(log: Log, data: bytes, key: str, cause: str) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    try:
        [id_] = log.append(claim, [NewEntry(Lane.LOW, "blob.1", key, data, cause)]).ids
        [found] = log.newest(SLOT.stream(Lane.LOW))
        assert (found.id, found.key, found.data, found.cause) == (id_, key, data, cause)
    finally:
        log.release(claim)

"""What every unordered hand-out promises, run against memory, Redis, Valkey and the stand-in."""

from __future__ import annotations

import time

from events.log import BEGIN, Claim, EntryId, Lane, Log, NewEntry, Slot
from events.unordered import Derived
from tests.servers import wait_until

SOURCE = Slot("demo", "source", 0)
OTHER = Slot("demo", "source", 1)
OWN = Slot("demo", "notes", 0)
NORMAL, HIGH = SOURCE.stream(Lane.NORMAL), SOURCE.stream(Lane.HIGH)
READER = "notes.0"
FROM_BEGIN = {NORMAL: BEGIN, HIGH: BEGIN}


def fed(log: Log, count: int, slot: Slot = SOURCE) -> Claim:
    log.open_namespace("demo", 2)
    claim = log.claim(slot, "test", alive_within_s=0)
    add(log, claim, count)
    return claim


def add(log: Log, claim: Claim, count: int) -> None:
    log.append(claim, [NewEntry(Lane.NORMAL, "x.1", f"k{n}", b"%d" % n) for n in range(count)])


def a_millisecond_later() -> None:
    """fakeredis calls an entry idle for 0 ms only from the next millisecond on; Redis at once."""
    time.sleep(0.002)


def out(text: bytes, cause: str = "") -> NewEntry:
    return NewEntry(Lane.NORMAL, "out.1", "k", text, cause)


def test_each_entry_is_given_to_one_consumer(log: Log) -> None:
    fed(log, 10)
    log.unordered.open(READER, FROM_BEGIN)
    log.unordered.open(READER, FROM_BEGIN)
    one = log.unordered.take(READER, "one", FROM_BEGIN, count_max=6)
    two = log.unordered.take(READER, "two", FROM_BEGIN, count_max=6)
    assert [len(one.entries), len(two.entries)] == [6, 4]
    assert sorted(e.id for e in (*one.entries, *two.entries)) == [
        entry.id for entry in log.between(NORMAL, count_max=99)
    ]
    assert log.unordered.take(READER, "one", FROM_BEGIN, count_max=6).entries == ()
    assert one.lost == two.lost == ()


def test_what_was_given_stays_on_the_list_until_it_is_acknowledged(log: Log) -> None:
    fed(log, 3)
    log.unordered.open(READER, FROM_BEGIN)
    taken = log.unordered.take(READER, "one", FROM_BEGIN, count_max=9).entries
    assert log.unordered.again(READER, "one", FROM_BEGIN, count_max=9).entries == taken
    assert log.unordered.again(READER, "two", FROM_BEGIN, count_max=9).entries == ()
    assert log.unordered.acknowledge(READER, taken[:2]) == 2
    assert log.unordered.acknowledge(READER, taken[:2]) == 0
    assert log.unordered.again(READER, "one", FROM_BEGIN, count_max=9).entries == taken[2:]


def test_what_a_silent_consumer_left_is_taken_over_and_counted(log: Log) -> None:
    fed(log, 3)
    log.unordered.open(READER, FROM_BEGIN)
    taken = log.unordered.take(READER, "dead", FROM_BEGIN, count_max=9).entries
    none = log.unordered.reclaim(READER, "heir", NORMAL, silent_ms=60_000, count_max=9)
    assert (none.entries, none.lost) == ((), ())
    a_millisecond_later()
    first = log.unordered.reclaim(READER, "heir", NORMAL, silent_ms=0, count_max=9)
    assert (first.entries, first.times) == (taken, (2, 2, 2))
    assert log.unordered.again(READER, "dead", FROM_BEGIN, count_max=9).entries == ()
    assert log.unordered.again(READER, "heir", FROM_BEGIN, count_max=9).entries == taken


def test_of_those_that_were_taken_over_before_one_is_taken_at_a_time(log: Log) -> None:
    claim = fed(log, 3)
    log.unordered.open(READER, FROM_BEGIN)
    taken = log.unordered.take(READER, "dead", FROM_BEGIN, count_max=9).entries
    a_millisecond_later()
    log.unordered.reclaim(READER, "two", NORMAL, silent_ms=0, count_max=9)
    add(log, claim, 1)
    newer = log.unordered.take(READER, "dead", FROM_BEGIN, count_max=9).entries
    a_millisecond_later()
    found = log.unordered.reclaim(READER, "three", NORMAL, silent_ms=0, count_max=9)
    assert (found.entries, found.times) == ((taken[0], *newer), (3, 2))
    assert log.unordered.again(READER, "two", FROM_BEGIN, count_max=9).entries == taken[1:]


def test_who_is_still_at_work_is_not_silent(log: Log) -> None:
    fed(log, 1)
    log.unordered.open(READER, FROM_BEGIN)
    taken = log.unordered.take(READER, "slow", FROM_BEGIN, count_max=9).entries

    def idle_long() -> bool:
        found = log.unordered.reclaim(READER, "slow", NORMAL, silent_ms=60, count_max=9)
        return bool(found.entries)

    wait_until(idle_long, what="60 ms of silence")
    log.unordered.hold(READER, "slow", taken)
    heir = log.unordered.reclaim(READER, "heir", NORMAL, silent_ms=60, count_max=9)
    assert heir.entries == ()


def test_all_is_done_up_to_the_oldest_that_is_not_acknowledged(log: Log) -> None:
    claim = fed(log, 4)
    log.unordered.open(READER, FROM_BEGIN)

    def done_to() -> EntryId:
        return log.unordered.reclaim(READER, "one", NORMAL, silent_ms=60_000, count_max=9).done_to

    assert done_to() == BEGIN
    taken = log.unordered.take(READER, "one", FROM_BEGIN, count_max=9).entries
    assert done_to() < taken[0].id
    log.unordered.acknowledge(READER, [taken[0], taken[2]])
    assert taken[0].id <= done_to() < taken[1].id
    log.unordered.acknowledge(READER, taken)
    add(log, claim, 1)
    assert done_to() == taken[3].id


def test_outputs_of_an_entry_are_appended_once(log: Log) -> None:
    fed(log, 3)
    one, two, three = log.between(NORMAL, count_max=9)
    first = [Derived(one, [out(b"a", one.place), out(b"b")]), Derived(two, [])]
    assert log.unordered.derive(OWN, first) == 2
    again = [Derived(one, [out(b"a"), out(b"b")]), Derived(three, [out(b"c")])]
    assert log.unordered.derive(OWN, again) == 1
    found = log.between(OWN.stream(Lane.NORMAL), count_max=9)
    assert [entry.data for entry in found] == [b"a", b"b", b"c"]
    assert found[0].cause == one.place
    assert [entry.id for entry in found] == sorted({entry.id for entry in found})


def test_places_that_are_all_done_need_not_be_remembered_one_by_one(log: Log) -> None:
    fed(log, 3)
    one, two, three = log.between(NORMAL, count_max=9)
    log.unordered.derive(OWN, [Derived(entry, [out(b"x")]) for entry in (one, two, three)])
    assert log.unordered.done_to(OWN) == {}
    log.unordered.settle(OWN, NORMAL, two.id)
    log.unordered.settle(OWN, NORMAL, one.id)
    assert log.unordered.done_to(OWN) == {NORMAL: two.id}
    repeated = [Derived(entry, [out(b"y")]) for entry in (one, two, three)]
    assert log.unordered.derive(OWN, repeated) == 0
    assert log.info(OWN.stream(Lane.NORMAL)).length == 3


def test_streams_of_several_slots_are_handed_out_together(log: Log) -> None:
    fed(log, 2)
    fed(log, 2, OTHER)
    streams = {NORMAL: BEGIN, OTHER.stream(Lane.NORMAL): BEGIN}
    log.unordered.open(READER, streams)
    taken = log.unordered.take(READER, "one", streams, count_max=9)
    assert len(taken.entries) == 4
    assert log.unordered.acknowledge(READER, taken.entries) == 4


def test_operators_see_how_far_it_is(log: Log) -> None:
    fed(log, 4)
    log.unordered.open(READER, FROM_BEGIN)
    taken = log.unordered.take(READER, "one", FROM_BEGIN, count_max=9).entries
    log.unordered.acknowledge(READER, taken)
    log.unordered.tidy(READER, NORMAL, "one", silent_ms=60_000)
    assert log.groups(NORMAL)[READER].lag == 0
    assert log.groups(NORMAL)[READER].offset == taken[-1].id

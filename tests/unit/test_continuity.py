"""Whether a stream is still the one an offset was taken in: cut, regrown, trimmed, lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.continuity import Continuity, counted_from_here, findings, judge, look
from events.log import BEGIN, Entry, EntryId, Lane, Log, NewEntry, Slot, StreamInfo
from events.offset import Offset, checksum_of

SLOT = Slot("demo", "source", 0)
NORMAL = SLOT.stream(Lane.NORMAL)


def entry(number: int, text: str = "") -> Entry:
    return Entry(NORMAL, EntryId(number, 0), "test.1", "k", f"{number}{text}".encode())


def offset_at(number: int, text: str = "") -> Offset:
    return Offset(EntryId(number, 0), number, checksum_of(entry(number, text)))


def info(added: int, *, first: int = 1, last: int | None = None) -> StreamInfo:
    """A stream of entries 1 to `added`, trimmed below `first`."""
    length = added - first + 1
    return StreamInfo(length, added, EntryId(first, 0) if length else None,
                      EntryId(added if last is None else last, 0))  # fmt: skip


def test_the_same_entry_at_the_same_place_is_whole() -> None:
    assert judge(NORMAL, offset_at(3), entry(3), info(9)).whole
    assert str(judge(NORMAL, offset_at(3), entry(3), info(9))) == f"{NORMAL} is whole"


@pytest.mark.parametrize(
    ("offset", "found", "reach", "says"),
    [
        (offset_at(9), None, info(5), "ends at 5-0, before 9-0"),
        (offset_at(3), entry(3, "other"), info(9), "not the one that was done"),
        (Offset(EntryId(3, 7), 3, 1), None, info(9), "gone from the log"),
        (offset_at(3), None, StreamInfo(0, 0, None, BEGIN), "ends at 0-0"),
        (Offset(EntryId(3, 0), 30, checksum_of(entry(3))), entry(3), info(9), "counts 9 entries"),
        (Offset(BEGIN, 4), None, info(2), "counts 2 entries"),
    ],
)
def test_a_log_that_lost_its_tail_is_cut_however_it_grew_again(
    offset: Offset, found: Entry | None, reach: StreamInfo, says: str
) -> None:
    finding = judge(NORMAL, offset, found, reach)
    assert finding.continuity is Continuity.CUT
    assert says in str(finding)
    assert "bridgectl repair" in str(finding)


def test_what_was_trimmed_behind_us_is_no_loss_and_before_us_is() -> None:
    assert judge(NORMAL, offset_at(3), None, info(9, first=4)).whole
    assert judge(NORMAL, offset_at(3), None, info(3, first=4)).whole
    lost = judge(NORMAL, offset_at(3), None, info(9, first=6))
    assert lost.continuity is Continuity.LOST
    assert "2 entries were removed" in lost.cause
    assert judge(NORMAL, Offset(), None, info(9, first=6)).continuity is Continuity.LOST


@given(
    st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.booleans(), st.integers(0, 40)
)
def test_whole_is_said_exactly_of_streams_that_still_hold_all_that_is_unread(
    read: int, kept: int, trim: int, other: bool, grown: int
) -> None:
    """A stream of which `read` entries are done loses all behind `kept`, grows by `grown` (with
    other entries or none lost), and is trimmed."""
    kept = min(read + kept, 80) if not other else min(kept, read)
    entries = [entry(n) for n in range(1, kept + 1)]
    entries += [entry(n, "other") for n in range(kept + 1, kept + 1 + grown)]
    left = entries[min(trim, len(entries)) :]
    reach = StreamInfo(
        len(left), len(entries), left[0].id if left else None, EntryId(len(entries), 0)
    )
    offset = offset_at(read) if read else Offset()
    found = next((one for one in left if one.id == offset.last), None)
    finding = judge(NORMAL, offset, found, reach)
    missed = min(trim, len(entries)) - read
    forked = kept < read
    if missed > 0 or (forked and found is not None) or len(entries) < read:
        assert not finding.whole
    if not forked and missed <= 0:
        assert finding.whole


def test_every_log_tells_a_cut_from_a_whole_stream(log: Log) -> None:
    claim = log.claim(SLOT, "me", alive_within_s=0)
    ids = log.append(claim, [NewEntry(Lane.NORMAL, "test.1", "k", b"%d" % n) for n in range(3)]).ids
    second = log.between(NORMAL, ids[1], ids[1], count_max=1)[0]
    offset = Offset().after(second, 2)
    assert look(log, NORMAL, offset).whole
    assert look(log, SLOT.stream(Lane.LOW), Offset()).whole
    wrong = offset._replace(checksum=offset.checksum + 1)
    ahead = offset._replace(last=EntryId(ids[2].ms + 1, 0))
    assert [one.continuity for one in findings(log, {NORMAL: wrong})] == [Continuity.CUT]
    assert [one.continuity for one in findings(log, {NORMAL: ahead})] == [Continuity.CUT]
    assert counted_from_here(log, NORMAL, Offset()) == Offset()
    assert counted_from_here(log, NORMAL, offset) == offset


def test_entries_removed_before_us_show_even_after_we_read_on_past_the_hole() -> None:
    seen = Offset(EntryId(9, 0), 7, checksum_of(entry(9)))
    finding = judge(NORMAL, seen, entry(9), info(9, first=4))
    assert finding.continuity is Continuity.LOST
    assert "2 entries were removed" in str(finding)

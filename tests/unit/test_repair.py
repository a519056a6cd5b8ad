"""Where a log and what was stored of it part, whatever was lost, read past and trimmed."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from consumers.repair.parting import examined, missed_entries, parting
from events.continuity import Continuity
from events.log import BEGIN, Entry, EntryId, Lane, NewEntry, Slot
from events.memory_log import MemoryLog
from events.offset import Offset, checksum_of

STREAM = Slot("demo", "source", 0).stream(Lane.NORMAL)
FEW = st.integers(0, 6)


def entry(ms: int, branch: str) -> Entry:
    return Entry(STREAM, EntryId(ms, 0), "test.1", "k", f"{branch}{ms}".encode())


def a_log(entries: Sequence[Entry], *, trimmed: int = 0) -> MemoryLog:
    log = MemoryLog()
    for one in entries:
        log.add(STREAM, one.id, NewEntry(Lane.NORMAL, one.type, one.key, one.data))
    state = log.stream(STREAM)
    if trimmed:
        state.trimmed, state.trimmed_to = trimmed, state.ids[trimmed - 1]
        del state.ids[:trimmed], state.entries[:trimmed]
    return log


def stored(rows: Sequence[Entry], first: EntryId, last: EntryId) -> list[Entry]:
    return [row for row in rows if first <= row.id <= last]


@given(shared=FEW, lost=FEW, grown=FEW, read_past=FEW, trim=FEW)
@example(shared=0, lost=1, grown=3, read_past=3, trim=0)
@example(shared=4, lost=1, grown=1, read_past=1, trim=4)
def test_the_place_is_the_end_of_what_both_share(
    shared: int, lost: int, grown: int, read_past: int, trim: int
) -> None:
    """`shared` entries, then `lost` ones that were stored, then a log that grew by others, some
    of which were stored too before anybody looked; and the log is trimmed."""
    prefix = [entry(n, "a") for n in range(1, shared + 1)]
    gone = [entry(n, "a") for n in range(shared + 1, shared + lost + 1)]
    # Ids of the new branch lie behind the lost ones, as clocks make them, or begin among them.
    begin = shared + lost + 1 if read_past else shared + 1
    new = [entry(n, "b") for n in range(begin, begin + grown)]
    past = new[: min(read_past, grown)]
    rows = [*prefix, *gone, *past]
    log = a_log([*prefix, *new], trimmed=min(trim, shared))
    offset = Offset()
    for row in rows:
        offset = offset.after(row, 1)
    finding = examined(log, STREAM, offset)
    assert finding.whole is (lost == 0)
    if lost:
        assert finding.continuity is Continuity.CUT
    found = parting(log, STREAM, offset, lambda first, last: stored(rows, first, last))
    if not shared:
        assert found is None or (lost == 0 and found.undone == 0)
        return
    assert found is not None
    if lost:
        assert found.place == Offset(prefix[-1].id, shared, checksum_of(prefix[-1]))
        assert found.undone == lost + len(past)
        assert examined(log, STREAM, found.place).whole
    elif rows:
        assert found.undone == 0


@given(read=st.integers(1, 5), hole=st.integers(1, 5), after=st.integers(0, 5))
def test_a_hole_that_was_read_past_is_counted(read: int, hole: int, after: int) -> None:
    entries = [entry(n, "a") for n in range(1, read + hole + after + 1)]
    log = a_log(entries, trimmed=read + hole)
    offset = Offset()
    for row in [*entries[:read], *entries[read + hole :]]:
        offset = offset.after(row, 1)
    assert missed_entries(log, STREAM, offset) == hole
    assert examined(log, STREAM, offset).continuity is Continuity.LOST


def test_a_log_that_is_whole_is_not_touched() -> None:
    entries = [entry(n, "a") for n in range(1, 9)]
    log = a_log(entries, trimmed=3)
    for done in range(3, 9):
        offset = Offset(entries[done - 1].id, done, checksum_of(entries[done - 1]))
        assert examined(log, STREAM, offset).whole
    assert examined(log, STREAM, Offset(BEGIN, 3, 0)).whole

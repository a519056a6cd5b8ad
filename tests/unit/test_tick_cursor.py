"""The tick cursor: what one answer after another brings, restarts, and its text in the log."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.log import BEGIN, EntryId
from events.ticks import TICK_DTYPE, TickArray
from producers.ticks.cursor import TickCursor
from producers.ticks.place import CursorPlace, EntryTrail
from producers.ticks.state import CursorLimits
from producers.ticks.window import TickWindow, match, seconds_of

T0 = 1_700_000_000
FAST = CursorLimits(page=100, warmup_tries=0)


def ticks(*rows: tuple[float, float] | tuple[float, float, int]) -> TickArray:
    """(seconds after T0, bid[, flags]) each."""
    made = np.zeros(len(rows), TICK_DTYPE)
    for place, (after_s, bid, *flags) in enumerate(rows):
        msc = T0 * 1000 + round(after_s * 1000)
        made[place] = (msc // 1000, bid, bid + 0.1, 0, 0, msc, flags[0] if flags else 6, 0)
    return made


def bids(rows: TickArray) -> list[float]:
    return rows["bid"].tolist()


def started(limits: CursorLimits = FAST) -> TickCursor:
    return TickCursor(T0, limits=limits)


def feed(cursor: TickCursor, rows: TickArray) -> list[float]:
    """One poll of a terminal that holds these rows, committed."""
    from_s, count = cursor.request()
    taken = cursor.take(rows[rows["time"] >= from_s][:count])
    cursor.commit()
    return bids(taken.new)


def test_asks_from_the_start_second_and_then_reads_the_last_seconds_again() -> None:
    cursor = started()
    assert cursor.request() == (T0, 100)
    assert feed(cursor, ticks((0, 1), (40, 2))) == [1, 2]
    cursor.request()
    cursor.take(ticks((0, 1), (40, 2)))  # the first reading after a start goes deep
    from_s, count = cursor.request()
    assert from_s == T0 + 40 - FAST.reread_s
    assert count == FAST.page + 1


def test_identical_rows_are_kept_as_often_as_they_occur() -> None:
    cursor = started()
    assert feed(cursor, ticks((1, 5), (1, 5))) == [5, 5]
    assert feed(cursor, ticks((1, 5), (1, 5), (1, 5), (2, 6))) == [5, 6]
    assert feed(cursor, ticks((1, 5), (1, 5), (1, 5), (2, 6))) == []
    assert cursor.total == 4


def test_undocumented_flag_bits_make_no_new_tick_but_stay_in_the_row() -> None:
    cursor = started()
    cursor.request()
    assert cursor.take(ticks((1, 5, 0x486))).new["flags"].tolist() == [0x486]
    cursor.commit()
    assert feed(cursor, ticks((1, 5, 0x006), (2, 6))) == [6]


def test_a_late_tick_is_taken_once_and_marked() -> None:
    cursor = started()
    feed(cursor, ticks((1, 1), (9, 9)))
    cursor.request()
    taken = cursor.take(ticks((1, 1), (4, 4), (9, 9), (10, 10)))
    cursor.commit()
    assert (bids(taken.new), taken.late.tolist()) == ([4, 10], [True, False])
    assert feed(cursor, ticks((1, 1), (4, 4), (9, 9), (10, 10))) == []
    assert cursor.stats.late == 1


def test_a_full_answer_says_more_and_the_next_one_goes_on() -> None:
    store = ticks(*((i / 10, i) for i in range(25)))
    cursor = started(CursorLimits(page=10, warmup_tries=0))
    got: list[float] = []
    for _ in range(3):
        got += feed(cursor, store)
    assert got == list(range(25))


def test_more_rows_in_one_millisecond_than_a_page_do_not_stop_it() -> None:
    store = ticks(*[(5, 1.0)] * 40, (5, 2.0), (6, 3.0))
    cursor = started(CursorLimits(page=3, warmup_tries=0))
    got: list[float] = []
    for _ in range(20):
        got += feed(cursor, store)
    assert Counter(got) == Counter({1.0: 40, 2.0: 1, 3.0: 1})


def test_a_terminal_that_caps_its_answers_is_followed_to_the_end() -> None:
    store = ticks(*((i / 10, i) for i in range(300)))
    cursor = started(CursorLimits(page=100, reread_s=10, warmup_tries=0))
    got: list[float] = []
    for _ in range(200):
        from_s, _ = cursor.request()
        got += bids(cursor.take(store[store["time"] >= from_s][:60]).new)
        cursor.commit()
    assert got == list(range(300))


def test_what_is_abandoned_comes_again() -> None:
    cursor = started()
    cursor.request()
    text = cursor.cursor_text()
    assert bids(cursor.take(ticks((1, 1))).new) == [1]
    assert cursor.hi_msc is None
    cursor.abandon()
    assert cursor.cursor_text() == text
    assert feed(cursor, ticks((1, 1))) == [1]


def test_pages_taken_ahead_fall_with_the_first_that_fails() -> None:
    store = ticks(*((i, i) for i in range(6)))
    cursor = started(CursorLimits(page=2, warmup_tries=0))
    pages = []
    for _ in range(3):
        from_s, count = cursor.request()
        pages.append(bids(cursor.take(store[store["time"] >= from_s][:count]).new))
    assert pages == [[0, 1], [2, 3], [4, 5]]
    cursor.commit()
    cursor.abandon()
    assert cursor.total == 2
    assert feed(cursor, store) == [2, 3]


def test_rows_without_time_or_prices_are_data_but_lead_nowhere() -> None:
    cursor = started()
    odd = ticks((3, 3), (4, 0), (5, 5))
    odd["ask"][1] = 0
    odd["time_msc"][2] = odd["time"][2] = 0
    cursor.request()
    taken = cursor.take(odd)
    cursor.commit()
    assert taken.bad.tolist() == [False, True, True]
    assert cursor.hi_msc == T0 * 1000 + 3_000
    assert feed(cursor, odd) == []
    assert feed(cursor, odd) == []


def test_a_changed_row_is_counted_and_not_taken_a_second_time() -> None:
    cursor = started()
    feed(cursor, ticks((1, 1), (2, 2), (3, 3)))
    cursor.request()
    taken = cursor.take(ticks((1, 1), (2, 2.5), (3, 3), (4, 4)))
    cursor.commit()
    assert (bids(taken.new), bids(taken.altered)) == ([4], [2.5])
    assert feed(cursor, ticks((1, 1), (2, 2.5), (3, 3), (4, 4))) == []
    assert (cursor.stats.altered, cursor.stats.vanished) == (1, 1)


def test_a_row_missing_once_is_neither_vanished_nor_doubled_when_it_returns() -> None:
    cursor = started()
    feed(cursor, ticks((1, 1), (2, 2), (3, 3)))
    assert feed(cursor, ticks((1, 1), (3, 3))) == []
    assert feed(cursor, ticks((1, 1), (2, 2), (3, 3))) == []
    assert cursor.stats.vanished == 0


def test_a_first_answer_counts_when_a_second_agrees() -> None:
    cursor = TickCursor(T0, limits=CursorLimits(page=100))
    cursor.request()
    first = cursor.take(ticks((50, 50)))
    assert first.warming
    assert len(first) == 0
    assert feed(cursor, ticks((1, 1), (49, 49), (50, 50))) == []
    assert feed(cursor, ticks((1, 1), (49, 49), (50, 50), (51, 51))) == [1, 49, 50, 51]


def test_a_first_answer_is_taken_in_the_end_even_if_none_agree() -> None:
    cursor = TickCursor(T0, limits=CursorLimits(page=100, warmup_tries=3))
    growing = [ticks(*((i, i) for i in range(n, 50))) for n in (40, 20, 0)]
    assert [len(feed(cursor, rows)) for rows in growing] == [0, 0, 50]


def test_empty_answers_change_nothing() -> None:
    cursor = TickCursor(T0)
    for _ in range(50):
        assert feed(cursor, ticks()) == []
    feed(cursor, ticks((1, 1)))
    text = cursor.cursor_text()
    for _ in range(50):
        assert feed(cursor, ticks()) == []
    assert CursorPlace.parse(cursor.cursor_text()).total == CursorPlace.parse(text).total == 1


def test_backfill_long_after_a_silence_is_found() -> None:
    before = [(float(i), float(i)) for i in range(30)]
    hole = [(float(i), float(i)) for i in range(30, 900)]
    after = [(float(i), float(i)) for i in range(900, 1_100)]
    cursor = started(CursorLimits(page=10_000, warmup_tries=0))
    got = feed(cursor, ticks(*before))
    for n in range(1, 100):
        got += feed(cursor, ticks(*before, *after[:n]))
    for n in range(100, 200):
        got += feed(cursor, ticks(*before, *hole, *after[:n]))
    assert Counter(got) == Counter(float(i) for i in range(1_099))


def test_rewind_reads_back_to_where_it_is_told_and_says_backfill() -> None:
    store = [(float(i), float(i)) for i in range(200)]
    cursor = started(CursorLimits(page=10_000, warmup_tries=0, deep_s=20))
    feed(cursor, ticks(*store))
    feed(cursor, ticks(*store))
    cursor.rewind(T0 + 50)
    from_s, _ = cursor.request()
    assert from_s == T0 + 50
    taken = cursor.take(ticks(*store[50:], (200, 200)))
    assert (bids(taken.new), taken.backfill) == ([200], True)


def test_a_clock_put_back_is_followed_at_once_when_the_quote_is_told() -> None:
    first = [(i * 10.0, float(i)) for i in range(361)]
    again = [(i * 10.0 + 0.5, 1_000.0 + i) for i in range(20)]
    cursor = started(CursorLimits(page=10_000, warmup_tries=0))
    feed(cursor, ticks(*first))
    assert feed(cursor, ticks(*first, *again[:2])) == []
    assert not cursor.quote_seen(T0 * 1000 + 500)
    assert cursor.quote_seen(T0 * 1000 + 10_500)
    assert feed(cursor, ticks(*first, *again[:2])) == [1_000, 1_001]
    assert feed(cursor, ticks(*first, *again)) == [1_000.0 + i for i in range(2, 20)]
    assert cursor.stats.late == 0
    assert cursor.hi_msc == T0 * 1000 + 190_500


def test_a_fall_inside_an_answer_is_the_clock_put_back() -> None:
    first = [(i * 10.0, float(i)) for i in range(361)]
    again = [(i * 10.0 + 0.5, 1_000.0 + i) for i in range(20)]
    cursor = started(CursorLimits(page=10_000, warmup_tries=0))
    feed(cursor, ticks(*first[:100]))
    cursor.request()
    taken = cursor.take(ticks(*first[:100], *first[100:], *again))
    assert taken.stepped_back
    assert not taken.late.any()
    assert len(taken) == 261 + 20


def test_old_quotes_of_a_terminal_that_loads_its_cache_put_nothing_back() -> None:
    rows = [(i * 10.0, float(i)) for i in range(1_000)]
    cursor = started(CursorLimits(page=10_000, warmup_tries=0))
    feed(cursor, ticks(*rows))
    stored = f"{cursor.cursor_text()}@9-0"
    again = TickCursor.resume(stored, [(EntryId(9, 0), ticks(*rows[600:]))])
    for i in range(100):
        assert not again.quote_seen(T0 * 1000 + i * 10_000)
        assert feed(again, ticks(*rows)) == []


def test_a_clock_put_back_soon_after_the_first_start_loses_nothing() -> None:
    cursor = TickCursor(T0 + 3_000, limits=CursorLimits(page=10_000, warmup_tries=0))
    first = [(i * 10.0, float(i)) for i in range(361)]
    again = [(i * 10.0 + 0.5, 1_000.0 + i) for i in range(5)]
    assert feed(cursor, ticks(*first)) == [float(i) for i in range(300, 361)]
    cursor.quote_seen(T0 * 1000 + 500)
    cursor.quote_seen(T0 * 1000 + 10_500)
    got = feed(cursor, ticks(*first, *again))
    assert set(range(1_000, 1_005)) <= set(got)
    assert len(got) == len(set(got))


def test_one_stray_tick_far_in_the_future_does_not_silence_the_feed() -> None:
    cursor = started(CursorLimits(page=10_000, warmup_tries=0))
    store = [(float(i), float(i)) for i in range(10)]
    stray = (80_000_000.0, 7.0)
    got = feed(cursor, ticks(*store, stray))
    for n in range(10, 400):
        store.append((float(n), float(n)))
        got += feed(cursor, ticks(*store[:10], stray, *store[10:]))
    assert Counter(got) == Counter([7.0, *(float(i) for i in range(400))])


def test_resumes_from_its_text_and_the_entries_it_names() -> None:
    cursor = TickCursor(T0, limits=FAST, window_from=EntryId(5, 0))
    entries = []
    for second in range(0, 6_000, 6):
        cursor.request()
        taken = cursor.take(ticks((second, second), (second, second)))
        text = cursor.cursor_text()
        entries.append((EntryId(10 + second, 0), taken.new))
        cursor.commit()
        cursor.appended(entries[-1][0])
    stored = f"{text}@{entries[-1][0]}"
    place = TickCursor.parse(stored)
    assert (place.total, place.last_entry) == (2_000, entries[-1][0])
    window = [(entry_id, rows) for entry_id, rows in entries if entry_id >= place.window_from]
    assert 3_900 / 6 <= len(window) < 4_100 / 6
    again = TickCursor.resume(stored, window, limits=FAST)
    assert (again.hi_msc, again.total) == (cursor.hi_msc, cursor.total)
    store = ticks(*((s, s) for s in range(2_100, 6_000, 6) for _ in (1, 2)), (6_001, 1))
    assert feed(again, store) == [1]


def test_a_trimmed_log_doubles_nothing_on_restart() -> None:
    rows = [(i / 3, float(i)) for i in range(900)]
    cursor = started(CursorLimits(page=10_000, warmup_tries=0))
    feed(cursor, ticks(*rows))
    stored = f"{cursor.cursor_text()}@9-0"
    again = TickCursor.resume(stored, [(EntryId(9, 0), ticks(*rows[541:]))])
    assert again.window_begin_s == T0 + 541 // 3 + 1
    assert feed(again, ticks(*rows, (301, 1.0))) == [1.0]


def test_an_open_gap_survives_a_restart() -> None:
    before, after = [(float(i), float(i)) for i in range(30)], [(700.0, 700.0), (701.0, 701.0)]
    cursor = started()
    feed(cursor, ticks(*before))
    feed(cursor, ticks(*before, *after[:1]))
    stored = f"{cursor.cursor_text()}@9-0"
    again = TickCursor.resume(stored, [(EntryId(8, 0), ticks(*before, *after[:1]))], limits=FAST)
    assert feed(again, ticks(*before, (300, 300), *after)) == [300, 701]


@pytest.mark.parametrize("text", ["", "1:2:3", "a:1:0-0:1:0:-", "1:1:0:1:0:-", "1:1:0-0:1:0:-@x"])
def test_a_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no tick cursor"):
        TickCursor.parse(text)


def test_rows_of_another_dtype_are_refused() -> None:
    cursor = started()
    cursor.request()
    with pytest.raises(ValueError, match="no ticks"):
        cursor.take(np.zeros(3, np.float64))


def test_take_without_a_request_is_a_programmers_error() -> None:
    with pytest.raises(RuntimeError, match="request"):
        started().take(ticks())


def test_the_trail_names_the_entry_behind_the_one_before() -> None:
    trail = EntryTrail(EntryId(1, 0))
    trail.appended(EntryId(5, 0), total_before=0, oldest_s=100, newest_s=120)
    trail.reached(EntryId(6, 0))
    trail.appended(EntryId(9, 0), total_before=7, oldest_s=160, newest_s=170)
    assert trail.window_from(90) == (EntryId(1, 0), 0)
    assert trail.window_from(130) == (EntryId(6, 1), 7)
    trail.forget(150)
    assert len(trail) == 1


def test_the_trail_stays_short_under_many_appends() -> None:
    trail = EntryTrail(BEGIN)
    for i in range(40_000):
        trail.appended(EntryId(i + 1, 0), total_before=i, oldest_s=i // 10, newest_s=i // 10)
    assert len(trail) < 200


small_rows = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2)), max_size=30).map(
    lambda rows: ticks(*rows)
)


@given(small_rows, small_rows)
def test_match_is_the_difference_of_multisets(known: TickArray, answer: TickArray) -> None:
    found = match(known, answer)
    have = Counter(row.tobytes() for row in known)
    got = Counter(row.tobytes() for row in answer)
    assert Counter(row.tobytes() for row in answer[found.new]) == got - have
    assert Counter(row.tobytes() for row in known[found.absent]) == have - got


@given(st.lists(small_rows, max_size=6), st.integers(0, 4))
def test_a_window_selects_by_second_whatever_the_order(parts: list[TickArray], since: int) -> None:
    window, every = TickWindow.empty(), []
    for rows in parts:
        window = window.extended(rows, seconds_of(rows, 0))
        every += rows.tobytes() and [row.tobytes() for row in rows]
    wanted = [row for row in every if np.frombuffer(row, TICK_DTYPE)["time"][0] >= T0 + since]
    found = window.rows[window.since(T0 + since)]
    assert [row.tobytes() for row in found] == wanted
    assert window.count_since(T0 + since) == len(wanted)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_growth_of_a_store_is_taken_exactly_once(data: st.DataObject) -> None:
    moments = st.tuples(st.integers(0, 20), st.integers(1, 3))
    store: list[tuple[int, int]] = []
    page = data.draw(st.sampled_from([1, 3, 50]))
    cursor = started(CursorLimits(page=page, reread_s=30, deep_s=30, warmup_tries=0))
    got: Counter[bytes] = Counter()
    for _ in range(data.draw(st.integers(1, 8))):
        store = sorted(store + data.draw(st.lists(moments, max_size=6)), key=lambda row: row[0])
        for _ in range(60):
            from_s, count = cursor.request()
            rows = ticks(*store)
            taken = cursor.take(rows[rows["time"] >= from_s][:count])
            if data.draw(st.booleans()) and len(taken):
                cursor.abandon()
                continue
            cursor.commit()
            got.update(row.tobytes() for row in taken.new)
            if not taken.more:
                break
    while (taken := _next(cursor, ticks(*store))) and len(taken):
        got.update(row.tobytes() for row in taken.new)
    assert got == Counter(row.tobytes() for row in ticks(*store))


def _next(cursor: TickCursor, rows: TickArray):  # type: ignore[no-untyped-def]  # a test's shorthand
    from_s, count = cursor.request()
    taken = cursor.take(rows[rows["time"] >= from_s][:count])
    cursor.commit()
    return taken

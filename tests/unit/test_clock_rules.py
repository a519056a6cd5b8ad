"""Clock rules: reading them, offsets, and the hours a clock shows twice or never."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.clock_rules import ClockRule, ClockRuleError, ClockSwitch, ServerTimeKind

NY_CLOSE = ClockRule.parse("America/New_York+7h")
H = 3_600


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]  # a date's parts


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("America/New_York+7h", "America/New_York+7h"),
        ("Europe/Athens", "Europe/Athens"),
        ("Australia/Sydney-8h", "Australia/Sydney-8h"),
        ("fixed+3h", "fixed+3h"),
        ("fixed+3", "fixed+3h"),
        ("UTC+2", "fixed+2h"),
        ("fixed-5", "fixed-5h"),
        ("fixed+5:45", "fixed+5:45"),
        ("fixed+0", "UTC"),
        (" utc ", "UTC"),
        ("ny-close", "America/New_York+7h"),
        ("EET", "Europe/Athens"),
        ("cet", "Europe/Berlin"),
        ("au", "Australia/Sydney-8h"),
    ],
)
def test_reads_every_way_to_write_a_rule(text: str, canonical: str) -> None:
    rule = ClockRule.parse(text)
    assert str(rule) == canonical
    assert ClockRule.parse(canonical) == rule


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no clock rule"),
        ("America/New York", "no clock rule"),
        ("fixed", "lacks its hours"),
        ("fixed+99h", "14 h"),
        ("fixed+5:75", "no shift"),
        ("Amerika/New_York", "did you mean America/New_York"),
        ("Etc/GMT+3", "behind"),
        ("Europe/Athens+2", "Europe/Athens+2h"),
        ("../etc/passwd", "no clock rule"),
        ("America", "no time zone"),
    ],
)
def test_says_what_is_wrong_and_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(ClockRuleError, match=re.escape(says)) as caught:
        ClockRule.parse(text)
    if "14 h" not in says:
        assert "ny-close" in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "winter_h", "summer_h"),
    [
        ("ny-close", 2, 3),
        ("eet", 2, 3),
        ("cet", 1, 2),
        ("au", 3, 2),
        ("fixed+3h", 3, 3),
        ("utc", 0, 0),
    ],
)
def test_offsets_of_the_clocks_brokers_use(rule: str, winter_h: int, summer_h: int) -> None:
    parsed = ClockRule.parse(rule)
    assert parsed.offset_s(ms(2026, 1, 15)) == winter_h * H
    assert parsed.offset_s(ms(2026, 7, 15)) == summer_h * H


def test_new_york_close_switches_with_the_united_states() -> None:
    assert NY_CLOSE.changes(ms(2026, 1, 1), ms(2027, 1, 1)) == (
        ClockSwitch(ms(2026, 3, 8, 7), 2 * H, 3 * H),
        ClockSwitch(ms(2026, 11, 1, 6), 3 * H, 2 * H),
    )
    assert ClockRule.parse("eet").changes(ms(2026, 1, 1), ms(2027, 1, 1)) == (
        ClockSwitch(ms(2026, 3, 29, 1), 2 * H, 3 * H),
        ClockSwitch(ms(2026, 10, 25, 1), 3 * H, 2 * H),
    )


def test_changes_hold_their_begin_and_not_their_end() -> None:
    switch = ms(2026, 3, 8, 7)
    assert len(NY_CLOSE.changes(switch, switch + 1)) == 1
    assert NY_CLOSE.changes(switch - 1000, switch) == ()
    assert ClockRule.fixed(7_200).changes(0, ms(2099, 1, 1)) == ()


def test_an_hour_shown_twice_has_two_times() -> None:
    half_past = ms(2026, 11, 1, 8, 30)
    assert NY_CLOSE.kind_of_server(half_past) is ServerTimeKind.AMBIGUOUS
    assert NY_CLOSE.utc_ms_of_server(half_past, fold=0) == ms(2026, 11, 1, 5, 30)
    assert NY_CLOSE.utc_ms_of_server(half_past, fold=1) == ms(2026, 11, 1, 6, 30)


def test_an_hour_never_shown_is_told() -> None:
    half_past = ms(2026, 3, 8, 9, 30)
    assert NY_CLOSE.kind_of_server(half_past) is ServerTimeKind.SKIPPED
    assert NY_CLOSE.utc_ms_of_server(half_past, fold=0) == ms(2026, 3, 8, 7, 30)
    assert NY_CLOSE.utc_ms_of_server(half_past, fold=1) == ms(2026, 3, 8, 6, 30)


def test_rules_that_show_the_same_clock_agree() -> None:
    assert ClockRule("Europe/London", 2 * H).agrees(ClockRule.parse("eet"))
    assert not NY_CLOSE.agrees(ClockRule.parse("eet"))
    assert not NY_CLOSE.agrees(ClockRule.fixed(2 * H))


ZONES = ("America/New_York", "Europe/Athens", "Australia/Sydney", "Africa/Casablanca", "Asia/Tokyo")
instants = st.integers(ms(1990, 1, 1), ms(2090, 1, 1))


@given(st.sampled_from(ZONES), instants)
def test_offsets_are_those_of_the_zone(zone: str, utc_ms: int) -> None:
    there = datetime.fromtimestamp(utc_ms // 1000, ZoneInfo(zone))
    expected = there.utcoffset()
    assert expected is not None
    assert ClockRule(zone, 7 * H).offset_s(utc_ms) == expected.total_seconds() + 7 * H


@given(st.sampled_from(ZONES), instants, st.integers(-8 * H, 8 * H))
def test_server_time_leads_back_to_utc(zone: str, utc_ms: int, shift_s: int) -> None:
    rule = ClockRule(zone, shift_s)
    server_ms = rule.server_ms(utc_ms)
    both = {rule.utc_ms_of_server(server_ms, fold=0), rule.utc_ms_of_server(server_ms, fold=1)}
    assert utc_ms in both
    assert len(both) == int(rule.kind_of_server(server_ms))


@given(st.sampled_from(ZONES), st.lists(instants, max_size=20))
def test_arrays_and_single_times_agree(zone: str, times: list[int]) -> None:
    rule, array = ClockRule(zone), np.array(times, np.int64)
    assert rule.offsets_s(array).tolist() == [rule.offset_s(t) for t in times]
    for fold in (0, 1):
        found = rule.offsets_s_of_server(array, fold=fold)  # type: ignore[arg-type]  # 0 and 1
        assert found.tolist() == [rule.offset_s_of_server(t, fold=fold) for t in times]  # type: ignore[arg-type]  # 0 and 1

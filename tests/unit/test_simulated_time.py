"""Virtual time and the broker's clock: switches, repeated hours, jumps, requests in its time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.clock_rules import ClockRule
from events.ticks import TickArray
from producers.terminals import constants as mt5
from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal, TickOptions
from producers.terminals.simulated.server_clock import ServerClock, VirtualClock

HOUR_MS = 3_600_000
STEP_BACK = int(datetime(2025, 11, 2, 6, tzinfo=UTC).timestamp() * 1000)  # US summer time ends
STEP_FORWARD = int(datetime(2026, 3, 8, 7, tzinfo=UTC).timestamp() * 1000)
WEDNESDAY = int(datetime(2025, 11, 19, 12, tzinfo=UTC).timestamp() * 1000)


def terminal_at(start_utc_ms: int, **changes: Any) -> SimulatedTerminal:
    fixed: dict[str, Any] = {
        "start_utc_ms": start_utc_ms, "speed": 0, "selected": ("EURUSD", "BTCUSD"),
        "symbols": ("EURUSD", "BTCUSD"),
    }  # fmt: skip
    terminal = SimulatedTerminal(SimulatedOptions(**{**fixed, **changes}))
    assert terminal.initialize()
    return terminal


def raw(terminal: SimulatedTerminal, symbol: str, from_utc_ms: int, to_utc_ms: int) -> TickArray:
    """The market's own ticks, times in UTC."""
    return terminal.market.ticks(symbol, from_utc_ms, to_utc_ms)


def test_virtual_time_runs_at_its_speed_and_can_be_stepped_and_frozen() -> None:
    ticking = [100.0]
    clock = VirtualClock(1_000_000, 10.0, monotonic=lambda: ticking[0])
    ticking[0] += 2.0
    assert clock.utc_ms() == 1_020_000
    clock.run(0)
    ticking[0] += 50.0
    assert clock.utc_ms() == 1_020_000
    assert clock.advance(500) == 1_020_500
    assert clock.advance_to(1_000_000) == 1_020_500
    assert clock.advance_to(1_030_000) == 1_030_000
    clock.run(1.0)
    ticking[0] += 1.0
    assert clock.utc_ms() == 1_031_000
    assert VirtualClock(None, 1.0, wall=lambda: 12.5).utc_ms() == pytest.approx(12_500, abs=100)


@pytest.mark.parametrize("rule", ["UTC", "fixed+5:45", "Europe/Athens", "Europe/Berlin",
                                  "America/New_York+7h", "Australia/Sydney-8h"])  # fmt: skip
def test_all_times_are_the_brokers_clock(rule: str) -> None:
    terminal = terminal_at(WEDNESDAY, clock=rule)
    offset_ms = ClockRule.parse(rule).offset_s(WEDNESDAY) * 1000
    own = raw(terminal, "EURUSD", WEDNESDAY - 60_000, WEDNESDAY + 1)
    shown = terminal.copy_ticks_from("EURUSD", (WEDNESDAY + offset_ms) // 1000 - 60, 1000, -1)
    assert (shown["time_msc"] - own["time_msc"] == offset_ms).all()
    assert (shown["time"] == shown["time_msc"] // 1000).all()
    assert terminal.symbol_info_tick("EURUSD").time_msc == shown["time_msc"][-1]
    assert terminal.symbol_info("EURUSD").time == shown["time"][-1]
    bars = terminal.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_D1, 0, 1)
    assert bars["time"][0] == (WEDNESDAY + offset_ms) // 86_400_000 * 86_400


def test_a_symbol_that_never_closes_sees_the_repeated_hour() -> None:
    """At 06:00 UTC the server goes from 09:00 back to 08:00: two hours share their labels."""
    terminal = terminal_at(STEP_BACK - 60_000)
    before = terminal.symbol_info_tick("BTCUSD").time_msc
    terminal.advance(120_000)
    after = terminal.symbol_info_tick("BTCUSD").time_msc
    assert before - after > HOUR_MS - 180_000
    terminal.advance(HOUR_MS)
    label = (STEP_BACK + 2 * HOUR_MS) // 1000  # 08:00 of the server, shown twice
    rows = terminal.copy_ticks_range("BTCUSD", label, label + 3599, -1)
    twice = [
        raw(terminal, "BTCUSD", STEP_BACK - HOUR_MS, STEP_BACK),
        raw(terminal, "BTCUSD", STEP_BACK, STEP_BACK + HOUR_MS),
    ]
    inside = sum(int((part["time_msc"] % HOUR_MS <= 3_599_000).sum()) for part in twice)
    assert len(rows) == inside
    assert (np.diff(rows["time_msc"]) >= 0).all()


def test_no_tick_is_lost_or_doubled_around_either_switch() -> None:
    for moment in (STEP_BACK, STEP_FORWARD):
        terminal = terminal_at(moment + 3 * HOUR_MS)
        begin = moment - 5 * HOUR_MS
        label = terminal.server_clock.server_ms(begin) // 1000
        shown = terminal.copy_ticks_from("BTCUSD", label, 1_000_000, -1)
        own = raw(terminal, "BTCUSD", begin, moment + 3 * HOUR_MS + 1)
        assert len(shown) == len(own)
        assert np.sort(shown["bid"]).tobytes() == np.sort(own["bid"]).tobytes()


def test_fx_is_closed_while_the_clock_switches() -> None:
    terminal = terminal_at(STEP_BACK + 20 * HOUR_MS)
    label = STEP_BACK // 1000 - 86_400
    rows = terminal.copy_ticks_from("EURUSD", label, 100_000, -1)
    assert (np.diff(rows["time_msc"]) >= 0).all()
    assert rows["time"][0] > (STEP_BACK + 15 * HOUR_MS) // 1000


def test_weeks_of_the_server_end_at_midnight_in_winter_and_summer() -> None:
    terminal = terminal_at(STEP_BACK + 10 * 24 * HOUR_MS)
    bars = terminal.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_H1, 0, 500)
    gaps = np.flatnonzero(np.diff(bars["time"]) >= 40 * 3600)
    assert len(gaps) >= 3
    assert set(((bars["time"][gaps] + 3600) % 86_400).tolist()) == {0}


@given(
    from_s=st.integers(-4 * 3600, 3 * 3600),
    length_s=st.integers(1, 4 * 3600),
    moment=st.sampled_from([STEP_BACK, STEP_FORWARD, WEDNESDAY]),
)
@settings(max_examples=15, deadline=None)
def test_a_range_holds_exactly_the_ticks_with_labels_inside(
    from_s: int, length_s: int, moment: int
) -> None:
    terminal = terminal_at(moment + 4 * HOUR_MS, ticks=TickOptions(rate=0.1))
    low = terminal.server_clock.server_ms(moment) // 1000 + from_s
    shown = terminal.copy_ticks_range("BTCUSD", low, low + length_s, -1)
    own = raw(terminal, "BTCUSD", moment - 12 * HOUR_MS, moment + 4 * HOUR_MS + 1).copy()
    labels = own["time_msc"] + terminal.server_clock.offsets_s(own["time_msc"].copy()) * 1000
    inside = (labels >= low * 1000) & (labels <= (low + length_s) * 1000)
    assert len(shown) == inside.sum()
    assert shown["time_msc"].tolist() == sorted(labels[inside].tolist())


def test_a_broker_changes_its_clock_without_a_word() -> None:
    terminal = terminal_at(WEDNESDAY)
    assert terminal.symbol_info_tick("BTCUSD").time_msc // HOUR_MS == WEDNESDAY // HOUR_MS + 1
    terminal.inject("clock_change", seconds=3600)
    terminal.advance(60_000)
    assert terminal.symbol_info_tick("BTCUSD").time_msc > WEDNESDAY + 3 * HOUR_MS
    label = (WEDNESDAY + 3 * HOUR_MS) // 1000
    rows = terminal.copy_ticks_range("BTCUSD", label - 3600 - 30, label + 60, -1)
    assert len(rows) == len(raw(terminal, "BTCUSD", WEDNESDAY - 30_000, WEDNESDAY + 60_001))


def test_changes_of_the_clock_come_in_order() -> None:
    clock = ServerClock(ClockRule.parse("UTC"))
    clock.shift(1000, 3600)
    clock.shift(2000, 0)
    assert [clock.offset_s(moment) for moment in (999, 1000, 1999, 2000)] == [0, 3600, 3600, 0]
    assert clock.offsets_s(np.array([999, 1000, 2000])).tolist() == [0, 3600, 0]
    with pytest.raises(ValueError, match="order"):
        clock.shift(1500, 60)


def test_the_hosts_clock_may_be_wrong_while_the_market_goes_on() -> None:
    terminal = terminal_at(WEDNESDAY, host_clock_error_ms=-2500)
    assert terminal.utc_now_ms() == WEDNESDAY - 2500
    terminal.inject("host_clock_jump", seconds=600)
    assert terminal.utc_now_ms() == WEDNESDAY - 2500 + 600_000
    assert terminal.clear("host_clock_jump")
    assert terminal.utc_now_ms() == WEDNESDAY - 2500


def test_naive_datetimes_are_read_in_the_zone_of_the_computer() -> None:
    terminal = terminal_at(WEDNESDAY, pc_zone="Europe/Berlin")
    naive = datetime(2025, 11, 19, 14, 30)  # noqa: DTZ001 - naive on purpose
    aware = datetime(2025, 11, 19, 13, 30, tzinfo=UTC)
    first = terminal.copy_ticks_from("EURUSD", naive, 20, -1)
    assert len(first) == 20
    assert first.tobytes() == terminal.copy_ticks_from("EURUSD", aware, 20, -1).tobytes()


def test_history_reaches_back_only_so_far() -> None:
    terminal = terminal_at(WEDNESDAY, history_days=2)
    rows = terminal.copy_ticks_from("BTCUSD", 0, 10, -1)
    assert rows["time_msc"][0] >= WEDNESDAY - 2 * 24 * HOUR_MS + 2 * HOUR_MS
    bars = terminal.copy_rates_from_pos("BTCUSD", mt5.TIMEFRAME_D1, 0, 100)
    assert len(bars) == 3


def test_on_a_saturday_the_newest_tick_is_stale_and_the_rest_works() -> None:
    saturday = int(datetime(2025, 11, 22, 12, tzinfo=UTC).timestamp() * 1000)
    terminal = terminal_at(saturday)
    friday = terminal.symbol_info_tick("EURUSD").time_msc
    assert friday < terminal.symbol_info_tick("BTCUSD").time_msc - 12 * HOUR_MS
    server_now = saturday // 1000 + 7200
    assert len(terminal.copy_ticks_from("EURUSD", server_now - 60, 100, -1)) == 0
    assert terminal.last_error()[0] == 1
    assert terminal.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M1, 0, 1)["time"][0] < server_now

"""The broker's clock live: confirmation, doubt, switches, jumps, and hours shown twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.clock_rules import ClockRule
from events.log import Lane
from events.ticks import OffsetSource
from producers.clock.broker_clock import BrokerClock

H, HOUR_MS = 3_600, 3_600_000
NY_CLOSE = ClockRule.parse("ny-close")
EET = ClockRule.parse("eet")


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]  # a date's parts


WEDNESDAY = ms(2026, 7, 15, 12)
BACK = ms(2026, 11, 1, 6)
"""New York puts its clock back; a New-York-close server goes from 09:00 to 08:00."""


@dataclass
class Market:
    """Symbols that tick, watched by a clock through a host whose own clock may be off."""

    clock: BrokerClock
    offset_s: Callable[[int], int]
    utc_ms: int
    symbols: tuple[str, ...] = ("EURUSD", "USDJPY")
    lag_ms: int = 40
    host_error_ms: int = 0
    last: dict[str, int] = field(default_factory=dict)

    def run(self, seconds: float, *, step_ms: int = 500, ticking: bool = True) -> None:
        for _ in range(int(seconds * 1000 / step_ms)):
            self.utc_ms += step_ms
            for symbol in self.symbols:
                if ticking or symbol not in self.last:
                    made_ms = self.utc_ms - self.lag_ms
                    self.last[symbol] = made_ms + self.offset_s(made_ms) * 1000
                self.clock.observe(symbol, self.last[symbol], self.utc_ms + self.host_error_ms)

    @property
    def now(self) -> tuple[int, OffsetSource]:
        return self.clock.offset_now(self.utc_ms + self.host_error_ms)


def of(rule: ClockRule) -> Callable[[int], int]:
    return rule.offset_s


def times(*server_ms: int) -> np.ndarray:
    return np.array(server_ms, np.int64)


def test_a_configured_rule_is_assumed_until_ticks_confirm_it() -> None:
    clock = BrokerClock(NY_CLOSE)
    market = Market(clock, of(NY_CLOSE), WEDNESDAY)
    assert market.now == (3 * H, OffsetSource.ASSUMED)
    market.run(3)
    assert market.now == (3 * H, OffsetSource.LIVE)
    assumed, live = clock.changes()
    assert (assumed.old_offset_s, assumed.offset_source) == (None, OffsetSource.ASSUMED)
    assert (live.old_offset_source, live.offset_source) == (OffsetSource.ASSUMED, OffsetSource.LIVE)
    assert live.since_server_ms is None
    assert clock.changes() == []
    event = live.event("Broker-Live")
    assert (event.key, event.LANE, event.offset_s) == ("Broker-Live", Lane.HIGH, 3 * H)


def test_a_start_on_a_saturday_trusts_no_stale_tick() -> None:
    saturday = ms(2026, 7, 18, 12)
    clock = BrokerClock(NY_CLOSE)
    market = Market(clock, of(NY_CLOSE), saturday)
    market.last = {"EURUSD": ms(2026, 7, 17, 23, 59), "USDJPY": ms(2026, 7, 17, 23, 58)}
    market.run(600, ticking=False)
    assert market.now == (3 * H, OffsetSource.ASSUMED)
    assert clock.state.alarm == ""
    clock.use_history(NY_CLOSE, "52 weekends")
    assert market.now == (3 * H, OffsetSource.HISTORY)
    market.utc_ms = ms(2026, 7, 19, 21, 5)
    market.run(2)
    assert market.now == (3 * H, OffsetSource.LIVE)


def test_without_any_rule_nothing_is_guessed_until_ticks_tell() -> None:
    clock = BrokerClock()
    market = Market(clock, of(NY_CLOSE), WEDNESDAY)
    assert market.now == (0, OffsetSource.UNKNOWN)
    server_ms = WEDNESDAY + 3 * HOUR_MS
    assert clock.offset_for(times(server_ms)) == [(slice(0, 1), 0, OffsetSource.UNKNOWN)]
    assert clock.utc_ms_of_server(server_ms) == server_ms
    market.run(3)
    assert market.now == (3 * H, OffsetSource.LIVE)
    (hour_ago,) = clock.offset_for(times(server_ms - HOUR_MS))
    (month_ago,) = clock.offset_for(times(server_ms - 30 * 24 * HOUR_MS))
    assert hour_ago[1:] == (3 * H, OffsetSource.ASSUMED)
    assert month_ago[1:] == (0, OffsetSource.UNKNOWN)
    clock.use_history(NY_CLOSE)
    assert clock.offset_now(ms(2026, 1, 15))[0] == 2 * H
    assert market.now == (3 * H, OffsetSource.LIVE)


def test_one_symbol_alone_must_keep_pace_for_longer() -> None:
    clock = BrokerClock(NY_CLOSE)
    market = Market(clock, of(NY_CLOSE), WEDNESDAY, symbols=("BTCUSD",))
    market.run(6)
    assert market.now[1] is OffsetSource.ASSUMED
    market.run(8)
    assert market.now[1] is OffsetSource.LIVE


def test_old_ticks_played_back_quickly_prove_nothing() -> None:
    clock = BrokerClock(NY_CLOSE)
    begin = WEDNESDAY + 3 * HOUR_MS - 3 * HOUR_MS
    for step in range(400):  # three hours are filled in within a minute
        for symbol in ("EURUSD", "USDJPY"):
            clock.observe(symbol, begin + step * 27_000, WEDNESDAY + step * 150)
    assert clock.state.offset_s == 3 * H
    assert "rule" not in clock.state.alarm
    assert clock.rule == NY_CLOSE


def test_a_switch_by_rule_is_told_and_confirmed_anew() -> None:
    clock = BrokerClock(NY_CLOSE)
    market = Market(clock, of(NY_CLOSE), BACK - 20_000, symbols=("BTCUSD", "ETHUSD"))
    market.run(15)
    assert market.now == (3 * H, OffsetSource.LIVE)
    clock.changes()
    market.run(20)
    assert market.now == (2 * H, OffsetSource.LIVE)
    switch, confirmed = clock.changes()
    assert (switch.old_offset_s, switch.offset_s) == (3 * H, 2 * H)
    assert switch.offset_source is OffsetSource.ASSUMED
    assert switch.since_server_ms == BACK + 2 * HOUR_MS
    assert confirmed.offset_source is OffsetSource.LIVE
    assert clock.state.alarm == ""


def test_a_switch_by_rule_is_told_without_any_tick() -> None:
    clock = BrokerClock(NY_CLOSE)
    clock.advance(BACK - 1_000)
    clock.changes()
    clock.advance(BACK)
    (switch,) = clock.changes()
    assert (switch.old_offset_s, switch.offset_s) == (3 * H, 2 * H)


@pytest.mark.parametrize("by_h", [-1, 1])
def test_a_clock_changed_without_notice_is_found_and_told(by_h: int) -> None:
    changed_at = WEDNESDAY + 60_000
    clock = BrokerClock(NY_CLOSE)

    def offset(utc_ms: int) -> int:
        return 3 * H + (by_h * H if utc_ms >= changed_at else 0)

    market = Market(clock, offset, WEDNESDAY)
    market.run(55)
    clock.changes()
    market.run(30)
    assert market.now == ((3 + by_h) * H, OffsetSource.LIVE)
    change = next(c for c in clock.changes() if c.offset_s != 3 * H)
    assert (change.old_offset_s, change.offset_s) == (3 * H, (3 + by_h) * H)
    new_ms = changed_at + (3 + by_h) * HOUR_MS
    assert change.since_server_ms is not None
    assert new_ms <= change.since_server_ms < new_ms + 2_000
    assert "without notice" in clock.state.alarm
    assert clock.offset_now(changed_at - 30_000)[0] == 3 * H


def test_a_wrong_configured_rule_is_contradicted_by_live_ticks() -> None:
    gap_week = ms(2026, 10, 28, 12)
    clock = BrokerClock(EET)
    market = Market(clock, of(NY_CLOSE), gap_week)
    market.run(3)
    assert market.now == (2 * H, OffsetSource.ASSUMED)
    market.run(20)
    assert market.now == (3 * H, OffsetSource.LIVE)
    assert "check the configured clock" in clock.state.alarm


def test_history_decides_which_rule_replaces_a_wrong_one() -> None:
    gap_week = ms(2026, 10, 28, 12)
    clock = BrokerClock(EET, detected=NY_CLOSE)
    assert "bars show America/New_York+7h" in clock.state.alarm
    market = Market(clock, of(NY_CLOSE), gap_week)
    market.run(30)
    assert clock.rule == NY_CLOSE
    assert clock.offset_now(ms(2026, 12, 1)) == (2 * H, OffsetSource.HISTORY)


@pytest.mark.parametrize("jump_ms", [-HOUR_MS, HOUR_MS])
def test_a_jump_of_this_computers_clock_is_not_blamed_on_the_broker(jump_ms: int) -> None:
    clock = BrokerClock(NY_CLOSE)
    market = Market(clock, of(NY_CLOSE), WEDNESDAY)
    market.run(30)
    clock.changes()
    market.host_error_ms = jump_ms
    market.run(120)
    assert clock.rule == NY_CLOSE
    (newest,) = clock.offset_for(times(market.last["EURUSD"]))
    assert newest[1:] == (3 * H, OffsetSource.ASSUMED)
    assert "computer's clock jumped" in clock.state.alarm
    assert all(change.offset_s == 3 * H for change in clock.changes())
    market.host_error_ms = 0
    market.run(30)
    assert market.now == (3 * H, OffsetSource.LIVE)
    assert clock.state.alarm == ""


def test_a_host_clock_off_by_seconds_is_absorbed_and_by_minutes_told() -> None:
    clock = BrokerClock(NY_CLOSE)
    market = Market(clock, of(NY_CLOSE), WEDNESDAY, host_error_ms=20_000)
    market.run(5)
    assert market.now == (3 * H, OffsetSource.LIVE)
    assert clock.state.residual_ms == -20_040
    market.host_error_ms = -300_000
    market.run(30)
    assert market.now[0] == 3 * H
    assert "300 s ahead of this computer's clock" in clock.state.alarm


def test_delayed_quotes_are_no_other_clock() -> None:
    clock = BrokerClock(NY_CLOSE)
    market = Market(clock, of(NY_CLOSE), WEDNESDAY, lag_ms=900_000)
    market.run(60)
    assert market.now == (3 * H, OffsetSource.ASSUMED)
    assert "delayed quotes" in clock.state.alarm


def test_one_delayed_symbol_does_not_disturb_the_others() -> None:
    clock = BrokerClock(NY_CLOSE)
    live = Market(clock, of(NY_CLOSE), WEDNESDAY)
    late = Market(clock, of(NY_CLOSE), WEDNESDAY, symbols=("DAX",), lag_ms=900_000)
    for _ in range(60):
        live.run(0.5)
        late.run(0.5)
    assert live.now == (3 * H, OffsetSource.LIVE)
    assert clock.state.alarm == ""


def test_a_symbol_on_another_clock_is_told() -> None:
    clock = BrokerClock(NY_CLOSE)
    market = Market(clock, of(NY_CLOSE), WEDNESDAY)
    ahead = Market(clock, of(NY_CLOSE.moved(H)), WEDNESDAY, symbols=("BTCUSD",))
    for _ in range(60):
        market.run(0.5)
        ahead.run(0.5)
    assert market.now == (3 * H, OffsetSource.LIVE)
    assert "BTCUSD say +1 h" in clock.state.alarm
    market.run(200)
    assert clock.state.alarm == ""


def test_after_a_reconnect_live_is_earned_anew() -> None:
    clock = BrokerClock(NY_CLOSE)
    market = Market(clock, of(NY_CLOSE), WEDNESDAY)
    market.run(5)
    clock.recheck()
    clock.advance(market.utc_ms + 1)
    assert clock.offset_now(market.utc_ms + 1)[1] is OffsetSource.ASSUMED
    market.run(5)
    assert market.now[1] is OffsetSource.LIVE


def test_a_confirmation_ends_with_the_week() -> None:
    clock = BrokerClock(NY_CLOSE)
    market = Market(clock, of(NY_CLOSE), ms(2026, 7, 17, 20, 59))
    market.run(5)
    assert clock.offset_now(ms(2026, 7, 17, 21, 30))[1] is OffsetSource.LIVE
    assert clock.offset_now(ms(2026, 7, 18, 12))[1] is OffsetSource.ASSUMED


def server(utc_ms: int) -> int:
    return NY_CLOSE.server_ms(utc_ms)


def split(clock: BrokerClock, utc_ms: list[int], **more: int) -> list[int]:
    """UTC times as the clock finds them from their server times."""
    server_ms = times(*(server(t) for t in utc_ms))
    found = np.empty(len(server_ms), np.int64)
    for part, offset_s, _ in clock.offset_for(server_ms, **more):
        found[part] = server_ms[part] - offset_s * 1000
    return found.tolist()


MINUTE = 60_000


def test_an_answer_over_the_hour_shown_twice_is_split_where_it_falls_back() -> None:
    clock = BrokerClock(NY_CLOSE)
    truth = [BACK + m * MINUTE for m in range(-150, 150, 3)]
    assert split(clock, truth) == truth
    segments = clock.offset_for(times(*(server(t) for t in truth)))
    assert [offset for _, offset, _ in segments] == [3 * H, 2 * H]


@pytest.mark.parametrize("minutes", [(-50, -40), (10, 20), (-10, -1), (0, 9), (40, 59)])
def test_live_ticks_in_the_hour_shown_twice_follow_the_hosts_clock(
    minutes: tuple[int, int],
) -> None:
    clock = BrokerClock(NY_CLOSE)
    truth = [BACK + m * MINUTE for m in range(minutes[0], minutes[1] + 1)]
    assert split(clock, truth, host_utc_ms=truth[-1] + 300) == truth


@pytest.mark.parametrize("minutes", [(-50, -40), (10, 20), (30, 59)])
def test_backfill_in_the_hour_shown_twice_follows_the_tick_before(minutes: tuple[int, int]) -> None:
    clock = BrokerClock(NY_CLOSE)
    truth = [BACK + m * MINUTE for m in range(minutes[0], minutes[1] + 1)]
    later = BACK + 10 * HOUR_MS
    assert split(clock, truth, host_utc_ms=later, after_utc_ms=truth[0] - MINUTE) == truth


def test_a_lone_tick_in_the_hour_shown_twice_is_marked_as_assumed() -> None:
    clock = BrokerClock(NY_CLOSE, detected=NY_CLOSE)
    (plain,) = clock.offset_for(times(ms(2026, 11, 1, 7, 30)))
    (twice,) = clock.offset_for(times(ms(2026, 11, 1, 8, 30)))
    assert plain[1:] == (3 * H, OffsetSource.HISTORY)
    assert twice[1:] == (3 * H, OffsetSource.ASSUMED)


def test_a_broker_that_switches_later_than_its_rule_puts_no_tick_into_the_future() -> None:
    clock = BrokerClock(NY_CLOSE)
    host_ms = BACK + 5_000
    (found,) = clock.offset_for(times(host_ms + 3 * HOUR_MS - 100), host_utc_ms=host_ms)
    assert found[1:] == (3 * H, OffsetSource.ASSUMED)


def test_ticks_in_an_hour_that_is_never_shown_are_doubtful() -> None:
    clock = BrokerClock(NY_CLOSE, detected=NY_CLOSE)
    (found,) = clock.offset_for(times(ms(2026, 3, 8, 9, 30)))
    assert found[2] is OffsetSource.ASSUMED


def test_times_that_are_missing_go_with_their_neighbours() -> None:
    clock = BrokerClock(NY_CLOSE)
    now = server(WEDNESDAY)
    segments = clock.offset_for(times(0, now, 0, now + 1))
    assert segments == [(slice(0, 4), 3 * H, OffsetSource.ASSUMED)]
    assert clock.offset_for(times()) == []
    assert clock.offset_for(times(0)) == [(slice(0, 1), 2 * H, OffsetSource.ASSUMED)]


def test_single_times_in_the_hour_shown_twice_lie_in_the_past() -> None:
    clock = BrokerClock(NY_CLOSE)
    half_past = ms(2026, 11, 1, 8, 30)
    clock.advance(BACK - 20 * MINUTE)
    assert clock.utc_ms_of_server(half_past) == BACK - 30 * MINUTE
    clock.advance(BACK + 30 * MINUTE)
    assert clock.utc_ms_of_server(half_past) == BACK + 30 * MINUTE
    clock.advance(BACK + 10 * MINUTE)
    assert clock.utc_ms_of_server(half_past) == BACK - 30 * MINUTE


@given(
    st.sampled_from(["ny-close", "eet", "au", "fixed+5:45", "utc"]),
    st.integers(ms(2020, 1, 1), ms(2030, 1, 1)),
    st.lists(st.integers(0, 400_000), min_size=1, max_size=40),
)
def test_ticks_close_together_find_their_times_at_any_moment(
    rule: str, begin_ms: int, steps: list[int]
) -> None:
    parsed = ClockRule.parse(rule)
    truth = begin_ms + np.cumsum(np.array(steps, np.int64))
    server_ms = truth + parsed.offsets_s(truth) * 1000
    clock = BrokerClock(parsed)
    found = np.empty(len(truth), np.int64)
    covered = 0
    segments = clock.offset_for(
        server_ms, host_utc_ms=int(truth[-1]) + 200, after_utc_ms=begin_ms - 1
    )
    for part, offset_s, _ in segments:
        found[part] = server_ms[part] - offset_s * 1000
        covered += part.stop - part.start
    assert covered == len(truth)
    assert found.tolist() == truth.tolist()

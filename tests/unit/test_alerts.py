"""Group `watch`: which events become alerts, how often, and when nothing is said at all."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.alerts import WatchHandler
from consumers.alerts.conditions import (
    FLOOD_ALERTS_MAX,
    FLOOD_CRITICAL_MAX,
    FLOOD_S,
    OPEN_CRITICAL_MAX,
    OPEN_MAX,
    Conditions,
    Finding,
)
from consumers.alerts.sessions import WEEK_S, Sessions, is_currency_week
from consumers.runtime.state import State
from events.alerts import Alert
from events.candles import CandleBatch
from events.codec import AnyEvent, decode_data, encode
from events.decisions import LimitBreach, RulesSet
from events.guarding import FlattenEnded, GuardState, LatchChanged, TicketOutcome
from events.market import Quote, Quotes
from events.operations import (
    ClockChanged,
    GapHealed,
    HandlerFailed,
    OperatorAnswered,
    ProducerState,
    Silence,
    SymbolState,
    TerminalDown,
    TerminalUp,
)
from events.rules import Rules
from events.ticks import RATE_DTYPE, OffsetSource
from events.trading import Book, Position

SUMMER_S = 10_800
"""The server's clock in summer: New York + 7 h."""


def utc(text: str) -> int:
    """`2026-06-10 12:00` as UTC milliseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


WEDNESDAY = utc("2026-06-10 12:00")
SATURDAY = utc("2026-06-13 12:00")


class Watched:
    """A handler and what it said. Its state is packed and read again between any two events, as
    a commit and a restart do."""

    def __init__(self) -> None:
        self.state = State({})
        self.alerts: list[Alert] = []

    def __call__(self, *events: AnyEvent) -> list[Alert]:
        """What follows from these."""
        said = []
        for event in events:
            entry = encode(event)
            handler = WatchHandler()
            handler.state = self.state
            handler.setup()
            said += list(handler.handle(decode_data(entry.type, entry.key, entry.data)))
            self.state.settle(*self.state.changes())
        self.alerts += said
        return said


def topics(alerts: Iterable[Alert]) -> list[tuple[str, str, bool]]:
    return [(one.topic, one.severity, one.resolved) for one in alerts]


def position(symbol: str) -> Position:
    return Position(
        ticket=1, identifier=1, symbol=symbol, side=0, volume_lots=1.0, price_open=1.1,
        time_ms=1, time_server_ms=1,
    )  # fmt: skip


def book(*symbols: str, at: int = WEDNESDAY) -> Book:
    return Book(
        event_time_ms=at, recv_time_ms=at, login=7,
        positions=tuple(position(symbol) for symbol in symbols),
    )  # fmt: skip


def state(
    at: int,
    ages_s: dict[str, float] | None = None,
    *,
    spread: float = 0.0001,
    spreads: dict[str, float] | None = None,
    **fields: Any,
) -> ProducerState:
    """What a producer says at a moment, with the age of each symbol's newest tick."""
    symbols = tuple(
        SymbolState(
            symbol=name, broker_symbol=name, state="live",
            last_tick_ms=at - int(age * 1000),
            last_tick_server_ms=at - int(age * 1000) + SUMMER_S * 1000,
            bid=1.1, ask=1.1 + (spreads or {}).get(name, spread),
        )
        for name, age in (ages_s or {}).items()
    )  # fmt: skip
    values: dict[str, Any] = {
        "event_time_ms": at, "terminal": "demo", "kind": "native", "connection": "up",
        "server": "Demo-Server", "offset_s": SUMMER_S, "offset_source": OffsetSource.LIVE,
        "symbols": symbols,
    }  # fmt: skip
    return ProducerState(**{**values, **fields})


def guard(at: int = WEDNESDAY, **fields: Any) -> GuardState:
    values: dict[str, Any] = {
        "event_time_ms": at, "login": 7, "terminal": "demo", "state": "watching", "positions": 1,
    }  # fmt: skip
    return GuardState(**{**values, **fields})


def down(reason: str, at: int = WEDNESDAY) -> TerminalDown:
    return TerminalDown(event_time_ms=at, terminal="demo", reason=reason, detail="why")


def up(at: int) -> TerminalUp:
    return TerminalUp(
        event_time_ms=at, recv_time_ms=at, terminal="demo", kind="native", login=7, server="s"
    )


def passing(watched: Watched, since: int, seconds: float, **fields: Any) -> list[Alert]:
    """A producer that goes on saying how it is, every five seconds, with the terminal away."""
    said = []
    for later in range(5, int(seconds) + 5, 5):
        said += watched(state(since + later * 1000, connection="lost", **fields))
    return said


# --- terminals


def test_a_terminal_that_is_back_at_once_is_nobodys_concern() -> None:
    watched = Watched()
    assert watched(book("EURUSD"), down("hung")) == []
    assert passing(watched, WEDNESDAY, 10) == []
    assert watched(up(WEDNESDAY + 11_000)) == []


def test_a_terminal_that_stays_away_with_open_positions_is_critical_and_told_when_it_is_over() -> (
    None
):
    watched = Watched()
    watched(book("EURUSD"), down("lost"))
    assert topics(passing(watched, WEDNESDAY, 60)) == [("terminal", "critical", False)]
    (over,) = watched(up(WEDNESDAY + 61_000))
    assert (over.resolved, over.severity) == (True, "critical")
    assert over.since_ms == WEDNESDAY


def test_it_is_told_again_every_five_minutes_while_it_lasts() -> None:
    watched = Watched()
    watched(book("EURUSD"), down("lost"))
    said = passing(watched, WEDNESDAY, 1_000)
    assert [(one.event_time_ms - WEDNESDAY) // 1000 for one in said] == [15, 315, 615, 915]


@pytest.mark.parametrize(
    ("reason", "symbols", "at", "severity"),
    [
        ("wrong_account", (), WEDNESDAY, "critical"),
        ("wrong_account", (), SATURDAY, "critical"),
        ("refused", (), WEDNESDAY, "critical"),
        ("stopped", (), WEDNESDAY, "info"),
        ("stopped", ("EURUSD",), WEDNESDAY, "warning"),
        ("disconnected", (), WEDNESDAY, "warning"),
        ("disconnected", ("EURUSD",), WEDNESDAY, "critical"),
        ("disconnected", ("EURUSD",), SATURDAY, "info"),
    ],
)
def test_how_bad_a_terminal_that_is_away_is(
    reason: str, symbols: tuple[str, ...], at: int, severity: str
) -> None:
    watched = Watched()
    said = watched(book(*symbols, at=at), down(reason, at)) + passing(watched, at, 120)
    assert [one.severity for one in said][:1] == [severity]


# --- silence


def silence(at: int, of: str = "producer", name: str = "demo", **fields: Any) -> Silence:
    return Silence(
        event_time_ms=at, of=of, name=name, holder="host:1", silent_s=30.0, **fields
    )  # fmt: skip


def test_a_producer_that_is_gone_is_critical_with_positions_until_it_speaks_again() -> None:
    watched = Watched()
    watched(state(WEDNESDAY), book("EURUSD"))
    assert topics(watched(silence(WEDNESDAY + 30_000))) == [("producer", "critical", False)]
    assert watched(silence(WEDNESDAY + 31_000, number=2)) == []
    assert topics(watched(silence(WEDNESDAY + 330_000, number=3))) == [
        ("producer", "critical", False)
    ]
    (over,) = watched(state(WEDNESDAY + 400_000))
    assert (over.topic, over.resolved) == ("producer", True)


def test_a_group_that_nobody_runs_is_told_and_told_when_it_is_back() -> None:
    watched = Watched()
    (alert,) = watched(silence(WEDNESDAY, "group", "risk"))
    assert (alert.severity, alert.subject) == ("critical", "risk")
    (alert,) = watched(silence(WEDNESDAY, "group", "strategy.ema"))
    assert alert.severity == "warning"
    (over,) = watched(silence(WEDNESDAY + 9_000, "group", "risk", over=True))
    assert over.resolved


# --- guard, limits, flatten


def breach(level: str, at: int = WEDNESDAY, **fields: Any) -> LimitBreach:
    values: dict[str, Any] = {
        "event_time_ms": at, "login": 7, "limit": "daily_loss", "level": level,
        "action": "flatten", "figures": {"equity": 9_400.0}, "threshold": 500.0, "value": 512.0,
        "entries": ("{demo:source:0}:high@5-6",),
    }  # fmt: skip
    return LimitBreach(**{**values, **fields})


def test_limits_warn_and_act_and_name_what_was_seen() -> None:
    watched = Watched()
    (warning,) = watched(breach("warn"))
    assert (warning.severity, warning.topic) == ("warning", "limit_warning")
    (acts,) = watched(breach("act", lock="manual"))
    assert acts.severity == "critical"
    assert "512 reached 500: flatten, locked manual" in acts.text
    assert acts.entries == ("{demo:source:0}:high@5-6",)
    assert watched(breach("act"), breach("act")) == [], "told once within the hour"
    (summary,) = watched(state(WEDNESDAY + 3_600_000))
    assert summary.count == 2
    assert watched(state(WEDNESDAY + 7_300_000)) == []


def test_a_latch_stays_told_until_it_is_cleared_or_ends_by_itself() -> None:
    watched = Watched()
    latch = LatchChanged(
        event_time_ms=WEDNESDAY, login=7, terminal="demo", latched=True, latch_id="a",
        reason="daily loss", by="risk", lock="until_reset", until_ms=WEDNESDAY + 7_200_000,
    )  # fmt: skip
    (alert,) = watched(latch)
    assert "bridgectl resume" in alert.cure
    assert watched(guard(WEDNESDAY + 5_000, state="halted", latched=True)) == []
    (over,) = watched(guard(WEDNESDAY + 7_200_000))
    assert (over.topic, over.resolved) == ("latch", True)
    watched(latch)
    cleared = latch.model_copy(update={"latched": False, "by": "anna"})
    (over,) = watched(cleared)
    assert over.resolved
    assert "anna" in over.text


def ended(how: str, at: int = WEDNESDAY, **fields: Any) -> FlattenEnded:
    values: dict[str, Any] = {
        "event_time_ms": at, "login": 7, "terminal": "demo", "flatten_id": "f1", "state": how,
        "by": "risk", "reason": "daily loss", "positions": 0, "breach_to_flat_ms": 812.0,
    }  # fmt: skip
    return FlattenEnded(**{**values, **fields})


def test_an_account_that_is_not_flat_is_told_until_it_is_with_whom_to_phone() -> None:
    watched = Watched()
    left = TicketOutcome(ticket=9, symbol="XAUUSD", outcome="parked", retcode=10018)
    (alert,) = watched(ended("FLAT_EXCEPT", positions=1, outcomes=(left,)))
    assert alert.severity == "critical"
    assert "XAUUSD 9 parked (10018)" in alert.text
    assert "broker's desk" in alert.cure
    again = [
        one for n in range(1, 70) for one in watched(guard(WEDNESDAY + n * 5_000, state="halted"))
    ]
    assert topics(again) == [("flatten", "critical", False)]
    over, flat = watched(ended("FLAT", WEDNESDAY + 400_000))
    assert (over.topic, over.resolved) == ("flatten", True)
    assert "FLAT (account): 0 positions closed in 0.81 s, by risk: daily loss" in flat.text
    (unknown,) = watched(ended("UNKNOWN", WEDNESDAY + 500_000, positions=None))
    assert unknown.severity == "critical"


def test_a_guard_that_is_blind_is_critical() -> None:
    watched = Watched()
    assert watched(guard(state="blind")) == [], "for a moment"
    assert topics(watched(guard(WEDNESDAY + 5_000, state="blind"))) == [
        ("guard_blind", "critical", False)
    ]
    assert topics(watched(guard(WEDNESDAY + 10_000))) == [("guard_blind", "critical", True)]


def test_a_guard_that_falls_silent_beside_a_living_producer_is_critical() -> None:
    watched = Watched()
    watched(guard())
    said = [one for n in range(40) for one in watched(state(WEDNESDAY + n * 5_000))]
    assert topics(said) == [("guard_silent", "critical", False)]
    assert said[0].event_time_ms - WEDNESDAY == 95_000
    watched(guard(WEDNESDAY + 200_000))
    assert topics(watched(state(WEDNESDAY + 201_000))) == [("guard_silent", "critical", True)]
    watched(guard(WEDNESDAY + 202_000, state="stopped", positions=0))
    later = [one for n in range(40) for one in watched(state(WEDNESDAY + 203_000 + n * 5_000))]
    assert later == [], "it ended as told"


def test_a_flatten_is_told_when_it_begins_and_how_it_ended() -> None:
    watched = Watched()
    (begun,) = watched(guard(state="flattening", by="risk", reason="daily loss"))
    assert (begun.topic, begun.severity) == ("flattening", "critical")
    assert topics(watched(guard(WEDNESDAY + 1, state="halted"), ended("FLAT", WEDNESDAY + 2))) == [
        ("flat", "warning", False)
    ]


def test_dead_man_log_block_and_end_of_a_guard() -> None:
    watched = Watched()
    said = watched(guard(dead_man_s=300.0, log_silent_s=2.0))
    assert said == []
    assert watched(guard(dead_man_s=150.0)) == []
    said = watched(guard(dead_man_s=99.0, log_silent_s=20.0))
    assert topics(said) == [("guard_log", "warning", False), ("dead_man", "critical", False)]
    said = watched(guard(WEDNESDAY + 1, state="blocked", reason="dead man", dead_man_s=0.0))
    assert topics(said) == [("guard_log", "warning", True), ("guard_blocked", "warning", False)]
    said = watched(guard(WEDNESDAY + 2, state="stopped", positions=2))
    assert ("guard_stopped", "warning", False) in topics(said)


# --- groups


def failed(number: int, *, halted: bool = False) -> HandlerFailed:
    return HandlerFailed(
        event_time_ms=WEDNESDAY, group="risk", place=f"{{demo:source:0}}:high@{number}-1",
        entry_type="deal.1", error="ZeroDivisionError: oh", halted=halted,
    )  # fmt: skip


def answered(number: int, outcome: str) -> OperatorAnswered:
    return OperatorAnswered(
        event_time_ms=WEDNESDAY, group="risk", request="r", action="drop",
        place=f"{{demo:source:0}}:high@{number}-1", outcome=outcome,
    )  # fmt: skip


def test_many_dead_letters_are_one_alert_that_is_over_when_all_are_settled() -> None:
    watched = Watched()
    (first,) = watched(*[failed(number) for number in range(50)])
    assert (first.topic, first.severity) == ("dead_letter", "warning")
    said = watched(*[answered(number, "dropped") for number in range(49)])
    assert said == []
    assert watched(answered(49, "refused")) == []
    (over,) = watched(answered(49, "handled"))
    assert over.resolved


def test_a_task_that_stands_still_is_critical_until_it_goes_on() -> None:
    watched = Watched()
    (alert,) = watched(failed(1, halted=True))
    assert (alert.topic, alert.severity) == ("halted", "critical")
    (over,) = watched(answered(1, "skipped"))
    assert over.resolved


# --- clock, gaps, what others say


def test_an_unknown_clock_is_told_after_a_while_and_only_while_a_market_is_open() -> None:
    unknown = {"offset_source": OffsetSource.UNKNOWN}
    watched = Watched()
    weekend = [one for n in range(400) for one in watched(state(SATURDAY + n * 5_000, **unknown))]
    assert weekend == []
    watched = Watched()
    open_ = [one for n in range(400) for one in watched(state(WEDNESDAY + n * 5_000, **unknown))]
    assert topics(open_) == [("clock", "warning", False)]
    assert topics(watched(state(WEDNESDAY + 3_000_000))) == [("clock", "warning", True)]


def test_a_clock_that_ticks_contradict_is_told_at_once() -> None:
    alarm = {"last_error": "clock: ticks lie 3600 s ahead", "last_error_ms": WEDNESDAY - 900}
    (alert,) = Watched()(state(WEDNESDAY, **alarm))
    assert "ticks lie 3600 s ahead" in alert.text
    assert Watched()(state(SATURDAY, **{**alarm, "last_error_ms": SATURDAY})) == []


def test_a_change_of_the_clock_and_long_gaps_are_told_once() -> None:
    watched = Watched()
    changed = ClockChanged(
        event_time_ms=WEDNESDAY, server="Demo", rule="America/New_York+7h", offset_s=10_800,
        offset_source=OffsetSource.LIVE, old_offset_s=7_200,
        old_offset_source=OffsetSource.LIVE,
    )  # fmt: skip
    (alert,) = watched(changed)
    assert alert.severity == "info"
    assert "+3 h" in alert.text
    first = changed.model_copy(update={"old_offset_source": OffsetSource.UNKNOWN})
    assert Watched()(first) == []

    def gap(symbol: str, seconds: int, ticks: int = 9) -> GapHealed:
        return GapHealed(
            event_time_ms=WEDNESDAY, symbol=symbol, reason="log", ticks=ticks,
            from_ms=WEDNESDAY - seconds * 1000, until_ms=WEDNESDAY,
        )  # fmt: skip

    assert watched(gap("EURUSD", 20), gap("EURUSD", 4_000, ticks=0)) == []
    said = watched(gap("EURUSD", 1_200), gap("GBPUSD", 1_200), gap("USDJPY", 1_200))
    assert topics(said) == [("gap_healed", "warning", False)]


def test_what_others_found_is_told_as_our_own_is() -> None:
    watched = Watched()
    alert = Alert(
        event_time_ms=WEDNESDAY, severity="warning", topic="rules", subject="demo",
        text="rules.toml:3: act: below warn", cure="correct it",
    )  # fmt: skip
    (told,) = watched(alert)
    assert (told.text, told.cure) == (alert.text, alert.cure)
    assert watched(alert) == []
    later = alert.model_copy(update={"resolved": True, "severity": "info"})
    *_, over = watched(state(WEDNESDAY + 9_000_000), later)
    assert (over.resolved, over.severity) == (True, "warning")


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("latch", "still latched since an earlier run: x"),
        ("limit_breach", "daily_loss: 512 of 500"),
        ("flatten", "FLAT_EXCEPT: 1 positions and 0 orders are left (daily loss)"),
    ],
)
def test_what_events_tell_already_is_not_told_again(topic: str, text: str) -> None:
    alert = Alert(
        event_time_ms=WEDNESDAY, severity="critical", topic=topic, subject="demo", text=text
    )
    assert Watched()(alert) == []


# --- prices and sessions

MAJORS = {"EURUSD": 1.0, "GBPUSD": 1.0, "USDJPY": 1.0}


def looks(
    watched: Watched, begin: int, seconds: int, ages: dict[str, float], **fields: Any
) -> list[Alert]:
    """Every five seconds a look; symbols with an age of 1 s move, others stand still since."""
    said = []
    for later in range(0, seconds, 5):
        now = {name: age if age <= 1 else age + later for name, age in ages.items()}
        said += watched(state(begin + later * 1000, now, **fields))
    return said


def test_a_held_symbol_that_stands_still_while_others_move_is_told_and_told_when_it_moves() -> None:
    watched = Watched()
    watched(book("EURUSD", "XAUUSD"))
    assert looks(watched, WEDNESDAY, 900, {**MAJORS, "XAUUSD": 1.0}) == []
    later = WEDNESDAY + 900_000
    said = looks(watched, later, 300, {**MAJORS, "XAUUSD": 2.0})
    assert [(one.topic, one.subject, one.severity) for one in said] == [
        ("stale_ticks", "XAUUSD", "warning")
    ]
    (over,) = looks(watched, later + 300_000, 5, {**MAJORS, "XAUUSD": 1.0})
    assert over.resolved


def test_symbols_that_nobody_holds_may_stand_still() -> None:
    watched = Watched()
    watched(book("EURUSD"))
    assert looks(watched, WEDNESDAY, 900, {**MAJORS, "XAUUSD": 2.0}) == []


def test_a_quiet_symbol_is_given_the_pauses_it_usually_makes() -> None:
    watched = Watched()
    watched(book("EURNOK"))
    begin = utc("2026-06-10 12:05")
    at = begin
    while at < begin + 3_000_000:  # a tick every four minutes
        age = (at - begin) / 1000 % 240
        said = watched(state(at, {**MAJORS, "EURNOK": age}))
        assert at < begin + 800_000 or said == []
        at += 5_000
    assert looks(watched, at, 600, {**MAJORS, "EURNOK": 2.0}) == []
    assert topics(looks(watched, at + 600_000, 300, {**MAJORS, "EURNOK": 602.0})) == [
        ("stale_ticks", "warning", False)
    ]


def test_over_a_weekend_and_through_its_opening_nobody_is_paged() -> None:
    watched = Watched()
    watched(book("EURUSD", "XAUUSD"))
    ages = {**MAJORS, "XAUUSD": 1.0}
    friday = utc("2026-06-12 20:00")
    assert looks(watched, friday, 3_600, ages) == []
    closed = dict.fromkeys(ages, 2.0)
    said = []
    at = friday + 3_600_000
    while at < utc("2026-06-14 21:18"):  # the first ticks of Sunday come at 21:18
        stood = {name: age + (at - friday - 3_600_000) / 1000 for name, age in closed.items()}
        said += watched(state(at, stood))
        at += 60_000 if at < utc("2026-06-14 20:50") else 5_000
    said += looks(watched, at, 900, ages)
    assert said == []


def test_the_daily_break_of_a_metal_is_learned_from_hourly_candles() -> None:
    """Metals rest for an hour at 17:00 New York, the currencies do not."""
    begin_s = utc("2026-04-13 00:00") // 1000
    hours = np.arange(begin_s, begin_s + 8 * WEEK_S, 3_600)
    kept = []
    for hour in hours:  # server time is New York + 7 h: the break is its first hour
        utc_ms = (int(hour) - SUMMER_S) * 1000
        if is_currency_week(utc_ms + 1_800_000) and hour % 86_400 >= 3_600:
            kept.append(hour)
    candles = np.zeros(len(kept), RATE_DTYPE)
    candles["time"] = kept
    batch = CandleBatch("XAUUSD", "H1", candles, SUMMER_S, OffsetSource.HISTORY, WEDNESDAY, 1)
    watched = Watched()
    watched(batch, book("XAUUSD", "EURUSD"))
    sessions = Sessions(watched.state)
    assert not sessions.is_open("XAUUSD", utc("2026-06-10 21:30"), SUMMER_S)
    assert sessions.is_open("XAUUSD", utc("2026-06-10 20:30"), SUMMER_S)
    assert sessions.is_open("EURUSD", utc("2026-06-10 21:30"), SUMMER_S)
    at = utc("2026-06-10 20:40")
    moving = {**MAJORS, "XAUUSD": 1.0}
    assert looks(watched, at, 1_200, moving) == []
    resting = {**MAJORS, "XAUUSD": 2.0}
    assert looks(watched, at + 1_200_000, 3_600, resting) == []


def test_a_symbol_that_trades_around_the_clock_is_watched_on_saturdays_too() -> None:
    watched = Watched()
    watched(book("BTCUSD"))
    saturday = utc("2026-06-06 08:00")
    at = saturday
    while at < saturday + 8 * 3_600_000:
        watched(state(at, {"BTCUSD": 1.0}))
        at += 50_000
    assert looks(watched, SATURDAY - 600_000, 600, {"BTCUSD": 1.0}) == []
    assert topics(looks(watched, SATURDAY, 600, {"BTCUSD": 2.0})) == [
        ("stale_ticks", "warning", False)
    ]


def test_on_a_holiday_many_symbols_stand_still_and_that_is_one_quiet_line() -> None:
    """A day nobody listed: everything that should move stands still, a coin goes on."""
    watched = Watched()
    watched(book("EURUSD", "GBPUSD"))
    coins = {"BTCUSD": 1.0}
    saturday = utc("2026-06-06 08:00")
    for n in range(96):
        watched(state(saturday + n * 300_000, {"BTCUSD": 1.0}))
    looks(watched, WEDNESDAY - 1_200_000, 1_200, {**MAJORS, **coins})
    still = dict.fromkeys(MAJORS, 2.0)
    said = looks(watched, WEDNESDAY, 3_600, {**still, **coins})
    assert topics(said) == [("market_silent", "info", False)]
    (over,) = looks(watched, WEDNESDAY + 3_600_000, 5, {**MAJORS, **coins})
    assert over.resolved
    nothing = looks(watched, WEDNESDAY + 3_700_000, 3_600, {**still, "BTCUSD": 2.0})
    assert ("market_silent", "warning", False) in topics(nothing), "the feed itself may stand"


def test_christmas_is_closed_for_currencies() -> None:
    assert not is_currency_week(utc("2026-12-25 12:00"))
    assert not is_currency_week(utc("2026-12-24 23:00"))
    assert is_currency_week(utc("2026-12-24 12:00"))
    assert is_currency_week(utc("2026-12-28 12:00"))


@given(st.integers(min_value=utc("2020-01-01 00:00"), max_value=utc("2030-01-01 00:00")))
def test_the_currency_week_is_that_of_new_yorks_clock(at: int) -> None:
    there = datetime.fromtimestamp(at / 1000, ZoneInfo("America/New_York"))
    weekend = there.weekday() == 5 or (there.weekday() == 4 and there.hour >= 17) or (
        there.weekday() == 6 and there.hour < 17
    )  # fmt: skip
    assert not (weekend and is_currency_week(at))


def test_windows_of_the_rules_close_a_market_for_their_time() -> None:
    rules = Rules.model_validate(
        {"windows": [{"name": "holiday", "days": ["wed"], "begin": "10:00", "until": "20:00"}]}
    )
    watched = Watched()
    written = RulesSet(event_time_ms=WEDNESDAY, login=7, rules=rules.model_dump(mode="json"))
    watched(written, book("EURUSD"))
    looks(watched, WEDNESDAY, 600, MAJORS)
    assert looks(watched, WEDNESDAY + 600_000, 900, {**MAJORS, "EURUSD": 2.0}) == []


def test_a_spread_that_blows_out_is_told_after_a_while() -> None:
    watched = Watched()
    watched(book("EURUSD"))
    begin = utc("2026-06-10 12:00")
    assert looks(watched, begin, 1_200, MAJORS) == []
    wide = {"EURUSD": 0.0012}
    assert looks(watched, begin + 1_200_000, 10, MAJORS, spreads=wide) == [], "for a moment"
    said = looks(watched, begin + 1_210_000, 60, MAJORS, spreads=wide)
    assert topics(said) == [("spread", "warning", False)]
    (over,) = looks(watched, begin + 1_300_000, 10, MAJORS)
    assert over.resolved


def test_quotes_of_held_symbols_that_nobody_follows_count_too() -> None:
    watched = Watched()
    watched(book("USDSEK"))
    for n in range(0, 900, 5):
        at = WEDNESDAY + n * 1000
        quote = Quote(symbol="USDSEK", bid=10.0, ask=10.1, time_ms=at, time_server_ms=at)
        watched(
            Quotes(event_time_ms=at, recv_time_ms=at, login=7, quotes=(quote,)), state(at, MAJORS)
        )
    assert watched.alerts == []
    assert topics(looks(watched, WEDNESDAY + 900_000, 300, MAJORS)) == [
        ("stale_ticks", "warning", False)
    ]


# --- how often


def test_a_flood_is_held_back_what_is_critical_is_not_and_what_lasts_follows() -> None:
    kept: dict[str, Any] = {}
    conditions = Conditions(kept)
    said: list[Alert] = []
    for number in range(100):
        said += conditions.lasts(Finding("t", str(number), "warning", "x", repeat_s=0.0), 1_000)
    assert len(said) == FLOOD_ALERTS_MAX
    assert list(conditions.lasts(Finding("c", "1", "critical", "x"), 1_000))
    later = 1_000 + int(FLOOD_S * 1000)
    after = list(conditions.pass_time(later))
    assert after[0].subject == "flood"
    assert after[0].count == 70
    told = {one.subject for one in (*said, *after) if one.topic == "t"}
    for _ in range(5):
        later += int(FLOOD_S * 1000)
        told |= {one.subject for one in conditions.pass_time(later) if one.topic == "t"}
    assert len(told) == 100, "all of them in the end"


def test_what_is_open_is_bounded() -> None:
    kept: dict[str, Any] = {}
    conditions = Conditions(kept)
    for number in range(OPEN_MAX + 50):
        list(conditions.lasts(Finding("t", str(number), "info", "x"), 1_000))
    assert sum(key.startswith("open:") for key in kept) == OPEN_MAX
    assert list(conditions.lasts(Finding("c", "1", "critical", "x"), 1_000))


def test_even_what_is_critical_has_an_end() -> None:
    kept: dict[str, Any] = {}
    conditions = Conditions(kept)
    said: list[Alert] = []
    for number in range(OPEN_CRITICAL_MAX + 10):
        said += conditions.happened(Finding("c", str(number), "critical", "x"), 1_000)
    assert len(said) == FLOOD_CRITICAL_MAX
    assert sum(key.startswith("open:") for key in kept) == OPEN_CRITICAL_MAX
    later = list(conditions.pass_time(1_000 + int(FLOOD_S * 1000)))
    assert later[0].subject == "flood"
    assert len(later) == 1 + FLOOD_CRITICAL_MAX, "what was withheld follows"


def test_what_comes_and_goes_between_bad_and_worse_is_told_no_more_often() -> None:
    kept: dict[str, Any] = {}
    conditions = Conditions(kept)
    said: list[Alert] = []
    for number in range(100):
        severity: Any = "critical" if number % 2 else "warning"
        said += conditions.lasts(Finding("t", "1", severity, "x"), 1_000 + number)
    assert [one.severity for one in said] == ["warning", "critical"]


def test_random_events_never_fail_and_nothing_ends_that_was_not_told() -> None:
    """Whatever is told as over was told before, and the state stays storable."""
    for seed in range(12):
        chance = random.Random(seed)
        watched, at = Watched(), WEDNESDAY - chance.randrange(7 * 86_400_000)
        for _ in range(250):
            at += chance.choice([250, 1_000, 5_000, 5_000, 60_000, 600_000])
            watched(random_event(chance, at))
        open_keys: dict[str, int] = {}
        for alert in watched.alerts:
            if alert.resolved:
                assert open_keys.pop(alert.key, None) is not None, f"seed {seed}: {alert}"
            else:
                open_keys[alert.key] = alert.event_time_ms


def random_event(chance: random.Random, at: int) -> AnyEvent:
    ages = {name: chance.choice([0.5, 1.0, 300.0, 90_000.0]) for name in [*MAJORS, "BTCUSD"]}
    return chance.choice(
        [
            lambda: state(at, ages, connection=chance.choice(["up", "up", "lost"])),
            lambda: state(at, ages, spread=chance.choice([0.0001, 0.01])),
            lambda: guard(
                at,
                state=chance.choice(["watching", "blind", "blocked", "halted", "stopped"]),
                log_silent_s=chance.choice([None, 20.0]),
                dead_man_s=chance.choice([None, 5.0]),
            ),
            lambda: down(chance.choice(["lost", "hung", "wrong_account", "stopped"]), at),
            lambda: up(at),
            lambda: silence(at, over=chance.random() < 0.3, number=at),
            lambda: silence(at, "group", "risk", over=chance.random() < 0.3),
            lambda: breach(chance.choice(["warn", "act"]), at),
            lambda: ended(chance.choice(["FLAT", "UNKNOWN", "FLAT_EXCEPT"]), at),
            lambda: book(*chance.sample(sorted(MAJORS), 2), at=at),
            lambda: failed(chance.randrange(5)),
            lambda: answered(chance.randrange(5), chance.choice(["dropped", "failed"])),
        ]
    )()

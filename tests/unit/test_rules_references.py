"""What losses are measured from: resets, restarts, gaps, operations; what is unknown stays so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from events.decisions import ReferenceSet
from events.rules import (
    Account,
    BalanceOperation,
    Limit,
    Reading,
    References,
    Rules,
    advance,
    balance_at,
    reset_of_clock,
    trading_day,
    unknown_for,
    with_set,
)
from events.rules.resets import instant_ms, local_date, utc_text
from tests.rules_story import LOGIN, Story, ms

PRAGUE = "Europe/Prague"


def rules(
    *figures: str, day_reference: str = "balance", initial: float | None = 100_000.0,
    high_water: float | None = 100_000.0, gap_s: float = 30.0,
) -> Rules:  # fmt: skip
    account = Account.model_validate(
        {
            "initial_balance": initial, "high_water": high_water, "reset_zone": PRAGUE,
            "day_reference": day_reference, "gap_s": gap_s,
        }
    )  # fmt: skip
    return Rules(
        account=account,
        limits=tuple(Limit(name=figure, figure=figure, limit=5.0) for figure in figures),
    )


def started(told: Rules) -> Story:
    return Story(told).at("2026-06-15 10:00:00", 100_000, reset_balance=100_000.0, positions=0)


# --- restarts


def test_a_restart_half_a_minute_after_midnight_does_not_forget_the_day() -> None:
    """Down from 23:59:50 to 00:00:30 with a floating loss: the balance did not move, so the
    balance at the reset is known, and the day is measured from it."""
    story = started(rules("daily_loss"))
    story.at("2026-06-15 23:59:50", 101_000, 96_500)
    kept = References.model_validate_json(story.known.model_dump_json())
    story.references = kept
    story.at("2026-06-16 00:00:30", 101_000, 96_400)
    assert story.known.day == "2026-06-16"
    assert story.known.day_balance == 101_000
    assert "day_balance" not in story.known.unknown
    assert unknown_for(story.rules, story.known) == ()
    assert story.acts() == ["daily_loss"]


def test_a_reset_missed_with_trades_in_between_is_unknown_and_the_higher_balance_holds() -> None:
    story = started(rules("daily_loss"))
    story.at("2026-06-15 23:00:00", 103_000, positions=0)
    story.at("2026-06-15 23:00:11", 103_000, positions=0)
    story.at("2026-06-16 01:00:00", 101_000, positions=0)
    assert story.known.day_balance == 103_000
    assert unknown_for(story.rules, story.known) == ("day_balance",)
    assert not story.floor("daily_loss").certain
    assert story.floor("daily_loss").floor == 98_000


def test_a_reset_that_was_missed_is_reconstructed_from_deals() -> None:
    story = started(rules("daily_loss"))
    story.at("2026-06-15 23:00:00", 103_000, positions=0)
    deals = (
        (ms("2026-06-15 23:30:00", PRAGUE), -500.0),
        (ms("2026-06-16 00:30:00", PRAGUE), -1_500.0),
    )
    at_reset = balance_at(101_000, deals, ms("2026-06-16 00:00:00", PRAGUE))
    assert at_reset == 102_500
    story.at("2026-06-16 01:00:00", 101_000, positions=0, reset_balance=at_reset)
    assert story.known.day_balance == 102_500
    assert unknown_for(story.rules, story.known) == ()


def test_deals_that_are_read_later_still_make_the_reset_known() -> None:
    story = started(rules("daily_loss"))
    story.at("2026-06-15 23:00:00", 103_000, positions=0)
    story.at("2026-06-16 01:00:00", 101_000, positions=0)
    assert unknown_for(story.rules, story.known) == ("day_balance",)
    story.at("2026-06-16 01:00:01", 101_000, positions=0, reset_balance=102_500.0)
    assert unknown_for(story.rules, story.known) == ()
    assert story.known.day_balance == 102_500


def test_equity_at_a_reset_that_was_missed_with_positions_open_is_unknown() -> None:
    story = started(rules("daily_loss", day_reference="equity"))
    story.at("2026-06-15 22:00:00", 100_000, 101_500)
    story.at("2026-06-16 02:00:00", 100_000, 99_000)
    assert unknown_for(story.rules, story.known) == ("day_equity",)
    assert story.known.day_equity == 101_500  # the higher side of the gap
    stated = ReferenceSet(event_time_ms=1, login=LOGIN, set_by="me", day_reference=100_200.0)
    known = with_set(story.known, stated)
    assert unknown_for(story.rules, known) == ()
    assert known.day_reference(story.rules.account) == 100_200


def test_equity_at_a_reset_that_was_missed_without_positions_is_the_balance() -> None:
    story = started(rules("daily_loss", day_reference="max_balance_equity"))
    story.at("2026-06-15 22:00:00", 100_000, positions=0)
    story.at("2026-06-16 02:00:00", 100_000, positions=0)
    assert unknown_for(story.rules, story.known) == ()
    assert story.known.day_equity == 100_000


def test_a_stated_reference_of_the_day_ends_with_the_day() -> None:
    story = started(rules("daily_loss"))
    stated = ReferenceSet(event_time_ms=1, login=LOGIN, set_by="me", day_reference=104_000.0)
    story.references = with_set(story.known, stated)
    assert story.floor("daily_loss").floor == 99_000
    story.at("2026-06-16 00:00:00", 100_000, positions=0)
    assert story.floor("daily_loss").floor == 95_000


# --- peaks


def test_peaks_while_nobody_looked_are_unknown_until_a_human_states_them() -> None:
    told = rules("drawdown_peak")
    story = started(told)
    story.at("2026-06-15 10:00:01", 100_000, 104_000)
    story.at("2026-06-15 10:10:00", 100_000, 101_000)
    assert unknown_for(told, story.known) == ("high_water",)
    assert story.known.high_water == 104_000
    story.at("2026-06-15 10:10:01", 100_000, 106_000)
    assert story.known.high_water == 106_000
    assert unknown_for(told, story.known) == ("high_water",)
    stated = ReferenceSet(event_time_ms=1, login=LOGIN, set_by="me", high_water=108_000.0)
    known = with_set(story.known, stated)
    assert known.high_water == 108_000
    assert unknown_for(told, known) == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -5.0], ids=str)
def test_what_is_no_sum_of_money_states_nothing(value: float) -> None:
    known = started(rules("daily_loss", "drawdown_trailing_eod")).known
    told = ReferenceSet(event_time_ms=1, login=LOGIN, set_by="me", initial_balance=value,
                        high_water=value, day_reference=value)  # fmt: skip
    assert with_set(known, told) == known


def test_a_stated_peak_is_never_below_what_is_there_now() -> None:
    story = started(rules("drawdown_peak"))
    story.at("2026-06-15 10:00:01", 100_000, 104_000)
    stated = ReferenceSet(event_time_ms=1, login=LOGIN, set_by="me", high_water=90_000.0)
    assert with_set(story.known, stated).high_water == 104_000


def test_a_gap_without_positions_and_trades_hides_no_peak() -> None:
    story = started(rules("drawdown_peak"))
    story.at("2026-06-15 20:00:00", 100_000, positions=0)
    assert story.known.unknown == ()


def test_a_short_gap_hides_nothing() -> None:
    story = started(rules("drawdown_peak"))
    story.at("2026-06-15 10:00:10", 100_000, 101_000)
    story.at("2026-06-15 10:00:39", 100_000, 101_500)
    assert story.known.unknown == ()


def test_the_gap_that_counts_is_a_setting() -> None:
    story = started(rules("drawdown_peak", gap_s=600.0))
    story.at("2026-06-15 10:00:10", 100_000, 101_000)
    story.at("2026-06-15 10:09:00", 100_000, 101_500)
    assert story.known.unknown == ()


# --- first start


def test_a_first_start_asks_instead_of_guessing() -> None:
    told = rules("daily_loss", "drawdown_peak", "drawdown_absolute", initial=None, high_water=None)
    story = Story(told).at("2026-06-15 10:00:00", 97_000, 96_000)
    assert unknown_for(told, story.known) == ("day_balance", "high_water", "initial_balance")
    assert story.known.initial_balance == 97_000  # the worst that is known: nothing is lost yet
    stated = ReferenceSet(
        event_time_ms=1, login=LOGIN, set_by="me",
        initial_balance=100_000.0, high_water=102_000.0, day_reference=98_000.0,
    )  # fmt: skip
    story.references = with_set(story.known, stated)
    assert unknown_for(told, story.known) == ()
    assert story.floor("drawdown_absolute").floor == 95_000
    assert story.floor("drawdown_peak").floor == 97_000
    assert story.floor("daily_loss").floor == 93_000


def test_only_what_a_limit_needs_is_asked_for() -> None:
    told = rules("drawdown_absolute", high_water=None)
    story = Story(told).at("2026-06-15 10:00:00", 97_000, 96_000)
    assert "high_water" in story.known.unknown
    assert unknown_for(told, story.known) == ()


def test_a_first_start_on_an_account_that_did_not_trade_today_knows_its_day() -> None:
    told = rules("daily_loss", day_reference="max_balance_equity")
    story = Story(told).at("2026-06-15 10:00:00", 99_000, reset_balance=99_000.0, positions=0)
    assert unknown_for(told, story.known) == ()


# --- operations


def test_an_operation_told_twice_shifts_once() -> None:
    story = started(rules("drawdown_peak"))
    for second in range(1, 4):
        story._ticket = 0  # the same ticket again
        story.at(f"2026-06-15 10:00:0{second}", 150_000, deposit=50_000.0)
    assert story.known.high_water == 150_000
    assert story.known.operations == 50_000


def test_a_jump_without_a_deal_counts_as_profit_after_ten_seconds() -> None:
    """A trade that was opened and closed between two looks looks like a deposit."""
    story = started(rules("drawdown_peak"))
    story.at("2026-06-15 10:00:01", 100_300, positions=0)
    assert story.known.high_water == 100_000
    story.at("2026-06-15 10:00:10", 100_300, positions=0)
    assert story.known.high_water == 100_000
    story.at("2026-06-15 10:00:11", 100_300, positions=0)
    assert story.known.high_water == 100_300


def test_a_withdrawal_of_a_long_outage_waits_for_its_deal_while_old_deals_are_asked_for() -> None:
    story = started(rules("drawdown_absolute"))
    story.at("2026-06-15 10:00:20", 80_000, positions=0, deals_pending=True)
    story.at("2026-06-15 10:05:00", 80_000, positions=0, deals_pending=True)
    assert story.known.high_water == 100_000, "nothing is concluded yet"
    story.at("2026-06-15 10:06:00", 80_000, positions=0, deposit=-20_000.0)
    assert story.known.operations == -20_000
    assert story.known.high_water == 80_000
    waiting = started(rules("drawdown_absolute"))
    waiting.at("2026-06-15 10:00:20", 80_000, positions=0, deals_pending=True)
    waiting.at("2026-06-15 10:10:20", 80_000, positions=0, deals_pending=True)
    assert waiting.known.balance == 80_000, "but not for ever"


def test_a_jump_that_trades_explain_counts_at_once() -> None:
    story = started(rules("drawdown_peak"))
    story.at("2026-06-15 10:00:01", 100_300, positions=0, realised=300.0)
    assert story.known.high_water == 100_300


def test_a_deposit_and_a_close_at_once_are_told_apart() -> None:
    story = started(rules("drawdown_peak"))
    story.at("2026-06-15 10:00:01", 100_000, 102_000)
    story.at("2026-06-15 10:00:02", 151_500, deposit=50_000.0, positions=0)
    assert story.known.operations == 50_000
    assert story.known.high_water == 152_000  # 102,000 shifted by the deposit


def test_readings_out_of_order_and_unusable_ones_change_nothing() -> None:
    story = started(rules("drawdown_peak"))
    before = story.known
    story.at("2026-06-15 09:59:59", 100_000, 120_000)
    story.at("2026-06-15 10:00:01", 100_000, float("nan"))
    story.read(Reading(story.now_ms + 1, LOGIN, None, None))
    assert story.known == before
    assert advance(None, Reading(5, LOGIN, None, None), story.rules) == References()


# --- zones


@pytest.mark.parametrize(
    ("clock", "reset"),
    [
        ("America/New_York+7h", ("17:00", "America/New_York")),
        ("Europe/Athens", ("00:00", "Europe/Athens")),
        ("fixed+3h", ("21:00", "UTC")),
        ("fixed-5h", ("05:00", "UTC")),
        ("UTC", ("00:00", "UTC")),
        ("fixed+5:45", ("18:15", "UTC")),
        ("Australia/Sydney-8h", ("08:00", "Australia/Sydney")),
    ],
)
def test_midnight_of_a_broker_clock_is_a_time_in_its_zone(
    clock: str, reset: tuple[str, str]
) -> None:
    assert reset_of_clock(clock) == reset


def test_a_clock_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="no IANA time zone"):
        reset_of_clock("Europe/Praha+1h")


def test_a_reset_that_the_clock_skips_or_shows_twice_happens_once() -> None:
    """02:30 in Prague: skipped on 29 March 2026 (counted as 01:30 UTC), twice on 25 October (the
    first time, 00:30 UTC)."""
    zone = {"reset_time": "02:30", "reset_zone": PRAGUE}
    skipped = trading_day(ms("2026-03-29 12:00:00"), **zone)
    assert utc_text(skipped.start_ms) == "2026-03-29T01:30:00Z"
    twice = trading_day(ms("2026-10-25 12:00:00"), **zone)
    assert utc_text(twice.start_ms) == "2026-10-25T00:30:00Z"
    before = trading_day(ms("2026-10-25 00:29:59"), **zone)
    assert before.until_ms == twice.start_ms
    assert utc_text(None) == "never"


def test_days_follow_each_other_without_gap_or_overlap_for_a_year() -> None:
    for reset_time, zone in (("00:00", PRAGUE), ("17:00", "America/New_York"), ("00:30", "UTC")):
        now_ms = ms("2026-01-01 12:00:00")
        day = trading_day(now_ms, reset_time=reset_time, reset_zone=zone)
        for _ in range(400):
            after = trading_day(day.until_ms, reset_time=reset_time, reset_zone=zone)
            assert after.start_ms == day.until_ms
            assert after.name > day.name
            assert trading_day(after.start_ms - 1, reset_time=reset_time, reset_zone=zone) == day
            day = after


def test_a_date_belongs_to_its_zone() -> None:
    assert local_date(ms("2026-06-15 22:30:00"), PRAGUE).isoformat() == "2026-06-16"
    assert instant_ms(local_date(0, "UTC"), "01:00", "UTC") == 3_600_000


# --- rules that change while they hold


def test_what_rules_state_later_becomes_known() -> None:
    """The account was watched before any rules were there."""
    story = Story(Rules()).at("2026-06-15 10:00:00", 99_000, 98_000)
    told = rules("daily_loss", "drawdown_peak", "drawdown_absolute", high_water=103_000.0)
    story.rules = told
    story.at("2026-06-15 10:00:01", 99_000, 98_000, reset_balance=99_500.0, zone="UTC")
    assert unknown_for(told, story.known) == ()
    assert story.known.initial_balance == 100_000
    assert story.known.high_water == 103_000
    assert story.known.day == "2026-06-15"
    assert story.known.day_start_ms == ms("2026-06-15 00:00:00", PRAGUE)
    assert story.known.day_balance == 99_500


def test_rules_that_stay_as_they_are_override_no_statement_of_a_human() -> None:
    told = rules("drawdown_absolute")
    story = started(told)
    stated = ReferenceSet(event_time_ms=1, login=LOGIN, set_by="me", initial_balance=80_000.0)
    story.references = with_set(story.known, stated)
    story.at("2026-06-15 10:00:01", 100_000, positions=0)
    assert story.known.initial_balance == 80_000


def test_a_high_water_stated_later_is_never_below_what_was_seen() -> None:
    story = started(rules("drawdown_peak"))
    story.at("2026-06-15 10:00:01", 100_000, 106_000)
    story.rules = rules("drawdown_peak", high_water=101_000.0)
    story.at("2026-06-15 10:00:02", 100_000, 105_000)
    assert story.known.high_water == 106_000


def test_a_reset_that_the_rules_move_makes_the_day_unknown_until_it_is_reconstructed() -> None:
    story = started(rules("daily_loss"))
    story.at("2026-06-15 10:00:01", 100_000, 104_000)
    moved = rules("daily_loss")
    moved = moved.model_copy(
        update={"account": moved.account.model_copy(update={"reset_time": "08:00"})}
    )
    story.rules = moved
    story.at("2026-06-15 10:00:02", 100_000, 103_000)
    assert unknown_for(moved, story.known) == ("day_balance",)
    assert story.known.day_start_ms == ms("2026-06-15 08:00:00", PRAGUE)
    assert story.known.day_balance == 104_000  # the worst that is known
    story.at("2026-06-15 10:00:03", 100_000, 103_000, reset_balance=99_000.0)
    assert unknown_for(moved, story.known) == ()
    story.at("2026-06-16 07:59:59", 100_000, 103_000)
    story.at("2026-06-16 08:00:00", 100_000, 103_000)
    assert story.known.day_balance == 100_000


# --- readings that contradict themselves raise no peak, whoever hands them over


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"equity": 180_000.0}, id="equity does not fit"),
        pytest.param({"positions": 0}, id="positions gone, floating there"),
        pytest.param({"equity": 100_000.0, "floating": 0.0, "positions": 0}, id="all gone"),
        pytest.param({"positions": None}, id="positions unknown"),
    ],
)
def test_a_reading_that_contradicts_itself_raises_no_peak(changed: dict[str, float | None]) -> None:
    story = started(rules("drawdown_peak", initial=90_000.0, high_water=90_000.0))
    story.references = story.known.model_copy(update={"high_water": 97_500.0, "day_peak": 97_500.0})
    story.at("2026-06-15 10:00:01", 100_000, 97_000)
    before = story.known.high_water
    at = story.now_ms + 250
    reading = Reading(at, LOGIN, 97_000.0, 100_000.0, floating=-3_000.0, positions=1)
    story.read(replace(reading, **changed))  # type: ignore[arg-type]
    assert story.known.high_water == before
    story.read(replace(reading, time_ms=at + 250))
    assert story.known.high_water == before


# --- against an independent computation


@pytest.mark.parametrize("seed", range(12), ids=lambda seed: f"seed {seed}")
def test_references_equal_those_of_columns_over_a_week_with_a_clock_change(seed: int) -> None:
    """Half-hourly readings of a week with trades, deposits and withdrawals; numpy computes the same
    from the whole columns: peaks net of operations, balances at Prague midnights."""
    random = np.random.default_rng(seed)
    count, step_ms = 7 * 48, 1_800_000
    times = ms("2026-03-26 12:00:00") + np.arange(count) * step_ms
    realised = np.where(random.random(count) < 0.2, random.normal(0, 800, count).round(2), 0.0)
    operation = np.where(random.random(count) < 0.05, random.integers(-3, 9, count) * 1_000.0, 0.0)
    realised[0] = operation[0] = 0.0
    balance = (100_000 + np.cumsum(realised + operation)).round(2)
    floating = random.normal(0, 900, count).round(2)
    equity = (balance + floating).round(2)

    story = Story(rules("daily_loss", "drawdown_peak", gap_s=3_600.0))
    for n in range(count):
        told = (BalanceOperation(n, int(times[n]), float(operation[n])),) if operation[n] else ()
        story.read(
            Reading(
                int(times[n]), LOGIN, float(equity[n]), float(balance[n]),
                floating=float(floating[n]), positions=1, operations=told,
                realised=float(realised[n]), reset_balance=100_000.0 if n == 0 else None,
            )
        )  # fmt: skip

    shifted = np.cumsum(operation)
    total = shifted[-1]
    known = story.known
    assert known.operations == pytest.approx(total)
    peak = max(100_000.0, float(np.max(equity - shifted)))
    assert known.high_water == pytest.approx(peak + total)
    days = np.array([local_date(int(at), PRAGUE).toordinal() for at in times])
    starts = np.flatnonzero(np.diff(days)) + 1
    # readings lie on both sides of a reset: the higher balance of the two, net of operations
    net = balance - shifted
    at_resets = np.maximum(net[starts - 1], net[starts])
    assert known.best_reset_balance == pytest.approx(max(100_000.0, at_resets.max()) + total)
    assert known.day_balance == pytest.approx(at_resets[-1] + total)
    today = slice(starts[-1], None)
    before = (equity - shifted)[starts[-1] - 1]
    assert known.day_peak == pytest.approx(max(before, (equity - shifted)[today].max()) + total)
    per_day = np.diff(np.concatenate([[100_000.0], at_resets]))
    assert known.best_day == pytest.approx(max(0.0, per_day.max()))
    assert known.unknown == ("day_equity", "day_peak") or known.unknown == ()

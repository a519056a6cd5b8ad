"""Worked examples of prop firms as golden tests: numbers from their own pages, or by hand."""

from __future__ import annotations

import re

import pytest

from events.rules import pack_names, progress, unknown_for
from events.rules.files.packs import pack_text
from tests.rules_story import Story, ms, of_pack

DAILY, MAXIMUM = "maximum daily loss", "maximum loss"
AT_MIDNIGHT = {"reset_balance": 100_000.0}
"""A first reading whose balance at the reset was reconstructed."""


@pytest.mark.parametrize("name", pack_names())
def test_every_pack_can_be_used_as_it_is_and_names_its_sources(name: str) -> None:
    rules = of_pack(name)
    assert rules.limits
    assert all(limit.hard and limit.action == "flatten" for limit in rules.limits)
    assert "Terms change: check yours" in pack_text(name)
    assert re.search(r"\w+\.(com|io|help|co)/", pack_text(name))


# --- FTMO 2-step: academy.ftmo.com/lesson/maximum-daily-loss


def test_ftmo_2_step_first_day_allows_five_percent_of_the_initial_capital() -> None:
    story = Story(of_pack("ftmo-2-step", "initial_balance = 200000"))
    story.at("2026-06-15 09:00:00", 200_000, reset_balance=200_000.0)
    assert story.floor(DAILY).floor == 190_000
    assert story.floor(MAXIMUM).floor == 180_000


def test_ftmo_2_step_a_good_day_widens_the_loss_of_that_day_only() -> None:
    """200k account, +4,000 closed: 14,000 may be lost until midnight, then 10,000 again."""
    story = Story(of_pack("ftmo-2-step", "initial_balance = 200000"))
    story.at("2026-06-15 09:00:00", 200_000, reset_balance=200_000.0)
    story.at("2026-06-15 18:00:00", 204_000, positions=0)
    assert 204_000 - story.floor(DAILY).floor == 14_000
    assert story.acts(204_000 - 12_500) == []  # warned at most: 90 % of the budget is 9,000
    story.at("2026-06-15 23:59:59", 204_000, 204_000 - 12_900)
    assert story.acts() == []
    story.at("2026-06-16 00:00:00", 204_000, 204_000 - 12_900)
    assert story.floor(DAILY).floor == 194_000
    assert story.acts() == [DAILY]  # without a change of price


def test_ftmo_2_step_floating_loss_commission_and_swap_count() -> None:
    """Balance 92,000 and 2,001 of floating loss break 90 % of 100,000 (academy.ftmo.com/?p=47)."""
    story = Story(of_pack("ftmo-2-step"))
    story.at("2026-06-15 00:00:00", 92_000, reset_balance=92_000.0)
    assert story.floor(MAXIMUM).floor == 90_000
    assert MAXIMUM in story.acts(92_000 - 2_001)
    assert story.acts(91_000.01) == []
    assert MAXIMUM in story.acts(91_000.01, cost=0.02)  # closing costs the last cents


def test_ftmo_2_step_acts_at_ninety_percent_of_the_budget_and_warns_at_eighty() -> None:
    story = Story(of_pack("ftmo-2-step")).at("2026-06-15 00:00:00", 100_000, **AT_MIDNIGHT)
    floor = story.floor(DAILY)
    assert (floor.floor, floor.act_equity, floor.warn_equity) == (95_000, 95_500, 96_000)
    assert [(one.limit, one.level) for one in story.verdicts(96_000)] == [(DAILY, "warn")]
    assert story.verdicts(96_000.01) == ()
    assert story.acts(95_500) == [DAILY]
    assert story.acts(95_500.01) == []


@pytest.mark.parametrize(
    ("before", "midnight_utc", "offset_hours"),
    [
        pytest.param("2026-03-28", "2026-03-28 23:00:00", 1, id="the day summer time begins"),
        pytest.param("2026-03-29", "2026-03-29 22:00:00", 2, id="the day after"),
        pytest.param("2026-10-24", "2026-10-24 22:00:00", 2, id="the day summer time ends"),
        pytest.param("2026-10-25", "2026-10-25 23:00:00", 1, id="the day after that"),
        pytest.param("2026-03-15", "2026-03-15 23:00:00", 1, id="America in summer, Europe not"),
        pytest.param("2026-10-28", "2026-10-28 23:00:00", 1, id="Europe in winter, America not"),
    ],
)
def test_ftmo_midnight_is_that_of_prague(before: str, midnight_utc: str, offset_hours: int) -> None:
    """00:00 in Prague is 23:00 UTC in winter and 22:00 in summer, whatever the server shows."""
    story = Story(of_pack("ftmo-2-step"))
    story.at(f"{before} 12:00:00", 100_000, reset_balance=100_000.0, zone="UTC")
    assert story.known.day_until_ms == ms(midnight_utc)
    story.at(midnight_utc.replace("00:00", "00:00"), 100_000, 97_000, zone="UTC")
    assert story.known.day_start_ms == ms(midnight_utc)
    assert (story.known.day_until_ms - story.known.day_start_ms) % 3_600_000 == 0
    assert offset_hours == 24 - int(midnight_utc[11:13])


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-15", 24)]
)
def test_a_day_of_prague_may_have_twenty_three_or_twenty_five_hours(day: str, hours: int) -> None:
    story = Story(of_pack("ftmo-2-step"))
    story.at(f"{day} 12:00:00", 100_000, reset_balance=100_000.0)
    assert story.known.day == day
    assert story.known.day_until_ms - story.known.day_start_ms == hours * 3_600_000


def test_a_loss_carried_over_the_reset_breaches_without_a_price_move_on_the_long_day_too() -> None:
    story = Story(of_pack("ftmo-2-step"))
    story.at("2026-10-24 12:00:00", 100_000, reset_balance=100_000.0)
    story.at("2026-10-24 20:00:00", 103_000, positions=0)
    story.at("2026-10-24 23:59:59", 103_000, 97_600)
    assert story.acts() == []  # 100,000 - 5,000 + 500 of buffer = 95,500
    story.at("2026-10-25 00:00:00", 103_000, 97_600)
    assert story.acts() == [DAILY]  # 103,000 - 5,000 + 500 = 98,500
    verdict = story.verdicts()[0]
    assert verdict.locked_until_ms == ms("2026-10-26 00:00:00", "Europe/Prague")
    assert verdict.locked_until_ms - story.now_ms == 25 * 3_600_000


# --- FTMO 1-step: ftmo.com/au/?p=1671


def test_ftmo_1_step_maximum_loss_follows_the_best_midnight_balance_and_never_falls() -> None:
    """Day 1: 90,000. Midnight 104,000: 94,000. Midnight 103,000: 94,000 still."""
    story = Story(of_pack("ftmo-1-step"))
    story.at("2026-06-15 09:00:00", 100_000, reset_balance=100_000.0)
    assert story.floor(MAXIMUM).floor == 90_000
    story.at("2026-06-15 15:00:00", 108_000, positions=0)  # within the day it does not count
    assert story.floor(MAXIMUM).floor == 90_000
    story.at("2026-06-15 23:00:00", 104_000, positions=0)
    story.at("2026-06-16 00:00:00", 104_000)
    assert story.floor(MAXIMUM).floor == 94_000
    story.at("2026-06-16 23:00:00", 103_000, positions=0)
    story.at("2026-06-17 00:00:00", 103_000)
    assert story.floor(MAXIMUM).floor == 94_000
    assert story.floor(DAILY).floor == 100_000  # 103,000 - 3 % of 100,000


def test_ftmo_1_step_open_profits_do_not_move_the_maximum_loss() -> None:
    story = Story(of_pack("ftmo-1-step"))
    story.at("2026-06-15 09:00:00", 100_000, reset_balance=100_000.0)
    story.at("2026-06-15 23:59:59", 100_000, 112_000)
    story.at("2026-06-16 00:00:00", 100_000, 112_000)
    assert story.floor(MAXIMUM).floor == 90_000


def test_ftmo_1_step_best_day_is_half_of_the_profit_only_after_another_day() -> None:
    """5,000 on one day: 100 %. Another 5,000 on other days: 50 % (ftmo.com, best day rule)."""
    story = Story(of_pack("ftmo-1-step"))
    goals = {}

    def look() -> None:
        figures = {"balance": story.balance, "equity": story.equity}
        goals.update({one.goal: one for one in progress(story.rules, story.known, figures)})

    story.at("2026-06-15 09:00:00", 100_000, reset_balance=100_000.0)
    look()
    assert goals["best day"].value is None
    assert goals["minimum trading days"].value == 0
    story.at("2026-06-15 10:00:00", 100_000, 100_010, opened=1)
    story.at("2026-06-15 18:00:00", 105_000, positions=0)
    look()
    assert goals["best day"].value == 100
    assert not goals["best day"].reached
    story.at("2026-06-15 23:59:50", 105_000)
    story.at("2026-06-16 00:00:05", 105_000)
    story.at("2026-06-16 10:00:00", 105_000, 105_010, opened=2)
    story.at("2026-06-16 18:00:00", 110_000, positions=0)
    look()
    assert goals["best day"].value == 50
    assert goals["best day"].reached
    assert goals["profit target"].value == 10_000
    assert goals["profit target"].reached
    assert goals["minimum trading days"].value == 2


def test_ftmo_1_step_without_a_high_water_mark_asks_for_it() -> None:
    rules = of_pack("ftmo-1-step", "initial_balance = 100000")
    story = Story(rules).at("2026-06-15 09:00:00", 104_000, reset_balance=104_000.0)
    assert unknown_for(rules, story.known) == ("best_reset_balance",)
    assert story.floor(MAXIMUM).floor == 94_000  # the highest that is known
    assert not story.floor(MAXIMUM).certain


# --- Fintokei ProTrader: dev.fintokei.com/?p=34194


def test_fintokei_measures_from_the_equity_at_midnight_and_takes_five_percent_of_it() -> None:
    """Equity 103,000 at midnight: 97,850. Equity 101,000: 95,950."""
    story = Story(of_pack("fintokei-protrader"))
    story.at("2026-06-15 09:00:00", 100_000, reset_balance=100_000.0, positions=0)
    story.at("2026-06-15 23:59:59", 100_000, 103_000)
    story.at("2026-06-16 00:00:00", 100_000, 103_000)
    assert story.floor("daily loss").floor == pytest.approx(97_850)
    story.at("2026-06-16 23:59:59", 100_000, 101_000)
    story.at("2026-06-17 00:00:00", 100_000, 101_000)
    assert story.floor("daily loss").floor == pytest.approx(95_950)
    assert story.floor(MAXIMUM).floor == 90_000


# --- Summit Strike: summitstrike.crunch.help, "How does the daily DD work"


@pytest.mark.parametrize(
    ("balance", "equity", "floor"),
    [
        pytest.param(100_000, 102_000, 97_000, id="floating profit"),
        pytest.param(100_000, 98_000, 95_000, id="floating loss"),
        pytest.param(103_500, 101_000, 98_325, id="balance above equity"),
        pytest.param(100_000, 100_000, 95_000, id="no open trades"),
    ],
)
def test_summit_strike_measures_from_the_higher_one_and_takes_five_percent_of_the_balance(
    balance: float, equity: float, floor: float
) -> None:
    story = Story(of_pack("summit-strike"))
    story.at("2026-06-15 09:00:00", balance, equity)
    story.at("2026-06-15 16:59:59", balance, equity)
    story.at("2026-06-15 17:00:00", balance, equity)
    assert story.floor("daily drawdown").floor == pytest.approx(floor)


@pytest.mark.parametrize(
    ("day", "reset_utc"),
    [
        pytest.param("2026-01-15", "22:00", id="winter"),
        pytest.param("2026-03-09", "21:00", id="America in summer, Europe not"),
        pytest.param("2026-07-15", "21:00", id="summer"),
        pytest.param("2026-10-28", "21:00", id="Europe in winter, America not"),
        pytest.param("2026-11-02", "22:00", id="both in winter"),
    ],
)
def test_seventeen_in_new_york_follows_american_daylight_saving(day: str, reset_utc: str) -> None:
    story = Story(of_pack("summit-strike")).at(f"{day} 12:00:00", 100_000)
    assert story.known.day_until_ms == ms(f"{day} {reset_utc}:00")


# --- Breakout: intercom.help/breakoutprop/en/articles/11647189 and 10340637


def test_breakout_1_step_allows_four_percent_of_the_balance_at_half_past_midnight_utc() -> None:
    """Balance 105,000 at 00:30 UTC: 100,800 for the next 24 hours."""
    story = Story(of_pack("breakout-1-step"))
    story.at("2026-06-15 20:00:00", 105_000)
    story.at("2026-06-16 00:29:59", 105_000, 106_000)
    before = story.known.day_start_ms
    assert before == ms("2026-06-15 00:30:00")
    story.at("2026-06-16 00:30:00", 105_000, 106_000)
    assert story.known.day_start_ms == ms("2026-06-16 00:30:00")
    assert story.floor(DAILY).floor == 100_800


def test_breakout_2_step_trails_the_highest_balance_but_not_past_the_start() -> None:
    """High-water mark 105,000: 97,000. From 108,000 on the floor stays at 100,000."""
    story = Story(of_pack("breakout-2-step"))
    story.at("2026-06-15 09:00:00", 100_000, reset_balance=100_000.0)
    drawdown = "maximum drawdown"
    assert story.floor(drawdown).floor == 92_000
    story.at("2026-06-15 12:00:00", 100_000, 107_000)  # an open profit is no balance
    assert story.floor(drawdown).floor == 92_000
    story.at("2026-06-15 12:00:05", 105_000)
    assert story.floor(drawdown).floor == 97_000
    story.at("2026-06-15 13:00:00", 103_000)
    assert story.floor(drawdown).floor == 97_000
    story.at("2026-06-15 14:00:00", 103_000, 115_000)
    story.at("2026-06-15 14:00:05", 115_000)
    assert story.floor(drawdown).floor == 100_000
    assert drawdown in story.acts(100_800)
    assert drawdown not in story.acts(100_801)


def test_breakout_a_payout_lowers_the_high_water_mark() -> None:
    """ "Payouts increase your maximum drawdown by reducing your High Water Mark." """
    story = Story(of_pack("breakout-2-step"))
    story.at("2026-06-15 09:00:00", 100_000, reset_balance=100_000.0)
    story.at("2026-06-15 12:00:00", 100_000, 105_000)
    story.at("2026-06-15 12:00:05", 105_000)
    story.at("2026-06-15 15:00:00", 102_000, deposit=-3_000.0)
    assert story.known.high_balance == 102_000
    assert story.acts() == []


# --- HyroTrader: hyrotrader.com/faqs/how-is-5-daily-drawdown-calculated


@pytest.mark.parametrize(
    ("initial", "peak", "broken_at"),
    [
        pytest.param(5_000, 5_200, 4_950, id="5,200 then 4,950"),
        pytest.param(100_000, 110_000, 105_000, id="110,000 then 105,000"),
    ],
)
def test_hyrotrader_measures_from_the_highest_equity_of_the_day(
    initial: float, peak: float, broken_at: float
) -> None:
    story = Story(of_pack("hyrotrader", f"initial_balance = {initial}"))
    story.at("2026-06-15 00:00:00", initial, reset_balance=initial)
    story.at("2026-06-15 12:00:00", initial, peak)
    assert story.floor("daily drawdown").floor == broken_at
    assert "daily drawdown" in story.acts(broken_at)
    story.at("2026-06-15 23:59:59", initial, initial + 1)
    story.at("2026-06-16 00:00:00", initial, initial + 1)
    assert story.floor("daily drawdown").floor == initial + 1 - initial * 0.05


# --- BePrime: beprimegroup.simplebase.co, "How is the reduction calculated?"


def test_beprime_measures_from_the_higher_of_balance_and_equity_of_the_day() -> None:
    story = Story(of_pack("beprime"))
    story.at("2026-06-15 00:00:00", 100_000, reset_balance=100_000.0)
    story.at("2026-06-15 10:00:00", 100_000, 98_000)
    assert story.floor("daily drawdown").floor == 95_000  # the balance is higher
    story.at("2026-06-15 12:00:00", 100_000, 110_000)
    assert story.floor("daily drawdown").floor == 105_000
    assert story.floor("total drawdown").floor == 100_000  # 10 % below the highest equity


# --- deposits, withdrawals, credit


def test_a_deposit_is_no_profit_and_shifts_every_reference() -> None:
    story = Story(of_pack("ftmo-1-step")).at("2026-06-15 00:00:00", 100_000, **AT_MIDNIGHT)
    story.at("2026-06-15 10:00:00", 100_000, 98_000)
    before = 98_000 - story.floor(DAILY).floor
    story.at("2026-06-15 10:00:01", 150_000, 148_000, deposit=50_000.0)
    assert 148_000 - story.floor(DAILY).floor == before
    assert story.known.high_water == 150_000
    assert story.known.absolute == 150_000


def test_a_withdrawal_is_no_loss() -> None:
    story = Story(of_pack("ftmo-2-step")).at("2026-06-15 00:00:00", 100_000, **AT_MIDNIGHT)
    story.at("2026-06-15 10:00:00", 92_000, deposit=-8_000.0)
    assert story.acts() == []
    assert story.acts(92_000 - 4_501) == [DAILY]


def test_credit_is_equity_that_the_balance_does_not_show() -> None:
    """Balance 95,000 and credit 5,000: equity 100,000; the loss is measured on equity."""
    story = Story(of_pack("fintokei-protrader"))
    story.at("2026-06-15 09:00:00", 95_000, 100_000, credit=5_000.0, positions=0)
    story.at("2026-06-16 00:00:00", 95_000, 100_000, credit=5_000.0, positions=0)
    assert story.floor("daily loss").floor == 95_000

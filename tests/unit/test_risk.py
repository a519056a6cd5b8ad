"""Group risk from event to event: figures, references, limits, and what it asks the guard for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from events.alerts import Alert
from events.decisions import Command, LimitBreach, RulesSet
from events.guarding import GuardState, LatchChanged
from events.operations import TerminalDown
from events.rules import Account, DayReference, GuardRules, Limit, Reduce, Rules, Window
from tests.unit.risk_desk import (
    DAY_MS,
    HOUR_MS,
    LOGIN,
    START_MS,
    Desk,
    deal,
    instrument,
    operation,
    position,
)

ACCOUNT = Account(initial_balance=10_000, high_water=10_000)
MIDNIGHT_MS = START_MS - 10 * HOUR_MS + DAY_MS
"""The midnight (UTC) after the desk opens."""


def rules(*limits: Limit, **more: Any) -> Rules:
    return Rules(account=more.pop("account", ACCOUNT), limits=limits, **more)


def daily(**more: Any) -> Limit:
    """5 % of the initial balance from the reset on: acts at 450."""
    fields = {
        "name": "daily", "figure": "daily_loss", "limit": 5.0, "action": "flatten",
        "lock": "until_reset",
    }  # fmt: skip
    return Limit(**{**fields, **more})


def known_desk(*limits: Limit, **more: Any) -> Desk:
    """An account that was funded long ago and did not trade today."""
    desk = Desk(rules(*limits, **more))
    desk.tell(operation(1, START_MS - 30 * DAY_MS, 10_000))
    desk.hold()
    desk.look(10_000)
    return desk


def test_drawdown_is_measured_from_the_highest_equity() -> None:
    desk = known_desk()
    desk.hold(position())
    assert desk.look(12_000).drawdown_percent == 0
    seen = desk.look(9_000)
    assert seen.drawdown_percent == pytest.approx(25)
    assert seen.figures["drawdown_peak"] == pytest.approx(3_000)
    assert seen.figures["drawdown_absolute"] == pytest.approx(1_000)


def test_no_margin_in_use_is_no_level_of_zero() -> None:
    desk = known_desk()
    assert desk.look().margin_level_percent is None
    desk.hold(position())
    assert desk.look().margin_level_percent == pytest.approx(1_000)


def test_the_loss_of_the_day_begins_anew_at_the_reset_in_the_firms_zone() -> None:
    prague = Account(initial_balance=10_000, high_water=10_000, reset_zone="Europe/Prague")
    desk = known_desk(daily(), account=prague)
    desk.hold(position())
    desk.now_ms = MIDNIGHT_MS - HOUR_MS - 500  # 00:00 in Prague is 23:00 UTC in winter
    desk.look(9_700)
    assert desk.look(9_700, after_ms=200).daily_loss == pytest.approx(300)
    after = desk.look(9_700, after_ms=400)
    assert after.references["day"] == "2026-01-16"
    # The open loss is carried over: measured from the balance it is there at once.
    assert after.daily_loss == pytest.approx(300)


def test_a_withdrawal_is_no_loss_and_a_deposit_before_our_time_is_no_peak() -> None:
    desk = known_desk(daily())
    desk.tell(operation(2, START_MS - 1, 10_000))
    assert desk.look().drawdown_percent == 0
    desk.tell(operation(3, desk.now_ms + 100, -4_000))
    desk.balance = 6_000
    after = desk.look(6_000)
    assert (after.drawdown_percent, after.daily_loss) == (0, 0)
    assert after.figures["realised_day"] == 0
    assert not desk.breaches()


def test_a_first_start_asks_for_what_it_cannot_know_and_blocks_until_it_is_told() -> None:
    desk = Desk(Rules(limits=(daily(),)))
    desk.hold(position())
    seen = desk.look(9_900)
    [block] = desk.commands()
    assert (block.verb, block.arguments["cause"]) == ("block", "references")
    assert "until_ms" not in block.arguments
    [alert] = [event for event in desk.said if isinstance(event, Alert)]
    assert alert.severity == "critical"
    assert "bridgectl risk reference set" in alert.cure
    assert {"initial_balance", "day_balance"} <= set(seen.unknown)
    desk.look(9_890)
    assert len(desk.commands()) == 1
    desk.state_references(initial_balance=10_000, high_water=10_000, day_reference=10_000)
    end = desk.commands()[-1]
    assert end.arguments["until_ms"] == desk.now_ms
    assert [event.resolved for event in desk.said if isinstance(event, Alert)] == [False, True]
    assert desk.look(9_890).daily_loss == pytest.approx(110)


def test_an_account_whose_deals_make_its_whole_balance_needs_no_day_reference() -> None:
    desk = Desk(rules(daily()))
    desk.tell(operation(1, desk.now_ms - 3_000, 10_000))  # opened today
    desk.tell(deal(2, desk.now_ms - 2_000, position_id=2, commission=-3.0))
    desk.tell(deal(3, desk.now_ms - 1_000, position_id=2, entry=1, type=1, profit=-97.0))
    desk.balance = 9_900
    desk.hold()
    seen = desk.look(9_900)
    assert seen.daily_loss == pytest.approx(100)
    assert (seen.unknown, desk.commands()) == ((), [])


def test_what_a_human_states_before_the_first_reading_holds_from_it_on() -> None:
    desk = Desk(Rules(limits=(daily(),)))
    desk.state_references(initial_balance=10_000, high_water=11_000, day_reference=10_200)
    seen = desk.look(10_000)
    assert seen.unknown == ()
    assert seen.daily_loss == pytest.approx(200)
    assert seen.references["high_water"] == 11_000
    assert not desk.commands()


def test_a_soft_limit_is_confirmed_told_once_and_asks_the_guard_to_flatten() -> None:
    desk = known_desk(daily())
    desk.hold(position())
    desk.look(9_540)
    assert not desk.breaches("act")
    for _ in range(8):
        seen = desk.look(9_540)
    [breach] = desk.breaches("act")
    assert breach.value == pytest.approx(460)
    assert breach.threshold == pytest.approx(450)
    assert breach.figures["equity"] == 9_540
    assert breach.lock == "until_reset"
    assert breach.locked_until_ms == MIDNIGHT_MS
    assert 1_000 <= breach.delay_ms <= 1_500
    assert all(place.startswith("{demo:source:0}:high@") for place in breach.entries)
    [command] = desk.commands("flatten")
    assert command.login == LOGIN
    assert command.issued_by == "risk"
    assert command.expires_ms == command.event_time_ms + 60_000
    assert command.arguments["breach"] == "daily"
    assert (command.arguments["lock"], command.arguments["until_ms"]) == (
        "until_reset", MIDNIGHT_MS,
    )  # fmt: skip
    assert "magic" not in command.arguments
    assert seen.locks == {"daily": "2026-01-16T00:00:00Z"}


ZERO = dict.fromkeys(("equity", "balance", "profit", "margin", "margin_free"), 0.0)


@pytest.mark.parametrize(
    "bad",
    [ZERO, {"equity": float("nan")}, {"profit": float("inf")}, {"equity": 0.0}],
    ids=["zero", "nan", "inf", "no_equity"],
)
def test_one_bad_reading_trips_nothing_and_hides_nothing(bad: dict[str, float]) -> None:
    desk = known_desk(daily())
    desk.contracts(instrument())
    desk.quote(EURUSD=(1.1, 1.1001))
    desk.hold(position())
    desk.look(10_000)
    desk.tell(deal(5, desk.now_ms, position_id=5, entry=1, type=1, profit=-50.0))
    desk.tell(operation(6, desk.now_ms, -1_000.0))
    assert desk.read(**bad) == []
    desk.balance = 8_950
    for _ in range(8):
        seen = desk.look(8_950)
    assert seen.daily_loss == pytest.approx(50)
    assert not desk.breaches()
    assert not desk.commands()
    for number in range(12):  # every other one is bad, and the breach is seen all the same
        desk.look(8_540) if number % 2 else desk.read(**bad)
    assert len(desk.breaches("act")) == 1


def test_a_breach_is_told_again_after_its_lock_ended() -> None:
    desk = known_desk(daily(confirm_s=0.0))
    desk.hold(position())
    for _ in range(20):
        desk.look(9_500)
    assert len(desk.breaches("act")) == 1
    desk.now_ms = MIDNIGHT_MS
    for _ in range(20):  # the open loss is there from the first moment of the day
        desk.look(9_500)
    assert [breach.locked_until_ms for breach in desk.breaches("act")] == [
        MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS,
    ]  # fmt: skip
    assert len({command.command_id for command in desk.commands("flatten")}) == 2


def test_a_human_who_resumes_takes_every_lock_off() -> None:
    desk = known_desk(daily(confirm_s=0.0, lock="manual"))
    desk.hold(position())
    desk.look(9_500)
    assert desk.look(9_500).locks == {"daily": "manual"}
    facts = {"event_time_ms": desk.now_ms, "login": LOGIN, "terminal": "demo", "reason": ""}
    desk.tell(LatchChanged(**facts, latched=False, latch_id="1", by="reset"))
    assert desk.look(9_900).locks == {"daily": "manual"}
    desk.tell(LatchChanged(**facts, latched=False, latch_id="1", by="me", command_id="resume-1"))
    assert desk.look(9_900).locks == {}
    desk.look(9_500)
    assert len(desk.breaches("act")) == 2


@pytest.mark.parametrize("seconds", [30, 6 * 3_600])
def test_a_restart_just_after_midnight_does_not_forget_the_day(seconds: int) -> None:
    desk = known_desk(daily(confirm_s=0.0))
    desk.now_ms = MIDNIGHT_MS - seconds * 1_000
    desk.tell(deal(5, desk.now_ms, position_id=5))
    desk.tell(deal(6, desk.now_ms + 1, position_id=5, entry=1, type=1, profit=-300.0))
    desk.balance = 9_700
    desk.look(9_700)
    desk.restart()
    desk.now_ms = MIDNIGHT_MS + 30_000  # 00:00:30; the reset was missed
    seen = desk.look(9_700)
    assert seen.references["day"] == "2026-01-16"
    assert seen.references["day_reference"] == 9_700
    assert seen.unknown == ()
    assert not desk.commands()


def test_a_reset_missed_with_positions_open_holds_the_worst_case_and_blocks() -> None:
    account = Account(initial_balance=10_000, high_water=10_000, day_reference=DayReference.EQUITY)
    desk = known_desk(daily(), account=account)
    desk.hold(position())
    desk.look(10_200)
    desk.restart()
    desk.now_ms = MIDNIGHT_MS + 30_000
    seen = desk.look(9_900)
    # Equity at midnight is unknown: the highest of what was seen on both sides of the gap.
    assert seen.references["day_reference"] == pytest.approx(10_200)
    assert seen.daily_loss == pytest.approx(300)
    assert "day_equity" in seen.unknown
    assert desk.commands()[-1].arguments["cause"] == "references"
    desk.state_references(day_reference=10_000)
    seen = desk.look(9_900)
    assert seen.daily_loss == pytest.approx(100)
    assert "day_equity" not in seen.unknown


def test_the_balance_at_a_missed_reset_is_reconstructed_from_deals() -> None:
    desk = known_desk(daily())
    desk.restart()
    desk.now_ms = MIDNIGHT_MS + 2 * HOUR_MS
    desk.tell(deal(5, MIDNIGHT_MS - HOUR_MS, position_id=5, commission=-5.0))
    desk.tell(deal(6, MIDNIGHT_MS + HOUR_MS, position_id=5, entry=1, type=1, profit=-200.0))
    desk.balance = 9_795
    seen = desk.look(9_795)
    assert seen.references["day_reference"] == pytest.approx(9_995)
    assert seen.daily_loss == pytest.approx(200)
    assert seen.figures["realised_day"] == pytest.approx(-200)


def test_equity_that_stays_unknown_blocks_and_is_told_when_it_is_back() -> None:
    desk = known_desk(daily(), guard=GuardRules(unknown_equity_s=10))
    desk.hold(position())
    desk.look(10_000)
    desk.tell(TerminalDown(event_time_ms=desk.now_ms, terminal="demo", reason="lost"))
    for _ in range(4):
        desk.now_ms += 5_000
        desk.tell(GuardState(event_time_ms=desk.now_ms, login=LOGIN, terminal="demo",
                             state="blind"))  # fmt: skip
    [breach] = desk.breaches()
    assert (breach.limit, breach.action, breach.value) == ("equity_unknown", "block", None)
    [block] = desk.commands()
    assert block.arguments["cause"] == "equity_unknown"
    desk.look(10_000)
    assert desk.commands()[-1].arguments["until_ms"] == desk.now_ms


def test_a_block_without_a_lock_ends_when_its_figure_is_back() -> None:
    lots = Limit(name="volume", figure="lots_open", act=2.0, action="block", confirm_s=0.0)
    desk = known_desk(lots)
    desk.hold(position(1), position(2, volume_lots=1.5))
    desk.look()
    [block] = desk.commands()
    assert (block.verb, block.arguments["cause"]) == ("block", "limit:volume")
    desk.hold(position(1))
    desk.look()
    end = desk.commands()[-1]
    assert (end.arguments["cause"], end.arguments["until_ms"]) == ("limit:volume", desk.now_ms)


def test_a_reduction_closes_one_position_after_the_other_until_the_figure_is_back() -> None:
    lots = Limit(name="volume", figure="lots_open", act=2.0, action="reduce", confirm_s=0.0,
                 reduce=Reduce(which="newest"))  # fmt: skip
    desk = known_desk(lots)
    desk.hold(position(1), position(2), position(3))
    desk.look()
    desk.look()
    assert len(desk.commands("reduce")) == 1
    assert desk.commands("reduce")[0].arguments["reduce"]["which"] == "newest"
    desk.hold(position(1), position(2))
    desk.look()
    assert len(desk.commands("reduce")) == 2
    desk.hold(position(1))
    desk.look()
    desk.look()
    assert len(desk.commands("reduce")) == 2


def test_the_scope_of_a_limit_is_the_scope_of_the_flatten() -> None:
    loss = Limit(name="robot", figure="magic_loss", magic=42, scope="magic", act=100.0,
                 action="flatten", confirm_s=0.0)  # fmt: skip
    each = Limit(name="symbol", figure="symbol_loss", symbol="*", scope="symbol", act=400.0,
                 action="flatten", confirm_s=0.0)  # fmt: skip
    desk = known_desk(loss, each)
    desk.hold(position(1, magic=42), position(2, symbol="GBPUSD"))
    desk.mark((1, 1.09, -150.0, 0.0), (2, 1.2, -500.0, 0.0))
    desk.look(9_350)
    found = {c.arguments["breach"]: c.arguments for c in desk.commands("flatten")}
    assert found["robot"]["magic"] == "42"
    assert found["symbol"]["symbol"] == "GBPUSD"


def test_two_symbols_in_one_look_are_two_commands_and_each_block_ends_by_itself() -> None:
    each = Limit(name="symbol", figure="symbol_loss", symbol="*", scope="symbol", act=400.0,
                 action="flatten", confirm_s=0.0)  # fmt: skip
    lots = Limit(name="lots", figure="symbol_lots", symbol="*", scope="symbol", act=3.0,
                 action="block", confirm_s=0.0)  # fmt: skip
    desk = known_desk(each, lots)
    desk.hold(position(1, volume_lots=4.0), position(2, symbol="GBPUSD", volume_lots=4.0))
    desk.mark((1, 1.09, -500.0, 0.0), (2, 1.2, -500.0, 0.0))
    desk.look(9_000)
    asked = desk.commands("flatten")
    assert {one.arguments["symbol"] for one in asked} == {"EURUSD", "GBPUSD"}
    assert len({one.command_id for one in desk.commands()}) == len(desk.commands()) == 4
    desk.hold(position(1, volume_lots=1.0), position(2, symbol="GBPUSD", volume_lots=4.0))
    for _ in range(3):
        desk.look(9_000)
    ended = [one for one in desk.commands("block") if one.arguments.get("until_ms")]
    assert [one.arguments["cause"] for one in ended] == ["limit:lots:EURUSD"]


def test_an_unchanged_account_is_judged_with_every_mark() -> None:
    desk = known_desk(daily())
    desk.hold(position())
    desk.mark((1, 1.09, -460.0, 0.0))
    desk.look(9_540)
    for _ in range(8):  # the market stands still: no account is told, but marks are
        desk.now_ms += 250
        desk.mark((1, 1.09, -460.0, 0.0))
    assert len(desk.breaches("act")) == 1


def test_a_window_blocks_once_and_positions_are_closed_ahead_of_it() -> None:
    friday = Window(name="weekend", days=("fri",), begin="21:00", until="23:00",
                    until_day="sun", flatten_before_minutes=15)  # fmt: skip
    desk = known_desk(windows=(friday,))
    desk.now_ms = MIDNIGHT_MS + 20 * HOUR_MS + 44 * 60_000
    desk.hold(position())
    desk.look()
    assert not desk.commands()
    desk.look(after_ms=60_000)
    desk.look()
    [block] = desk.commands("block")
    [flatten] = desk.commands("flatten")
    sunday_ms = MIDNIGHT_MS + 2 * DAY_MS + 23 * HOUR_MS
    assert block.arguments["until_ms"] == flatten.arguments["until_ms"] == sunday_ms
    assert flatten.arguments["lock"] == "until_reset"


def test_rules_that_cannot_be_read_leave_the_running_ones() -> None:
    desk = known_desk(daily(confirm_s=0.0))
    desk.tell(RulesSet(event_time_ms=1, login=LOGIN, rules={"limits": [{"name": "x"}]}))
    [alert] = [event for event in desk.said if isinstance(event, Alert)]
    assert (alert.topic, alert.severity) == ("rules", "critical")
    desk.hold(position())
    desk.look(9_500)
    assert len(desk.breaches("act")) == 1


def test_losses_in_a_row_count_closed_positions_not_deals() -> None:
    desk = known_desk()
    at = desk.now_ms
    for number, profits in enumerate([(-5.0,), (3.0, -10.0), (-1.0,)], start=10):
        desk.tell(deal(number * 10, at, position_id=number, volume_lots=float(len(profits))))
        for part, profit in enumerate(profits, start=1):
            desk.tell(deal(number * 10 + part, at, position_id=number, entry=1, type=1,
                           profit=profit))  # fmt: skip
    assert desk.look().figures["losses_in_a_row"] == 3
    desk.tell(deal(900, at, position_id=90))
    desk.tell(deal(901, at, position_id=90, entry=1, type=1, profit=5.0, commission=-2.0))
    assert desk.look().figures["losses_in_a_row"] == 0


def test_the_commission_of_past_deals_is_taken_off_equity_before_it_is_gone() -> None:
    desk = known_desk(daily(confirm_s=0.0))
    desk.contracts(instrument())
    desk.hold(position(volume_lots=2.0))
    desk.tell(deal(50, desk.now_ms, volume_lots=2.0, commission=-7.0))
    desk.balance -= 7.0
    seen = desk.look(9_560)
    assert seen.cost_of_closing == pytest.approx(7.0)  # closing is taken to cost what opening did
    assert seen.daily_loss == pytest.approx(447.0)
    assert not desk.breaches("act")
    desk.look(9_556)
    assert len(desk.breaches("act")) == 1


def test_the_same_deal_told_twice_counts_once() -> None:
    desk = known_desk()
    closed = deal(77, desk.now_ms, position_id=5, entry=1, type=1, profit=-50.0)
    desk.tell(closed)
    desk.tell(closed)
    seen = desk.look()
    assert seen.figures["realised_month"] == -50
    assert seen.figures["losses_in_a_row"] == 1


def test_nothing_but_stored_state_is_needed_to_go_on() -> None:
    """A task that restarts between any two entries derives what one that never did derives."""
    desks = [known_desk(daily()), known_desk(daily())]
    for number in range(40):
        for desk, restarts in zip(desks, (False, True), strict=True):
            if number == 3:
                desk.contracts(instrument())
                desk.hold(position())
                desk.quote(EURUSD=(1.1, 1.1001))
            desk.tell(deal(100 + number, desk.now_ms, position_id=number % 5,
                           entry=number % 2, profit=float(-number)))  # fmt: skip
            desk.look(10_000 - 20 * number)
            if restarts:
                desk.restart()
    assert [event.model_dump() for event in desks[0].said] == [
        event.model_dump() for event in desks[1].said
    ]
    kinds = {type(event) for event in desks[0].said}
    assert {Command, LimitBreach} <= kinds


def test_sums_of_weeks_are_told_when_the_deals_of_the_past_are_here() -> None:
    desk = Desk(rules())
    desk.hold()
    at = desk.now_ms
    desk.tell(deal(90, at - HOUR_MS, position_id=9, entry=1, type=1, profit=-400.0))
    told = desk.look(deals_pending=True)
    assert told.figures["realised_day"] == -400
    assert not {"realised_week", "realised_month", "losses_in_a_row"} & told.figures.keys()
    desk.tell(deal(10, at - 9 * DAY_MS, position_id=1, profit=0.0))
    desk.tell(deal(11, at - 8 * DAY_MS, position_id=1, entry=1, type=1, profit=900.0))
    desk.tell(deal(12, at - 3 * DAY_MS, position_id=9, commission=-3.0))
    told = desk.look()
    assert told.figures["realised_month"] == 497
    assert told.figures["losses_in_a_row"] == 1


def test_losses_in_a_row_are_in_the_order_of_time_however_late_deals_come() -> None:
    desk = known_desk()
    at = desk.now_ms
    late = [
        deal(21, at - 9_000, position_id=1, volume_lots=2.0),
        deal(22, at - 8_000, position_id=2, entry=1, type=1, profit=50.0),
    ]
    for one in [
        deal(11, at - 5_000, position_id=1, entry=1, type=1, profit=-10.0),
        deal(12, at - 4_000, position_id=3, entry=1, type=1, profit=-5.0),
        *late,
    ]:
        desk.tell(one)
    assert desk.look().figures["losses_in_a_row"] == 1, "half of the first is still open"
    desk.tell(deal(13, at - 1_000, position_id=1, entry=1, type=1, profit=4.0))
    assert desk.look().figures["losses_in_a_row"] == 2


@pytest.mark.parametrize(
    ("reset_before", "same_day", "reset_after"),
    [
        pytest.param("2026-10-24 22:00:00", "2026-10-25 22:30:00", "2026-10-25 23:00:00",
                     id="summer time ends: 25 hours"),
        pytest.param("2026-03-28 23:00:00", "2026-03-29 21:59:00", "2026-03-29 22:00:00",
                     id="summer time begins: 23 hours"),
    ],
)  # fmt: skip
def test_references_over_restarts_on_the_day_that_the_clocks_change(
    reset_before: str, same_day: str, reset_after: str
) -> None:
    """00:00 in Prague; the group is stopped before each of these moments and started after it."""

    def at(text: str) -> int:
        return int(datetime.fromisoformat(f"{text}+00:00").timestamp() * 1000)

    rules = Rules.model_validate(
        {"account": ACCOUNT.model_copy(update={"reset_zone": "Europe/Prague"}).model_dump(),
         "limits": [{"name": "day", "figure": "daily_loss", "act": 400.0, "action": "flatten",
                     "lock": "until_reset"}]}
    )  # fmt: skip
    desk = Desk(rules, now_ms=at(reset_before) - 60_000)
    desk.look()
    desk.balance = 9_800.0
    desk.tell(deal(1, desk.now_ms, entry=1, profit=-200.0))
    desk.look()
    desk.restart()
    desk.now_ms = at(reset_before) + 30_000
    assert desk.look().references["day_reference"] == 9_800.0, "thirty seconds into the day"
    desk.balance = 9_700.0
    desk.tell(deal(2, desk.now_ms, entry=1, profit=-100.0))
    desk.look()
    desk.restart()
    desk.now_ms = at(same_day)
    told = desk.look()
    assert (told.references["day_reference"], told.daily_loss) == (9_800.0, 100.0)
    desk.restart()
    desk.now_ms = at(reset_after) + 30_000
    told = desk.look()
    assert (told.references["day_reference"], told.daily_loss) == (9_700.0, 0.0)
    assert not told.unknown

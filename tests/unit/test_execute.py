"""From targets to order intents: what group `execute` asks for, and when it keeps still."""

from __future__ import annotations

import pytest

from events.decisions import Command, RiskMetrics, TradeSignal
from events.guarding import GuardState, LatchChanged
from events.magic import owner_of, parts_of
from tests.unit.execution_desk import (
    LOGIN,
    MARKET_CLOSED,
    NO_MONEY,
    STOP_LOSS,
    STOP_OUT,
    Desk,
    instrument,
)

HEDGING = pytest.mark.parametrize("hedging", [True, False], ids=["hedging", "netting"])
ORDERS = pytest.mark.parametrize(
    "order", ["answer deals book", "deals book answer", "book deals answer", "deals answer book"],
    ids=["answer-first", "answer-last", "book-first", "book-last"],
)  # fmt: skip


# --- what is asked for


@HEDGING
@ORDERS
def test_a_target_is_opened_once_however_it_is_told(hedging: bool, order: str) -> None:
    desk = Desk(hedging=hedging)
    desk.signal("long", volume_lots=0.2)
    desk.run(order=order)
    desk.wait(20_000)
    assert (len(desk.intents), desk.net(), desk.target().state) == (1, 0.2, "reached")


@HEDGING
@ORDERS
def test_a_target_is_turned_around_by_a_close_and_an_entry(hedging: bool, order: str) -> None:
    desk = Desk(hedging=hedging)
    desk.signal("long", volume_lots=0.2)
    desk.run(order=order)
    desk.signal("short", volume_lots=0.1)
    desk.run(order=order)
    assert [one.verb for one in desk.intents] == ["open", "close", "open"]
    assert (desk.net(), desk.held(), desk.target().state) == (-0.1, -0.1, "reached")
    assert all(one.position for one in desk.intents if one.verb == "close")


@HEDGING
def test_a_smaller_target_closes_a_part_and_a_larger_one_adds(hedging: bool) -> None:
    desk = Desk(hedging=hedging)
    for lots in (0.3, 0.1, 0.25):
        desk.signal("long", volume_lots=lots)
        desk.run()
        assert (desk.net(), desk.held()) == (lots, lots)


def test_the_same_target_again_does_nothing_even_when_equity_changed() -> None:
    desk = Desk()
    desk.signal("long", risk_percent=1.0)
    desk.run()
    lots = desk.net()
    desk.ledger.balance = 20_000.0
    desk.account()
    desk.signal("long", risk_percent=1.0)
    assert not desk.waiting
    assert desk.net() == lots


def test_the_magic_tells_whose_a_position_is() -> None:
    desk = Desk()
    desk.signal("long", leg="a")
    desk.run()
    parts = parts_of(desk.open_position().magic)
    assert parts is not None
    assert parts[0] == owner_of("ema", "EURUSD", "a")
    assert desk.intents[0].intent_id == desk.intents[0].magic


def test_a_volume_above_the_largest_order_takes_several() -> None:
    desk = Desk()
    desk.account(margin_free=1e6)
    desk.signal("long", volume_lots=12.0)
    while desk.waiting:
        desk.carry_out(desk.next())
        desk.account(margin_free=1e6)
    assert [one.volume_lots for one in desk.intents] == [5.0, 5.0, 2.0]
    desk.signal("flat")
    desk.run()
    assert desk.net() == 0.0


# --- stops


def test_stops_go_inside_the_entry_and_are_moved_by_a_later_signal() -> None:
    desk = Desk()
    desk.signal("long", stop_loss=1.09, take_profit=1.12)
    assert (desk.next().stop_loss, desk.next().take_profit) == (1.09, 1.12)
    desk.run()
    desk.signal("long", stop_loss=1.095)
    moved = desk.next()
    assert (moved.verb, moved.stop_loss, moved.take_profit) == ("modify", 1.095, 1.12)
    desk.run()
    desk.signal("long", stop_loss=1.095)
    assert not desk.waiting


def test_an_entry_without_a_stop_is_refused_unless_the_strategy_declares_it() -> None:
    desk = Desk()
    desk.signal("long", stop_loss=None)
    assert not desk.waiting
    assert "without a stop-loss" in desk.target().reason
    desk.signal("long", no_stop=True)
    desk.run()
    assert desk.target().state == "reached"


def test_stops_that_cannot_be_moved_are_given_up_and_told() -> None:
    desk = Desk()
    desk.signal("long", stop_loss=1.09)
    desk.run()
    desk.signal("long", stop_loss=1.0999)
    desk.refuse(desk.next(), 10016, "invalid stops")
    desk.wait(200_000)
    assert not desk.waiting
    assert "stops were not moved: invalid stops" in desk.target().reason
    assert desk.target().state == "reached"


# --- closes that were not ours


@HEDGING
@pytest.mark.parametrize(
    ("reason", "named"), [(STOP_LOSS, "stop_loss"), (STOP_OUT, "stop_out"), (0, "manual")],
    ids=["stop-loss", "stop-out", "by-hand"],
)  # fmt: skip
def test_a_close_by_others_retires_the_target_until_a_new_signal(
    hedging: bool, reason: int, named: str
) -> None:
    desk = Desk(hedging=hedging)
    desk.signal("long", volume_lots=0.2)
    desk.run()
    desk.close_by_others(desk.open_position(), reason)
    desk.wait(60_000)
    assert not desk.waiting
    assert (desk.target().state, desk.target().reason, desk.held()) == ("retired", named, 0.0)
    desk.signal("long", volume_lots=0.2)
    desk.run()
    assert (desk.net(), desk.target().state) == (0.2, "reached")


@HEDGING
def test_a_strategy_that_repeats_its_target_signals_anew_by_another_one_first(
    hedging: bool,
) -> None:
    desk = Desk(hedging=hedging)
    for _ in range(3):
        desk.signal("long", volume_lots=0.2)
        desk.run()
    desk.close_by_others(desk.open_position(), STOP_LOSS)
    for lots in (0.2, 0.3):
        desk.signal("long", volume_lots=lots)
        desk.wait(60_000)
    assert (len(desk.intents), desk.target().state) == (1, "retired")
    assert desk.target().reason == "stop_loss; a repeated long is no new signal"
    desk.signal("flat")
    desk.signal("long", volume_lots=0.2)
    desk.run()
    assert (desk.net(), desk.target().state) == (0.2, "reached")
    desk.close_by_others(desk.open_position(), STOP_LOSS)
    desk.signal("short", volume_lots=0.1)
    desk.run()
    assert desk.net() == -0.1


def test_stops_moved_by_hand_stay_until_a_signal_names_others() -> None:
    desk = Desk()
    desk.signal("long", volume_lots=0.2, stop_loss=1.09)
    desk.run()
    position = desk.open_position()
    position.stop_loss = 1.07
    desk.book()
    desk.signal("long", volume_lots=0.2, stop_loss=1.09)
    assert not desk.waiting
    desk.signal("long", volume_lots=0.2, stop_loss=1.08)
    desk.run()
    assert (position.stop_loss, [one.verb for one in desk.intents]) == (1.08, ["open", "modify"])


def test_an_entry_that_waits_a_second_time_waits_as_long_again() -> None:
    desk = Desk()
    desk.account(deals_pending=True)
    desk.signal("long", volume_lots=0.2)
    desk.account()
    desk.refuse(desk.next(), MARKET_CLOSED, "market closed")
    desk.now_ms += 48 * 3_600_000
    desk.account(deals_pending=True)
    assert desk.target().reason.startswith("waiting: deals of the past")
    desk.account()
    desk.run()
    assert desk.net() == 0.2


def test_a_part_closed_by_hand_is_not_made_up_for() -> None:
    desk = Desk()
    desk.signal("long", volume_lots=0.2)
    desk.run()
    desk.close_by_others(desk.open_position(), lots=0.15)
    desk.wait(60_000)
    assert not desk.waiting
    assert (desk.target().state, desk.held()) == ("retired", 0.05)
    desk.signal("flat")
    desk.run()
    assert desk.net() == 0.0


@HEDGING
def test_a_manual_position_beside_ours_is_never_touched(hedging: bool) -> None:
    desk = Desk(hedging=hedging)
    desk.give(desk.fill("EURUSD", 0, 0.5))
    desk.book()
    desk.signal("long", volume_lots=0.2)
    desk.run()
    assert (desk.net(), desk.held()) == (0.7, 0.2)
    desk.signal("flat")
    desk.run()
    desk.wait(60_000)
    assert (desk.net(), desk.held(), desk.target().state) == (0.5, 0.0, "reached")


def test_on_a_netting_account_a_stranger_takes_from_strangers_first() -> None:
    desk = Desk(hedging=False)
    desk.signal("long", volume_lots=0.2)
    desk.run()
    desk.give(desk.fill("EURUSD", 0, 0.1))
    desk.give(desk.fill("EURUSD", 1, 0.1))
    desk.book()
    assert (desk.held(), desk.target().state) == (0.2, "reached")
    desk.give(desk.fill("EURUSD", 1, 0.05))
    desk.book()
    assert (desk.held(), desk.target().state) == (0.15, "retired")


def test_a_close_that_no_deal_told_is_believed_when_the_book_goes_on_telling_it() -> None:
    desk = Desk()
    desk.signal("long", volume_lots=0.2)
    desk.run()
    desk.ledger.positions.clear()
    desk.book()
    assert desk.target().state == "reached"
    desk.wait(11_000)
    assert (desk.target().state, desk.target().reason) == ("retired", "unknown")


# --- several strategies


def test_two_strategies_of_one_symbol_have_positions_of_their_own_when_hedging() -> None:
    desk = Desk()
    desk.signal("long", strategy="a", volume_lots=0.2)
    desk.signal("short", strategy="b", volume_lots=0.1)
    desk.run()
    assert len(desk.ledger.positions) == 2
    desk.signal("flat", strategy="a")
    desk.run()
    assert (desk.held("a"), desk.held("b"), desk.net()) == (0.0, -0.1, -0.1)


def test_two_strategies_of_one_symbol_sum_up_when_netting() -> None:
    desk = Desk(hedging=False)
    desk.signal("long", strategy="a", volume_lots=0.2)
    desk.run()
    desk.signal("short", strategy="b", volume_lots=0.1)
    assert desk.next().stop_loss is None, "it makes the long position smaller, whose stop stays"
    desk.run()
    assert (desk.net(), desk.held("a"), desk.held("b")) == (0.1, 0.2, -0.1)
    desk.signal("flat", strategy="b")
    desk.run()
    assert (desk.net(), desk.held("a"), desk.held("b")) == (0.2, 0.2, 0.0)
    desk.signal("flat", strategy="a")
    desk.run()
    assert (desk.net(), desk.held("a")) == (0.0, 0.0)


def test_on_a_netting_account_the_tightest_stop_and_the_nearest_target_hold() -> None:
    desk = Desk(hedging=False)
    desk.signal("long", strategy="a", stop_loss=1.09, take_profit=1.13)
    desk.run()
    desk.signal("long", strategy="b", stop_loss=1.095, take_profit=1.14)
    entry = desk.next()
    assert (entry.stop_loss, entry.take_profit) == (1.095, 1.13)
    desk.run()
    desk.signal("flat", strategy="b")
    desk.run()
    assert (desk.intents[-1].verb, desk.intents[-1].stop_loss) == ("modify", 1.09)


def test_legs_of_a_grid_stand_beside_each_other() -> None:
    desk = Desk()
    for leg in ("1", "2", "3"):
        desk.signal("long", leg=leg, volume_lots=0.1)
    desk.run()
    desk.signal("flat", leg="2")
    desk.run()
    assert (desk.net(), len(desk.ledger.positions)) == (0.2, 2)


# --- when time is over


def test_an_expired_target_never_opens() -> None:
    desk = Desk()
    valid_until_ms = desk.now_ms + 1_000
    desk.wait(48 * 3_600_000)
    desk.signal("long", valid_until_ms=valid_until_ms)
    assert not desk.intents
    assert desk.target().state == "expired"


def test_a_target_that_expires_while_the_market_is_closed_is_not_opened_when_it_opens() -> None:
    desk = Desk()
    desk.signal("long", valid_until_ms=desk.now_ms + 600_000)
    desk.refuse(desk.next(), MARKET_CLOSED, "market closed")
    for _ in range(20):
        desk.wait(4 * 3_600_000)
    assert len(desk.intents) == 1
    assert desk.target().state == "expired"


def test_an_expired_target_of_the_other_side_still_closes_what_contradicts_it() -> None:
    desk = Desk()
    desk.signal("short", volume_lots=0.1)
    desk.run()
    desk.signal("long", valid_until_ms=desk.now_ms - 1)
    desk.run()
    assert (desk.net(), desk.target().state) == (0.0, "expired")


def test_an_intent_is_not_sent_after_the_target_expired() -> None:
    desk = Desk()
    desk.signal("long", valid_until_ms=desk.now_ms + 5_000)
    assert desk.next().valid_until_ms == desk.now_ms + 5_000
    desk.signal("long", strategy="b")
    assert desk.intents[-1].valid_until_ms == desk.now_ms + 60_000


# --- pending orders


def test_a_limit_entry_stands_until_the_price_comes() -> None:
    desk = Desk()
    desk.signal("long", price_limit=1.095, volume_lots=0.1)
    desk.run()
    assert (desk.target().state, desk.target().reason) == ("wanted", "a pending order stands")
    desk.signal("long", price_limit=1.095, volume_lots=0.1)
    assert not desk.waiting
    desk.fill_pending(next(iter(desk.orders)))
    assert (desk.target().state, desk.held()) == ("reached", 0.1)


def test_a_pending_order_is_cancelled_when_the_target_changes_or_expires() -> None:
    desk = Desk()
    desk.signal("long", price_limit=1.095, volume_lots=0.1)
    desk.run()
    desk.signal("long", price_limit=1.094, volume_lots=0.1, valid_until_ms=desk.now_ms + 5_000)
    desk.run()
    assert [one.price_limit for one in desk.orders.values()] == [1.094]
    desk.wait(6_000)
    desk.run()
    assert not desk.orders
    assert desk.target().state == "expired"


def test_a_pending_order_that_fills_while_it_is_cancelled_is_closed() -> None:
    desk = Desk()
    desk.signal("long", price_stop=1.11, stop_loss=1.1, volume_lots=0.1)
    desk.run()
    desk.signal("flat")
    cancel = desk.next()
    desk.fill_pending(cancel.order)
    desk.carry_out(cancel)
    desk.run()
    for _ in range(3):
        desk.wait(120_000)
        desk.run()
    assert (desk.net(), desk.target().state) == (0.0, "reached")


def test_a_pending_order_cancelled_by_hand_retires_the_target() -> None:
    desk = Desk()
    desk.signal("long", price_limit=1.095)
    desk.run()
    desk.order_done(next(iter(desk.orders)), 2)
    desk.wait(60_000)
    assert not desk.waiting
    assert (desk.target().state, desk.target().reason) == ("retired", "manual")


# --- refused, partly filled, lost


def test_a_refusal_that_may_pass_is_tried_a_bounded_number_of_times() -> None:
    desk = Desk()
    desk.signal("long")
    for _ in range(50):
        for one in list(desk.waiting):
            desk.refuse(one, 10021, "no quotes")
        desk.wait(30_000)
    assert len(desk.intents) == 4
    assert (desk.target().state, desk.target().reason) == ("refused", "no quotes")


def test_a_refusal_for_good_is_not_tried_again() -> None:
    desk = Desk()
    desk.signal("long")
    desk.refuse(desk.next(), NO_MONEY, "no money")
    desk.wait(600_000)
    assert len(desk.intents) == 1
    assert desk.target().state == "refused"


def test_a_refused_target_signalled_with_every_tick_waits_between_tries() -> None:
    desk = Desk()
    for _ in range(100):
        desk.signal("long")
        for one in list(desk.waiting):
            desk.refuse(one, NO_MONEY, "no money")
        desk.wait(100)
    assert len(desk.intents) <= 2


def test_a_close_is_tried_until_the_market_opens() -> None:
    desk = Desk()
    desk.signal("long")
    desk.run()
    desk.signal("flat")
    for _ in range(200):
        for one in list(desk.waiting):
            desk.refuse(one, MARKET_CLOSED, "market closed")
        desk.wait(300_000)
    assert desk.waiting
    desk.run()
    assert desk.net() == 0.0


def test_a_human_is_told_of_what_cannot_be_closed_and_when_that_is_over() -> None:
    desk = Desk()
    desk.signal("long")
    desk.run()
    desk.signal("flat")
    for _ in range(30):
        for one in list(desk.waiting):
            desk.refuse(one, 10017, "trading is disabled")
        desk.wait(100_000)
    assert (desk.target().state, desk.held()) == ("refused", 0.01)
    [alert] = desk.alerts
    assert (alert.severity, alert.resolved) == ("critical", False)
    assert "trading is disabled" in alert.text
    desk.signal("flat")
    desk.run()
    assert desk.net() == 0.0
    assert desk.alerts[-1].resolved


def test_the_rest_of_a_partial_fill_is_asked_for_once() -> None:
    desk = Desk()
    desk.signal("long", volume_lots=0.5)
    desk.carry_out(desk.next(), lots=0.2)
    assert desk.next().volume_lots == 0.3
    desk.carry_out(desk.next(), lots=0.1)
    desk.wait(60_000)
    assert not desk.waiting
    assert (desk.net(), desk.target().state) == (0.3, "reached")
    assert "the rest is let be" in desk.target().reason


def test_nothing_is_asked_for_while_an_outcome_is_unknown() -> None:
    desk = Desk()
    desk.signal("long", volume_lots=0.2)
    lost = desk.next()
    desk.give(desk.answer(lost, "unknown", detail="the answer was lost"))
    for target in ("flat", "short", "long"):
        desk.signal(target, volume_lots=0.2 if target != "flat" else None)
        desk.wait(30_000)
    assert (len(desk.intents), desk.target().state) == (1, "unknown")
    desk.carry_out(lost)
    assert (desk.net(), desk.target().state) == (0.2, "reached")


def test_an_intent_that_never_arrived_is_decided_anew_with_another_number() -> None:
    desk = Desk()
    desk.signal("long")
    first = desk.next()
    desk.give(desk.answer(first, "unknown"))
    desk.refuse(first, 0, "never arrived")
    desk.wait(3_000)
    assert desk.next().intent_id != first.intent_id
    desk.run()
    assert desk.target().state == "reached"


def test_without_an_answer_nothing_more_is_asked_for_and_that_is_told() -> None:
    desk = Desk()
    desk.signal("long")
    desk.wait(130_000)
    desk.signal("flat")
    assert len(desk.intents) == 1
    assert "does not answer" in desk.target().reason
    desk.expire(desk.next())
    desk.wait(3_000)
    assert desk.target().state == "reached"


def test_what_is_remembered_survives_a_restart_between_intent_and_answer() -> None:
    desk = Desk()
    desk.signal("long", volume_lots=0.2)
    desk.restart()
    desk.wait(1_000)
    assert len(desk.intents) == 1
    desk.run()
    desk.restart()
    desk.signal("flat")
    desk.run()
    assert (desk.net(), desk.target().state) == (0.0, "reached")


def test_a_lost_memory_adopts_the_positions_that_carry_its_magic() -> None:
    desk = Desk()
    desk.signal("long", volume_lots=0.2)
    desk.run()
    anew = Desk()
    anew.ledger, anew.now_ms = desk.ledger, desk.now_ms + 60_000
    anew.book()
    anew.wait(11_000)
    anew.signal("long", volume_lots=0.2)
    assert not anew.waiting
    anew.signal("flat")
    assert anew.next().intent_id > desk.intents[-1].intent_id
    anew.run()
    assert anew.net() == 0.0


def test_a_lost_memory_finds_the_pending_orders_that_carry_its_magic() -> None:
    desk = Desk()
    desk.signal("long", price_limit=1.095, volume_lots=0.1)
    desk.run()
    anew = Desk()
    anew.orders, anew.now_ms, anew.ticket = desk.orders, desk.now_ms + 60_000, desk.ticket
    anew.tell_orders()
    anew.signal("flat")
    anew.wait(11_000)
    assert (anew.next().verb, anew.next().order) == ("cancel", min(anew.orders))
    anew.run()
    anew.tell_orders()
    anew.wait(60_000)
    assert not anew.orders
    assert anew.target().state == "reached"


def test_an_order_that_stands_is_no_stray() -> None:
    desk = Desk()
    desk.signal("long", price_limit=1.095, volume_lots=0.1)
    desk.run()
    desk.tell_orders()
    desk.wait(60_000)
    assert not desk.waiting
    assert len(desk.orders) == 1


# --- what stops it


def test_off_unless_switched_on_and_never_made_up_for() -> None:
    desk = Desk(switched=False)
    desk.signal("long")
    assert "execution is off" in desk.target().reason
    desk.switch("paper")
    desk.wait(60_000)
    assert not desk.intents
    desk.signal("long")
    assert desk.next().mode == "paper"
    desk.run()
    desk.switch("live")
    desk.signal("flat")
    assert desk.next().mode == "live"


def test_a_strategy_that_is_not_switched_on_is_refused() -> None:
    desk = Desk(strategies=("other",))
    desk.signal("long")
    assert "execution is on for other only" in desk.target().reason


def test_nothing_is_opened_under_a_latch_but_closes_go_through() -> None:
    desk = Desk()
    desk.signal("long")
    desk.run()
    desk.give(
        LatchChanged(event_time_ms=desk.now_ms, login=LOGIN, terminal="demo", latched=True,
                     latch_id="1", reason="daily loss", by="risk")
    )  # fmt: skip
    desk.signal("long", strategy="b")
    assert "daily loss" in desk.target("b").reason
    desk.signal("short")
    desk.run()
    assert (desk.net(), desk.target().state) == (0.0, "refused")


@pytest.mark.parametrize("verb", ["halt", "flatten", "block"])
def test_a_command_is_heard_before_the_guard_obeyed_it(verb: str) -> None:
    desk = Desk()
    asked = {"event_time_ms": desk.now_ms, "command_id": "1", "verb": verb, "issued_by": "risk"}
    desk.give(Command.model_validate({**asked, "arguments": {"reason": "limit"}, "login": LOGIN}))
    desk.signal("long")
    assert not desk.intents
    assert desk.target().state == "refused"


@pytest.mark.parametrize(
    "about", [{"symbols": ["GBPUSD"]}, {"concerns": ["GBP"]}, {"symbol": "GBPUSD"}],
    ids=["symbols", "currency", "symbol"],
)  # fmt: skip
def test_a_block_of_some_symbols_lets_others_trade(about: dict[str, object]) -> None:
    desk = Desk(symbols=[instrument("GBPUSD")])
    arguments = {"reason": "news", "cause": "news", "until_ms": desk.now_ms + 60_000, **about}
    desk.give(
        Command(event_time_ms=desk.now_ms, command_id="1", verb="block", issued_by="risk",
                arguments=arguments, login=LOGIN)
    )  # fmt: skip
    desk.signal("long", symbol="GBPUSD")
    assert "news" in desk.target("ema", "GBPUSD").reason
    desk.signal("long")
    desk.run()
    assert desk.target().state == "reached"


def test_a_position_that_gets_another_ticket_is_closed_by_it() -> None:
    desk = Desk()
    desk.signal("long")
    desk.run()
    desk.open_position().ticket = 777
    desk.book()
    desk.signal("flat")
    assert desk.next().position == 777
    desk.run()
    assert desk.net() == 0.0


def test_a_guard_that_blocks_is_believed_until_it_ends() -> None:
    desk = Desk()
    state = {"event_time_ms": desk.now_ms, "login": LOGIN, "terminal": "demo"}
    blocked = {**state, "state": "blocked", "reason": "news", "blocked_until_ms": desk.now_ms + 99}
    desk.give(GuardState.model_validate(blocked))
    desk.signal("long")
    assert "news" in desk.target().reason
    desk.wait(200)
    desk.signal("long")
    assert desk.waiting


def test_risk_figures_bound_the_volume_while_they_are_new() -> None:
    desk = Desk()
    figures = {
        "event_time_ms": desk.now_ms, "login": LOGIN, "equity": 1.0, "balance": 1.0,
        "floating": 0.0, "margin_free": 1.0, "margin_level_percent": None,
    }  # fmt: skip
    desk.give(RiskMetrics.model_validate({**figures, "largest_lot": {"EURUSD": 0.1}}))
    desk.signal("long", volume_lots=0.2)
    assert "could reach a risk limit: at most 0.1" in desk.target().reason
    desk.wait(60_000)
    desk.signal("long", volume_lots=0.2)
    assert desk.waiting


def test_a_flatten_of_the_guard_retires_the_target_by_its_name() -> None:
    desk = Desk()
    desk.signal("long", volume_lots=0.2)
    desk.run()
    desk.give(
        Command(event_time_ms=desk.now_ms, command_id="1", verb="flatten", issued_by="risk",
                login=LOGIN)
    )  # fmt: skip
    position = desk.open_position()
    desk.give(desk.fill("EURUSD", 1, 0.2, position=position.ticket, magic=99, reason=3))
    assert (desk.target().state, desk.target().reason) == ("retired", "flatten")


# --- sizes


@pytest.mark.parametrize(
    ("size", "lots"),
    [
        ({}, 0.01),
        ({"volume_lots": 0.129}, 0.12),
        ({"risk_percent": 1.0, "stop_loss": 1.0951}, 0.2),
        ({"notional": 25_000.0}, 0.22),
    ],
    ids=["smallest", "lots", "risk", "notional"],
)
def test_a_size_is_rounded_down_to_the_step(size: dict[str, float], lots: float) -> None:
    desk = Desk()
    desk.signal("long", **size)
    assert desk.next().volume_lots == lots


def test_a_risk_is_lost_when_the_stop_is_reached_with_the_spread_in_it() -> None:
    pair = instrument("USDJPY", digits=3, point=1e-3, tick_size=1e-3)
    desk = Desk(symbols=[pair])
    desk.quote("USDJPY", 150.0, 150.1)
    desk.signal("long", symbol="USDJPY", risk_percent=2.0, stop_loss=149.1)
    # 1.00 per unit * 100 000 = 100 000 JPY a lot = 666.67 USD at the bid; 200 USD may be lost
    assert desk.next().volume_lots == 0.3


@pytest.mark.parametrize(
    ("signal", "reason"),
    [
        ({"volume_lots": 0.001}, "below the smallest volume"),
        ({"volume_lots": -1.0}, "must be above 0"),
        ({"volume_lots": 0.1, "risk_percent": 1.0}, "give one of them"),
        ({"risk_percent": 1.0, "no_stop": True}, "needs a stop-loss"),
        ({"risk_percent": 500.0}, "more than all of the equity"),
        ({"stop_loss": 1.2}, "on the wrong side"),
        ({"take_profit": 1.0}, "on the wrong side"),
        ({"volume_lots": 90.0, "stop_loss": 1.0}, "need a margin"),
    ],
    ids=["small", "negative", "two", "no-stop", "risky", "stop", "profit", "margin"],
)
def test_a_signal_that_cannot_be_sized_is_refused_with_its_reason(
    signal: dict[str, float], reason: str
) -> None:
    desk = Desk()
    desk.signal("long", **signal)
    assert not desk.intents
    assert desk.target().state == "refused"
    assert reason in desk.target().reason


def test_a_symbol_without_facts_is_waited_for_and_then_refused() -> None:
    desk = Desk()
    desk.signal("long", symbol="XAUUSD", bid=2000.0, ask=2000.5, stop_loss=1990.0)
    assert desk.target("ema", "XAUUSD").state == "wanted"
    desk.wait(30_000)
    desk.wait(31_000)
    assert desk.target("ema", "XAUUSD").state == "refused"
    assert not desk.intents


def test_the_largest_order_of_the_switch_is_refused_above() -> None:
    desk = Desk(volume_lots_max=0.1)
    desk.signal("long", volume_lots=0.2)
    assert "more than the largest order" in desk.target().reason


def test_the_deviation_counts_from_the_price_of_the_signal() -> None:
    desk = Desk()
    desk.signal("long", bid=1.1, ask=1.1002, price_deviation_points_max=15)
    assert (desk.next().price_seen, desk.next().deviation_points) == (1.1002, 15)


def test_a_signal_before_the_account_is_known_leads_to_nothing() -> None:
    desk = Desk()
    desk.state = type(desk.state)()
    desk.restart()
    signal = TradeSignal(event_time_ms=1, strategy="ema", symbol="EURUSD", target="long")
    assert not list(desk.handler.handle(signal))

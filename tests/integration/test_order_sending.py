"""Orders on a real host of a simulated terminal: carried out, refused, answered, reconciled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.memory_log import MemoryLog
from producers.ordering.assembly import ordering_options
from tests.integration.ordering import (
    LOGIN,
    NAMESPACE,
    Desk,
    another_sender,
    inject,
    sender_beside,
    sending,
    settings_in,
    terminal_of,
)
from tests.servers import wait_until


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with sending(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture
def desk(shared_desk: Desk) -> Desk:
    """An account that hedges; nothing is open."""
    shared_desk.begin_anew()
    return shared_desk


@pytest.fixture(scope="module")
def shared_slow_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    others = [{"login": 77, "password": "x"}]
    terminal = terminal_of(account={"margin_mode": 0}, execution_ms=300.0, other_accounts=others)
    with sending(tmp_path_factory.mktemp("slow_desk"), terminal=terminal) as desk:
        yield desk


@pytest.fixture
def slow_desk(shared_slow_desk: Desk) -> Desk:
    """An account that nets, at a broker who takes his time; nothing is open."""
    inject(shared_slow_desk, kind="account_switched", login=LOGIN)
    wait_until(lambda: shared_slow_desk.producer.connection.up, timeout_s=40, what="the account")
    shared_slow_desk.begin_anew()
    return shared_slow_desk


def test_an_open_and_its_close_are_carried_out_and_answered(desk: Desk) -> None:
    tick = desk.quote()
    stop = round(tick.bid * 0.98, 2)
    opening = desk.signals.intent(stop_loss=stop, price_seen=tick.ask)
    done = desk.signals.carried(opening)
    assert (done.state, done.volume_lots, done.retcode) == ("done", 0.1, 10009), done
    [held] = desk.positions()
    assert (held.magic, held.sl, held.comment) == (opening.magic, stop, "cross")
    assert done.position == held.identifier
    states = [answer.state for answer in desk.signals.answers(opening)]
    assert states == ["sent", "done"]
    closing = desk.signals.intent("close", side=1, position=held.ticket, volume_lots=0.0)
    closed = desk.signals.carried(closing)
    assert (closed.state, closed.volume_lots) == ("done", 0.1), closed
    assert desk.positions() == ()


def test_what_is_not_switched_on_is_refused_with_its_reason(desk: Desk, tmp_path: Path) -> None:
    with another_sender(desk, tmp_path, mode="off") as signals:
        off = signals.carried(signals.intent())
        assert (off.state, off.attempts) == ("refused", 0)
        assert "execution is off" in off.detail
        signals.switch("live")
        live = signals.carried(signals.intent(mode="live"))
        assert 'execution = "live"' in live.detail
        assert "switched to live" in signals.carried(signals.intent()).detail
        signals.switch(strategies=("other",), volume_lots_max=0.05)
        assert "not switched on" in signals.carried(signals.intent()).detail
        signals.switch(volume_lots_max=0.05)
        assert "at most 0.05" in signals.carried(signals.intent()).detail
        assert "account 1" in signals.carried(signals.intent(login=1)).detail
        assert desk.requests() == []


def test_only_so_many_requests_leave_in_a_minute_but_closes_always(
    desk: Desk, tmp_path: Path
) -> None:
    with another_sender(desk, tmp_path) as signals:
        signals.switch(orders_per_minute_max=2)
        answers = [signals.carried(signals.intent()) for _ in range(2)]
        assert [answer.state for answer in answers] == ["done", "done"]
        hour_ms = int(time.time() * 1000) + 3_600_000
        third = signals.intent(valid_until_ms=hour_ms)
        last_minute = desk.sender._journal.attempts_since(int(time.time() * 1000) - 50_000)
        assert len(last_minute) == 2, "this machine stood still: the minute is over"
        refused = signals.carried(third)
        assert (refused.state, refused.attempts) == ("refused", 0)
        assert "at most 2 requests in a minute" in refused.detail
        [first, *_] = desk.positions()
        closing = signals.intent("close", side=1, position=first.ticket)
        assert signals.carried(closing).state == "done", "what only closes is never too much"


def test_a_late_intent_is_not_sent(desk: Desk) -> None:
    signals = desk.signals
    now_ms = int(time.time() * 1000)
    late = signals.carried(signals.intent(valid_until_ms=now_ms - 1))
    assert (late.state, late.attempts) == ("expired", 0)
    old = signals.carried(signals.intent(event_time_ms=now_ms - 120_000))
    assert (old.state, old.attempts) == ("expired", 0)
    good = signals.carried(signals.intent(valid_until_ms=now_ms + 60_000))
    assert good.state == "done", good


def test_what_the_broker_would_refuse_is_not_sent(desk: Desk) -> None:
    signals, tick = desk.signals, desk.quote()
    for detail, fields in {
        "steps of 0.01": {"volume_lots": 0.015},
        "at least 0.01": {"volume_lots": 0.001},
        "must lie below": {"stop_loss": tick.ask * 1.01},
        "must lie above": {"take_profit": tick.bid * 0.99},
        "the price moved": {"price_seen": tick.ask * 0.99, "deviation_points": 5},
        "does not know": {"symbol": "NOSUCH"},
    }.items():
        answer = signals.carried(signals.intent(**fields))
        assert (answer.state, answer.attempts) == ("refused", 0), detail
        assert detail in answer.detail
    gone = signals.carried(signals.intent("close", side=1, position=424242))
    assert "424242 is not open" in gone.detail
    assert desk.requests() == []


def test_a_pending_order_is_placed_changed_and_cancelled(desk: Desk) -> None:
    signals, tick = desk.signals, desk.quote()
    price = round(tick.bid * 0.9, 2)
    until_ms = int(time.time() * 1000) + 3_600_000
    opening = signals.intent(
        price_limit=price, stop_loss=round(price * 0.9, 2), expires_ms=until_ms
    )
    placed = signals.carried(opening)
    assert placed.state == "placed", placed
    [order] = desk.orders()
    assert (order.ticket, order.magic, order.price_open) == (placed.order, opening.magic, price)
    assert order.time_expiration > 0
    moved = signals.carried(
        signals.intent("modify", order=order.ticket, price_limit=price - 10,
                       stop_loss=round(price * 0.8, 2))
    )  # fmt: skip
    assert moved.state == "done", moved
    assert [o.price_open for o in desk.orders()] == [price - 10]
    ended = signals.carried(signals.intent("cancel", order=order.ticket))
    assert ended.state == "done", ended
    assert desk.orders() == ()
    again = signals.carried(signals.intent("cancel", order=order.ticket))
    assert again.state == "refused", again


def test_stops_of_a_position_are_changed_together(desk: Desk) -> None:
    signals, tick = desk.signals, desk.quote()
    signals.carried(signals.intent())
    [held] = desk.positions()
    stop, target = round(tick.bid * 0.97, 2), round(tick.bid * 1.03, 2)
    wish = {"position": held.ticket, "stop_loss": stop, "take_profit": target}
    assert signals.carried(signals.intent("modify", **wish)).state == "done"
    [held] = desk.positions()
    assert (held.sl, held.tp) == (stop, target)
    same = signals.carried(signals.intent("modify", **wish))
    assert (same.state, same.retcode) == ("done", 10025)


def test_a_requote_is_answered_with_a_fresh_price_so_often_and_no_more(desk: Desk) -> None:
    signals = desk.signals
    inject(desk, kind="retcode", codes=(10004, 10020, 10021))
    done = signals.carried(signals.intent())
    assert (done.state, done.attempts) == ("done", 4), done
    inject(desk, kind="retcode", code=10004)
    refused = signals.carried(signals.intent())
    assert (refused.state, refused.retcode, refused.attempts) == ("refused", 10004, 5), refused
    assert len(desk.positions()) == 1


def test_a_filling_mode_that_is_refused_gives_way_to_the_next(desk: Desk, tmp_path: Path) -> None:
    inject(desk, kind="retcode", codes=(10030,))
    with another_sender(desk, tmp_path) as signals:  # it remembers the mode
        done = signals.carried(signals.intent())
    assert (done.state, done.attempts) == ("done", 2), done


def test_a_partial_fill_is_told_as_such(desk: Desk) -> None:
    inject(desk, kind="liquidity", lots=0.04)
    part = desk.signals.carried(desk.signals.intent())
    assert (part.state, part.volume_lots) == ("partial", 0.04), part
    assert [held.volume for held in desk.positions()] == [0.04]


def test_a_lost_answer_is_found_in_the_account_and_nothing_is_sent_twice(desk: Desk) -> None:
    signals = desk.signals
    inject(desk, kind="lost_answer", codes=(-10002, -1, -10005))
    for _ in range(3):
        done = signals.carried(signals.intent())
        assert (done.state, done.reconciled, done.volume_lots) == ("done", True, 0.1), done
        assert done.position
    assert len(desk.positions()) == len(desk.deals()) == 3
    [held, *_] = desk.positions()
    inject(desk, kind="lost_answer", codes=(-10002,))
    closed = signals.carried(signals.intent("close", side=1, position=held.ticket))
    assert (closed.state, closed.reconciled) == ("done", True), closed
    assert len(desk.positions()) == 2


def test_what_never_arrived_is_told_so_and_not_repeated(desk: Desk) -> None:
    inject(desk, kind="never_sent", calls_max=1)
    intent = desk.signals.intent()
    answer = desk.signals.carried(intent)
    assert (answer.state, answer.reconciled, answer.attempts) == ("refused", True, 1), answer
    assert "never arrived" in answer.detail
    states = [one.state for one in desk.signals.answers(intent)]
    assert states == ["sent", "unknown", "refused"]
    assert desk.positions() == ()


def test_a_false_answer_and_a_bare_one_end_with_what_the_account_shows(desk: Desk) -> None:
    inject(desk, kind="false_answer", calls_max=1, code=10012)
    timed_out = desk.signals.carried(desk.signals.intent())
    assert (timed_out.state, timed_out.reconciled) == ("done", True), timed_out
    inject(desk, kind="bare_answer", calls_max=1)
    bare = desk.signals.carried(desk.signals.intent())
    assert (bare.state, bare.volume_lots, bare.reconciled) == ("done", 0.1, False), bare
    assert len(desk.deals()) == 2


def test_a_host_that_dies_after_the_order_leaves_an_unknown_outcome_that_is_found(
    desk: Desk,
) -> None:
    inject(desk, kind="exit_after", calls_max=1)
    done = desk.signals.carried(desk.signals.intent(), timeout_s=40)
    assert (done.state, done.reconciled) == ("done", True), done
    assert len(desk.deals()) == 1


def test_late_history_does_not_make_an_order_vanish(desk: Desk) -> None:
    inject(desk, kind="late_history", seconds=2.5)
    inject(desk, kind="lost_answer", calls_max=1)
    done = desk.signals.carried(desk.signals.intent())
    assert (done.state, done.volume_lots) == ("done", 0.1), done


def test_on_a_netting_account_a_close_names_its_position_and_cannot_turn_it(
    slow_desk: Desk,
) -> None:
    signals = slow_desk.signals
    signals.carried(signals.intent(volume_lots=0.3))
    too_much = signals.carried(signals.intent("close", side=1, volume_lots=0.4))
    assert "the position has 0.3" in too_much.detail
    wrong_side = signals.carried(signals.intent("close", side=0, volume_lots=0.1))
    assert "no close of it" in wrong_side.detail
    part = signals.carried(signals.intent("close", side=1, volume_lots=0.1))
    assert part.state == "done", part
    assert [held.volume for held in slow_desk.positions()] == [0.2]


def test_an_order_that_the_broker_takes_its_time_for_is_waited_for(slow_desk: Desk) -> None:
    intent = slow_desk.signals.intent()
    done = slow_desk.signals.carried(intent)
    assert (done.state, done.volume_lots, done.reconciled) == ("done", 0.1, False), done
    assert [one.state for one in slow_desk.signals.answers(intent)] == ["sent", "done"]


def test_the_same_intent_twice_in_the_log_is_carried_out_once(desk: Desk) -> None:
    signals, intent = desk.signals, desk.signals.intent()
    signals.send(intent, intent)
    signals.answered(intent)
    signals.send(intent)
    other = signals.intent()
    signals.carried(other)
    assert len(desk.deals()) == 2
    assert [a.state for a in signals.answers(intent)] == ["sent", "done"]


def test_an_account_that_a_human_switched_gets_no_order(slow_desk: Desk) -> None:
    inject(slow_desk, kind="account_switched", login=77)
    answer = slow_desk.signals.carried(slow_desk.signals.intent())
    assert (answer.state, answer.attempts) == ("refused", 0), answer
    assert "not up" in answer.detail or "account 77" in answer.detail
    assert not slow_desk.requests()


def test_orders_go_live_only_to_the_account_that_the_settings_name(
    desk: Desk, tmp_path: Path
) -> None:
    named = {"login": LOGIN, "server": "Simulated-Demo", "execution": "live"}
    for more, told in (({}, "live orders need trade_mode"), ({"trade_mode": "demo"}, "")):
        terminal = terminal_of(settings={**named, **more})
        made = ordering_options(settings_in(tmp_path), terminal)
        options = {name: getattr(made, name) for name in ("permission", "login", "server",
                                                          "trade_mode")}  # fmt: skip
        with another_sender(desk, tmp_path, mode="live", **options) as signals:
            answer = signals.carried(signals.intent(mode="live"))
            assert answer.state == ("refused" if told else "done"), answer
            assert told in answer.detail


def test_an_account_has_one_sender(desk: Desk) -> None:
    other = sender_beside(desk, desk.sender.options, lambda: desk.signals.log)
    other.start()
    try:
        wait_until(lambda: "orders" in desk.producer.report.incidents, what="an incident")
        assert "another process" in desk.producer.report.incidents["orders"]
        assert not other.ready.is_set()
    finally:
        other.stop()


def test_a_namespace_that_was_made_by_replay_leads_to_no_order(desk: Desk, tmp_path: Path) -> None:
    replayed = MemoryLog()
    replayed.open_namespace(NAMESPACE, origin="replay")
    with another_sender(desk, tmp_path, replayed) as signals:
        answer = signals.carried(signals.intent())
        assert (answer.state, answer.attempts) == ("refused", 0)
        assert "replay" in answer.detail
        assert not desk.requests()


def test_a_new_journal_asks_the_account_what_became_of_older_intents(
    desk: Desk, tmp_path: Path
) -> None:
    log = MemoryLog()
    with another_sender(desk, tmp_path / "first", log) as signals:
        sent, waiting = signals.intent(), signals.intent()
        assert signals.carried(sent).state == "done"
    signals.send(waiting)
    with another_sender(desk, tmp_path / "second", log):
        wait_until(lambda: len(signals.answers(sent)) == 4, what="an answer once more")
        again = signals.answers(sent)[-1]
        assert (again.state, again.reconciled) == ("done", True), again
        answer = signals.answered(waiting)
        assert (answer.state, answer.attempts) == ("refused", 0), answer
        assert "never arrived" in answer.detail
        assert len(desk.deals()) == 1

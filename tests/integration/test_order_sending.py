"""Orders on a real host of a simulated terminal: carried out, refused, answered, reconciled."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from events.memory_log import MemoryLog
from events.settings import TerminalKind
from producers.ordering.assembly import ProducerSurroundings
from producers.ordering.sender import OrderSender
from producers.terminals.attach import Attachment
from producers.terminals.client import open_client
from producers.terminals.configured import terminal_spec
from producers.terminals.remote.server import TerminalServer
from tests.integration.guarding import command
from tests.integration.ordering import (
    LOGIN,
    NAMESPACE,
    Signals,
    inject,
    sending,
    terminal_of,
)
from tests.servers import fault_proxy, wait_until


def test_an_open_and_its_close_are_carried_out_and_answered(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
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


def test_what_is_not_switched_on_is_refused_with_its_reason(tmp_path: Path) -> None:
    with sending(tmp_path, mode="off") as desk:
        signals = desk.signals
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
        signals.switch(orders_per_minute_max=2)
        answers = [signals.carried(signals.intent()) for _ in range(3)]
        assert [answer.state for answer in answers] == ["done", "done", "refused"]
        assert "at most 2 requests in a minute" in answers[-1].detail
        [first, *_] = desk.positions()
        closing = signals.intent("close", side=1, position=first.ticket)
        assert signals.carried(closing).state == "done", "what only closes is never too much"


def test_a_late_intent_is_not_sent(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
        signals = desk.signals
        now_ms = int(time.time() * 1000)
        late = signals.carried(signals.intent(valid_until_ms=now_ms - 1))
        assert (late.state, late.attempts) == ("expired", 0)
        old = signals.carried(signals.intent(event_time_ms=now_ms - 120_000))
        assert (old.state, old.attempts) == ("expired", 0)
        good = signals.carried(signals.intent(valid_until_ms=now_ms + 60_000))
        assert good.state == "done", good


def test_what_the_broker_would_refuse_is_not_sent(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
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


def test_a_pending_order_is_placed_changed_and_cancelled(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
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


def test_stops_of_a_position_are_changed_together(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
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


def test_a_requote_is_answered_with_a_fresh_price_so_often_and_no_more(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
        signals = desk.signals
        inject(desk, kind="retcode", codes=(10004, 10020, 10021))
        done = signals.carried(signals.intent())
        assert (done.state, done.attempts) == ("done", 4), done
        inject(desk, kind="retcode", code=10004)
        refused = signals.carried(signals.intent())
        assert (refused.state, refused.retcode, refused.attempts) == ("refused", 10004, 5), refused
        assert len(desk.positions()) == 1


def test_a_filling_mode_that_is_refused_gives_way_to_the_next(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
        inject(desk, kind="retcode", codes=(10030,))
        done = desk.signals.carried(desk.signals.intent())
        assert (done.state, done.attempts) == ("done", 2), done


def test_a_partial_fill_is_told_as_such(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
        inject(desk, kind="liquidity", lots=0.04)
        part = desk.signals.carried(desk.signals.intent())
        assert (part.state, part.volume_lots) == ("partial", 0.04), part
        assert [held.volume for held in desk.positions()] == [0.04]


def test_a_lost_answer_is_found_in_the_account_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
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


def test_what_never_arrived_is_told_so_and_not_repeated(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
        inject(desk, kind="never_sent", calls_max=1)
        intent = desk.signals.intent()
        answer = desk.signals.carried(intent)
        assert (answer.state, answer.reconciled, answer.attempts) == ("refused", True, 1), answer
        assert "never arrived" in answer.detail
        states = [one.state for one in desk.signals.answers(intent)]
        assert states == ["sent", "unknown", "refused"]
        assert desk.positions() == ()


def test_a_false_answer_and_a_bare_one_end_with_what_the_account_shows(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
        inject(desk, kind="false_answer", calls_max=1, code=10012)
        timed_out = desk.signals.carried(desk.signals.intent())
        assert (timed_out.state, timed_out.reconciled) == ("done", True), timed_out
        inject(desk, kind="bare_answer", calls_max=1)
        bare = desk.signals.carried(desk.signals.intent())
        assert (bare.state, bare.volume_lots, bare.reconciled) == ("done", 0.1, False), bare
        assert len(desk.deals()) == 2


def test_a_host_that_dies_after_the_order_leaves_an_unknown_outcome_that_is_found(
    tmp_path: Path,
) -> None:
    with sending(tmp_path) as desk:
        inject(desk, kind="exit_after", calls_max=1)
        done = desk.signals.carried(desk.signals.intent(), timeout_s=40)
        assert (done.state, done.reconciled) == ("done", True), done
        assert len(desk.deals()) == 1


def test_late_history_does_not_make_an_order_vanish(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
        inject(desk, kind="late_history", seconds=2.5)
        inject(desk, kind="lost_answer", calls_max=1)
        done = desk.signals.carried(desk.signals.intent())
        assert (done.state, done.volume_lots) == ("done", 0.1), done


def test_on_a_netting_account_a_close_names_its_position_and_cannot_turn_it(
    tmp_path: Path,
) -> None:
    terminal = terminal_of(account={"margin_mode": 0})
    with sending(tmp_path, terminal=terminal) as desk:
        signals = desk.signals
        signals.carried(signals.intent(volume_lots=0.3))
        too_much = signals.carried(signals.intent("close", side=1, volume_lots=0.4))
        assert "the position has 0.3" in too_much.detail
        wrong_side = signals.carried(signals.intent("close", side=0, volume_lots=0.1))
        assert "no close of it" in wrong_side.detail
        part = signals.carried(signals.intent("close", side=1, volume_lots=0.1))
        assert part.state == "done", part
        assert [held.volume for held in desk.positions()] == [0.2]


def test_an_order_that_the_broker_takes_its_time_for_is_waited_for(tmp_path: Path) -> None:
    with sending(tmp_path, terminal=terminal_of(execution_ms=400.0)) as desk:
        intent = desk.signals.intent()
        done = desk.signals.carried(intent)
        assert (done.state, done.volume_lots, done.reconciled) == ("done", 0.1, False), done
        assert [one.state for one in desk.signals.answers(intent)] == ["sent", "done"]


def test_the_same_intent_twice_in_the_log_is_carried_out_once(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
        signals, intent = desk.signals, desk.signals.intent()
        signals.send(intent, intent)
        signals.answered(intent)
        signals.send(intent)
        other = signals.intent()
        signals.carried(other)
        assert len(desk.deals()) == 2
        assert [a.state for a in signals.answers(intent)] == ["sent", "done"]


def test_an_account_that_a_human_switched_gets_no_order(tmp_path: Path) -> None:
    terminal = terminal_of(other_accounts=[{"login": 77, "password": "x"}])
    with sending(tmp_path, terminal=terminal) as desk:
        inject(desk, kind="account_switched", login=77)
        answer = desk.signals.carried(desk.signals.intent())
        assert (answer.state, answer.attempts) == ("refused", 0), answer
        assert "not up" in answer.detail or "account 77" in answer.detail
        assert not desk.requests()


def test_a_latch_lets_nothing_open_and_a_flatten_nothing_at_all(tmp_path: Path) -> None:
    with sending(tmp_path, guarded=True) as desk:
        signals, keeper = desk.signals, desk.opened.keeper
        assert keeper is not None
        assert keeper.known.wait(20)
        first = signals.intent()
        signals.carried(first)
        wait_until(lambda: guard_sees(keeper, 1), what="the guard sees the position")
        assert keeper.tell(command("halt")).accepted
        refused = signals.carried(signals.intent())
        assert (refused.state, refused.reconciled) == ("refused", False), refused
        assert "halted" in refused.detail
        [held] = desk.positions()
        closed = signals.carried(signals.intent("close", side=1, position=held.ticket))
        assert closed.state == "done", closed
        assert not [one for one in desk.requests() if one["magic"] == refused.intent_id]


def test_orders_go_live_only_to_the_account_that_the_settings_name(tmp_path: Path) -> None:
    named = {"login": LOGIN, "server": "Simulated-Demo", "execution": "live"}
    with sending(tmp_path, terminal=terminal_of(settings=named), mode="live") as desk:
        answer = desk.signals.carried(desk.signals.intent(mode="live"))
        assert "live orders need trade_mode" in answer.detail
    named["trade_mode"] = "demo"
    with sending(tmp_path, terminal=terminal_of(settings=named), mode="live") as desk:
        answer = desk.signals.carried(desk.signals.intent(mode="live"))
        assert answer.state == "done", answer


def test_an_account_has_one_sender(tmp_path: Path) -> None:
    with sending(tmp_path) as desk:
        other = OrderSender(
            desk.sender.options, desk.client, desk.producer.context.spool,
            lambda: desk.signals.log, ProducerSurroundings(desk.producer),
        )  # fmt: skip
        other.start()
        try:
            wait_until(lambda: "orders" in desk.producer.report.incidents, what="an incident")
            assert "another process" in desk.producer.report.incidents["orders"]
            assert not other.ready.is_set()
        finally:
            other.stop()


def test_a_namespace_that_was_made_by_replay_leads_to_no_order(tmp_path: Path) -> None:
    log, replayed = MemoryLog(), MemoryLog()
    replayed.open_namespace(NAMESPACE, origin="replay")
    with sending(tmp_path, log, open_log=lambda: replayed) as desk:
        signals = Signals(replayed)
        signals.switch()
        intent = signals.intent()
        signals.send(intent)
        wait_until(lambda: desk.signals.final(intent) is not None, what="an answer")
        answer = desk.signals.final(intent)
        assert answer is not None
        assert (answer.state, answer.attempts) == ("refused", 0)
        assert "replay" in answer.detail


def test_a_new_journal_asks_the_account_what_became_of_older_intents(tmp_path: Path) -> None:
    log = MemoryLog()
    with sending(tmp_path, log) as desk:
        sent = desk.signals.intent()
        assert desk.signals.carried(sent).state == "done"
    for path in (tmp_path / "state" / "orders" / NAMESPACE).iterdir():
        path.unlink()
    signals = Signals(log)
    waiting = signals.intent()
    signals._claim = desk.signals._claim
    signals.send(waiting)
    with sending(tmp_path, log) as desk:
        wait_until(lambda: len(desk.signals.answers(sent)) == 4, what="an answer once more")
        again = desk.signals.answers(sent)[-1]
        assert (again.state, again.reconciled) == ("done", True), again
        answer = desk.signals.answered(waiting)
        assert (answer.state, answer.attempts) == ("refused", 0), answer
        assert "never arrived" in answer.detail
        assert len(desk.deals()) == 1


def guard_sees(keeper: Any, positions: int) -> bool:
    state = keeper.state()
    return state is not None and state.positions == positions


def test_a_link_that_is_cut_while_an_order_is_under_way_leaves_it_to_the_account(
    tmp_path: Path,
) -> None:
    spec = terminal_spec(terminal_of(), state_dir=tmp_path / "far")
    token = "a-token-of-more-than-sixteen-characters"
    named = {
        "kind": TerminalKind.REMOTE, "login": LOGIN, "server": "Simulated-Demo", "options": {},
        "trade_mode": "demo", "execution": "live", "token": token,
    }  # fmt: skip
    with open_client(spec, attach=Attachment(spec)) as far:
        far.wait_until_up(30)
        server = TerminalServer(far, token=token)
        server.start()
        try:
            with fault_proxy(server.port) as proxy:
                terminal = terminal_of(settings={**named, "port": proxy.port})
                with sending(tmp_path, terminal=terminal, mode="live", order_s=20.0) as desk:
                    far.call("inject", "late_answer", seconds=2.0, calls_max=1)
                    intent = desk.signals.intent(mode="live")
                    desk.signals.send(intent)
                    wait_until(lambda: desk.client.state().running == "order_send", what="a call")
                    proxy.freeze(replies_only=True)
                    wait_until(lambda: bool(far.call("requests").value), what="the order")
                    proxy.cut()
                    proxy.thaw()
                    answer = desk.signals.answered(intent, timeout_s=40)
                    assert (answer.state, answer.reconciled) == ("done", True), answer
                    assert len(far.call("requests").value) == 1
        finally:
            server.close()

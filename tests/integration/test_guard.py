"""The guard beside a real host: breaches, latch, gate, restarts; no log anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.alerts import Alert
from events.decisions import LimitBreach
from events.guarding import FlattenEnded, GuardState, LatchChanged
from producers.terminals.interface import NotSent, Priority
from tests.integration.guarding import (
    LOGIN,
    SYMBOL,
    command,
    guard_of,
    guarded,
    hosted,
    inject,
    market,
    open_positions,
    positions,
    resume,
    spec_of,
    told,
)
from tests.servers import wait_until

HARD = {
    "account": {"initial_balance": 100_000, "high_water": 100_000},
    "limits": [
        {"name": "max loss", "figure": "drawdown_absolute", "limit": 1.0, "action": "flatten",
         "lock": "manual", "hard": True},
    ],
}  # fmt: skip


def test_a_hard_limit_latches_and_flattens_without_log_or_consumers(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path, rules=HARD) as keeper:
        open_positions(client, 3)
        inject(client, kind="price_jump", symbols=(SYMBOL,), percent=-20.0)
        wait_until(lambda: bool(told(keeper, FlattenEnded)), what="the flatten ends")
        [ended] = told(keeper, FlattenEnded)
        assert (ended.state, ended.positions, len(ended.outcomes)) == ("FLAT", 0, 3)
        [breach] = told(keeper, LimitBreach)
        assert (breach.limit, breach.action, breach.lock) == ("max loss", "flatten", "manual")
        assert {"equity", "reference"} <= set(breach.figures)
        assert positions(client) == 0
        [latched] = told(keeper, LatchChanged)
        assert latched.latched
        with pytest.raises(NotSent, match="halted: max loss"):
            client.call("order_send", market(), priority=Priority.TRADE)


def test_one_bad_read_neither_trips_nor_blocks(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path, rules=HARD) as keeper:
        open_positions(client, 1)
        inject(client, kind="none", methods=("account_info",), calls_max=2)
        inject(client, kind="none", methods=("positions_get",), calls_max=2)
        wait_until(lambda: keeper.newest_row() > 2)
        seen = guard_of(keeper).watch.newest_ms
        wait_until(lambda: guard_of(keeper).watch.newest_ms > seen + 500)
        assert told(keeper, LimitBreach) == []
        assert guard_of(keeper).latching.current is None
        assert guard_of(keeper).blocks.all() == ()


def test_a_halt_closes_the_gate_at_once_and_lets_closes_pass(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        open_positions(client, 1)
        guard = guard_of(keeper)
        wait_until(lambda: guard.state().positions == 1)
        assert keeper.tell(command("halt", arguments={"reason": "enough"})).accepted
        with pytest.raises(NotSent, match="halted: enough"):
            client.call("order_send", market())
        [position] = client.call("positions_get").value
        price = client.call("symbol_info_tick", SYMBOL).value.bid
        opens_more = market(position=position.ticket, price=price)
        with pytest.raises(NotSent, match="takes no new trades"):
            client.call("order_send", opens_more)
        closing = market(1, position=position.ticket, price=price)
        assert client.call("order_send", closing).value.retcode == 10009
        assert guard.state().state == "halted"


def test_resuming_needs_the_right_number_and_a_human(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        keeper.tell(command("halt"))
        assert not keeper.tell(resume(LOGIN + 1)).accepted
        assert not keeper.tell(resume(LOGIN), "risk").accepted
        late = resume(LOGIN).model_copy(update={"expires_ms": 1})
        assert "expired" in keeper.tell(late).text
        assert guard_of(keeper).latching.current is not None
        assert keeper.tell(resume(str(LOGIN))).accepted
        assert guard_of(keeper).latching.current is None
        price = client.call("symbol_info_tick", SYMBOL).value.ask
        assert client.call("order_send", market(price=price)).value.retcode == 10009


def test_a_command_is_obeyed_once(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        halt = command("halt")
        first = keeper.tell(halt)
        assert keeper.tell(resume()).accepted
        again = keeper.tell(halt)
        assert (again.repeated, again.text) == (True, first.text)
        assert guard_of(keeper).latching.current is None, "the old halt did nothing any more"


def test_a_stale_flatten_blocks_and_pages_but_closes_nothing(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        open_positions(client, 1)
        answer = keeper.tell(command("flatten", expires_ms=1), "operator")
        assert not answer.accepted
        with pytest.raises(NotSent, match="blocked"):
            client.call("order_send", market())
        assert positions(client) == 1
        alerts = told(keeper, Alert)
        assert [alert.severity for alert in alerts if alert.topic == "stale_command"] == [
            "critical"
        ]


@pytest.mark.slow
def test_a_command_for_another_account_is_refused(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        answer = keeper.tell(command("flatten", login=LOGIN + 1))
        assert not answer.accepted
        assert str(LOGIN + 1) in answer.text
        assert guard_of(keeper).latching.current is None
        assert positions(client) == 0


def test_latch_blocks_and_references_outlive_the_guard(tmp_path: Path) -> None:
    with hosted(spec_of()) as client:
        with guarded(client, tmp_path, rules=HARD) as keeper:
            keeper.tell(command("halt", arguments={"reason": "kept"}))
            keeper.tell(command("block", arguments={"reason": "news"}))
            wait_until(lambda: guard_of(keeper).watch.hard.references is not None)
            before = guard_of(keeper).watch.hard.references
        with pytest.raises(NotSent, match="halted: kept"):
            client.call("order_send", market())  # nobody looks, the gate stays closed
        with guarded(client, tmp_path) as keeper:
            guard = guard_of(keeper)
            assert guard.latching.current is not None
            assert [block.reason for block in guard.blocks.all()] == ["news"]
            assert guard.watch.rules.limits[0].name == "max loss"
            after = guard.watch.hard.references
            assert before is not None
            assert after is not None
            assert after.since_ms == before.since_ms
            states = told(keeper, GuardState)
            assert states[-1].latched


def test_a_position_opened_after_the_latch_is_closed(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        open_positions(client, 1)
        keeper.tell(command("flatten"))
        wait_until(lambda: bool(told(keeper, FlattenEnded)))
        inject(client, kind="foreign_position", symbols=(SYMBOL,), lots=0.1, count=1)
        wait_until(lambda: positions(client) == 1)
        wait_until(lambda: positions(client) == 0, what="it is closed again")


def test_another_account_is_left_alone_and_blocks(tmp_path: Path) -> None:
    other = {"login": 77, "server": "Simulated-Demo"}
    spec = spec_of(other_accounts=(other,))
    with hosted(spec) as client, guarded(client, tmp_path, rules=HARD) as keeper:
        wait_until(lambda: guard_of(keeper).watch.newest_ms > 0)
        inject(client, kind="account_switched", login=77)
        wait_until(lambda: bool(guard_of(keeper).blocks.all()), what="it blocks")
        [block] = guard_of(keeper).blocks.all()
        assert (block.cause, "77" in block.reason) == ("wrong_account", True)
        with pytest.raises(NotSent, match="blocked"):
            client.call("order_send", market())


@pytest.mark.slow
def test_equity_that_stays_unknown_blocks_and_pages(tmp_path: Path) -> None:
    rules = HARD | {"guard": {"unknown_equity_s": 0.5}}
    with hosted(spec_of()) as client, guarded(client, tmp_path, rules=rules) as keeper:
        open_positions(client, 1)
        wait_until(lambda: guard_of(keeper).state().positions == 1)
        inject(client, kind="none", methods=("account_info",))
        wait_until(lambda: any(a.topic == "blind" for a in told(keeper, Alert)))
        with pytest.raises(NotSent, match="equity unknown"):
            client.call("order_send", market())
        client.call("clear", "none")
        wait_until(lambda: guard_of(keeper).blocks.all() == ())
        assert any(a.topic == "blind" and a.resolved for a in told(keeper, Alert))


def test_an_order_that_waited_for_a_new_host_is_refused_after_the_latch(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        price = client.call("symbol_info_tick", SYMBOL).value.ask
        client.restart("for the test")
        wait_until(lambda: client.state().state != "up")
        waiting = client.submit("order_send", market(price=price), priority=Priority.TRADE)
        assert not waiting.done()
        keeper.tell(command("halt"))
        with pytest.raises(NotSent, match="halted"):
            waiting.result(20)
        wait_until(lambda: client.state().state == "up")
        assert positions(client) == 0


def test_a_symbol_closed_ahead_of_a_window_is_stopped_alone_until_it_ends(tmp_path: Path) -> None:
    with hosted(spec_of()) as client, guarded(client, tmp_path) as keeper:
        open_positions(client, 1)
        guard = guard_of(keeper)
        until_ms = guard.now_ms() + 3_600_000
        window = command(
            "flatten", issued_by="risk", expires_ms=2**45,
            arguments={"symbol": SYMBOL, "hold": "symbol", "lock": "until_reset",
                       "until_ms": until_ms, "cause": "window:news", "reason": "news"},
        )  # fmt: skip
        assert keeper.tell(window, "risk").accepted
        wait_until(lambda: bool(told(keeper, FlattenEnded)), what="the symbol is closed")
        assert positions(client) == 0
        assert guard.latching.current is None
        with pytest.raises(NotSent, match="blocked: news"):
            client.call("order_send", market())
        other = client.call("order_send", market(symbol="EURUSD"))
        assert other.value is not None, "the broker was asked"
        assert not guard.gate(market(symbol="EURUSD"), False)

"""Every fault on demand: what the terminal then shows, and how it heals."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from producers.terminals import constants as mt5
from producers.terminals.simulated import (
    AccountOptions,
    Fault,
    SimulatedOptions,
    SimulatedTerminal,
    TickOptions,
)
from producers.terminals.simulated.faults import FaultBoard
from producers.terminals.simulated.options import CALL_LATENCIES_MS

START = 1_763_553_600_000  # Wednesday 19 November 2025, 12:00 UTC
SERVER_S = START // 1000 + 7200


def terminal_of(**changes: Any) -> SimulatedTerminal:
    fixed: dict[str, Any] = {"start_utc_ms": START, "speed": 0, "symbols": ("EURUSD", "XAUUSD")}
    terminal = SimulatedTerminal(SimulatedOptions(**{**fixed, **changes}))
    assert terminal.initialize()
    return terminal


def ticks_of_last_minutes(terminal: SimulatedTerminal, minutes: int = 10) -> Any:
    now_s = terminal.utc_now_ms() // 1000 + 7200
    return terminal.copy_ticks_from("EURUSD", now_s - 60 * minutes, 1_000_000, -1)


def test_options_travel_as_json() -> None:
    options = SimulatedOptions(
        faults=(Fault(kind="hang", at_s=5, methods=("account_info",)),),
        account=AccountOptions(password="s3cret"), ticks=TickOptions(rate=3.0),
    )  # fmt: skip
    text = options.model_dump_json()
    assert SimulatedOptions.model_validate_json(text) == options
    assert "s3cret" not in repr(options)
    with pytest.raises(ValidationError):
        SimulatedOptions(sped=3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"clock": "Mars/Olympus"}, "Mars/Olympus"),
        ({"pc_zone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"symbols": ("NOSUCH",)}, "NOSUCH"),
        ({"trader": {"symbols": ("GBPUSD",)}}, "GBPUSD"),
        ({"account": {"currency": "XXX"}}, "XXX"),
        ({"speed": -1}, "speed"),
        ({"account": {"margin_mode": 7}}, "margin_mode"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        terminal_of(**options)


def test_the_process_of_the_terminal_may_end_at_once() -> None:
    program = (
        "from producers.terminals.simulated import *;"
        "t = SimulatedTerminal(SimulatedOptions(symbols=('EURUSD',)));"
        "t.initialize(); t.inject('exit'); t.account_info(); print('alive')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ended.returncode == 70
    assert ended.stdout == b""


def test_an_unknown_fault_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="kind"):
        terminal_of().inject("earthquake")


def test_a_hanging_call_returns_only_when_it_is_cleared() -> None:
    terminal = terminal_of()
    terminal.inject("hang", methods=["account_info"], calls_max=1)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(terminal.account_info()))
    thread.start()
    assert terminal.positions_get() == ()  # other calls go on
    assert thread.is_alive()
    assert answers == []
    while thread.is_alive():  # the call may not have begun to wait yet
        terminal.clear("hang")
        thread.join(0.01)
    assert answers[0].login == 5_000_001


def test_a_slow_call_takes_its_seconds_and_latencies_add() -> None:
    slept: list[float] = []
    options = SimulatedOptions(start_utc_ms=START, speed=0, latency="native", latency_ms=2.0)
    terminal = SimulatedTerminal(options, sleep=slept.append)
    terminal.initialize()
    terminal.inject("slow", seconds=36.0, methods=["copy_ticks_from"], calls_max=1)
    terminal.copy_ticks_from("EURUSD", SERVER_S - 60, 10, -1)
    terminal.copy_ticks_from("EURUSD", SERVER_S - 60, 10, -1)
    latency = (CALL_LATENCIES_MS["copy_ticks_from"] + 2.0) / 1000
    assert slept[1:] == pytest.approx([36.0 + latency, latency])


def test_planned_faults_begin_at_their_time() -> None:
    fault = Fault(kind="error", code=-1, at_s=60, for_s=30, methods=("symbols_total",))
    terminal = terminal_of(faults=(fault,))
    assert terminal.symbols_total() == 2
    terminal.advance(60_000)
    assert terminal.symbols_total() is None
    assert terminal.last_error() == (-1, "Terminal: Call failed")
    terminal.advance(30_000)
    assert terminal.symbols_total() == 2


def test_faults_choose_calls_by_method_symbol_and_number() -> None:
    board = FaultBoard((), START)
    board.inject(Fault(kind="none", methods=("a",), symbols=("X",), calls_max=2), START)
    assert board.take("none", START, method="b", symbol="X") is None
    assert board.take("none", START, method="a", symbol="Y") is None
    assert board.take("none", START - 1, method="a", symbol="X") is None
    hits = [board.take("none", START, method="a", symbol="X") for _ in range(3)]
    assert [hit is not None for hit in hits] == [True, True, False]


def test_a_call_may_raise_system_error() -> None:
    terminal = terminal_of()
    terminal.inject("system_error", methods=["copy_ticks_from"], calls_max=1)
    with pytest.raises(SystemError, match="copy_ticks_from"):
        terminal.copy_ticks_from("EURUSD", SERVER_S, 1, -1)
    assert terminal.last_error()[0] != 1
    assert len(ticks_of_last_minutes(terminal))


@pytest.mark.parametrize("kind", ["none", "empty", "partial"])
def test_answers_may_be_unknown_empty_or_partial(kind: str) -> None:
    terminal = terminal_of()
    whole = ticks_of_last_minutes(terminal)
    terminal.inject(kind, methods=["copy_ticks_from"], calls_max=1)
    first, second = ticks_of_last_minutes(terminal), ticks_of_last_minutes(terminal)
    if kind == "none":
        assert first is None
    else:
        assert len(first) == (0 if kind == "empty" else len(whole) // 2)
        assert terminal.last_error()[0] == 1
    assert second.tobytes() == whole.tobytes()


@pytest.mark.parametrize(("kind", "share"), [("none", None), ("empty", 0.0), ("partial", 0.5)])
def test_the_first_answers_of_each_symbol_may_lack_rows(kind: str, share: float | None) -> None:
    terminal = terminal_of(first_answer=kind, first_answer_calls=2)
    for symbol in ("EURUSD", "XAUUSD"):
        answers = [terminal.copy_ticks_from(symbol, SERVER_S - 600, 100_000, -1) for _ in range(3)]
        for early in answers[:2]:
            if share is None:
                assert early is None
            else:
                assert len(early) == int(len(answers[2]) * share)


def test_while_the_broker_is_away_ticks_stop_and_come_back_in_bulk() -> None:
    terminal = terminal_of()
    terminal.inject("disconnect", for_s=600, seconds=20)
    before = terminal.symbol_info_tick("EURUSD").time_msc
    terminal.advance(300_000)
    assert not terminal.terminal_info().connected
    assert terminal.symbol_info_tick("EURUSD").time_msc == before
    assert ticks_of_last_minutes(terminal, 4).size == 0
    assert terminal.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M1, 0, 1)["time"][0] < SERVER_S
    terminal.advance(310_000)
    live = ticks_of_last_minutes(terminal, 20)
    assert live["time"].max() >= SERVER_S + 600  # new ticks are there before the missed ones
    assert not ((live["time"] >= SERVER_S) & (live["time"] < SERVER_S + 600)).any()
    terminal.advance(15_000)
    healed = ticks_of_last_minutes(terminal, 20)
    assert ((healed["time"] >= SERVER_S) & (healed["time"] < SERVER_S + 600)).sum() > 100
    now_ms = (terminal.utc_now_ms() // 1000 + 7200) * 1000
    truth = terminal.truth("EURUSD", now_ms - 1_200_000, now_ms + 1)
    assert healed.tobytes() == truth.tobytes()


def test_a_hole_never_heals_and_truth_knows_it() -> None:
    terminal = terminal_of()
    terminal.inject("hole", for_s=60)
    terminal.advance(600_000)
    rows = ticks_of_last_minutes(terminal, 12)
    assert not ((rows["time"] >= SERVER_S) & (rows["time"] < SERVER_S + 60)).any()
    assert (rows["time"] >= SERVER_S + 60).any()
    truth = terminal.truth("EURUSD", (SERVER_S - 120) * 1000, (SERVER_S + 601) * 1000)
    assert truth.tobytes() == rows.tobytes()


def test_corrected_ticks_disappear_from_a_later_reading() -> None:
    terminal = terminal_of()
    before = ticks_of_last_minutes(terminal)
    terminal.inject("corrected", seconds=120, share=0.3)
    after = ticks_of_last_minutes(terminal)
    gone = len(before) - len(after)
    recent = (before["time"] >= SERVER_S - 120).sum()
    assert 0 < gone < recent
    old = before["time"] < SERVER_S - 120
    assert after[after["time"] < SERVER_S - 120].tobytes() == before[old].tobytes()


def test_late_ticks_appear_after_their_time() -> None:
    terminal = terminal_of(ticks=TickOptions(late_share=0.2, late_max_ms=20_000, rate=5.0))
    seen: list[int] = []
    for _ in range(30):
        terminal.advance(1000)
        seen.append(len(terminal.copy_ticks_range("EURUSD", SERVER_S, SERVER_S + 5, -1)))
    assert seen[6] < seen[-1]
    truth = terminal.truth("EURUSD", SERVER_S * 1000, (SERVER_S + 5) * 1000 + 1)
    assert seen[-1] == len(truth)


def test_the_newest_quote_may_run_ahead_of_the_copied_ticks_or_behind() -> None:
    terminal = terminal_of()
    terminal.inject("tick_ahead", seconds=2, for_s=60)
    terminal.advance(10_000)
    quote = terminal.symbol_info_tick("EURUSD").time_msc
    assert ticks_of_last_minutes(terminal)["time_msc"][-1] <= (SERVER_S + 8) * 1000
    terminal.clear("tick_ahead")
    assert ticks_of_last_minutes(terminal)["time_msc"][-1] == quote
    terminal.inject("tick_behind", seconds=5)
    assert terminal.symbol_info_tick("EURUSD").time_msc <= (SERVER_S + 5) * 1000
    assert ticks_of_last_minutes(terminal)["time_msc"][-1] == quote


def test_undocumented_flag_bits_change_with_the_age_of_a_tick() -> None:
    terminal = terminal_of(ticks=TickOptions(flag_bits=0x400, flag_bits_live=0x80))
    rows = ticks_of_last_minutes(terminal, 5)
    young = rows["time_msc"] > (SERVER_S - 60) * 1000
    assert ((rows["flags"][young] & 0x480) == 0x480).all()
    assert ((rows["flags"][~young] & 0x480) == 0x400).all()


def test_a_human_takes_a_symbol_out_of_market_watch() -> None:
    terminal = terminal_of()
    terminal.inject("deselected", symbols=["XAUUSD"])
    assert terminal.symbol_info("XAUUSD").select is False
    assert terminal.symbol_info_tick("XAUUSD") is None
    assert terminal.copy_ticks_from("XAUUSD", SERVER_S - 60, 10, -1) is None
    assert terminal.symbol_select("XAUUSD")
    assert terminal.symbol_info_tick("XAUUSD") is not None
    terminal.inject("symbol_removed", symbols=["XAUUSD"])
    assert terminal.symbol_info("XAUUSD") is None
    assert terminal.symbol_select("XAUUSD") is False


def test_a_selected_symbol_needs_time_for_its_first_tick() -> None:
    terminal = terminal_of(select_delay_s=3.0, selected=("EURUSD",))
    assert terminal.symbol_info_tick("EURUSD") is not None
    assert terminal.symbol_select("XAUUSD")
    assert terminal.symbol_info_tick("XAUUSD") is None
    terminal.advance(3000)
    assert terminal.symbol_info_tick("XAUUSD") is not None


@pytest.mark.parametrize(
    ("fault", "call", "field", "retcode"),
    [
        ("algo_off", "terminal_info", "trade_allowed", mt5.TRADE_RETCODE_CLIENT_DISABLES_AT),
        ("expert_off", "account_info", "trade_expert", mt5.TRADE_RETCODE_SERVER_DISABLES_AT),
        ("investor", "account_info", "trade_allowed", mt5.TRADE_RETCODE_TRADE_DISABLED),
    ],
)
def test_trading_may_be_switched_off_in_three_places(
    fault: str, call: str, field: str, retcode: int
) -> None:
    terminal = terminal_of()
    assert getattr(getattr(terminal, call)(), field) is True
    terminal.inject(fault)
    assert getattr(getattr(terminal, call)(), field) is False
    request = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "type_filling": 1}
    assert terminal.order_send(request).retcode == retcode
    terminal.clear(fault)
    assert terminal.order_send(request).retcode == mt5.TRADE_RETCODE_DONE


def test_python_may_be_switched_off_for_trading_alone() -> None:
    terminal = terminal_of()
    terminal.inject("api_off")
    assert terminal.terminal_info().tradeapi_disabled is True
    request = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "type_filling": 1}
    assert terminal.order_send(request) is None
    assert terminal.last_error()[0] == mt5.RES_E_AUTO_TRADING_DISABLED
    assert terminal.positions_get() == ()


def test_orders_may_get_lost_on_either_way() -> None:
    terminal = terminal_of()
    request = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "type_filling": 1}
    terminal.inject("lost_answer", calls_max=1)
    assert terminal.order_send(request) is None
    assert terminal.last_error()[0] == mt5.RES_E_INTERNAL_FAIL_RECEIVE
    assert terminal.positions_total() == 1  # it was carried out all the same
    terminal.inject("never_sent", calls_max=1)
    assert terminal.order_send(request) is None
    assert terminal.last_error()[0] == mt5.RES_E_INTERNAL_FAIL_SEND
    assert terminal.positions_total() == 1
    terminal.inject("retcode", code=mt5.TRADE_RETCODE_REQUOTE, calls_max=2)
    assert [terminal.order_send(request).retcode for _ in range(3)] == [10004, 10004, 10009]


def test_after_a_reconnect_the_account_looks_empty_for_a_while() -> None:
    terminal = terminal_of()
    terminal.order_send(
        {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "type_filling": 1}
    )
    terminal.inject("disconnect", for_s=10, seconds=3)
    terminal.advance(5000)
    assert terminal.positions_total() == 1  # from the cache
    terminal.advance(6000)
    assert terminal.terminal_info().connected
    assert terminal.positions_get() == ()
    assert terminal.last_error()[0] == 1
    terminal.advance(3000)
    assert terminal.positions_total() == 1


def test_logging_in_to_another_account_switches_the_whole_terminal() -> None:
    other = AccountOptions(login=77, password="p", server="Other-Live", trade_mode=2, balance=5.0)
    terminal = terminal_of(other_accounts=(other,))
    assert terminal.login(77, password="wrong") is False
    assert terminal.account_info().login == 5_000_001
    assert terminal.login(77, password="p", server="Other-Live") is True
    account = terminal.account_info()
    assert (account.login, account.server, account.trade_mode, account.balance) == (
        77, "Other-Live", 2, 5.0,
    )  # fmt: skip
    assert terminal.login(1) is False
    assert terminal.last_error()[0] == mt5.RES_E_AUTH_FAILED


def test_an_updated_terminal_does_not_fit_the_module() -> None:
    terminal = terminal_of()
    terminal.inject("incompatible")
    terminal.shutdown()
    assert terminal.initialize() is False
    assert terminal.last_error()[0] == mt5.RES_E_INVALID_VERSION
    terminal.clear("incompatible")
    assert terminal.initialize() is True


def test_a_wrong_password_can_be_planned() -> None:
    terminal = terminal_of()
    terminal.shutdown()
    terminal.inject("wrong_password", for_s=60)
    assert terminal.initialize(login=5_000_001, password="simulated") is False
    assert terminal.last_error()[0] == mt5.RES_E_AUTH_FAILED
    terminal.advance(60_000)
    assert terminal.initialize(login=5_000_001, password="simulated") is True


def test_two_terminals_with_the_same_options_answer_the_same_bytes() -> None:
    options = {"ticks": TickOptions(late_share=0.1, zero_price_share=0.01), "seed": 42}
    first, second = terminal_of(**options), terminal_of(**options)
    for step_ms in (0, 137, 5000, 61_000):
        first.advance(step_ms)
        second.advance(step_ms)
        a, b = ticks_of_last_minutes(first), ticks_of_last_minutes(second)
        assert a.tobytes() == b.tobytes()
        assert first.account_info() == second.account_info()
        assert np.all(a["time"] > 0)

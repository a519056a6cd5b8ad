"""Deep history in a host of its own: what a cold call of half a minute must not delay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from events.settings import load
from producers.terminals import constants as mt5
from producers.terminals.attach import Attachment
from producers.terminals.client import HostClient, HostLimits, open_client
from producers.terminals.history_host import (
    CALLS_MARKET,
    TwoHosts,
    open_two_hosts,
    wants_history_host,
)
from producers.terminals.interface import HistoryLost, Priority, Reply
from producers.terminals.remote.server import TerminalServer
from producers.terminals.simulated import Fault
from producers.terminals.spec import TerminalSpec
from tests.servers import wait_until

PATIENCE_S = 30.0
COLD_S = 36.0
TOKEN = "a-token-of-more-than-sixteen-characters"
LIMITS = HostLimits(call_s=5.0, order_s=5.0, backoff_s=(0.02, 0.05))
COLD = Fault(kind="slow", methods=("copy_rates_range",), seconds=COLD_S)
HANGS = Fault(kind="hang", methods=("copy_ticks_range",), calls_max=1)


def simulated(folder: Path, *faults: Fault) -> TerminalSpec:
    options = {
        "symbols": ["BTCUSD"], "memory": str(folder / "account.jsonl"),
        "faults": [fault.model_dump(mode="json") for fault in faults],
    }  # fmt: skip
    return TerminalSpec(kind="simulated", options=options)


Open = Callable[..., tuple[HostClient, TwoHosts]]


@pytest.fixture
def opened() -> Iterator[Open]:
    """A live host and the way to both; none may leave a process behind."""
    with ExitStack() as stack:

        def make(spec: TerminalSpec, limits: HostLimits = LIMITS) -> tuple[HostClient, TwoHosts]:
            attach = Attachment(spec, symbols=("BTCUSD",))
            live = stack.enter_context(open_client(spec, limits=limits, attach=attach))
            live.wait_until_up(PATIENCE_S)
            two = open_two_hosts(spec, live, limits=limits)
            assert two is not None
            return live, stack.enter_context(two)

        yield make


def buy(volume: float = 0.1) -> dict[str, Any]:
    return {
        "action": mt5.TRADE_ACTION_DEAL, "symbol": "BTCUSD", "volume": volume,
        "type": mt5.ORDER_TYPE_BUY, "type_filling": mt5.ORDER_FILLING_IOC, "deviation": 1_000,
    }  # fmt: skip


def cold_call(client: Any) -> Future[Reply]:
    """A history call that takes half a minute, and runs by now."""
    now_s = int(time.time())
    future: Future[Reply] = client.submit(
        "copy_rates_range", "BTCUSD", mt5.TIMEFRAME_M1, now_s - 3_600, now_s,
        priority=Priority.HISTORY,
    )  # fmt: skip
    return future


def running(client: HostClient) -> bool:
    return client.state().running == "copy_rates_range"


def test_a_cold_history_call_delays_neither_ticks_nor_an_emergency(
    opened: Open, tmp_path: Path
) -> None:
    live, two = opened(simulated(tmp_path, COLD))
    cold = cold_call(two)
    assert two.history is not None
    wait_until(lambda: running(two.history), timeout_s=PATIENCE_S)  # type: ignore[arg-type] # it is there
    pid = live.state().pid
    slowest_s = 0.0
    for _ in range(50):
        begun = time.monotonic()
        assert two.call("symbol_info_tick", "BTCUSD", priority=Priority.TICKS).value is not None
        slowest_s = max(slowest_s, time.monotonic() - begun)
    begun = time.monotonic()
    sent = two.call("order_send", buy(), priority=Priority.EMERGENCY)
    took_s = time.monotonic() - begun
    assert sent.value.retcode == mt5.TRADE_RETCODE_DONE
    assert not cold.done(), "it still runs, in the other process"
    state = live.state()
    assert (state.pid, state.restarts, state.emergency_kills) == (pid, 0, 0)
    assert slowest_s < 5.0, "nobody waited for history"
    assert took_s < 5.0
    assert two.history.state().pid != pid


def test_without_a_second_host_an_emergency_ends_the_read_and_is_sent_once(
    opened: Open, tmp_path: Path
) -> None:
    live, _ = opened(simulated(tmp_path, COLD.model_copy(update={"calls_max": 1})))
    cold = cold_call(live)
    wait_until(lambda: running(live), timeout_s=PATIENCE_S)
    begun = time.monotonic()
    sent = live.call("order_send", buy(), priority=Priority.EMERGENCY, timeout_s=PATIENCE_S)
    took_s = time.monotonic() - begun
    assert sent.value.retcode == mt5.TRADE_RETCODE_DONE
    assert took_s < COLD_S / 2, "it did not wait for the read"
    assert cold.exception() is not None
    assert live.state().emergency_kills == 1
    positions = live.call("positions_get", priority=Priority.EMERGENCY).value
    assert [position.volume for position in positions] == [0.1]


def test_history_that_fails_leaves_the_live_host_alone(opened: Open, tmp_path: Path) -> None:
    live, two = opened(simulated(tmp_path, HANGS))
    now_s = int(time.time())
    asked = ("copy_ticks_range", "BTCUSD", now_s - 600, now_s, mt5.COPY_TICKS_ALL)
    with pytest.raises(HistoryLost):
        two.call(*asked, priority=Priority.HISTORY, timeout_s=0.5)
    assert live.state().restarts == 0
    assert two.call("account_info").value is not None


def test_both_hosts_tell_of_the_same_market(opened: Open, tmp_path: Path) -> None:
    live, two = opened(simulated(tmp_path))
    until_s = int(time.time()) - 60
    asked = ("copy_ticks_range", "BTCUSD", until_s - 600, until_s, mt5.COPY_TICKS_ALL)
    near, far = live.call(*asked), two.call(*asked, priority=Priority.HISTORY)
    assert len(near.value) > 100
    assert near.value.tobytes() == far.value.tobytes()
    assert two.history is not None


def test_where_the_second_host_cannot_be_had_the_live_one_serves_and_says_so(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, _ = opened(simulated(tmp_path))
    broken = TerminalSpec(kind="simulated", options={"symbols": ["NOSUCH"]})
    refused = TwoHosts(
        live, lambda: open_client(broken, limits=LIMITS), methods=CALLS_MARKET, patience_s=0.0
    )
    with refused:
        now_s = int(time.time())
        for _ in range(3):
            found = refused.call(
                "copy_ticks_range", "BTCUSD", now_s - 600, now_s, mt5.COPY_TICKS_ALL,
                priority=Priority.HISTORY,
            )  # fmt: skip
            assert len(found.value)
    assert sum("cannot be had" in record.message for record in caplog.records) == 1


def test_a_terminal_server_has_one_too_and_its_client_hears_which_host_failed(
    opened: Open, tmp_path: Path
) -> None:
    live, two = opened(simulated(tmp_path, COLD, HANGS))
    server = TerminalServer(two, token=TOKEN)
    server.start()
    try:
        spec = TerminalSpec(
            kind="remote", token=SecretStr(TOKEN), address=f"127.0.0.1:{server.port}"
        )
        with open_client(spec, limits=LIMITS) as far:
            far.wait_until_up(PATIENCE_S)
            now_s = int(time.time())
            with pytest.raises(HistoryLost):
                far.call(
                    "copy_ticks_range", "BTCUSD", now_s - 60, now_s, mt5.COPY_TICKS_ALL,
                    priority=Priority.HISTORY, timeout_s=0.5,
                )  # fmt: skip
            cold = cold_call(far)
            assert two.history is not None
            wait_until(lambda: running(two.history), timeout_s=PATIENCE_S)  # type: ignore[arg-type] # it is there
            assert far.call("account_info").value.balance > 0
            assert not cold.done()
            assert live.state().restarts == 0
    finally:
        server.close()


@pytest.mark.parametrize(
    ("kind", "chosen", "wanted"),
    [
        ("native", "auto", True),
        ("native", "off", False),
        ("simulated", "auto", False),
        ("simulated", "on", True),
    ],
)
def test_who_has_a_second_host_is_a_setting(kind: Any, chosen: str, wanted: bool) -> None:
    settings = load(history_host=chosen)
    assert wants_history_host(settings, TerminalSpec(kind=kind)) is wanted


def test_terminals_with_a_time_of_their_own_have_no_second_host(
    opened: Open, tmp_path: Path
) -> None:
    live, _ = opened(simulated(tmp_path))
    for options in ({"speed": 10.0}, {"start_utc_ms": 1_700_000_000_000}):
        spec = TerminalSpec(kind="simulated", options=options)
        assert open_two_hosts(spec, live, limits=LIMITS) is None
    assert open_two_hosts(simulated(tmp_path), live, limits=LIMITS, wanted=False) is None

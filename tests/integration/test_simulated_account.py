"""A simulated account in a real host process that is killed, hangs and dies between deal and
answer: whoever asks next finds what happened."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producers.terminals import constants as mt5
from producers.terminals.attach import Attachment
from producers.terminals.client import HostClient, HostLimits, open_client
from producers.terminals.interface import Priority, Reply, TerminalHung, TerminalLost
from producers.terminals.spec import TerminalSpec
from tests.servers import wait_until

LIMITS = HostLimits(call_s=5.0, order_s=5.0, backoff_s=(0.05, 0.1))
FAR_S = 2**40
BUY = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "BTCUSD", "volume": 0.1, "type": 0,
       "type_filling": mt5.ORDER_FILLING_IOC}  # fmt: skip
Open = Callable[..., HostClient]


@pytest.fixture
def open_account(tmp_path: Path) -> Iterator[Open]:
    """Opens hosts on one account's memory."""
    clients: list[HostClient] = []
    memory = str(tmp_path / "account.jsonl")

    def opened(*, limits: HostLimits = LIMITS, **options: Any) -> HostClient:
        given = {"selected": ["BTCUSD"], "symbols": ["BTCUSD"], "memory": memory, **options}
        spec = TerminalSpec(kind="simulated", options=given)
        client = open_client(spec, limits=limits, attach=Attachment(spec))
        clients.append(client)
        client.wait_until_up(30.0)
        return client

    yield opened
    for client in clients:
        client.close()


def send(client: HostClient, **fields: Any) -> Reply:
    return client.call("order_send", {**BUY, **fields}, priority=Priority.EMERGENCY)


def tickets(client: HostClient) -> list[int]:
    return [position.ticket for position in client.call("positions_get").value]


def closing_deals(client: HostClient) -> list[int]:
    deals = client.call("history_deals_get", 0, FAR_S).value
    return [deal.position_id for deal in deals if deal.entry == mt5.DEAL_ENTRY_OUT]


def up_again(client: HostClient) -> None:
    wait_until(lambda: _answers(client))


def _answers(client: HostClient) -> bool:
    try:
        return client.call("account_info").value is not None
    except TerminalLost:
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_host_comes_back_to_the_same_positions(open_account: Open) -> None:
    client = open_account()
    opened = [send(client).value.order for _ in range(2)]
    for turn in range(2):
        pid = client.call("host_info").value["pid"]
        os.kill(pid, signal.SIGKILL)
        up_again(client)
        assert client.call("host_info").value["pid"] != pid
        assert tickets(client) == opened[turn:]
        close = send(client, type=1, position=opened[turn])
        assert close.value.retcode == mt5.TRADE_RETCODE_DONE
    assert tickets(client) == []
    assert closing_deals(client) == opened


def test_a_host_that_ends_between_deal_and_answer_did_it_once(open_account: Open) -> None:
    client = open_account()
    ticket = send(client).value.order
    client.call("inject", "exit_after", calls_max=1)
    with pytest.raises(TerminalLost):
        send(client, type=1, position=ticket)
    up_again(client)
    assert tickets(client) == []
    again = send(client, type=1, position=ticket).value
    assert again.retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    assert closing_deals(client) == [ticket]
    received = client.call("requests").value
    assert [request["retcode"] for request in received] == [10009, 10009, 10036]


def test_an_answer_that_comes_too_late_is_a_deal_all_the_same(open_account: Open) -> None:
    client = open_account(limits=HostLimits(call_s=5.0, order_s=0.5, backoff_s=(0.05, 0.1)))
    ticket = send(client).value.order
    client.call("inject", "late_answer", seconds=30.0, calls_max=1)
    with pytest.raises(TerminalHung):
        send(client, type=1, position=ticket)
    up_again(client)
    assert tickets(client) == []
    assert closing_deals(client) == [ticket]


def test_a_second_process_trades_the_account_while_the_first_hangs(open_account: Open) -> None:
    first = open_account()
    ticket = send(first).value.order
    first.call("inject", "hang", methods=["copy_ticks_from"])
    hanging = first.submit("copy_ticks_from", "BTCUSD", 0, 10, -1, timeout_s=60.0)
    direct = open_account()
    assert tickets(direct) == [ticket]
    assert send(direct, type=1, position=ticket).value.retcode == mt5.TRADE_RETCODE_DONE
    assert tickets(direct) == []
    # An emergency does not wait behind what hangs: that host is killed for it, and a new one asked.
    wait_until(lambda: _refused_as_closed(first, ticket))
    with pytest.raises(TerminalLost):
        hanging.result(timeout=10.0)


def _refused_as_closed(client: HostClient, ticket: int) -> bool:
    try:
        answer = send(client, type=1, position=ticket).value
    except TerminalLost:
        return False
    return answer is not None and answer.retcode == mt5.TRADE_RETCODE_POSITION_CLOSED

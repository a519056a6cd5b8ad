"""A terminal behind a classic RPyC server, in its own host, with the server as a real process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers.terminals.attach import AttachFailed, Attachment
from producers.terminals.client import HostClient, HostLimits, open_client
from producers.terminals.interface import TerminalHung
from producers.terminals.spec import TerminalSpec
from producers.terminals.structs import OrderSendResult
from tests.contract.terminal_cases import LOGIN, START_UTC_MS, SYMBOL

LIMITS = HostLimits(call_s=1.5, initialize_s=20.0, backoff_s=(0.05, 0.1))
PATIENCE_S = 30.0
ROOT = Path(__file__).parents[2]


class ClassicServer:
    """The server process; started again it takes the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.classic_server", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def server() -> Iterator[ClassicServer]:
    running = ClassicServer()
    yield running
    running.kill()


@pytest.fixture
def client(server: ClassicServer) -> Iterator[HostClient]:
    spec = TerminalSpec(kind="classic", address=f"127.0.0.1:{server.port}", login=LOGIN)
    attachment = Attachment(spec, symbols=(SYMBOL,))
    with open_client(spec, limits=LIMITS, attach=attachment) as opened:
        opened.wait_until_up(PATIENCE_S)
        yield opened


def test_values_come_as_values_and_what_is_asked_is_data_not_code(client: HostClient) -> None:
    assert client.call("account_info").value.login == LOGIN
    ticks = client.call("copy_ticks_from", SYMBOL, START_UTC_MS // 1000, 500, -1)
    assert ticks.value.dtype.itemsize == 60
    assert 0 < len(ticks.value) <= 500
    evil = "\"); __import__('os').system('exit') #'"
    assert client.call("symbol_info", evil).error == (-4, "Terminal: Not found")
    request = {"action": 1, "symbol": SYMBOL, "volume": 0.1, "type": 0, "price": 1.0}
    result = client.call("order_send", {**request, "deviation": 50, "type_filling": 1}).value
    assert isinstance(result, OrderSendResult)
    assert result.request.symbol == SYMBOL
    (position,) = client.call("positions_get", symbol=SYMBOL).value
    assert position.volume == 0.1


def test_a_call_that_never_comes_back_costs_a_host_and_nothing_more(client: HostClient) -> None:
    with pytest.raises(TerminalHung):
        client.call("symbol_info", "hang")
    assert client.call("symbol_info", SYMBOL).value.name == SYMBOL
    assert client.state().timeouts == 1


def test_a_server_that_dies_is_unknown_then_refused_then_back(
    client: HostClient, server: ClassicServer
) -> None:
    server.kill()
    lost = client.call("account_info")
    assert lost.unknown
    assert lost.error[0] == -10002
    with pytest.raises(AttachFailed, match="no connection to a terminal"):
        client.call("account_info")
    server.start()
    client.wait_until_up(PATIENCE_S)
    assert client.call("account_info").value.login == LOGIN

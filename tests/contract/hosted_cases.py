"""Terminals that are reached through a host: the same suite, over the wire.

The host's worker runs in a thread over real pipes here, so that each test gets a fresh terminal
in milliseconds; hosts as processes are tried in tests/integration/test_host.py.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from producers.terminals.client import HostClient, HostLimits, open_client
from producers.terminals.client.facade import TerminalFacade
from producers.terminals.host.worker import Worker
from producers.terminals.interface import Terminal
from producers.terminals.native import open_native
from producers.terminals.remote.classic import ClassicTerminal
from producers.terminals.remote.server import TerminalServer
from producers.terminals.simulated import SimulatedTerminal
from producers.terminals.spec import TerminalSpec
from producers.terminals.stand_in import build_module, installed
from producers.terminals.wire import (
    ANSWER_BYTES_MAX,
    PROTOCOL_VERSION,
    Kind,
    pack,
    read_frame,
    unpack,
    write_frame,
)
from tests.contract.terminal_cases import (
    EVERYTHING,
    LOCAL,
    Case,
    TerminalUnderTest,
    simulated_options,
)

OVER_THE_WIRE = EVERYTHING - {LOCAL}
TOKEN = "a-token-of-the-contract-suite"


class ThreadLink:
    """A host in this process, over pipes."""

    exact_end = True
    grace_s = begin_s = 0.0
    silence_s: float | None = None
    pid: int | None = None

    def __init__(self, terminal: Terminal) -> None:
        requests_in, requests_out = os.pipe()
        answers_in, answers_out = os.pipe()
        self._source = os.fdopen(requests_in, "rb")
        self._sink = os.fdopen(answers_out, "wb", buffering=0)
        self._requests = os.fdopen(requests_out, "wb", buffering=0)
        self._answers = os.fdopen(answers_in, "rb")
        self._writing = threading.Lock()
        self._worker = Worker(terminal, self._source, self._sink, kind="thread")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        write_frame(self._sink, pack((int(Kind.READY), PROTOCOL_VERSION, self._worker.facts())))
        self._worker.run()
        self._sink.close()

    def send(self, frame: bytes) -> None:
        with self._writing:
            write_frame(self._requests, frame)

    def receive(self) -> tuple[Any, ...] | None:
        body = read_frame(self._answers, bytes_max=ANSWER_BYTES_MAX)
        return None if body is None else unpack(body)

    def cut(self) -> None:
        with self._writing:
            self._requests.close()

    def close(self) -> str:
        self._thread.join()
        self._answers.close()
        self._source.close()
        return "thread"


@contextmanager
def _client_of(terminal: Terminal) -> Iterator[HostClient]:
    with HostClient(lambda: ThreadLink(terminal), limits=HostLimits(call_s=30.0)) as client:
        yield client


@contextmanager
def remote() -> Iterator[TerminalUnderTest]:
    """Through a terminal server, its host, and a client over TCP."""
    with _client_of(SimulatedTerminal(simulated_options())) as near:
        server = TerminalServer(near, token=TOKEN)
        server.start()
        spec = TerminalSpec(
            kind="remote", address=f"127.0.0.1:{server.port}", token=SecretStr(TOKEN)
        )
        try:
            with open_client(spec, limits=HostLimits(call_s=30.0)) as far:
                facade = TerminalFacade(far)
                yield TerminalUnderTest(facade, OVER_THE_WIRE, facade.advance, facade.inject)
        finally:
            server.close()


@contextmanager
def native() -> Iterator[TerminalUnderTest]:
    """The native adapter over a module named MetaTrader5, through a host."""
    simulated = SimulatedTerminal(simulated_options())
    with installed(simulated), _client_of(open_native()) as client:
        yield TerminalUnderTest(
            TerminalFacade(client), OVER_THE_WIRE, simulated.advance, simulated.inject
        )


@contextmanager
def classic() -> Iterator[TerminalUnderTest]:
    """A module named MetaTrader5 behind a classic RPyC server."""
    simulated = SimulatedTerminal(simulated_options())
    name = "contract_MetaTrader5"  # its own name: the suite may run beside others
    sys.modules[name] = build_module(simulated)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.02)
    closing = threading.Event()
    thread = threading.Thread(target=_serve_classic, args=(listener, closing))
    thread.start()
    terminal = ClassicTerminal("127.0.0.1", listener.getsockname()[1], module=name)
    try:
        yield TerminalUnderTest(terminal, OVER_THE_WIRE, simulated.advance, simulated.inject)
    finally:
        terminal.shutdown()
        closing.set()
        thread.join()
        listener.close()
        del sys.modules[name]


def _serve_classic(listener: socket.socket, closing: threading.Event) -> None:
    """What rpyc's classic server does, one connection after the other, and closed cleanly."""
    from rpyc.core.service import SlaveService
    from rpyc.core.stream import SocketStream
    from rpyc.utils.factory import connect_stream

    while not closing.is_set():
        try:
            connected, _ = listener.accept()
        except TimeoutError:
            continue
        connected.settimeout(None)
        connect_stream(SocketStream(connected), SlaveService).serve_all()


HOSTED: dict[str, Case] = {
    "remote": remote,
    "native": native,
    "classic": classic,
}

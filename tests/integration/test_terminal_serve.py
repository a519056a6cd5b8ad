"""A terminal lent over the network: token, TLS, one client at a time, lost links, hung hosts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from pydantic import SecretStr

from producers.terminals.client import HostClient, HostLimits, open_client
from producers.terminals.client.link import LocalLink
from producers.terminals.interface import NotSent, Priority, TerminalHung, TerminalLost
from producers.terminals.remote import identity, session
from producers.terminals.remote.server import ServerRefused, TerminalServer
from producers.terminals.spec import TerminalSpec
from producers.terminals.wire import (
    PROTOCOL_VERSION,
    Kind,
    pack,
    read_frame,
    unpack,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the scripted host is POSIX")

SCRIPTED = (sys.executable, "-m", "tests.integration.scripted_host")
TOKEN = "a-token-of-more-than-sixteen-characters"
LIMITS = HostLimits(call_s=1.0, wait_s=20.0, backoff_s=(0.02, 0.05), emergency_wait_s=None)
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def host() -> Iterator[HostClient]:
    """The terminal on the server's side, in its own host."""
    spec = TerminalSpec(kind="native")
    with HostClient(lambda: LocalLink(spec, command=SCRIPTED), limits=LIMITS) as client:
        client.wait_until_up(PATIENCE_S)
        yield client


Serve = Callable[..., TerminalServer]


@pytest.fixture
def serve(host: HostClient) -> Iterator[Serve]:
    """Starts servers of that terminal, ended with the test."""
    servers: list[TerminalServer] = []

    def started(**options: Any) -> TerminalServer:
        server = TerminalServer(host, token=TOKEN, **options)
        servers.append(server)
        server.start()
        return server

    yield started
    for server in servers:
        server.close()
    left = [t.name for t in threading.enumerate() if t.name.startswith(("from ", "to "))]
    assert left == []


def remote(server: TerminalServer, *, limits: HostLimits = LIMITS, **fields: Any) -> HostClient:
    fields = {"token": SecretStr(TOKEN), "address": f"127.0.0.1:{server.port}", **fields}
    return open_client(TerminalSpec(kind="remote", **fields), limits=limits)


def until(done: Callable[[], bool], *, what: str) -> None:
    due = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < due, f"{what}: not after {PATIENCE_S} s"
        time.sleep(0.005)


def test_calls_go_over_the_network_as_if_the_terminal_were_here(serve: Serve) -> None:
    with remote(serve()) as client:
        reply = client.call("symbol_info", "EURUSD")
        assert reply.value.name == "EURUSD"
        assert reply.error == (1, "Success")
        assert abs(reply.utc_ms - time.time() * 1000) < 60_000
        unknown = client.call("symbol_info", "raise")
        assert unknown.unknown
        answers = [client.submit("symbol_info", f"S{n}") for n in range(100)]
        assert [a.result(PATIENCE_S).value.name for a in answers] == [f"S{n}" for n in range(100)]
        assert client.state().facts["kind"] == "native"


def test_a_wrong_token_is_refused_and_says_so(serve: Serve) -> None:
    with (
        remote(serve(), token=SecretStr("another-token-altogether")) as client,
        pytest.raises(NotSent, match="wrong token"),
    ):
        client.call("symbol_info", "EURUSD")


def test_only_one_client_controls_a_terminal(serve: Serve) -> None:
    server = serve()
    with remote(server, name="first") as first:
        first.call("symbol_info", "S")
        with (
            remote(server, name="second") as second,
            pytest.raises(NotSent, match=r"first@.* controls this terminal already"),
        ):
            second.call("symbol_info", "S")
        assert first.call("symbol_info", "S").value.name == "S"
    until(lambda: server.controller() is None, what="the end of control")
    with remote(server, name="third") as third:
        assert third.call("symbol_info", "S").value.name == "S"


def test_a_lost_link_fails_its_calls_and_is_opened_again(serve: Serve, host: HostClient) -> None:
    proxy = Proxy(serve().port)
    with (
        proxy,
        remote(proxy, limits=replace(LIMITS, call_s=10.0)) as client,  # type: ignore[arg-type]
    ):
        running = client.submit("symbol_info", "sleep 0.3")
        until(lambda: client.state().running is not None, what="a running call")
        proxy.cut()
        with pytest.raises(TerminalLost) as error:
            running.result(PATIENCE_S)
        assert not isinstance(error.value, (NotSent, TerminalHung))
        assert client.call("symbol_info", "again").value.name == "again"
        assert client.state().restarts >= 1
    assert host.state().restarts == 0


def test_the_same_client_on_a_new_link_displaces_its_dead_one(serve: Serve) -> None:
    server = serve()
    hello = (int(Kind.HELLO), PROTOCOL_VERSION, TOKEN, "session-1", "me", False)
    with _connected(server) as old, _connected(server) as new:
        old.sendall(pack(hello))
        assert _message(old)[0] == Kind.READY
        new.sendall(pack(hello))
        assert _message(new)[0] == Kind.READY
        while read_frame(_Reading(old), bytes_max=10_000) is not None:
            pass  # beats, then the end


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    from producers.terminals.client.remote_link import RemoteLink

    monkeypatch.setattr(RemoteLink, "silence_s", 0.5)
    monkeypatch.setattr(session, "BEAT_S", 0.1)
    proxy = Proxy(serve().port)
    with proxy, remote(proxy) as client:  # type: ignore[arg-type]
        assert client.call("symbol_info", "S").value.name == "S"
        time.sleep(0.8)
        assert client.state().restarts == 0  # beats kept it alive
        proxy.freeze()
        until(lambda: client.state().restarts > 0, what="giving up the silent link")
        assert "nothing was heard" in client.state().last_error


def test_a_silent_client_loses_control(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setattr(session, "BEAT_S", 0.05)
    monkeypatch.setattr(session, "CLIENT_SILENCE_S", 0.3)
    server = serve()
    with _connected(server) as silent:
        hello = (int(Kind.HELLO), PROTOCOL_VERSION, TOKEN, "session-1", "silent", False)
        silent.sendall(pack(hello))
        assert _message(silent)[0] == Kind.READY
        until(lambda: server.controller() is None, what="the end of control")


def test_a_hung_terminal_hangs_neither_server_nor_link(serve: Serve) -> None:
    with remote(serve()) as client:
        before = client.call("host_info").value["pid"]
        hung = client.submit("symbol_info", "hang")
        others = [client.submit("symbol_info", f"S{n}") for n in range(10)]
        with pytest.raises(TerminalHung, match="did not return"):
            hung.result(PATIENCE_S)
        assert [o.result(PATIENCE_S).value.name for o in others] == [f"S{n}" for n in range(10)]
        assert client.call("host_info").value["pid"] != before
        state = client.state()
        assert (state.restarts, state.timeouts) == (0, 1)


def test_an_emergency_overtakes_on_the_far_side_too(serve: Serve, host: HostClient) -> None:
    with remote(serve(), limits=replace(LIMITS, call_s=10.0)) as client:
        client.call("symbol_info", "warm")
        client.submit("symbol_info", "sleep 0.8")
        until(lambda: host.state().running is not None, what="a running call")
        flood = [client.submit("symbol_info", f"f{n}", priority=Priority.TICKS) for n in range(60)]
        client.call("symbol_info", "emergency", priority=Priority.EMERGENCY)
        for future in flood:
            future.result(PATIENCE_S)
        served = list(client.call("symbols_get").value)
    assert served.index("emergency") < served.index("f5")


def test_calls_of_a_client_that_left_are_not_made(serve: Serve, host: HostClient) -> None:
    server = serve()
    client = remote(server, limits=replace(LIMITS, call_s=10.0))
    running = client.submit("symbol_info", "sleep 0.4")
    until(lambda: host.state().running is not None, what="a running call")
    for number in range(20):
        client.submit("symbol_info", f"orphan {number}")
    until(lambda: client.state().in_flight > 10, what="calls on their way")
    client.close()
    assert running.done()
    until(lambda: server.controller() is None, what="the end of control")
    until(lambda: host.state().running is None, what="an idle host")
    with remote(server) as another:
        served = another.call("symbols_get").value
    assert len([name for name in served if name.startswith("orphan")]) <= 3


def test_a_read_only_server_sends_no_orders(serve: Serve, tmp_path: Path) -> None:
    with remote(serve(read_only=True)) as client:
        journal = tmp_path / "order"
        with pytest.raises(NotSent, match="read-only"):
            client.call("order_send", {"symbol": "S", "comment": str(journal)})
        with pytest.raises(NotSent, match="read-only"):
            client.call("login", 5)
        assert client.call("symbol_info", "S").value.name == "S"
        assert not journal.exists()


def answers(observer: HostClient) -> bool:
    try:
        observer.call("symbol_info", "S")
    except NotSent:
        return False
    return True


def test_observers_read_beside_the_one_in_control_and_after_it(
    serve: Serve, host: HostClient, tmp_path: Path
) -> None:
    server = serve()
    limits = replace(LIMITS, call_s=10.0)
    with remote(server, limits=limits) as client, remote(server, observe=True) as observer:
        assert observer.call("symbol_info", "seen").value.name == "seen"
        with pytest.raises(NotSent, match="an observer only reads"):
            observer.call("order_send", {"symbol": "S", "comment": str(tmp_path / "order")})
        client.submit("symbol_info", "sleep 0.8")
        until(lambda: host.state().running is not None, what="a running call")
        reads = [
            observer.submit("symbol_info", f"read {n}", priority=Priority.EMERGENCY)
            for n in range(10)
        ]
        until(lambda: observer.state().in_flight > 5, what="reads on their way")
        client.call("symbol_info", "urgent", priority=Priority.TICKS)
        for read in reads:
            read.result(PATIENCE_S)
        served = list(client.call("symbols_get").value)
    assert served.index("urgent") <= served.index("read 5")
    watchers: list[HostClient] = []
    try:
        for number in range(4):  # the place of the one that left is free in a moment
            watchers.append(remote(server, observe=True, name=f"watcher {number}"))
            until(lambda: answers(watchers[-1]), what=f"a place for watcher {number}")
        watchers.append(remote(server, observe=True, name="one too many"))
        with pytest.raises(NotSent, match="4 clients observe"):
            watchers[-1].call("symbol_info", "S")
    finally:
        for watcher in watchers:
            watcher.close()


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        pack((int(Kind.CALL), 1, "version", (), {}, 3, 1.0, None)),
        pack((int(Kind.HELLO), PROTOCOL_VERSION, "x" * 5000, "s", "n")),
        pack((int(Kind.HELLO), PROTOCOL_VERSION)),
        b"",
    ],
)
def test_strangers_get_nothing(serve: Serve, first: bytes) -> None:
    server = serve()
    with _connected(server) as stranger:
        answer = b""
        with contextlib.suppress(OSError):  # the server may hang up before it heard us out
            stranger.sendall(first)
            stranger.shutdown(socket.SHUT_WR)
            while part := stranger.recv(1000):
                answer += part
        assert b"kind" not in answer
    with remote(server) as client:
        assert client.call("symbol_info", "S").value.name == "S"


def test_an_older_client_is_told_to_update(serve: Serve) -> None:
    with _connected(serve()) as old:
        old.sendall(pack((int(Kind.HELLO), 0, TOKEN, "s", "old")))
        kind, reason = _message(old)
        assert kind == Kind.REFUSED
        assert "update the older one" in reason


def test_beyond_this_machine_nothing_goes_without_tls(host: HostClient) -> None:
    with pytest.raises(ServerRefused, match="--self-signed"):
        TerminalServer(host, host="0.0.0.0", token=TOKEN)
    spec = TerminalSpec(kind="remote", address="192.0.2.1:1", token=SecretStr(TOKEN))
    with open_client(spec) as client, pytest.raises(NotSent, match="TLS is needed"):
        client.call("version")


def test_a_port_that_is_taken_is_named(serve: Serve, host: HostClient) -> None:
    with pytest.raises(ServerRefused, match="cannot listen"):
        TerminalServer(host, port=serve().port, token=TOKEN)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return authority, path


def _server_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_tls_with_an_authority(serve: Serve, authority: tuple[trustme.CA, Path]) -> None:
    server = serve(tls=_server_tls(authority[0], "127.0.0.1"))
    with remote(server, tls_ca_file=str(authority[1])) as client:
        answers = [client.submit("symbol_info", "x" * 1000) for _ in range(200)]
        assert all(a.result(PATIENCE_S).value.name == "x" * 1000 for a in answers)


def test_large_answers_cross_tls_whole(serve: Serve, authority: tuple[trustme.CA, Path]) -> None:
    spec = TerminalSpec(kind="simulated", options={"seed": 3})
    with open_client(spec, limits=replace(LIMITS, call_s=20.0)) as simulated:
        assert simulated.call("initialize").value
        server = TerminalServer(simulated, token=TOKEN, tls=_server_tls(authority[0], "127.0.0.1"))
        server.start()
        try:
            limits = replace(LIMITS, call_s=20.0)
            with remote(server, tls_ca_file=str(authority[1]), limits=limits) as client:
                from_s = int(time.time()) - 10 * 86400
                near = simulated.call("copy_ticks_from", "EURUSD", from_s, 50_000, -1).value
                far = client.call("copy_ticks_from", "EURUSD", from_s, 50_000, -1).value
                assert len(near) > 10_000
                assert np.array_equal(near.tobytes(), far.tobytes())
        finally:
            server.close()


@pytest.mark.parametrize("name", ["example.org", None])
def test_a_certificate_that_does_not_fit_is_refused(
    serve: Serve, authority: tuple[trustme.CA, Path], name: str | None
) -> None:
    signer = authority[0] if name else trustme.CA()
    server = serve(tls=_server_tls(signer, name or "127.0.0.1"))
    with (
        remote(server, tls_ca_file=str(authority[1])) as client,
        pytest.raises(NotSent, match="certificate"),
    ):
        client.call("symbol_info", "S")


def test_a_client_without_tls_and_one_with_it_in_vain_are_told(
    serve: Serve, authority: tuple[trustme.CA, Path]
) -> None:
    secure, plain = serve(tls=_server_tls(authority[0], "127.0.0.1")), serve()
    with remote(secure) as client, pytest.raises(TerminalLost):
        client.call("symbol_info", "S")
    with (
        remote(plain, tls_ca_file=str(authority[1])) as client,
        pytest.raises(TerminalLost, match="no connection"),
    ):
        client.call("symbol_info", "S")


def test_a_self_signed_certificate_is_pinned(serve: Serve, tmp_path: Path) -> None:
    certificate, key = identity.self_signed(tmp_path)
    assert identity.self_signed(tmp_path) == (certificate, key)
    assert key.stat().st_mode & 0o077 == 0
    server = serve(tls=identity.server_context(certificate, key))
    pin = identity.fingerprint(certificate)
    with remote(server, tls_fingerprint=pin) as client:
        assert client.call("symbol_info", "S").value.name == "S"
    with (
        remote(server, tls_fingerprint="00" * 32) as client,
        pytest.raises(NotSent, match="another certificate"),
    ):
        client.call("symbol_info", "S")


def test_a_token_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "token"
    token, created = identity.load_or_create_token(path)
    assert created
    assert len(token) >= 32
    assert path.stat().st_mode & 0o077 == 0
    assert identity.load_or_create_token(path) == (token, False)
    path.write_text("short\n")
    with pytest.raises(identity.IdentityError, match="at least 16"):
        identity.load_or_create_token(path)


def test_the_command_serves_a_simulated_terminal_until_it_is_stopped(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = "from producers.serving.cli import serve; serve()"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(root),
        "BRIDGE_STATE_DIR": str(tmp_path),
        "BRIDGE_ENV_FILE": str(tmp_path / "none.env"),
    }
    arguments = ["--terminal", "simulated", "--listen", "127.0.0.1:0", "--self-signed", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        spec = TerminalSpec(
            kind="remote",
            address=facts["listen"],
            token=SecretStr(facts["token"]),
            tls_fingerprint=facts["fingerprint"],
        )
        with open_client(spec, limits=replace(LIMITS, call_s=20.0)) as client:
            assert client.call("account_info").value.login > 0
            host_pid = client.call("host_info").value["pid"]
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE_S)
        process.stdout.close()  # type: ignore[union-attr]
    assert code == 0
    with pytest.raises(ProcessLookupError):
        os.kill(host_pid, 0)
    assert facts["token"] == (tmp_path / "terminal-server" / "token").read_text().strip()


class Proxy:
    """TCP between client and server that can be cut or frozen."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._flowing = threading.Event()
        self._flowing.set()
        self._acceptor = threading.Thread(target=self._accept)

    def __enter__(self) -> Proxy:
        self._acceptor.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._flowing.set()
        self._acceptor.join()
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def cut(self) -> None:
        """End every connection there is; new ones are let through."""
        for pair in self._pairs:
            for side in pair:
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Let nothing through any more, and end nothing."""
        self._flowing.clear()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            far = socket.create_connection(self._target)
            self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pump, args=(source, sink))
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with source, contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                self._flowing.wait()
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)


class _Reading:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self, size: int) -> bytes:
        return self._connection.recv(size)


def _connected(server: TerminalServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def _message(connection: socket.socket) -> tuple[Any, ...]:
    body = read_frame(_Reading(connection), bytes_max=100_000)
    assert body is not None
    return unpack(body)

"""The client's line to a terminal server: TCP, TLS where it leaves the machine, a token."""

from __future__ import annotations

import hashlib
import hmac
import os
import platform
import socket
import ssl
from typing import Any

from producers.terminals.client.duplex import DuplexSocket
from producers.terminals.client.link import LinkFailed
from producers.terminals.spec import TerminalSpec
from producers.terminals.wire import (
    ANSWER_BYTES_MAX,
    HELLO_BYTES_MAX,
    PROTOCOL_VERSION,
    Kind,
    WireError,
    pack,
    read_frame,
    unpack,
    write_frame,
)

CONNECT_S = 10.0
SILENCE_S = 6.0
"""The server says something each second; silence for so long means that the line is dead."""
GRACE_S = 3.0
"""The server judges deadlines itself; ours are the second line, so they come a little later."""
BEGIN_S = 90.0
"""A call may wait at the server while its host is started anew."""
_LOOPBACK = ("127.", "localhost", "::1")
_BEAT = pack((int(Kind.BEAT),))


def is_loopback(host: str) -> bool:
    """True for addresses that never leave the machine."""
    return host.startswith(_LOOPBACK[0]) or host in _LOOPBACK[1:]


class RemoteLink:
    """A connection to `bridgectl terminal serve`.

    `session` tells the server that a new connection is ours, so that it drops the old one.
    """

    exact_end = False
    grace_s = GRACE_S
    begin_s = BEGIN_S
    silence_s: float | None = SILENCE_S
    pid: int | None = None

    def __init__(self, spec: TerminalSpec, *, session: str) -> None:
        """Connect and say hello. Raises LinkFailed."""
        host, port = spec.host_and_port()
        self._where = f"{host}:{port}"
        if not spec.with_tls and not is_loopback(host):
            raise LinkFailed(
                f"the terminal at {self._where} is not on this machine: TLS is needed"
                " (tls, tls_ca or tls_fingerprint), or an SSH tunnel to 127.0.0.1"
            )
        assert spec.token is not None
        try:
            self._socket = DuplexSocket(self._connect(spec, host, port))
        except (OSError, ssl.SSLError) as error:
            raise LinkFailed(self._no_connection(error)) from error
        token = spec.token.get_secret_value()
        name = f"{spec.name}@{platform.node()}:{os.getpid()}"
        try:
            hello = pack(
                (int(Kind.HELLO), PROTOCOL_VERSION, token, session, name, spec.observe),
                bytes_max=HELLO_BYTES_MAX,
            )
            write_frame(self._socket, hello)
        except (OSError, WireError) as error:
            self._socket.close()
            raise LinkFailed(f"the terminal server at {self._where}: {error}") from error

    def send(self, frame: bytes) -> None:
        write_frame(self._socket, frame)

    def receive(self) -> tuple[Any, ...] | None:
        body = read_frame(self._socket, bytes_max=ANSWER_BYTES_MAX)
        if body is None:
            return None
        message = unpack(body)
        if message[0] == Kind.BEAT:  # the server asks whether we are still there
            write_frame(self._socket, _BEAT)
        return message

    def cut(self) -> None:
        self._socket.cut()

    def close(self) -> str:
        self._socket.close()
        return f"connection to {self._where}"

    def _connect(self, spec: TerminalSpec, host: str, port: int) -> socket.socket:
        plain = socket.create_connection((host, port), timeout=CONNECT_S)
        if not spec.with_tls:
            return plain
        try:
            context = client_context(spec)
            secure = context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        try:
            if spec.tls_fingerprint is not None:
                check_fingerprint(secure, spec.tls_fingerprint)
        except LinkFailed:
            secure.close()
            raise
        return secure

    def _no_connection(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            cure = "set tls_ca to its authority, or tls_fingerprint to what the server printed"
        elif isinstance(error, ssl.SSLError):
            cure = "one side uses TLS and the other does not?"
        elif isinstance(error, ConnectionRefusedError):
            cure = "start `bridgectl terminal serve` there, check address and firewall"
        else:
            cure = "check address, network and firewall"
        return f"no connection to the terminal server at {self._where}: {error}; {cure}"


def client_context(spec: TerminalSpec) -> ssl.SSLContext:
    """Verifies by authority (system's or given), or leaves it to `check_fingerprint`."""
    context = ssl.create_default_context(cafile=spec.tls_ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if spec.tls_fingerprint is not None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def check_fingerprint(secure: ssl.SSLSocket, expected: str) -> None:
    """Raises LinkFailed when the server's certificate is not the pinned one."""
    certificate = secure.getpeercert(binary_form=True) or b""
    found = hashlib.sha256(certificate).hexdigest()
    if not hmac.compare_digest(found, expected):
        raise LinkFailed(
            f"the terminal server shows another certificate (sha256:{found}) than the pinned"
            " one: somebody is in between, or it was made anew"
        )

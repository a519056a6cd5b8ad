"""A TCP or TLS connection that one thread reads while others write.

OpenSSL allows one thread at a time in a connection, so both directions share a lock; it is held
for one non-blocking step only, and all waiting happens outside it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
from threading import Lock

CHUNK_BYTES = 1 << 18
LOOK_S = 0.5
"""A waiting side looks at least so often whether the connection was cut."""
KEEPALIVE_IDLE_S = 10
KEEPALIVE_EVERY_S = 5
KEEPALIVE_TIMES = 3


class DuplexSocket:
    """A connected socket, plain or TLS (its handshake done), with `read` and `write`.

    `stall_s`: a write that makes no progress for so long fails.
    """

    def __init__(self, sock: socket.socket, *, stall_s: float = 30.0) -> None:
        _keep_alive(sock)
        sock.setblocking(False)
        self._sock = sock
        self._stall_s = stall_s
        self._step = Lock()
        self._writing = Lock()
        self._buffer = b""
        self._cut = False
        self._readable = selectors.DefaultSelector()
        self._readable.register(sock, selectors.EVENT_READ)
        self._writable = selectors.DefaultSelector()
        self._writable.register(sock, selectors.EVENT_WRITE)

    def read(self, size: int) -> bytes:
        """Between 1 and `size` bytes; none at the end. From one thread. Raises OSError."""
        if not self._buffer:
            self._buffer = self._receive()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def write(self, frame: bytes | memoryview) -> int:
        """Write all of it. From any thread. Raises OSError."""
        rest = memoryview(frame)
        with self._writing:
            while rest:
                sent = self._send(rest[:CHUNK_BYTES])
                rest = rest[sent:]
        return len(frame)

    def cut(self) -> None:
        """End the connection: waiting readers and writers return at once."""
        self._cut = True
        with self._step, contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket; nobody may read or write any more."""
        self.cut()
        with self._writing:
            self._readable.close()
            self._writable.close()
            self._sock.close()

    def _receive(self) -> bytes:
        while not self._cut:
            try:
                with self._step:
                    return self._sock.recv(CHUNK_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._readable.select(LOOK_S)
            except ssl.SSLWantWriteError:
                self._writable.select(LOOK_S)
            except ssl.SSLEOFError:
                return b""
        return b""

    def _send(self, part: memoryview) -> int:
        waited_s = 0.0
        while not self._cut:
            try:
                with self._step:
                    return self._sock.send(part)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if waited_s >= self._stall_s:
                    raise TimeoutError(f"nothing was taken for {self._stall_s:g} s") from None
                if not self._writable.select(LOOK_S):
                    waited_s += LOOK_S
        raise OSError("the connection was cut")


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_EVERY_S),
        ("TCP_KEEPCNT", KEEPALIVE_TIMES),
    ):
        option = getattr(socket, name, None)  # not every system lets us set all of them
        if option is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)

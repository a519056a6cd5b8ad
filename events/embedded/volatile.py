"""A stand-in for Redis where no server binary exists (Windows): for demonstrations only.

It is fakeredis' TCP server in a process of its own. It forgets everything when it ends, knows no
password and lacks parts of Redis (`#!lua`, INFO, MEMORY, CONFIG).
`python -m events.embedded.volatile PORT` runs it until its standard input ends.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from events.embedded.server import (
    LOOPBACK,
    POLL_S,
    START_WAIT_S,
    EmbeddedError,
    EmbeddedServer,
)
from events.settings.addresses import EMBEDDED_REDIS

STOP_WAIT_S = 5.0
_PING, _PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG"


class VolatileRedis(EmbeddedServer):
    """The stand-in, on loopback; it lives no longer than the process that started it."""

    volatile = True

    def __init__(self, state_dir: Path, *, start_wait_s: float = START_WAIT_S) -> None:
        super().__init__(state_dir, EMBEDDED_REDIS, start_wait_s=start_wait_s)
        self._process: subprocess.Popen[bytes] | None = None

    def _launch(self, port: int, deadline: float) -> str:
        url = f"redis://{LOOPBACK}:{port}/0"
        errors = self.folder / "volatile.log"
        with errors.open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "events.embedded.volatile", str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        while not self._answers(url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._halt()
                raise EmbeddedError(
                    "the stand-in for Redis does not start (is fakeredis installed? "
                    'pip install "mt5-stream-bridge[embedded]"); or set REDIS_URL'
                )
            time.sleep(POLL_S)
        return url

    def _answers(self, url: str) -> bool:
        port = int(url.rsplit(":", 1)[1].partition("/")[0])
        try:
            with socket.create_connection((LOOPBACK, port), 2.0) as link:
                link.settimeout(2.0)
                link.sendall(_PING)
                return link.recv(64).startswith(_PONG)
        except OSError:
            return False

    def _halt(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WAIT_S)
        if process.poll() is None:
            process.kill()
            process.wait()


def serve(port: int) -> None:
    """Serve until standard input ends (the parent is gone or wants an end)."""
    from fakeredis import TcpFakeServer

    server = TcpFakeServer((LOOPBACK, port), server_type="redis")
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))

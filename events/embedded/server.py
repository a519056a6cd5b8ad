"""An embedded server of one state folder: who owns it, where it listens, how others find it.

The first process that asks starts the server and owns it; further ones use it. Ownership is a
lock that the operating system frees when the owner dies: the next process that asks then adopts
the server if it still runs, and stops it when it ends.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path

from events.embedded.file_lock import FileLock
from events.settings.addresses import ADDRESS_FILE, embedded_address

LOOPBACK = "127.0.0.1"
START_TRIES_MAX = 5
START_WAIT_S = 120.0
"""How long a server may take to come up (it may have to recover after a crash)."""
POLL_S = 0.02
PASSWORD_BYTES = 24

log = logging.getLogger(__name__)


class EmbeddedError(RuntimeError):
    """An embedded server cannot be used. The message names cause and cure."""


class EmbeddedServer(ABC):
    """One server with its data under `state_dir / name`."""

    volatile = False
    """Whether everything is forgotten when the server ends."""

    def __init__(self, state_dir: Path, name: str, *, start_wait_s: float = START_WAIT_S) -> None:
        self.name = name
        self.folder = state_dir / name
        self.owned = False
        self._state_dir = state_dir
        self._lock = FileLock(self.folder / "owner.lock")
        self._start_wait_s = start_wait_s
        self.url = ""

    def start(self) -> str:
        """Start the server, or use the one that runs; returns its address with credentials.

        Raises EmbeddedError.
        """
        make_private(self.folder)
        deadline = time.monotonic() + self._start_wait_s
        while not self._lock.acquire():
            url = embedded_address(self._state_dir, self.name)
            if url is not None and self._answers(url):
                log.info("using the embedded %s that already runs", self.name)
                self.url = url
                return url
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"the embedded {self.name} of {self.folder} belongs to a process that does "
                    "not bring it up: stop that process, or choose another BRIDGE_STATE_DIR"
                )
            time.sleep(POLL_S)
        try:
            self.url = self._adopt_or_launch(deadline)
        except BaseException:
            self._lock.release()
            raise
        self.owned = True
        return self.url

    def stop(self) -> None:
        """Stop the server cleanly if it is ours."""
        if not self.owned:
            return
        try:
            (self.folder / ADDRESS_FILE).unlink(missing_ok=True)
            self._halt()
        finally:
            self.owned = False
            self._lock.release()

    def died(self) -> bool:
        """Whether a server that we started has ended, and not by us."""
        return False

    def start_again(self) -> None:
        """Bring a server that died up again, where its users know it. Raises EmbeddedError."""
        self._launch(self._port_before(), time.monotonic() + self._start_wait_s)

    def stop_orphan(self) -> bool:
        """Stop a server that runs although its owner died; True when there was one.

        Raises EmbeddedError.
        """
        url = embedded_address(self._state_dir, self.name)
        if url is None or not self._lock.acquire():
            return False
        self.owned, self.url = True, url
        if not self._answers(url):
            self.owned = False
            self._lock.release()
            return False
        self.stop()
        return True

    def _adopt_or_launch(self, deadline: float) -> str:
        url = embedded_address(self._state_dir, self.name)
        if url is not None and self._answers(url):
            log.warning("adopting the embedded %s whose owner has died", self.name)
            return url
        last = "no try was made"
        for _ in range(START_TRIES_MAX):
            port = free_port(preferred=self._port_before())
            try:
                url = self._launch(port, deadline)
            except EmbeddedError as error:
                if time.monotonic() > deadline:
                    raise
                last = str(error)
                continue
            write_private(self.folder / ADDRESS_FILE, url)
            write_private(self.folder / "port", str(port))
            return url
        raise EmbeddedError(last)

    def _port_before(self) -> int:
        try:
            return int((self.folder / "port").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def password(self) -> str:
        """The server's random password, kept in a file that only we can read."""
        path = self.folder / "password"
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            text = ""
        if not text:
            text = secrets.token_hex(PASSWORD_BYTES)
            write_private(path, text)
        return text

    @abstractmethod
    def _launch(self, port: int, deadline: float) -> str:
        """Start the server on `port` and wait until it answers. Raises EmbeddedError."""

    @abstractmethod
    def _answers(self, url: str) -> bool:
        """Whether the server behind `url` is up and is ours."""

    @abstractmethod
    def _halt(self) -> None:
        """Stop the server so that nothing is lost."""


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can look into."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise EmbeddedError(
            f"{folder} cannot be written ({error.strerror}): set BRIDGE_STATE_DIR to a folder "
            "that can"
        ) from error


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner can read, all or nothing."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def free_port(*, preferred: int = 0) -> int:
    """A free loopback port, the preferred one where that is free."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EmbeddedError(f"no free port on {LOOPBACK}: end some programs")


def tail_of(path: Path, *, bytes_max: int = 2_000) -> str:
    """The end of a server's log, for an error message."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - bytes_max))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return f"{path} cannot be read"
    return " | ".join(lines[-3:]) if lines else "its log is empty"

"""The guard's own socket on loopback: how `bridgectl flatten` reaches it with everything else dead.

Frames as between a host and its client (`producers.terminals.wire`); the first one shows the token
of a file that only the user can read. Sizes and connections are bounded; a connection that says
nothing is closed.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock, Thread, current_thread
from typing import Any

from events.embedded.server import write_private
from events.log import LogError
from producers.guard.ways.serving import Told, serve_call
from producers.terminals.wire import (
    PROTOCOL_VERSION,
    Kind,
    WireError,
    pack,
    read_call,
    read_frame,
    unpack,
    write_frame,
)

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
ADDRESS_FILE = "address"
FRAME_BYTES_MAX = 1 << 16
ANSWER_BYTES_MAX = 4 << 20
CONNECTIONS_MAX = 8
IDLE_S = 30.0
HELLO_S = 5.0
BAD_TOKEN_WAIT_S = 0.5
TOKEN_BYTES = 32
ACCEPT_LOOK_S = 0.5
OK = (1, "Success")


class GuardSocket:
    """Listens from its construction, serves from `start` until `close`."""

    def __init__(
        self, told: Told, folder: Path, *, on_beat: Callable[[], None] = lambda: None
    ) -> None:
        """`on_beat` hears of a client's sign of life. Raises OSError."""
        self._told, self._on_beat = told, on_beat
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._lock = Lock()
        self._connections: dict[Thread, socket.socket] = {}
        self._welcome_to: set[Thread] = set()
        """Those of them that showed the token."""
        self._closing = False
        self._listener = socket.create_server((LOOPBACK, 0))
        self._listener.settimeout(ACCEPT_LOOK_S)
        self.port: int = self._listener.getsockname()[1]
        self._path = folder / ADDRESS_FILE
        self._thread = Thread(target=self._accept, name="guard-socket", daemon=True)

    def start(self) -> None:
        """Write the address and serve in the background. Raises OSError."""
        address = {"host": LOOPBACK, "port": self.port, "token": self._token, "pid": os.getpid()}
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self._path, json.dumps(address))
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._closing = True
        with contextlib.suppress(OSError):  # wakes `accept` at once where the system can
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()
        self._forget_address()
        with self._lock:
            open_now = dict(self._connections)
        for connection in open_now.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in open_now:
            thread.join(IDLE_S)

    def _forget_address(self) -> None:
        """Unless another guard wrote its own there meanwhile."""
        with contextlib.suppress(OSError, ValueError):
            if json.loads(self._path.read_text("utf-8")).get("port") == self.port:
                self._path.unlink()

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._closing:
                    logger.error("the guard's socket: %s", error)
                    time.sleep(ACCEPT_LOOK_S)
                continue
            thread = Thread(target=self._serve, args=(connection,), name="guard-line", daemon=True)
            with self._lock:
                crowded = len(self._connections) >= CONNECTIONS_MAX and not self._make_room()
                if not crowded:
                    self._connections[thread] = connection
            if crowded:
                connection.close()
                continue
            thread.start()

    def _make_room(self) -> bool:
        """End the oldest line that did not show the token yet: whoever may connect to this port
        must not be able to keep its owner out. False: all did. Called under the lock."""
        silent = next((one for one in self._connections if one not in self._welcome_to), None)
        if silent is None:
            return False
        with contextlib.suppress(OSError):
            self._connections.pop(silent).shutdown(socket.SHUT_RDWR)
        return True

    def _serve(self, connection: socket.socket) -> None:
        thread = current_thread()
        try:
            connection.settimeout(HELLO_S)
            with connection.makefile("rwb", buffering=0) as line:
                if self._welcome(line):
                    connection.settimeout(IDLE_S)
                    with self._lock:
                        self._welcome_to.add(thread)
                    while (body := read_frame(line, bytes_max=FRAME_BYTES_MAX)) is not None:
                        write_frame(line, self._answer(unpack(body)))
        except (OSError, WireError, ValueError) as error:
            logger.warning("a line to the guard ended: %s", error)
        finally:
            connection.close()
            with self._lock:
                self._connections.pop(thread, None)
                self._welcome_to.discard(thread)

    def _welcome(self, line: Any) -> bool:
        body = read_frame(line, bytes_max=FRAME_BYTES_MAX)
        message = unpack(body) if body is not None else (None,)
        if len(message) != 3 or message[0] != Kind.HELLO:
            raise WireError("no hello came")
        if message[1] != PROTOCOL_VERSION:
            text = f"this guard speaks version {PROTOCOL_VERSION}: update the older side"
        elif not hmac.compare_digest(str(message[2]).encode(), self._token.encode()):
            time.sleep(BAD_TOKEN_WAIT_S)  # guessing must be slow; connections are few
            text = "wrong token: read the guard's address file anew"
        else:
            write_frame(line, pack((int(Kind.READY), PROTOCOL_VERSION, {})))
            return True
        logger.warning("a line to the guard was refused: %s", text)
        write_frame(line, pack((int(Kind.REFUSED), text)))
        return False

    def _answer(self, message: tuple[Any, ...]) -> bytes:
        if message[0] == Kind.BEAT:
            self._on_beat()
            return pack((int(Kind.BEAT),))
        call = read_call(message)
        begun = time.perf_counter()
        try:
            value, error = serve_call(self._told, call.method, call.args, via="socket"), OK
        except (ValueError, IndexError, TypeError) as problem:
            value, error = None, (-2, " ".join(str(problem).split())[:500])
        except LogError as problem:
            value, error = None, (-1, str(problem))
        took_ms = (time.perf_counter() - begun) * 1000
        now_ms = time.time_ns() // 1_000_000
        return pack(
            (int(Kind.ANSWER), call.id, value, *error, now_ms, took_ms), bytes_max=ANSWER_BYTES_MAX
        )

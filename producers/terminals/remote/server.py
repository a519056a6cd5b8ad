"""The terminal server: lets one bridge elsewhere use the terminal of this machine.

The terminal runs in its own supervised host, so that a hung terminal does not hang the server.
A connection shows its token first and is then the one that controls the terminal, until it goes;
others are refused by name. A few may read beside it (observers), after everything it asks. What
stands beside the server (a guard) shares its HostClient.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import socket
import ssl
import time
from threading import Lock, Thread, current_thread

from producers.terminals.client.duplex import DuplexSocket
from producers.terminals.client.remote_link import is_loopback
from producers.terminals.history_host import ServedClient
from producers.terminals.remote.session import GuardCall, Session
from producers.terminals.wire import (
    PROTOCOL_VERSION,
    Kind,
    WireError,
    pack,
    read_frame,
    unpack,
    write_frame,
)

logger = logging.getLogger(__name__)

OPENING_S = 10.0
"""From accepting a connection until its TLS handshake and hello are done."""
OPENING_BYTES_MAX = 4096
CONNECTIONS_MAX = 16
OBSERVERS_MAX = 4
BAD_TOKEN_WAIT_S = 1.0
ACCEPT_LOOK_S = 0.5


class ServerRefused(Exception):
    """The server cannot be started as asked; the text says what to do."""


class TerminalServer:
    """Listens from its construction, serves from `start` until `close`."""

    def __init__(
        self,
        client: ServedClient,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str,
        tls: ssl.SSLContext | None = None,
        read_only: bool = False,
        guard: GuardCall | None = None,
    ) -> None:
        """`guard` answers calls for the guard beside the server.

        Raises ServerRefused (no TLS beyond this machine, port taken).
        """
        if tls is None and not is_loopback(host):
            raise ServerRefused(
                f"to listen on {host} give --self-signed, or --cert and --key: without TLS only"
                " 127.0.0.1 is allowed (reach it through an SSH tunnel)"
            )
        self._client = client
        self._token = token.encode()
        self._tls = tls
        self._read_only = read_only
        self._guard = guard
        self._lock = Lock()
        self._threads: set[Thread] = set()
        self._sessions: set[Session] = set()
        self._controller: Session | None = None
        self._closing = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ServerRefused(f"cannot listen on {host}:{port}: {error}") from error
        self._listener.settimeout(ACCEPT_LOOK_S)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = Thread(target=self._accept, name="terminal-server", daemon=True)

    def start(self) -> None:
        """Serve in the background."""
        self._acceptor.start()

    def controller(self) -> str | None:
        """Who controls the terminal now."""
        with self._lock:
            return None if self._controller is None else self._controller.who

    def close(self) -> None:
        """Stop listening and end all connections; the HostClient stays its owner's."""
        self._closing = True
        with contextlib.suppress(OSError):  # wakes `accept` at once where the system can
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._acceptor.is_alive():
            self._acceptor.join()
        self._listener.close()
        with self._lock:
            sessions, threads = list(self._sessions), list(self._threads)
        for session in sessions:
            session.end("the terminal server is stopping")
        for thread in threads:
            thread.join(OPENING_S)

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, address = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._closing:
                    logger.error("accepting connections failed: %s", error)
                    time.sleep(ACCEPT_LOOK_S)  # out of file handles, most likely
                continue
            where = f"{address[0]}:{address[1]}"
            with self._lock:
                crowded = len(self._threads) >= CONNECTIONS_MAX
            if crowded:
                logger.warning("%s refused: %d connections already", where, CONNECTIONS_MAX)
                connection.close()
                continue
            thread = Thread(
                target=self._handle, args=(connection, where), name=f"from {where}", daemon=True
            )
            with self._lock:
                self._threads.add(thread)
            thread.start()

    def _handle(self, connection: socket.socket, where: str) -> None:
        """One connection from its first byte to its end."""
        duplex: DuplexSocket | None = None
        try:
            connection.settimeout(OPENING_S)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            session_id, name, observes = self._welcome(connection, where)
            duplex = DuplexSocket(connection)
            session = Session(
                duplex, self._client, who=f"{name} from {where}", id=session_id,
                observes=observes, read_only=self._read_only, guard=self._guard,
            )  # fmt: skip
            self._admit(session)
            try:
                session.run()
            finally:
                self._dismiss(session)
        except _Refused as refused:
            logger.warning("%s refused: %s", where, refused)
            self._say_refused(duplex, connection, str(refused))
        except (OSError, WireError, ValueError) as error:
            logger.warning("connection from %s ended: %s", where, error)
        finally:
            if duplex is not None:
                duplex.close()
            connection.close()
            with self._lock:
                self._threads.discard(current_thread())

    def _welcome(self, connection: socket.socket, where: str) -> tuple[str, str, bool]:
        """Check version and token of the first frame; the session's id, name, whether it only
        observes."""
        body = read_frame(_Opening(connection), bytes_max=OPENING_BYTES_MAX)
        if body is None:
            raise WireError("no hello came")
        message = unpack(body)
        if len(message) < 2 or message[0] != Kind.HELLO:
            raise WireError("no hello came")
        if message[1] != PROTOCOL_VERSION:
            raise _Refused(
                f"this server speaks version {PROTOCOL_VERSION}, the client {message[1]}:"
                " update the older one"
            )
        _, _, token, session_id, name, observes = message
        if not hmac.compare_digest(str(token).encode(), self._token):
            time.sleep(BAD_TOKEN_WAIT_S)  # guessing must be slow; connections are few
            raise _Refused("wrong token: set the one that the terminal server uses")
        return str(session_id)[:64], str(name)[:64], observes is True

    def _admit(self, session: Session) -> None:
        """Raises _Refused when another client controls the terminal, or too many observe it."""
        with self._lock:
            if self._closing:
                raise _Refused("the terminal server is stopping")
            held = None if session.observes else self._controller
            if held is not None and held.id != session.id:
                raise _Refused(f"{held.who} controls this terminal already; only one client may")
            if session.observes and sum(one.observes for one in self._sessions) >= OBSERVERS_MAX:
                raise _Refused(f"{OBSERVERS_MAX} clients observe this terminal already")
            self._sessions.add(session)
            if not session.observes:
                self._controller = session
        if held is not None:
            held.end("its client connected again")
        does = "observes" if session.observes else "controls"
        logger.info("%s %s the terminal", session.who, does)

    def _dismiss(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)
            if self._controller is session:
                self._controller = None
        logger.info("%s has gone", session.who)

    def _say_refused(
        self, duplex: DuplexSocket | None, connection: socket.socket, reason: str
    ) -> None:
        frame = pack((int(Kind.REFUSED), reason))
        with contextlib.suppress(OSError):
            if duplex is not None:
                write_frame(duplex, frame)
            else:
                connection.sendall(frame)


class _Refused(Exception):
    """A client is not let in; it is told why."""


class _Opening:
    """Reads of a socket that nobody else uses yet."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self, size: int) -> bytes:
        return self._connection.recv(size)

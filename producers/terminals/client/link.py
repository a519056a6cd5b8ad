"""The line from a client to its host, whatever carries it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from threading import Lock
from typing import Any, Protocol

from producers.terminals.client.process import ChildProcess
from producers.terminals.interface import NotSent
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


class LinkFailed(NotSent):
    """No line to a host could be opened."""


class Link(Protocol):
    """An open line. `send` and `cut` come from any thread, `receive` from one."""

    exact_end: bool
    """True when everything the host wrote is read before the end of the line is seen."""
    silence_s: float | None
    """The line is dead when nothing came for so long; None where silence means nothing."""
    grace_s: float
    """Added to deadlines, where somebody else judges them first."""
    begin_s: float
    """How long a call that was sent may rightly wait before it is begun."""
    pid: int | None

    def send(self, frame: bytes) -> None:
        """Raises OSError."""
        ...

    def receive(self) -> tuple[Any, ...] | None:
        """The next message, None at the end. Raises OSError, WireError."""
        ...

    def cut(self) -> None:
        """End it now, the host with it if it is ours; more than once does no harm."""
        ...

    def close(self) -> str:
        """After the end: free everything; what is known about why it ended."""
        ...


class LocalLink:
    """A host that is our own child, over its stdin and stdout."""

    exact_end = True
    silence_s: float | None = None
    grace_s = 0.0
    begin_s = 0.0

    def __init__(self, spec: TerminalSpec, *, command: Sequence[str] | None = None) -> None:
        """Start the host and send it its spec. Raises LinkFailed."""
        if command is None:
            command = (sys.executable, "-X", "faulthandler", "-m", "producers.terminals.host")
        argv = (*command, "--parent", str(os.getpid()))
        try:
            self._child = ChildProcess(argv, name=spec.name)
        except OSError as error:
            raise LinkFailed(f"the host process does not start: {error}") from error
        self._writing = Lock()
        self.pid: int | None = self._child.pid
        hello = (int(Kind.HELLO), PROTOCOL_VERSION, spec.to_wire())
        try:
            self.send(pack(hello, bytes_max=HELLO_BYTES_MAX))
        except (OSError, WireError) as error:
            self.cut()
            raise LinkFailed(f"the host did not take its spec: {error}; {self.close()}") from error

    def send(self, frame: bytes) -> None:
        with self._writing:
            try:
                write_frame(self._child.stdin, frame)
                self._child.stdin.flush()
            except ValueError as error:  # the pipe was closed meanwhile
                raise OSError(str(error)) from error

    def receive(self) -> tuple[Any, ...] | None:
        body = read_frame(self._child.stdout, bytes_max=ANSWER_BYTES_MAX)
        return None if body is None else unpack(body)

    def cut(self) -> None:
        self._child.kill()

    def close(self) -> str:
        code = self._child.reap()
        words = self._child.last_words()
        return f"exit code {code}" + (f", last words: {words}" if words else "")

"""A line to a guard's socket: for commands of people, and for `--direct` to see who lives."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from events.decisions import Command
from events.guarding import GuardState
from producers.guard.commands import Answer
from producers.guard.journal import HeardRow
from producers.guard.ways.socket_server import ADDRESS_FILE, ANSWER_BYTES_MAX, FRAME_BYTES_MAX
from producers.terminals.interface import Priority
from producers.terminals.wire import (
    PROTOCOL_VERSION,
    Kind,
    WireError,
    pack,
    read_frame,
    unpack,
    write_frame,
)

CONNECT_S = 2.0
ANSWER_S = 10.0
RESUME_ANSWER_S = 45.0
"""A resume waits for the flatten that it stops (20 s), and for both copies of the latch."""


class NoGuard(Exception):
    """No guard answers there. The message says why."""


class GuardLine:
    """One connection; for one thread. Close it."""

    def __init__(self, folder: Path, *, answer_s: float = ANSWER_S) -> None:
        """Connect to the guard of a folder. Raises NoGuard."""
        try:
            address = json.loads((folder / ADDRESS_FILE).read_text("utf-8"))
            host, port, token = str(address["host"]), int(address["port"]), str(address["token"])
        except FileNotFoundError as error:
            raise NoGuard("no guard runs here (it left no address)") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NoGuard(f"the guard's address in {folder} cannot be read: {error}") from error
        self._ids = 0
        try:
            self._socket = socket.create_connection((host, port), timeout=CONNECT_S)
        except OSError as error:
            raise NoGuard(f"no guard answers on port {port}: {error}") from error
        self._socket.settimeout(answer_s)
        self._line = self._socket.makefile("rwb", buffering=0)
        try:
            message = self._exchange((int(Kind.HELLO), PROTOCOL_VERSION, token))
        except NoGuard:
            self.close()
            raise
        if message[0] != Kind.READY:
            self.close()
            raise NoGuard(f"the guard refuses us: {message[1] if len(message) > 1 else message}")

    def tell(self, command: Command) -> Answer:
        """Raises NoGuard when there is no answer (what became of it is then unknown)."""
        usual_s = self._socket.gettimeout()
        if command.verb == "resume":
            self._socket.settimeout(RESUME_ANSWER_S)
        try:
            return Answer(*self._call("guard_tell", command.model_dump_json()))
        finally:
            self._socket.settimeout(usual_s)

    def hear(self, after_row: int, count_max: int = 500) -> list[HeardRow]:
        """Raises NoGuard."""
        return [HeardRow(*row) for row in self._call("guard_hear", after_row, count_max)]

    def state(self) -> tuple[GuardState | None, int]:
        """How the guard is, and the row of its newest event. Raises NoGuard."""
        text, newest_row, _ = self._call("guard_state")
        return (GuardState.model_validate_json(text) if text else None), int(newest_row)

    def beat(self) -> None:
        """A sign of life of ours. Raises NoGuard."""
        self._exchange((int(Kind.BEAT),))

    def close(self) -> None:
        """May be called twice."""
        self._line.close()
        self._socket.close()

    def __enter__(self) -> GuardLine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _call(self, method: str, *args: Any) -> Any:
        self._ids += 1
        message = self._exchange(
            (int(Kind.CALL), self._ids, method, args, {}, int(Priority.EMERGENCY), ANSWER_S, None)
        )
        if message[0] != Kind.ANSWER or len(message) != 7:
            raise NoGuard("the guard answered what cannot be read")
        if message[3] != 1:
            raise NoGuard(f"the guard could not do it: {message[4]}")
        return message[2]

    def _exchange(self, message: tuple[Any, ...]) -> tuple[Any, ...]:
        try:
            write_frame(self._line, pack(message, bytes_max=FRAME_BYTES_MAX))
            body = read_frame(self._line, bytes_max=ANSWER_BYTES_MAX)
            if body is None:
                raise NoGuard("the guard closed the line")
            return unpack(body)
        except (OSError, WireError) as error:
            raise NoGuard(f"the guard does not answer: {error}") from error

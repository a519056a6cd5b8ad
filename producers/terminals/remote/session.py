"""One connection of a terminal server: calls in, answers out, beats in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

from producers.terminals.client.duplex import DuplexSocket
from producers.terminals.history_host import ServedClient
from producers.terminals.interface import (
    CALLS_GUARD,
    CALLS_TRADE,
    HistoryLost,
    NotSent,
    Priority,
    Reply,
    TerminalHung,
    TerminalLost,
)
from producers.terminals.wire import (
    ANSWER_BYTES_MAX,
    PROTOCOL_VERSION,
    REQUEST_BYTES_MAX,
    CallMessage,
    FrameTooLarge,
    Kind,
    pack,
    read_call,
    read_frame,
    unpack,
    write_frame,
)

logger = logging.getLogger(__name__)

BEAT_S = 1.0
CLIENT_SILENCE_S = 10.0
"""A client answers every beat; after so long without a word it is gone."""
CALLS_MAX = 256
"""Calls of one client that may be unanswered at once."""
TIMEOUT_S_MIN, TIMEOUT_S_MAX = 0.01, 600.0
READ_ONLY_REFUSED = CALLS_TRADE | {
    "advance", "clear", "initialize", "inject", "login", "shutdown",
}  # fmt: skip
"""What a read-only server does not do: it attaches to its terminal itself."""
ASKERS = 3
"""Threads that ask the guard for one connection."""
GuardCall = Callable[[str, tuple[Any, ...]], Any]
"""Answers a call for the guard beside the server, in plain values. Raises ValueError, LogError."""


class Session:
    """Runs in the connection's thread until either side ends it."""

    def __init__(
        self,
        duplex: DuplexSocket,
        client: ServedClient,
        *,
        who: str,
        id: str,
        observes: bool = False,
        read_only: bool = False,
        guard: GuardCall | None = None,
    ) -> None:
        """`guard`: who answers guard calls, also those of observers; None: nobody guards here."""
        self.who = who
        self.id = id
        self.observes = observes
        self._duplex = duplex
        self._client = client
        self._read_only = read_only or observes
        self._guard = guard
        self._guard_calls: SimpleQueue[CallMessage | None] = SimpleQueue()
        self._outbox: SimpleQueue[bytes | Callable[[], bytes] | None] = SimpleQueue()
        self._lock = Lock()
        self._open: dict[int, Future[Reply]] = {}
        self._heard_at = time.monotonic()

    def run(self) -> None:
        """Serve this client. Raises OSError, WireError when the connection breaks."""
        state = self._client.state()
        facts = {**state.facts, "name": state.name, "state": state.state}
        facts["guard"] = self._guard is not None
        self._outbox.put(pack((int(Kind.READY), PROTOCOL_VERSION, facts)))
        writer = Thread(target=self._write, name=f"to {self.who}", daemon=True)
        writer.start()
        for _ in range(ASKERS):
            Thread(target=self._ask_guard, name=f"guard for {self.who}", daemon=True).start()
        try:
            while (body := read_frame(self._duplex, bytes_max=REQUEST_BYTES_MAX)) is not None:
                self._heard_at = time.monotonic()
                self._take(unpack(body))
        finally:
            self.end("")
            for _ in range(ASKERS):
                self._guard_calls.put(None)
            writer.join()
            self._cancel_open()

    def end(self, reason: str) -> None:
        """Cut the connection; from any thread."""
        if reason:
            logger.warning("%s is cut: %s", self.who, reason)
        self._outbox.put(None)
        self._duplex.cut()

    def _take(self, message: tuple[Any, ...]) -> None:
        if message[0] == Kind.BEAT:
            return
        call = read_call(message)
        with self._lock:
            crowded = len(self._open) >= CALLS_MAX
        if crowded:
            self._fault(call.id, NotSent(f"{CALLS_MAX} calls are unanswered already"))
        elif call.method in CALLS_GUARD and self._guard is not None:
            self._guard_calls.put(call)
        elif self._read_only and call.method in READ_ONLY_REFUSED:
            self._fault(call.id, NotSent(f"{self._why_not()}: no {call.method}"))
        else:
            self._submit(call)

    def _why_not(self) -> str:
        return "an observer only reads" if self.observes else "this terminal server is read-only"

    def _submit(self, call: CallMessage) -> None:
        """Raises ValueError for a method or priority that there is not."""
        started = pack((int(Kind.STARTED), call.id))
        future = self._client.submit_call(
            call.method,
            call.args,
            call.kwargs,
            priority=Priority.HISTORY if self.observes else Priority(call.priority),
            timeout_s=min(max(float(call.timeout_s), TIMEOUT_S_MIN), TIMEOUT_S_MAX),
            on_started=lambda: self._outbox.put(started),
        )
        with self._lock:
            self._open[call.id] = future
        future.add_done_callback(lambda done: self._answer(call.id, done))

    def _ask_guard(self) -> None:
        """One of the guard's threads of this connection: a resume may take a while, and neither
        reading nor a flatten waits for it."""
        while (call := self._guard_calls.get()) is not None:
            assert self._guard is not None
            self._outbox.put(pack((int(Kind.STARTED), call.id)))
            begun = time.monotonic()
            error: tuple[int, str] = (1, "Success")
            value = None
            try:
                value = self._guard(call.method, call.args)
            except Exception as problem:  # what it was told may be anything
                logger.warning("%s of %s: %s", call.method, self.who, problem)
                error = (-2, " ".join(str(problem).split())[:500])
            took_ms = (time.monotonic() - begun) * 1000
            reply = Reply(value, error, time.time_ns() // 1_000_000, took_ms)
            self._outbox.put(_answer_frame(call.id, reply))

    def _answer(self, call_id: int, future: Future[Reply]) -> None:
        """In the thread that resolved the call: leave the answer to the writer. The call counts
        as open until then, so that one who asks but does not read is soon refused."""

        def frame() -> bytes:
            with self._lock:
                self._open.pop(call_id, None)
            try:
                return _answer_frame(call_id, future.result(timeout=0))
            except TerminalLost as error:
                return _fault_frame(call_id, error)

        if not future.cancelled():
            self._outbox.put(frame)

    def _fault(self, call_id: int, error: TerminalLost) -> None:
        self._outbox.put(_fault_frame(call_id, error))

    def _write(self) -> None:
        """The writer thread: answers as they come, a beat each second."""
        beat = pack((int(Kind.BEAT),))
        next_beat = time.monotonic() + BEAT_S
        while True:
            try:
                item = self._outbox.get(timeout=max(0.0, next_beat - time.monotonic()))
            except Empty:
                item = beat
            now = time.monotonic()
            if item is None:
                return
            if now - self._heard_at > CLIENT_SILENCE_S:
                logger.warning("%s was silent for %g s", self.who, CLIENT_SILENCE_S)
                self._duplex.cut()
                return
            try:
                write_frame(self._duplex, item if isinstance(item, bytes) else item())
                if now >= next_beat and item is not beat:
                    write_frame(self._duplex, beat)
            except OSError:
                self._duplex.cut()
                return
            if now >= next_beat:
                next_beat = now + BEAT_S

    def _cancel_open(self) -> None:
        """Calls that were not sent to the terminal yet are never sent."""
        with self._lock:
            unanswered = list(self._open.values())
        for future in unanswered:
            future.cancel()


def _fault_frame(call_id: int, error: TerminalLost) -> bytes:
    name = "lost"
    if isinstance(error, NotSent):
        name = "not_sent"
    elif isinstance(error, TerminalHung):
        name = "hung"
    elif isinstance(error, HistoryLost):
        name = "history"
    return pack((int(Kind.FAULT), call_id, name, str(error)))


def _answer_frame(call_id: int, reply: Reply) -> bytes:
    head = (int(Kind.ANSWER), call_id)
    tail = (reply.utc_ms, reply.took_ms)
    try:
        return pack((*head, reply.value, *reply.error, *tail), bytes_max=ANSWER_BYTES_MAX)
    except FrameTooLarge as error:
        return pack((*head, None, -3, f"{error}: ask for fewer rows", *tail))

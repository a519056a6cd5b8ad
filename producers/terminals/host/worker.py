"""Inside a host: one thread that does nothing but terminal calls, from a priority queue.

The terminal is called by the thread that runs `Worker.run`, one call at a time, so that
`last_error()` read right after a call tells of that call. Another thread takes requests.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import PriorityQueue
from threading import Condition, Event, Lock, Thread
from typing import Any

from producers.terminals.interface import CALLS, CALLS_HOST, Terminal
from producers.terminals.wire import (
    REQUEST_BYTES_MAX,
    FrameTooLarge,
    Kind,
    Readable,
    WireError,
    Writable,
    pack,
    read_call,
    read_frame,
    unpack,
    write_frame,
)

logger = logging.getLogger(__name__)

REQUESTS_MAX = 10_000
"""Requests that may wait in a host; a client sends far fewer."""
ERROR_FAIL = (-1, "Terminal: Call failed")
ERROR_PARAMS = -2
ERROR_MEMORY = -3
_END = -1


@dataclass(frozen=True, slots=True, order=True)
class _Request:
    """Ordered as it is served: by priority, then by arrival."""

    priority: int
    arrival: int
    id: int
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    begin_by_s: float | None


class Worker:
    """Serves one terminal over one pair of pipes until the client closes its side.

    `on_end` runs in the reading thread when the requests end: the call that runs then is
    nobody's any more. `link_latency_s` holds back every answer, as a far-away host would.
    """

    def __init__(
        self,
        terminal: Terminal,
        source: Readable,
        sink: Writable,
        *,
        kind: str = "",
        link_latency_s: float = 0.0,
        on_end: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terminal = terminal
        self._source = source
        self._kind = kind
        self._on_end = on_end
        self._clock = clock
        self._requests: PriorityQueue[_Request] = PriorityQueue(REQUESTS_MAX)
        self._sender = _DelayedSender(sink, link_latency_s) if link_latency_s else _Sender(sink)
        self._utc_ms = getattr(terminal, "utc_now_ms", _wall_clock_ms)
        self._calls = 0

    def run(self) -> None:
        """Serve until the requests end. Raises OSError when the client does not read."""
        Thread(target=self._take_requests, name="host-reader", daemon=True).start()
        try:
            while (request := self._requests.get()).id != _END:
                self._serve(request)
        finally:
            self._sender.close()

    def facts(self) -> dict[str, Any]:
        """What a client is told of this host."""
        return {
            "pid": os.getpid(),
            "kind": self._kind,
            "calls": self._calls,
            "python": platform.python_version(),
            "platform": platform.system(),
        }

    def _take_requests(self) -> None:
        arrival = 0
        try:
            while (body := read_frame(self._source, bytes_max=REQUEST_BYTES_MAX)) is not None:
                call = read_call(unpack(body))
                if call.method not in CALLS and call.method not in CALLS_HOST:
                    raise WireError(f"no function of a terminal: {call.method!r}")
                arrival += 1
                self._requests.put(
                    _Request(
                        call.priority,
                        arrival,
                        call.id,
                        call.method,
                        call.args,
                        call.kwargs,
                        call.begin_by_s,
                    )
                )
        except (OSError, ValueError, WireError) as error:
            logger.error("requests end: %s", error)
        finally:
            # Before everything that waits: nobody would read those answers.
            self._requests.put(_Request(_END, 0, _END, "", (), {}, None))
            self._on_end()

    def _serve(self, request: _Request) -> None:
        if request.begin_by_s is not None and self._clock() > request.begin_by_s:
            text = f"{request.method} waited too long behind other calls and was not sent"
            self._sender.send(pack((int(Kind.FAULT), request.id, "not_sent", text)))
            return
        self._sender.send(pack((int(Kind.STARTED), request.id)), at_once=True)
        begun = time.perf_counter()
        value, (code, text) = self._invoke(request)
        took_ms = (time.perf_counter() - begun) * 1000.0
        head = (int(Kind.ANSWER), request.id)
        tail = (int(self._utc_ms()), took_ms)
        try:
            frame = pack((*head, value, code, text, *tail))
        except FrameTooLarge as error:
            frame = pack((*head, None, ERROR_MEMORY, f"{error}: ask for fewer rows", *tail))
        except WireError as error:
            frame = pack((*head, None, ERROR_FAIL[0], f"the answer {error}", *tail))
        self._sender.send(frame)

    def _invoke(self, request: _Request) -> tuple[Any, tuple[int, str]]:
        """Call the terminal. Its exceptions mean the same as None: nothing is known."""
        self._calls += 1
        if request.method == "host_info":
            return self.facts(), (1, "Success")
        function = getattr(self._terminal, request.method, None)
        if function is None:
            return None, (ERROR_PARAMS, f"this terminal has no {request.method}")
        try:
            value = function(*request.args, **request.kwargs)
        except Exception as error:
            # Wrong arguments raise TypeError; copy_* can raise SystemError on a bad day.
            text = f"{type(error).__name__}: {error}"
            wrong = isinstance(error, (TypeError, ValueError))
            return None, (ERROR_PARAMS if wrong else self._error_after(ERROR_FAIL[0]), text)
        return value, self._last_error()

    def _error_after(self, otherwise: int) -> int:
        """The terminal's code, or another one where it claims success."""
        code = self._last_error()[0]
        return code if code != 1 else otherwise

    def _last_error(self) -> tuple[int, str]:
        try:
            code, text = self._terminal.last_error()
        except Exception as error:
            return (ERROR_FAIL[0], f"last_error: {error!r}")
        return int(code), str(text)


class _Sender:
    """Writes frames as they come."""

    def __init__(self, sink: Writable) -> None:
        self._sink = sink
        self._lock = Lock()

    def send(self, frame: bytes, *, at_once: bool = False) -> None:
        with self._lock:
            write_frame(self._sink, frame)

    def close(self) -> None:
        """Nothing is held back."""


class _DelayedSender(_Sender):
    """Writes each answer `latency_s` after it was given, in order."""

    def __init__(self, sink: Writable, latency_s: float) -> None:
        super().__init__(sink)
        self._latency_s = latency_s
        self._held: deque[tuple[float, bytes]] = deque()
        self._changed = Condition()
        self._closed = Event()
        self._thread = Thread(target=self._release, name="host-latency", daemon=True)
        self._thread.start()

    def send(self, frame: bytes, *, at_once: bool = False) -> None:
        if at_once:
            super().send(frame)
            return
        with self._changed:
            self._held.append((time.monotonic() + self._latency_s, frame))
            self._changed.notify()

    def close(self) -> None:
        self._closed.set()
        with self._changed:
            self._changed.notify()
        self._thread.join()

    def _release(self) -> None:
        while True:
            with self._changed:
                while not self._held:
                    if self._closed.is_set():
                        return
                    self._changed.wait()
                due, frame = self._held.popleft()
            if (rest_s := due - time.monotonic()) > 0:
                self._closed.wait(rest_s)
            try:
                super().send(frame)
            except OSError:
                return  # the client is gone; the worker's own thread sees it too


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000

"""One host from its start to its end: made ready, attached, watched, ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from threading import Thread
from typing import Any, Protocol

from producers.terminals.client.dispatcher import Dispatcher
from producers.terminals.client.flight import Call, Flight
from producers.terminals.client.limits import HostLimits
from producers.terminals.client.link import Link
from producers.terminals.interface import (
    HistoryLost,
    NotSent,
    Priority,
    Reply,
    TerminalHung,
    TerminalLost,
    TerminalUnusable,
)
from producers.terminals.wire import REQUEST_BYTES_MAX, Kind, WireError, pack

logger = logging.getLogger(__name__)

REATTACH_MIN_S = 1.0
"""Between two attachments on one host, for a terminal that is lost again and again."""
READER_JOIN_S = 15.0

FAULTS: dict[str, type[TerminalLost]] = {
    "history": HistoryLost,
    "hung": TerminalHung,
    "lost": TerminalLost,
    "not_sent": NotSent,
}
"""How a terminal server names what happened to a call."""


class AttachLine(Protocol):
    """What the attach step may use: calls that go before everybody else's."""

    def call(self, method: str, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Reply:
        """Raises TerminalHung or TerminalLost."""
        ...


Attach = Callable[[AttachLine], Any]
"""Runs on every new host before it serves; raises AttachRefused to refuse the terminal."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a host's life ended. `up_s` is 0 when it never served."""

    reason: str
    refusal: TerminalLost | None = None
    up_s: float = 0.0
    for_emergency: bool = False


@dataclass(slots=True)
class _News:
    """What the reader learned; guarded by the dispatcher's lock."""

    ready: bool = False
    refused: str = ""
    for_good: bool = False
    ended: str = ""
    heard_at: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


class Life:
    """Runs one link in the calling thread until it ends. Use once."""

    def __init__(
        self,
        link: Link,
        dispatcher: Dispatcher,
        flight: Flight,
        *,
        name: str,
        limits: HostLimits,
        attach: Attach | None,
        ids: count[int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._dispatcher = dispatcher
        self._flight = flight
        self._name = name
        self._limits = limits
        self._attach = attach
        self._ids = ids
        self._clock = clock
        self._news = _News(heard_at=clock())
        self._stop_reason = ""
        self._up_at: float | None = None
        self._attached_at = 0.0
        self.attached: Any = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the host said of itself."""
        return self._news.facts

    def stop(self, reason: str) -> None:
        """End it soon; from any thread."""
        with self._dispatcher.changed:
            self._stop_reason = self._stop_reason or reason
            self._dispatcher.changed.notify_all()

    def run(self, on_phase: Callable[[str], None]) -> Ended:
        """Serve until the line ends; `on_phase` hears "attaching", "attached" and "up"."""
        self._flight.grace_s = self._link.grace_s
        self._flight.begin_s = self._link.begin_s
        # Where the host is not ours, cutting the line would end no read.
        self._flight.emergency_wait_s = (
            self._limits.emergency_wait_s if self._link.exact_end else None
        )
        reader = Thread(target=self._read, name=f"{self._name}-reader", daemon=True)
        reader.start()
        ended = Ended("ended")
        try:
            self._await_ready()
            self._attach_and_serve(on_phase)
            ended = self._watch(on_phase)
        except TerminalLost as error:
            ended = Ended(str(error), refusal=error, up_s=self._up_s())
        except Exception as error:
            logger.exception("%s: the attach step failed", self._name)
            text = f"the attach step failed: {error!r}"
            ended = Ended(text, refusal=NotSent(text), up_s=self._up_s())
        finally:
            self._dispatcher.hold()
            self._link.cut()
            reader.join(READER_JOIN_S)
            end = self._link.close()
            reason = f"the terminal host was lost: {ended.reason} ({end})"
            self._dispatcher.settle(exact_end=self._link.exact_end, reason=reason)
        return ended

    def _await_ready(self) -> None:
        """Raises NotSent when the host does not become ready."""
        limit_s = self._limits.start_s
        if not self._wait_for(lambda: self._news.ready, due=self._clock() + limit_s):
            raise NotSent(f"the host was not ready after {limit_s:g} s")

    def _wait_for(self, done: Callable[[], bool], *, due: float) -> bool:
        """True when it is done, False when it is late. Raises NotSent when the line ends."""
        while True:
            self._dispatcher.give_up_late()
            with self._dispatcher.changed:
                if done():
                    return True
                broken = self._news.refused or self._stop_reason or self._news.ended
                if broken:
                    raise (TerminalUnusable if self._news.for_good else NotSent)(broken)
                if self._clock() >= due:
                    return False
                self._dispatcher.wait(due)

    def _attach_and_serve(self, on_phase: Callable[[str], None]) -> None:
        if self._attach is not None:
            on_phase("attaching")
            self.attached = self._attach(self)
            on_phase("attached")
        self._attached_at = self._clock()
        if self._up_at is None:
            self._up_at = self._attached_at
        self._dispatcher.line_up(self._link)
        on_phase("up")

    def call(self, method: str, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Reply:
        """A call of the attach step (an AttachLine). Raises TerminalHung or TerminalLost."""
        now = self._clock()
        limit_s = timeout_s or self._limits.timeout_for(method, Priority.ACCOUNT)
        call_id = next(self._ids)
        request = (
            int(Kind.CALL), call_id, method, args, kwargs, int(Priority.ACCOUNT), limit_s, None
        )  # fmt: skip
        frame = pack(request, bytes_max=REQUEST_BYTES_MAX)
        call = Call(
            call_id, method, frame, Priority.ACCOUNT, limit_s, limit_s, now, keeps_place=False
        )
        try:
            self._dispatcher.send_first(call, self._link)
        except OSError as error:
            raise TerminalLost(f"{method}: {error}") from error
        if not self._wait_for(call.future.done, due=now + limit_s + self._link.grace_s):
            raise TerminalHung(f"{method} did not return within {limit_s:g} s")
        return call.future.result()

    def _watch(self, on_phase: Callable[[str], None]) -> Ended:
        """Judge deadlines until the line ends, and send what waited for its time."""
        while True:
            self._dispatcher.give_up_late()
            self._dispatcher.pump()
            with self._dispatcher.changed:
                now = self._clock()
                reason = self._stop_reason or self._news.ended or self._silence(now)
                if reason:
                    return Ended(reason, up_s=self._up_s())
                overdue = self._flight.overdue(now)
                lost = self._dispatcher.ipc_lost and self._flight.idle
                if lost and now < self._attached_at + REATTACH_MIN_S:
                    self._dispatcher.wait(self._attached_at + REATTACH_MIN_S)
                    continue
                if overdue is None and not lost:
                    self._dispatcher.wait()
            if overdue is not None:
                self._dispatcher.cut_overdue(overdue, self._link)
                return Ended(
                    f"{overdue.call.method} {overdue.reason}",
                    up_s=self._up_s(),
                    for_emergency=overdue.held_up_emergency,
                )
            if lost:
                self._attach_again(on_phase)

    def _attach_again(self, on_phase: Callable[[str], None]) -> None:
        """The module lost its terminal, and nothing runs any more: attach again."""
        logger.warning("%s: the module lost its terminal, attaching again", self._name)
        self._attach_and_serve(on_phase)

    def _silence(self, now: float) -> str:
        limit_s = self._link.silence_s
        if limit_s is None or now < self._news.heard_at + limit_s:
            return ""
        return f"nothing was heard for {limit_s:g} s"

    def _up_s(self) -> float:
        return 0.0 if self._up_at is None else self._clock() - self._up_at

    def _read(self) -> None:
        """The reader thread: take messages until the line ends."""
        reason = "the host ended"
        try:
            while (message := self._link.receive()) is not None:
                self._take(message)
        except (OSError, ValueError) as error:
            reason = f"the line broke: {error}"
        except (WireError, TypeError, IndexError, KeyError) as error:
            reason = f"the host sent what cannot be read: {error}"
        finally:
            with self._dispatcher.changed:
                self._news.ended = self._news.ended or reason
                self._dispatcher.changed.notify_all()

    def _take(self, message: tuple[Any, ...]) -> None:
        self._news.heard_at = self._clock()
        kind = message[0]
        if kind == Kind.ANSWER:
            _, call_id, value, code, text, utc_ms, took_ms = message
            self._dispatcher.answered(call_id, Reply(value, (code, text), utc_ms, took_ms))
        elif kind == Kind.STARTED:
            self._dispatcher.started(message[1])
        elif kind == Kind.FAULT:
            _, call_id, fault, text = message
            self._dispatcher.answered(call_id, FAULTS.get(fault, TerminalLost)(text))
        elif kind in (Kind.READY, Kind.REFUSED):
            self._take_opening(message)
        elif kind != Kind.BEAT:
            raise WireError(f"unexpected kind {kind}")

    def _take_opening(self, message: tuple[Any, ...]) -> None:
        with self._dispatcher.changed:
            if message[0] == Kind.READY:
                self._news.ready = True
                self._news.facts = dict(message[2])
            else:
                self._news.refused = str(message[1])
                self._news.for_good = bool(message[2:] and message[2])
            self._dispatcher.changed.notify_all()

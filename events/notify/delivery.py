"""Delivering one message to several targets at once, none of which can hold up the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from weakref import WeakKeyDictionary

from events.alerts import Alert
from events.notify.message import Message
from events.notify.target import Refused, Target, Undelivered

TIMEOUT_S = 15.0
HANGING_MAX = 2
"""Deliveries to one target that may be under way. More are not begun: it hangs."""
DETAIL_CHARS_MAX = 300


class Result(StrEnum):
    """How a delivery ended."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """Not taken; later it may be."""
    REFUSED = "refused"
    """This message will never be taken."""
    UNKNOWN = "unknown"
    """No answer in time: it may have arrived, and may arrive yet."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message at one target. `detail` says why not, without secrets."""

    target: str
    result: Result
    detail: str = ""
    took_ms: float = 0.0

    @property
    def delivered(self) -> bool:
        return self.result is Result.DELIVERED


class _Attempt(threading.Thread):
    """One delivery, in a thread that nobody has to wait for."""

    def __init__(self, target: Target, message: Message, timeout_s: float) -> None:
        super().__init__(name=f"deliver to {target.name}", daemon=True)
        self.target, self._message, self._timeout_s = target, message, timeout_s
        self.outcome: Outcome | None = None

    def run(self) -> None:
        begun = time.monotonic()
        result, detail = Result.DELIVERED, ""
        try:
            self.target.send(self._message, timeout_s=self._timeout_s)
        except Refused as error:
            result, detail = Result.REFUSED, str(error)
        except Undelivered as error:
            result, detail = Result.FAILED, str(error)
        except Exception as error:  # a target of somebody else's
            result, detail = Result.FAILED, f"{type(error).__name__}: {error}"
        finally:
            with _lock:
                _under_way[self.target].remove(self)
        took_ms = (time.monotonic() - begun) * 1000
        self.outcome = Outcome(self.target.name, result, detail[:DETAIL_CHARS_MAX], took_ms)


_under_way: WeakKeyDictionary[Target, list[_Attempt]] = WeakKeyDictionary()
_lock = threading.Lock()


def deliver(
    message: Message | Alert, targets: Sequence[Target], timeout_s: float = TIMEOUT_S
) -> tuple[Outcome, ...]:
    """Tell every target, all at once; returns within `timeout_s`, in the order of `targets`.

    Nothing is repeated. A target that did not answer in time has an UNKNOWN outcome: telling it
    again may tell it twice. Never raises because of a target.
    """
    if isinstance(message, Alert):
        message = Message((message,), now_ms=int(time.time() * 1000))
    deadline = time.monotonic() + timeout_s
    attempts = [_begun(target, message, timeout_s) for target in targets]
    return tuple(
        _ended(target, attempt, deadline, timeout_s)
        for target, attempt in zip(targets, attempts, strict=True)
    )


def _begun(target: Target, message: Message, timeout_s: float) -> _Attempt | None:
    """None when this target hangs."""
    with _lock:
        under_way = _under_way.setdefault(target, [])
        if len(under_way) >= HANGING_MAX:
            return None
        attempt = _Attempt(target, message, timeout_s)
        under_way.append(attempt)
    attempt.start()
    return attempt


def _ended(target: Target, attempt: _Attempt | None, deadline: float, timeout_s: float) -> Outcome:
    if attempt is None:
        text = f"{HANGING_MAX} earlier deliveries still wait for it"
        return Outcome(target.name, Result.FAILED, text)
    attempt.join(max(0.0, deadline - time.monotonic()))
    if attempt.outcome is None:
        text = f"no answer within {timeout_s:g} s"
        return Outcome(target.name, Result.UNKNOWN, text, timeout_s * 1000)
    return attempt.outcome

"""The latch of an account: while it is set nothing may be opened. Kept in two places.

One copy lies in a file beside the guard, one in the log's server. Either one latches: an account
is free only when neither copy is set. A copy is cleared by the id of the latch that was seen, so
that clearing an old latch never clears one that was set since.
"""

from __future__ import annotations

import secrets
from threading import Lock
from typing import Literal, Protocol

from events.event import Part
from events.log import LogUnavailable

LATCH_ID_BYTES = 8


class Latch(Part):
    """Why, by whom and until when nothing may be opened on an account."""

    login: int
    latch_id: str
    reason: str
    by: str
    since_ms: int
    command_id: str = ""
    breach_id: str = ""
    """The breach for which the guard itself set it."""
    lock: Literal["none", "until_reset", "manual"] = "manual"
    """until_reset: the guard ends it by itself at `until_ms`. Else only a human does."""
    until_ms: int | None = None

    def over(self, now_ms: int) -> bool:
        """Whether it has ended by itself."""
        return self.lock == "until_reset" and self.until_ms is not None and self.until_ms <= now_ms

    def stricter_than(self, other: Latch) -> bool:
        """Whether this one lasts where the other would have ended by itself."""
        if other.lock != "until_reset":
            return False
        if self.lock != "until_reset" or self.until_ms is None:
            return True
        return other.until_ms is not None and self.until_ms > other.until_ms


class LatchStore(Protocol):
    """One copy. Implementations: a guard's journal, `Log.latches(namespace)`, MemoryLatches."""

    def read(self, login: int) -> Latch | None:
        """The latch of an account; None when it is not set. One that is set and cannot be read is
        an `unreadable_latch`. Raises LogError when nobody knows."""
        ...

    def set(self, latch: Latch) -> None:
        """Set it, or replace the one that is set. Durable when this returns. Raises LogError."""
        ...

    def clear(self, login: int, latch_id: str) -> bool:
        """Clear it if it is still this one (or none): True when the account has none now.

        Raises LogError.
        """
        ...


class MemoryLatches:
    """See LatchStore; forgotten with the process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._latches: dict[int, Latch] = {}

    def read(self, login: int) -> Latch | None:
        with self._lock:
            return self._latches.get(login)

    def set(self, latch: Latch) -> None:
        with self._lock:
            self._latches[latch.login] = latch

    def clear(self, login: int, latch_id: str) -> bool:
        with self._lock:
            found = self._latches.get(login)
            if found is not None and found.latch_id != latch_id:
                return False
            self._latches.pop(login, None)
            return True


class UnreachedLatches:
    """The log's copy before the log was reached for the first time: nobody knows it."""

    def read(self, login: int) -> Latch | None:
        """Raises LogUnavailable."""
        raise LogUnavailable("the log was not reached since the guard began")

    def set(self, latch: Latch) -> None:
        """Raises LogUnavailable."""
        self.read(latch.login)

    def clear(self, login: int, latch_id: str) -> bool:
        """Raises LogUnavailable."""
        return self.read(login) is None


def new_latch_id() -> str:
    """A name for a latch that no other one has."""
    return secrets.token_hex(LATCH_ID_BYTES)


def unreadable_latch(login: int, where: str, latch_id: str = "unreadable") -> Latch:
    """What stands for a latch that is set and cannot be read: it holds until a human ends it."""
    return Latch(
        login=login,
        latch_id=latch_id,
        reason=f"the latch in {where} cannot be read",
        by="guard",
        since_ms=0,
    )

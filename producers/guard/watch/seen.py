"""What the watch saw lately: positions and pending orders, also those that are not shown any more.

Right after a reconnect a terminal may show empty lists. Whoever closes everything must know what
was there a moment before, or it would call an account flat that is not.
"""

from __future__ import annotations

from threading import Lock

from producers.guard.flatten.account import Held, Key, Working, held_of, working_of
from producers.guard.watch.looking import Look

SEEN_S = 300.0
"""What was not shown for so long is no longer spoken of."""
SEEN_MAX = 512
"""Of what is not shown any more, the newest."""


class LatelySeen:
    """Written by the watch's thread, read by the one that closes. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._shown: dict[Key, Held | Working] = {}
        self._gone: dict[Key, tuple[float, Held | Working]] = {}
        """When each was missed first, oldest first."""
        self._sound_since: float | None = None

    def take(self, look: Look, now: float) -> None:
        """Remember a sound look."""
        found: list[Held | Working] = [*map(held_of, look.positions or ())]
        found += [one for one in map(working_of, look.orders or ()) if one.pending]
        shown = {one.key: one for one in found}
        with self._lock:
            if self._sound_since is None:
                self._sound_since = now
            self._gone |= {key: (now, one) for key, one in self._shown.items() if key not in shown}
            self._gone = {
                key: (at, one)
                for key, (at, one) in [*self._gone.items()][-SEEN_MAX:]
                if now - at < SEEN_S and key not in shown
            }
            self._shown = shown

    def lost(self) -> None:
        """The account could not be read: the lists that follow may be filled anew."""
        with self._lock:
            self._sound_since = None

    def sound_s(self, now: float) -> float:
        """For how long every look was sound, up to now."""
        with self._lock:
            return 0.0 if self._sound_since is None else now - self._sound_since

    def all(self) -> tuple[Held | Working, ...]:
        """What is shown, and what was a moment ago."""
        with self._lock:
            return (*self._shown.values(), *(one for _, one in self._gone.values()))

"""The dead-man switch: whoever should be heard of has been silent for too long.

Pure: monotonic seconds come in. Two may be listened for, each with its own patience: the log
(Redis answers), and a heartbeat of the user's own.
"""

from __future__ import annotations

from typing import NamedTuple


class Silence(NamedTuple):
    """How the switch stands. `left_s` None: it is not set."""

    tripped: bool
    reason: str
    left_s: float | None


class DeadMan:
    """Counts from its construction: a guard that never heard anything trips too."""

    def __init__(self, now: float) -> None:
        self._log_at = now
        self._beat_at = now
        self.log_known = False
        """Whether the log was ever heard."""

    def heard_log(self, now: float) -> None:
        """The log answered."""
        self._log_at, self.log_known = max(self._log_at, now), True

    def heard_beat(self, now: float) -> None:
        """The user's heartbeat came."""
        self._beat_at = max(self._beat_at, now)

    def log_silent_s(self, now: float) -> float:
        """Since when the log does not answer."""
        return max(0.0, now - self._log_at)

    def look(self, now: float, *, dead_man_s: float | None, heartbeat_s: float | None) -> Silence:
        """Whether one of them was silent too long; None switches it off."""
        watched = [
            (limit_s - (now - at), f"{name} silent for {now - at:.1f} s, {limit_s:g} s are borne")
            for name, at, limit_s in (
                ("the log is", self._log_at, dead_man_s),
                ("the heartbeat is", self._beat_at, heartbeat_s),
            )
            if limit_s is not None
        ]
        if not watched:
            return Silence(False, "", None)
        left_s, reason = min(watched)
        return Silence(left_s <= 0, reason if left_s <= 0 else "", max(0.0, left_s))

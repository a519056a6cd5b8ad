"""The log as long as nobody reached it."""

from __future__ import annotations

from events.latch import Latch
from events.log import LogUnavailable


class Unreached:
    """The log's copy of a latch before the log was reached: nobody knows. A LatchStore."""

    def read(self, login: int) -> Latch | None:
        """Raises LogUnavailable."""
        raise LogUnavailable("the log was not reached since the guard began")

    def set(self, latch: Latch) -> None:
        """Raises LogUnavailable."""
        self.read(latch.login)

    def clear(self, login: int, latch_id: str) -> bool:
        """Raises LogUnavailable."""
        return self.read(login) is None

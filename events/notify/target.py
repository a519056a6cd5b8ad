"""What a place is that messages can be delivered to."""

from __future__ import annotations

from typing import Protocol

from events.notify.message import Message


class BadTarget(ValueError):
    """A target that cannot be used as it is configured. Names setting, cause and cure."""


class Undelivered(Exception):
    """The target did not take a message now; later it may. The text holds no secret."""


class Refused(Undelivered):
    """The target will never take this message."""


class Target(Protocol):
    """`send` blocks, and ends by itself within its own time-outs."""

    @property
    def name(self) -> str:
        """What people and groups call it: `webhook`, `tgram`, `mailtos-2`. No secret."""
        ...

    @property
    def gathers(self) -> bool:
        """Whether many late alerts are better told in one message: people read it."""
        ...

    @property
    def pause_s(self) -> float:
        """What the service asks for between two messages."""
        ...

    def send(self, message: Message, *, timeout_s: float) -> None:
        """Raises Undelivered."""
        ...

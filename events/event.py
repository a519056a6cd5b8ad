"""What every event has in common, and how MT5's times travel in it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from events.log import Lane
from events.ticks import OffsetSource

Ticket = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]
"""A 64-bit number of MT5. Text in JSON: programs that read numbers as doubles would round it."""


def _enum_by_name(value: Any) -> Any:
    return OffsetSource[value.upper()] if isinstance(value, str) else value


OffsetSourceField = Annotated[
    OffsetSource,
    BeforeValidator(_enum_by_name),
    PlainSerializer(lambda source: source.name.lower(), return_type=str, when_used="json"),
]


class Part(BaseModel):
    """A frozen piece of an event: one position, one order, one quote."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")


class Event(Part):
    """An immutable fact. Fields are only ever added, with defaults.

    TYPE and VERSION name it in the log, LANE is where it travels, `event_time_ms` is UTC.
    """

    TYPE: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1
    LANE: ClassVar[Lane] = Lane.NORMAL
    KEEP_LAST: ClassVar[bool] = False
    """Whether the newest one per key stands in the last-state cache."""

    event_time_ms: int

    @property
    def key(self) -> str:
        """What the event is about: a symbol, an account, a ticket."""
        return ""


class TerminalEvent(Event):
    """A fact read from a terminal: raw server times stay beside the UTC times.

    `event_time_ms` is UTC by `offset_s` (server - UTC); `recv_time_ms` is the host's UTC clock
    when the terminal answered.
    """

    recv_time_ms: int
    offset_s: int = 0
    offset_source: OffsetSourceField = OffsetSource.UNKNOWN

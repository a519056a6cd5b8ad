"""What operators ask of a task about an entry, and what the task answers."""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import asdict, dataclass
from enum import StrEnum

from events.log import Entry, EntryId, Stream
from events.operations import OperatorAnswered

REQUEST_BYTES_MAX = 8_192
TEXT_CHARS_MAX = 500


class Action(StrEnum):
    """What can be done about an entry that a handler could not bear."""

    RETRY = "retry"
    """Handle it now; a task that halted in front of it goes on behind it when that works."""
    DROP = "drop"
    """Give it up; a task that halted in front of it goes on behind it."""


class Outcome(StrEnum):
    """What came of a request."""

    HANDLED = "handled"
    FAILED = "failed"
    DROPPED = "dropped"
    SKIPPED = "skipped"
    REFUSED = "refused"


SETTLING = frozenset({Outcome.HANDLED, Outcome.DROPPED, Outcome.SKIPPED})
"""Outcomes after which a dead letter waits no longer."""


class BadRequest(ValueError):
    """A request that says nothing this program understands."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `id` names it among those of a task; `by` and `reason` are kept for good."""

    id: str
    action: Action
    place: str
    by: str
    reason: str
    asked_ms: int

    def to_bytes(self) -> bytes:
        fields = {name: value for name, value in asdict(self).items() if name != "id"}
        return json.dumps(fields).encode()

    @classmethod
    def from_bytes(cls, id_: str, data: bytes) -> Request:
        """Raises BadRequest."""
        if len(data) > REQUEST_BYTES_MAX:
            raise BadRequest(f"{len(data)} bytes, at most {REQUEST_BYTES_MAX}")
        try:
            fields = json.loads(data)
            request = cls(
                id_,
                Action(fields["action"]),
                str(fields["place"]),
                str(fields["by"])[:TEXT_CHARS_MAX],
                str(fields["reason"])[:TEXT_CHARS_MAX],
                int(fields["asked_ms"]),
            )
            parse_place(request.place)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadRequest(f"{type(error).__name__}: {error}"[:TEXT_CHARS_MAX]) from error
        return request

    def answered(self, group: str, outcome: Outcome, detail: str = "") -> OperatorAnswered:
        """The event that settles it. Its time is the operator's: a task has no clock."""
        return OperatorAnswered(
            event_time_ms=self.asked_ms,
            group=group,
            request=self.id,
            action=self.action.value,
            place=self.place,
            outcome=outcome.value,
            detail=detail,
            by=self.by,
            reason=self.reason,
        )


def unread(request: str, group: str, why: str, *, at_ms: int) -> OperatorAnswered:
    """The answer to a request that cannot be read."""
    return OperatorAnswered(
        event_time_ms=at_ms,
        group=group,
        request=request,
        action="",
        place="",
        outcome=Outcome.REFUSED.value,
        detail=f"no request that this program understands: {why}",
    )


def parse_place(place: str) -> tuple[Stream, EntryId]:
    """Read `{NS:WRITER:N}:LANE@MS-SEQ`. Raises ValueError."""
    stream, at, id_ = place.rpartition("@")
    try:
        if not at:
            raise ValueError("no @")
        return Stream.parse(stream), EntryId.parse(id_)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{place!r} is no place of an entry: expected {{NS:WRITER:N}}:LANE@MS-SEQ, "
            "as `bridgectl dlq list` shows it"
        ) from error


def missing(place: str) -> Entry:
    """What stands for an entry that is no longer there, as the cause of an answer."""
    stream, id_ = parse_place(place)
    return Entry(stream, id_, "", "", b"")


def halted_at(text: str) -> str:
    """The place of the entry a task halted in front of; "" when it halted for another reason."""
    place, _, rest = text.partition(" ")
    return place if "@" in place and "may not be skipped" in rest else ""


def operator_name() -> str:
    """Who sits at this machine, for the record: `user@host`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no account database, as in some containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:TEXT_CHARS_MAX]

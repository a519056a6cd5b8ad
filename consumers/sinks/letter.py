"""The dead letter of an entry that was passed over."""

from __future__ import annotations

from events.codec import encode
from events.log import Entry, NewEntry
from events.operations import HandlerFailed

ERROR_CHARS_MAX = 500


def dead_letter(group: str, version: str, entry: Entry, reason: str) -> NewEntry:
    """HandlerFailed for `entry`, in the group's critical lane."""
    failed = HandlerFailed(
        event_time_ms=entry.id.ms,
        group=group,
        place=entry.place,
        entry_type=entry.type,
        error=reason[:ERROR_CHARS_MAX],
        code_version=version,
    )
    return encode(failed, cause=entry.place)

"""The dead letter of an entry that was passed over."""

from __future__ import annotations

from consumers.failures.failure import ERROR_CHARS_MAX, failure
from events.codec import encode
from events.log import Entry, NewEntry

__all__ = ["ERROR_CHARS_MAX", "dead_letter"]


def dead_letter(group: str, version: str, entry: Entry, reason: BaseException | str) -> NewEntry:
    """HandlerFailed for `entry`, in the group's critical lane."""
    failed = failure(entry, reason, group=group, version=version, halts=False)
    return encode(failed, cause=entry.place)

"""Is this still the stream that a reader's offset was taken in?

A log can lose its tail (a failover to a replica that lagged, a power failure, a restored copy, a
deleted key) and grow again past a reader. Ids alone do not show it, so an offset keeps how many
entries it counted and the checksum of the last one, and that very entry is asked for: whenever a
reader connects or takes a task over, and every few seconds while it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from events.log import BEGIN, Entry, Log, Stream, StreamInfo
from events.offset import Offset, checksum_of

LOOK_S = 5.0
"""How often a reader looks while it reads."""
CURE = "stop here; `bridgectl repair` finds the last common entry and goes on from there"


class Continuity(Enum):
    """What became of a stream since an offset was taken in it."""

    WHOLE = "whole"
    CUT = "cut"
    """It lost what we read, or another log stands in its place."""
    LOST = "lost"
    """Entries were removed before we read them."""


class Finding(NamedTuple):
    """The judgement about one stream."""

    stream: Stream
    offset: Offset
    continuity: Continuity
    cause: str = ""

    @property
    def whole(self) -> bool:
        return self.continuity is Continuity.WHOLE

    def __str__(self) -> str:
        return f"{self.stream} is whole" if self.whole else f"{self.stream}: {self.cause}; {CURE}"


def judge(stream: Stream, offset: Offset, found: Entry | None, info: StreamInfo) -> Finding:
    """Compare an offset with the entry at its place and with the stream's reach.

    `found` must be asked for before `info`: what was not there then and lies below the first
    entry now was trimmed, which is no loss as long as we had counted it.
    """

    def cut(cause: str) -> Finding:
        return Finding(stream, offset, Continuity.CUT, cause)

    last = offset.last
    if last != BEGIN:
        if info.last_id < last:
            return cut(f"the log ends at {info.last_id}, before {last}, the last entry done")
        if found is not None and checksum_of(found) != offset.checksum:
            return cut(f"entry {last} in the log is not the one that was done")
        trimmed = info.first_id is None or last < info.first_id
        if found is None and not trimmed:
            return cut(f"entry {last}, the last one done, is gone from the log")
    if info.entries_added < offset.entries:
        return cut(
            f"the log counts {info.entries_added} entries where {offset.entries} were done already"
        )
    missed = info.entries_added - info.length - offset.entries
    if info.last_id == last != BEGIN:  # read to the end: what we did not count, we never saw
        missed = info.entries_added - offset.entries
    if missed > 0:
        return Finding(
            stream,
            offset,
            Continuity.LOST,
            f"{missed} entries were removed from the log before they were done",
        )
    return Finding(stream, offset, Continuity.WHOLE)


def look(log: Log, stream: Stream, offset: Offset) -> Finding:
    """Ask the log for the entry at an offset. Raises LogUnavailable."""
    found = None
    if offset.last != BEGIN:
        found = next(iter(log.between(stream, offset.last, offset.last, count_max=1)), None)
    return judge(stream, offset, found, log.info(stream))


def findings(log: Log, offsets: Mapping[Stream, Offset]) -> list[Finding]:
    """What is wrong with these offsets; empty when every stream is whole."""
    looked = (look(log, stream, offset) for stream, offset in sorted(offsets.items()))
    return [finding for finding in looked if not finding.whole]


def counted_from_here(log: Log, stream: Stream, offset: Offset) -> Offset:
    """The offset of a stream seen for the first time: what was trimmed before is no loss of the
    reader's, and counts as read."""
    if offset.last != BEGIN or offset.entries:
        return offset
    info = log.info(stream)
    return Offset(BEGIN, max(0, info.entries_added - info.length), 0)

"""Where a group that is new begins to read."""

from __future__ import annotations

from enum import StrEnum

from consumers.runtime.group import TaskSpec
from consumers.runtime.journal import JournalStep
from consumers.runtime.rederive.starts import began
from events.log import Claim, Log, Stream
from events.offset import Offset, checksum_of
from events.tasks import Commit, OffsetChange, TaskRecord


class Begin(StrEnum):
    """Where a group begins that never ran. One that ran goes on where it was."""

    OLDEST = "oldest"
    """With the oldest entry that the log keeps."""
    NEWEST = "newest"
    """With what comes next."""


def is_new(record: TaskRecord) -> bool:
    """Whether a task never committed anything."""
    return not record.commits and not record.offsets


def pass_over_what_is_there(
    log: Log, spec: TaskSpec, claim: Claim, record: TaskRecord, *, version: str
) -> TaskRecord:
    """Put a new task behind the newest entry of every input, durably; returns its record.

    The journal tells where it began: a replay begins there, too.
    """
    ends = {stream: _end(log, stream) for stream in spec.inputs}
    step = JournalStep(
        version,
        {stream: end.last for stream, end in ends.items()},
        began(record.newest, ends),
    )
    log.tasks.commit(
        Commit(
            claim,
            record.newest,
            {s: OffsetChange(Offset(), end) for s, end in ends.items() if end != Offset()},
            journal=step.to_bytes(),
            version=version,
        )
    )
    return log.tasks.peek(spec.slot)


def _end(log: Log, stream: Stream) -> Offset:
    """The offset behind the newest entry, whatever is appended meanwhile."""
    info = log.info(stream)
    newest = log.newest(stream, before=info.last_id) if info.length else []
    if not newest:
        return Offset(entries=info.entries_added)
    return Offset(newest[0].id, info.entries_added, checksum_of(newest[0]))

"""Where deriving again may begin: the beginning of a task, or one of its snapshots."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from consumers.runtime.journal import Deed, JournalStep, Note
from consumers.runtime.rederive.feed import rows
from events.log import EntryId, Log, LogError, Slot, Stream
from events.offset import Offset
from events.tasks import NOTHING_DERIVED, TaskRecord


@dataclass(frozen=True, slots=True)
class Start:
    """A moment of a task from which everything after it can be derived again."""

    record: TaskRecord
    told: str


def began(
    newest: EntryId, offsets: Mapping[Stream, Offset], state: Mapping[str, bytes] | None = None
) -> tuple[Note, ...]:
    """What the first commit of a task writes down: where it began, behind which output, and what
    its state held before the first entry."""
    return (
        Note(Deed.BEGAN, "", str(newest)),
        *(Note(Deed.BEGAN, str(s), str(offset)) for s, offset in sorted(offsets.items())),
        *(
            Note(Deed.GIVEN, key, base64.b64encode(packed).decode())
            for key, packed in sorted((state or {}).items())
        ),
    )


def beginning(log: Log, slot: Slot) -> Start | None:
    """The task before its first commit; None when the journal no longer tells of it."""
    for row in rows(log, slot, until=1, page_rows=1):
        if record := _began_in(row.step, slot):
            return Start(record, "the beginning of the task")
    return None


def _began_in(step: JournalStep, slot: Slot) -> TaskRecord | None:
    newest, offsets, state, found = NOTHING_DERIVED, {}, {}, False
    for note in step.notes:
        if note.deed is Deed.GIVEN:
            state[note.place] = base64.b64decode(note.told)
        if note.deed is not Deed.BEGAN:
            continue
        found = True
        if note.place:
            offsets[Stream.parse(note.place)] = Offset.parse(note.told)
        else:
            newest = EntryId.parse(note.told)
    return TaskRecord(slot, offsets, state, newest, 0, "") if found else None


def snapshot_starts(log: Log, slot: Slot, version: str, *, newest: bool = False) -> list[Start]:
    """Snapshots that this code version made, oldest first; or only the newest."""
    infos = [info for info in log.tasks.snapshots(slot) if info.version == version]
    return [
        Start(log.tasks.snapshot(slot, info.place), f"the snapshot after commit {info.commit}")
        for info in (infos[-1:] if newest else infos)
    ]


def missing(log: Log, record: TaskRecord, inputs: Collection[Stream]) -> str:
    """Why deriving again cannot begin at this record; empty when it can."""
    for stream in sorted(inputs):
        offset, gone = record.offsets.get(stream, Offset()), removed(log, stream)
        if gone > offset.entries:
            return (
                f"{stream} begins with entry {gone + 1} by now, and entry "
                f"{offset.entries + 1} would be needed"
            )
    return ""


def removed(log: Log, stream: Stream) -> int:
    """Entries of a stream that this log no longer gives."""
    info = log.info(stream)
    return max(0, info.entries_added - info.length)


def upgrades(log: Log, slot: Slot) -> list[int]:
    """Commits in which other code took the task over, as far as the journal reaches."""
    return [
        row.commit
        for row in rows(log, slot)
        if any(note.deed is Deed.UPGRADED for note in row.step.notes)
    ]


def starts_of_version(log: Log, slot: Slot, version: str, *, newest: bool = False) -> list[Start]:
    """Every start whose state is what code of `version` would have, oldest first; of snapshots
    only the newest where that is enough."""
    first = beginning(log, slot)
    return [*([first] if first else []), *snapshot_starts(log, slot, version, newest=newest)]


def usable_starts(
    log: Log, record: TaskRecord, version: str, *, since_commit: int = 0
) -> list[Start]:
    """Those behind commit `since_commit` from which all that led to the record is kept, oldest
    first.

    Raises LogError that says why there is none.
    """
    slot, reasons, usable = record.slot, [], []
    for start in starts_of_version(log, slot, version):
        if start.record.commits < since_commit:
            continue
        why = missing(log, start.record, record.offsets)
        if why:
            reasons.append(f"{start.told}: {why}")
        else:
            usable.append(start)
    if usable:
        return usable
    raise LogError(
        f"{slot}: nothing to begin from: "
        + (
            "; ".join(reasons)
            or f"its journal was trimmed, and version {version!r} left no snapshot"
        )
    )

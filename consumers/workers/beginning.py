"""Where a group that is new begins to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.handler import Beginning, Given, Level, LooksBack
from consumers.runtime.journal import JournalStep
from consumers.runtime.rederive.starts import began
from consumers.runtime.state import State
from consumers.sinks import SinkGroup
from events.codec import encode
from events.log import (
    ACCOUNT_PARTITION,
    BEGIN,
    END,
    SOURCE,
    Claim,
    Entry,
    EntryId,
    Log,
    Slot,
    Stream,
)
from events.offset import Offset, checksum_of
from events.tasks import Commit, OffsetChange, Output, TaskRecord

LOOK_BACK_ENTRIES_MAX = 200_000
"""So many entries of a stream are read back at most, however much a handler wants."""
PAGE_ENTRIES = 1_000


class Begin(StrEnum):
    """Where a group begins that never ran. One that ran goes on where it was."""

    OLDEST = "oldest"
    """With the oldest entry that the log keeps."""
    NEWEST = "newest"
    """With what comes next; a handler that looks back reads some of what was before it, too."""


def is_new(record: TaskRecord) -> bool:
    """Whether a task never committed anything."""
    return not record.commits and not record.offsets


def pass_over_what_is_there(
    log: Log, group: Group | SinkGroup, spec: TaskSpec, claim: Claim, record: TaskRecord
) -> TaskRecord:
    """Put a new task behind the newest entry of every input, or as far before it as its handler
    looks back, durably; returns its record.

    The journal tells where it began and with what: a replay begins there, too.
    """
    ends = {stream: _end(log, stream) for stream in spec.inputs}
    version = group.sink.version if isinstance(group, SinkGroup) else group.handler.version
    given = Given({})
    if isinstance(group, Group):
        since = max((end.last for end in ends.values()), default=BEGIN)
        ends, passed = _looked_back(log, group, ends)
        given = group.handler.begins(
            Beginning(
                spec.reader, version, since, {stream: end.last for stream, end in ends.items()},
                passed, _levels(log, group, spec),
            )
        )  # fmt: skip
    state = State()
    state.update(given.state)
    packed, _ = state.changes()
    outputs = _outputs(given, record.newest)
    newest = outputs[-1].id if outputs else record.newest
    step = JournalStep(
        version,
        {stream: end.last for stream, end in ends.items()},
        began(newest, ends, packed),
    )
    log.tasks.commit(
        Commit(
            claim,
            record.newest,
            {s: OffsetChange(Offset(), end) for s, end in ends.items() if end != Offset()},
            packed,
            outputs=outputs,
            journal=step.to_bytes(),
            version=version,
        )
    )
    return log.tasks.peek(spec.slot)


def _outputs(given: Given, newest: EntryId) -> list[Output]:
    found: list[Output] = []
    for event in given.events:
        newest = EntryId(max(newest.ms, event.event_time_ms), newest.seq + 1)
        found.append(Output(newest, encode(event)))
    return found


def _end(log: Log, stream: Stream) -> Offset:
    """The offset behind the newest entry, whatever is appended meanwhile."""
    info = log.info(stream)
    newest = log.newest(stream, before=info.last_id) if info.length else []
    if not newest:
        return Offset(entries=info.entries_added)
    return Offset(newest[0].id, info.entries_added, checksum_of(newest[0]))


def _looked_back(
    log: Log, group: Group, ends: Mapping[Stream, Offset]
) -> tuple[dict[Stream, Offset], int]:
    """Where reading begins in each stream, and how many entries that is back in all."""
    partitions, found, passed = log.namespaces(), {}, 0
    for stream, end in ends.items():
        wants = group.handler.looks_back(stream, partitions[stream.slot.namespace])
        found[stream] = end if wants is None else _back(log, stream, end, wants)
        passed += end.entries - found[stream].entries
    return found, passed


def _back(log: Log, stream: Stream, end: Offset, wants: LooksBack) -> Offset:
    """In front of the newest entries that are wanted."""
    passed, more = 0, True
    for entry in _backwards(log, stream, end.last):
        if not more or passed >= LOOK_BACK_ENTRIES_MAX:
            return Offset(entry.id, end.entries - passed, checksum_of(entry))
        passed += 1
        more = wants(entry)
    return Offset(entries=end.entries - passed)


def _backwards(log: Log, stream: Stream, before: EntryId) -> Iterator[Entry]:
    while before != BEGIN:
        page = log.newest(stream, count_max=PAGE_ENTRIES, before=before)
        yield from page
        if len(page) < PAGE_ENTRIES:
            return
        oldest = page[-1].id
        if oldest.seq:
            before = EntryId(oldest.ms, oldest.seq - 1)
        else:
            before = EntryId(oldest.ms - 1, END.seq) if oldest.ms else BEGIN


def _levels(log: Log, group: Group, spec: TaskSpec) -> list[Level]:
    """The newest states of what is told, of the types that the handler asks for."""
    wanted: dict[Slot, set[str]] = {}
    for text in group.handler.levels:
        writer, _, name = text.rpartition(":")
        for stream in spec.inputs:
            slot = stream.slot
            if writer:
                wanted.setdefault(Slot(slot.namespace, writer, ACCOUNT_PARTITION), set()).add(name)
            elif slot.writer == SOURCE:
                wanted.setdefault(slot, set()).add(name)
    return [
        Level(type_, key, data)
        for slot, names in sorted(wanted.items())
        for (type_, key), data in sorted(log.last_states(slot).items())
        if type_.rpartition(".")[0] in names
    ]

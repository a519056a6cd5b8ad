"""Works out from inputs and journal alone what a task must have done, and names every difference.

Nothing of the runtime is used but the handler, the format of the journal and the codec: orders,
ids, offsets and dead letters are worked out here a second time, from what they are to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from consumers.runtime.handler import Handler, Order
from consumers.runtime.journal import JournalStep
from events.codec import BadEvent, UnknownEvent, decode, encode
from events.log import BEGIN, Entry, EntryId, GroupInfo, Lane, NewEntry, Stream
from events.offset import Offset, checksum_of
from events.operations import HandlerFailed
from events.tasks import JournalRow, TaskRecord

DIFFERENCES_MAX = 5
SLOW_LANES_LAST = (Lane.CRITICAL, Lane.HIGH, Lane.NORMAL, Lane.LOW)


@dataclass(frozen=True)
class Evidence:
    """What a task read, and all that is left of what it did."""

    handler: type[Handler]
    record: TaskRecord
    inputs: Mapping[Stream, Sequence[Entry]]
    """Everything ever appended to what it reads, whether it is still there or not."""
    outputs: Sequence[Entry]
    """Everything it ever derived, in any order."""
    journal: Sequence[JournalRow] = ()
    mirrored: Mapping[Stream, GroupInfo] = field(default_factory=dict)
    """Its offsets as operators see them; empty while nobody looks."""
    last: Mapping[tuple[str, str], bytes] | None = None
    """The last-state cache of its slot, where it is to be compared."""


@dataclass
class Expected:
    """What follows from the inputs."""

    state: dict[str, Any] = field(default_factory=dict)
    outputs: list[Entry] = field(default_factory=list)
    last: dict[tuple[str, str], bytes] = field(default_factory=dict)
    newest: EntryId = BEGIN

    def derive(self, slot_of: TaskRecord, new: NewEntry, cause: Entry) -> None:
        self.newest = EntryId(max(self.newest.ms, cause.id.ms), self.newest.seq + 1)
        stream = slot_of.slot.stream(new.lane)
        self.outputs.append(
            Entry(stream, self.newest, new.type, new.key, new.data, cause=cause.place)
        )
        if new.last is not None:
            self.last[new.type, new.key] = new.last


def differences(evidence: Evidence, *, complete: bool = True) -> list[str]:
    """Everything that is not as it must be, worst first; empty when all is well.

    `complete`: everything appended must have been read. Without it a task may be on its way.
    """
    handled, found = handled_entries(evidence)
    expected = derived_from(evidence, handled)
    found += compared_outputs(expected.outputs, evidence.outputs)
    found += compared_state(expected, evidence.record)
    found += compared_offsets(evidence, complete=complete)
    if evidence.mirrored:
        found += compared_mirror(evidence)
    if evidence.last is not None and evidence.last != expected.last:
        found.append(f"last states {evidence.last} are not {expected.last}")
    return found[:DIFFERENCES_MAX]


def handled_entries(evidence: Evidence) -> tuple[list[Entry], list[str]]:
    """The entries up to the durable offsets, in the order in which they must have been handled."""
    journalled = evidence.handler.order is Order.PRIORITY or (
        len({stream.slot for stream in evidence.inputs}) > 1
    )
    if journalled:
        return journalled_entries(evidence)
    offsets = evidence.record.offsets
    everything = sorted(
        (entry for entries in evidence.inputs.values() for entry in entries),
        key=lambda entry: entry.id,
    )
    done = [offsets.get(entry.stream, Offset()).last >= entry.id for entry in everything]
    handled = [entry for entry, is_done in zip(everything, done, strict=True) if is_done]
    if all(done[: len(handled)]):
        return handled, []
    skipped = everything[done.index(False)]
    return handled, [f"{skipped.place} was skipped: {handled[-1].place} was handled before it"]


def journalled_entries(evidence: Evidence) -> tuple[list[Entry], list[str]]:
    """Batch after batch as the journal says; each batch ordered as the handler declares."""
    at: dict[Stream, EntryId] = {}
    handled: list[Entry] = []
    found = []
    commits = [row.commit for row in evidence.journal]
    if commits != list(range(1, len(commits) + 1)) or len(commits) > evidence.record.commits:
        found.append(f"journal rows {commits[:20]} for {evidence.record.commits} commits")
    for row in evidence.journal:
        batch = []
        for stream, end in JournalStep.from_bytes(row.data).ends.items():
            begin = at.get(stream, BEGIN)
            batch += [e for e in _span(evidence.inputs[stream], begin, end)]
            at[stream] = end
        batch.sort(key=_priority if evidence.handler.order is Order.PRIORITY else _log_order)
        handled += batch
    durable = {stream: offset.last for stream, offset in evidence.record.offsets.items()}
    at = {stream: end for stream, end in at.items() if end != BEGIN}
    if at != durable:
        found.append(f"the journal ends at {at}, the offsets at {durable}")
    return handled, found


def _span(entries: Sequence[Entry], begin: EntryId, end: EntryId) -> Iterator[Entry]:
    return (entry for entry in entries if begin < entry.id <= end)


def _priority(entry: Entry) -> tuple[int, Any, EntryId]:
    return SLOW_LANES_LAST.index(entry.stream.lane), entry.stream.slot, entry.id


def _log_order(entry: Entry) -> tuple[EntryId, Stream]:
    return entry.id, entry.stream


def derived_from(evidence: Evidence, handled: Iterable[Entry]) -> Expected:
    """An uninterrupted run over these entries, with nothing but a dict for state."""
    expected = Expected()
    handler = evidence.handler()
    for entry in handled:
        name = entry.type.rpartition(".")[0]
        if evidence.handler.types and name not in evidence.handler.types:
            continue
        state: dict[str, Any] = msgpack.unpackb(msgpack.packb(expected.state))
        handler.state = state  # type: ignore[assignment]  # a dict in place of the runtime's State
        try:
            new = [encode(event) for event in handler.handle(decode(entry))]
        except (UnknownEvent, BadEvent) as error:
            new = [_letter(error)]
        except Exception as error:
            new = [_letter(error)]
        else:
            expected.state = state
        for one in new:
            expected.derive(evidence.record, one, entry)
    return expected


def _letter(error: Exception) -> NewEntry:
    """A dead letter as far as it is known beforehand: what went wrong, not where in the code."""
    text = f"{type(error).__name__}: {error}"
    return NewEntry(Lane.CRITICAL, HandlerFailed.TYPE, "", text.encode())


def compared_outputs(expected: Sequence[Entry], outputs: Sequence[Entry]) -> list[str]:
    """Byte for byte and in order; a dead letter by what it says of its entry."""
    found = []
    ordered = sorted(outputs, key=lambda entry: entry.id.seq)
    ordinals = [entry.id.seq for entry in ordered]
    if ordinals != list(range(1, len(ordinals) + 1)):
        gap = next(at for at, one in enumerate(ordinals, 1) if at != one)
        found.append(f"ordinals of outputs are not contiguous: {ordinals[gap - 1]} in place {gap}")
    if len(ordered) != len(expected):
        found.append(f"{len(ordered)} outputs, not {len(expected)}")
    for wanted, seen in zip(expected, ordered, strict=False):
        if not _same(wanted, seen):
            found.append(f"output {wanted.id.seq} is {_brief(seen)}, not {_brief(wanted)}")
            break
    by_lane: dict[Stream, EntryId] = {}
    for entry in outputs:
        if entry.id <= by_lane.get(entry.stream, BEGIN):
            found.append(f"{entry.place} lies behind {by_lane[entry.stream]}")
        by_lane[entry.stream] = entry.id
    return found


def _same(wanted: Entry, seen: Entry) -> bool:
    if wanted.type != HandlerFailed.TYPE:
        return wanted == seen
    if (wanted.stream, wanted.id, wanted.cause) != (seen.stream, seen.id, seen.cause):
        return False
    failed = decode(seen)
    return (
        isinstance(failed, HandlerFailed)
        and failed.place == seen.cause
        and failed.error == wanted.data.decode()
        and not failed.halted
    )


def _brief(entry: Entry) -> str:
    return f"{entry.place} {entry.type} {entry.data[:120]!r} caused by {entry.cause}"


def compared_state(expected: Expected, record: TaskRecord) -> list[str]:
    found = []
    packed = {key: msgpack.packb(value) for key, value in expected.state.items()}
    if packed != dict(record.state):
        keys = sorted(packed.keys() | record.state.keys())
        wrong = next(key for key in keys if packed.get(key) != record.state.get(key))
        found.append(f"state {wrong!r} is {record.state.get(wrong)!r}, not {packed.get(wrong)!r}")
    if record.newest != expected.newest:
        found.append(f"newest output is {record.newest}, not {expected.newest}")
    return found


def compared_offsets(evidence: Evidence, *, complete: bool) -> list[str]:
    found = []
    for stream, entries in evidence.inputs.items():
        offset = evidence.record.offsets.get(stream, Offset())
        read = [entry for entry in entries if entry.id <= offset.last]
        right = Offset(read[-1].id, len(read), checksum_of(read[-1])) if read else Offset()
        if offset != right:
            found.append(f"offset in {stream} is {offset}, not {right}")
        if complete and len(read) < len(entries):
            found.append(f"{len(entries) - len(read)} entries of {stream} were never read")
    return found


def compared_mirror(evidence: Evidence) -> list[str]:
    found = []
    for stream, entries in evidence.inputs.items():
        offset = evidence.record.offsets.get(stream, Offset())
        seen = evidence.mirrored.get(stream)
        if seen is None:
            if entries:
                found.append(f"no mirrored offset in {stream}")
        elif (seen.offset, seen.entries_read) != (offset.last, offset.entries):
            found.append(f"mirror of {stream} shows {seen}, not {offset}")
        elif seen.lag != len(entries) - offset.entries:
            found.append(f"lag of {stream} is shown as {seen.lag}")
    return found

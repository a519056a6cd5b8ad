"""One owned task: read a batch, handle it, commit it. After any error drop it and acquire anew."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.handler import Handler
from consumers.runtime.journal import JournalStep
from consumers.runtime.reading import BATCH_ENTRIES_MAX, Reading
from events.codec import AnyEvent, BadEvent, UnknownEvent, decode, encode, split_type
from events.log import Claim, Entry, EntryId, Log, Stream
from events.offset import Offset
from events.operations import HandlerFailed
from events.tasks import Commit, OffsetChange, Output, TaskRecord

TRACEBACK_LINES_MAX = 12
ERROR_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    entries: int = 0
    outputs: int = 0
    failed: int = 0
    halted: str = ""


@dataclass(slots=True)
class _Batch:
    """What was handled so far of the entries of one step."""

    outputs: list[Output] = field(default_factory=list)
    handled: int = 0
    failed: int = 0
    halted: str = ""


class _Failed(Exception):
    """Handling `entries[index]` raised."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(str(error))
        self.index, self.error = index, error


class TaskRun:
    """A task while this worker owns it.

    `step` may raise Fenced, StaleOffset, StaleOutput or LogUnavailable: then nothing in here may
    be believed any more, and a commit is never repeated; acquire the task again and reload.
    """

    def __init__(
        self,
        log: Log,
        group: Group,
        spec: TaskSpec,
        claim: Claim,
        record: TaskRecord,
        *,
        entries_max: int = BATCH_ENTRIES_MAX,
    ) -> None:
        self.spec, self.claim, self.halted = spec, claim, record.halted
        self._log, self._group = log, group
        self._handler: Handler = group.make(record)
        self._reading = Reading(log, spec.inputs, group.handler.order, entries_max=entries_max)
        self._journals = spec.journals(group.handler.order)
        self._durable = dict(record.offsets)
        self._offsets = {stream: self._begun(record, stream) for stream in spec.inputs}
        self._newest = record.newest
        self._mirrored: dict[Stream, Offset] = {}

    @property
    def offsets(self) -> Mapping[Stream, Offset]:
        """The durable offset of every input."""
        return self._offsets

    @property
    def ends(self) -> dict[Stream, EntryId]:
        """Where to read on."""
        return {stream: offset.last for stream, offset in self._offsets.items()}

    def step(self, *, urgent: Callable[[], bool] = lambda: False) -> Step:
        """Read, handle and commit one batch; nothing happens when nothing is there.

        `urgent` is asked between entries: when it says so, the batch ends there.
        """
        if self.halted:
            return Step(halted=self.halted)
        entries = self._reading.batch(self.ends)
        if not entries:
            return Step()
        batch = self._handled(entries, urgent)
        self._commit(entries[: batch.handled], batch)
        return Step(batch.handled, len(batch.outputs), batch.failed, batch.halted)

    def wait(self, block_ms: int) -> None:
        """Sleep until something may be there."""
        self._reading.wait(self.ends, block_ms)

    def mirror(self) -> None:
        """Show the durable offsets to operators, outside of any commit (about once a second)."""
        for stream, offset in self._offsets.items():
            if self._mirrored.get(stream) != offset:
                self._log.mirror(self.spec.reader, stream, offset.last, offset.entries)
                self._mirrored[stream] = offset

    def release(self) -> None:
        """Hand the task over: whoever looks next may take it at once."""
        self._log.release(self.claim)

    def _begun(self, record: TaskRecord, stream: Stream) -> Offset:
        """Where the task stands in a stream; what was trimmed before it came counts as read."""
        if stream in record.offsets:
            return record.offsets[stream]
        info = self._log.info(stream)
        return Offset(entries=max(0, info.entries_added - info.length))

    def _handled(self, entries: Sequence[Entry], urgent: Callable[[], bool]) -> _Batch:
        """Handle what can be handled. An entry that raises is tried no second time: state and
        handler go back to what is durable, those before it are handled again, and in its place
        stands HandlerFailed."""
        try:
            return self._handle(entries, urgent)
        except _Failed as failed:
            failure = failed
        while True:
            self._reload()
            try:
                batch = self._handle(entries[: failure.index], lambda: False)
            except _Failed as failed:
                failure = failed
                continue
            self._bury(entries[failure.index], failure.error, batch)
            return batch

    def _handle(self, entries: Sequence[Entry], urgent: Callable[[], bool]) -> _Batch:
        batch = _Batch()
        handle, wanted = self._handler.handle, self._group.handler.types
        for index, entry in enumerate(entries):
            if batch.handled and urgent():
                break
            batch.handled += 1
            if wanted and entry.type.rpartition(".")[0] not in wanted:
                continue
            try:
                event = decode(entry)
            except (UnknownEvent, BadEvent) as error:
                batch.handled -= 1
                self._bury(entry, error, batch)
                if batch.halted:
                    break
                continue
            try:
                for derived in handle(event):
                    self._derive(derived, entry, batch)
            except Exception as error:
                raise _Failed(index, error) from error
        return batch

    def _derive(self, event: AnyEvent, cause: Entry, batch: _Batch) -> None:
        newest = batch.outputs[-1].id if batch.outputs else self._newest
        id_ = EntryId(max(newest.ms, cause.id.ms), newest.seq + 1)
        batch.outputs.append(Output(id_, encode(event, cause=cause.place)))

    def _bury(self, entry: Entry, error: Exception, batch: _Batch) -> None:
        """HandlerFailed in place of what the entry would have led to; where it may not be
        skipped, the task halts in front of it."""
        halts = _name(entry) in self._group.handler.halts_on
        text = f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
        failed = HandlerFailed(
            event_time_ms=entry.id.ms,
            group=self._group.name,
            place=entry.place,
            entry_type=entry.type,
            error=text,
            traceback=_frames(error),
            code_version=self._group.handler.version,
            halted=halts,
        )
        self._derive(failed, entry, batch)
        batch.failed += 1
        if halts:
            batch.halted = f"{entry.place} ({entry.type}) may not be skipped: {text}"
        else:
            batch.handled += 1

    def _reload(self) -> None:
        """State and handler as they are durable."""
        state = self._handler.state
        state.discard()
        made = self._group.handler(**self._group.parameters)
        made.state = state
        made.setup()
        self._handler = made

    def _commit(self, entries: Sequence[Entry], batch: _Batch) -> None:
        moves = self._moves(entries)
        changed, removed = self._handler.state.changes()
        journal = None
        if self._journals and moves:
            ends = {stream: change.new.last for stream, change in moves.items()}
            journal = JournalStep(self._group.handler.version, ends).to_bytes()
        self._log.tasks.commit(
            Commit(
                self.claim, self._newest, moves, changed, removed, batch.outputs,
                journal=journal, version=self._group.handler.version, halted=batch.halted,
            )
        )  # fmt: skip
        for stream, change in moves.items():
            self._durable[stream] = self._offsets[stream] = change.new
        self._handler.state.settle(changed, removed)
        if batch.outputs:
            self._newest = batch.outputs[-1].id
        self.halted = batch.halted

    def _moves(self, entries: Sequence[Entry]) -> dict[Stream, OffsetChange]:
        counts: dict[Stream, int] = {}
        newest: dict[Stream, Entry] = {}
        for entry in entries:
            counts[entry.stream] = counts.get(entry.stream, 0) + 1
            newest[entry.stream] = entry
        return {
            stream: OffsetChange(
                self._durable.get(stream, Offset()),
                self._offsets[stream].after(entry, counts[stream]),
            )
            for stream, entry in newest.items()
        }


def _name(entry: Entry) -> str:
    try:
        return split_type(entry.type)[0]
    except UnknownEvent:
        return entry.type


def _frames(error: Exception) -> str:
    """Where it happened, without folders: the same text wherever the program lies."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        f"{frame.filename.replace(chr(92), '/').rpartition('/')[2]}:{frame.lineno} in {frame.name}"
        for frame in frames
        if not frame.filename.endswith(("runtime/task.py", "runtime\\task.py"))
    ]
    return "\n".join(lines[-TRACEBACK_LINES_MAX:])

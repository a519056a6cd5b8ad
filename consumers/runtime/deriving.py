"""What a handler derives from entries, and nothing else: no log, no clock, no commit.

A task that runs and a replay of it do the same thing here; only where entries come from and where
outputs go differs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from consumers.failures.failure import failure, halt_text
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.runtime.journal import Deed, Note
from consumers.runtime.outputs import (
    HANDLER_ERRORS,
    OUTPUTS_PER_ENTRY_MAX,
    is_of_a_person,
    outputs_of,
)
from consumers.runtime.state import State, UnstorableState
from events.codec import (
    TYPES_REMEMBERED_MAX,
    AnyEvent,
    UnknownEvent,
    decode,
    encode,
    split_type,
)
from events.log import Entry, EntryId, NewEntry
from events.tasks import COMMIT_OUTPUTS_MAX, Output, TaskRecord

OUTPUTS_AIM = COMMIT_OUTPUTS_MAX - OUTPUTS_PER_ENTRY_MAX
"""A batch ends behind the entry with which it has so many: then no commit is ever too large."""
OUTPUT_BYTES_AIM = 8 * 1024 * 1024


@dataclass(slots=True)
class Batch:
    """What was handled so far of some entries."""

    outputs: list[Output] = field(default_factory=list)
    output_bytes: int = 0
    handled: int = 0
    failed: int = 0
    halted: str = ""
    notes: list[Note] = field(default_factory=list)
    """What the journal must tell of it."""
    full: bool = False
    """So much was derived that the batch ends here."""

    def add(self, output: Output) -> None:
        self.outputs.append(output)
        self.output_bytes += len(output.entry.data) + len(output.entry.key.encode())
        self.full = len(self.outputs) >= OUTPUTS_AIM or self.output_bytes >= OUTPUT_BYTES_AIM


class _Wanted(dict[str, bool]):
    """Type of an entry, with its version -> whether the handler is asked about it."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, type_: str) -> bool:
        wanted = not self._names or type_.rpartition(".")[0] in self._names
        if len(self) < TYPES_REMEMBERED_MAX:
            self[type_] = wanted
        return wanted


class _Failed(Exception):
    """Handling `entries[index]` raised."""

    def __init__(self, index: int, error: BaseException) -> None:
        super().__init__(index)
        self.index, self.error = index, error


class Halting(Enum):
    """Whether an entry that fails halts the task in front of it."""

    NEVER = "never"
    NEEDED = "needed"
    """When its type may not be skipped, or too many failed in a row."""
    ALWAYS = "always"
    """It halted the task already."""


class Deriving:
    """A handler with its state, from one durable moment to the next.

    `handle` entries, store `changes()` and the outputs, then `settle`. Whoever cannot store them
    drops this object and begins anew from a record. With `breaks` too many failures in a row halt
    the task: that is counted in memory, so what derives again is told of it by the journal.
    """

    def __init__(self, group: Group, record: TaskRecord, *, breaks: bool = False) -> None:
        self.group = group
        self.newest = record.newest
        """Id of the newest output that is durable."""
        self.handler: Handler = group.make(record)
        self._wanted = _Wanted(group.handler.types)
        self._failures_max = group.handler.failures_max if breaks else 0
        self._in_a_row = self._in_a_row_before = 0
        """Entries that failed since one succeeded; what it was before entries that are handled
        again are counted again."""
        self._changes: tuple[dict[str, bytes], list[str]] = ({}, [])

    @property
    def version(self) -> str:
        return self.group.handler.version

    @property
    def state(self) -> State:
        return self.handler.state

    def handle(
        self,
        entries: Sequence[Entry],
        urgent: Callable[[], bool] = lambda: False,
        *,
        halting: Halting = Halting.NEEDED,
    ) -> Batch:
        """Handle what can be handled, in order; `Batch.handled` tells how many that were.

        An entry that raises is tried no second time: state and handler go back to what is
        durable, those before it are handled again, and in its place stands HandlerFailed.
        `urgent` is asked between entries: when it says so, the batch ends there.
        """
        self._in_a_row_before = self._in_a_row
        try:
            return self._attempt(entries, urgent, halting=halting)
        except _Failed as failed:
            found = failed
        while True:
            self._reload()
            before = entries[: found.index]
            try:
                batch = self._attempt(before, lambda: False, halting=halting)
            except _Failed as failed:
                found = failed
                continue
            short_of_memory = isinstance(found.error, MemoryError) and before
            if not short_of_memory and batch.handled == len(before):
                self._bury(entries[found.index], found.error, batch, halting=halting)
            return batch  # where memory was short the entry comes again, alone

    def condemn(self, entry: Entry, error: str, *, halting: Halting = Halting.NEEDED) -> Batch:
        """HandlerFailed in place of what an entry would lead to, without asking the handler."""
        batch = Batch(notes=[Note(Deed.QUARANTINED, entry.place, error)])
        self._bury(entry, error, batch, halting=halting)
        return batch

    def wants(self, entry: Entry) -> bool:
        """Whether the handler is asked at all about entries of this type."""
        return self._wanted[entry.type]

    def changes(self) -> tuple[dict[str, bytes], list[str]]:
        """What a commit has to write of the state: new values, keys that are gone."""
        return self._changes

    def settle(self, batch: Batch, changed: Mapping[str, bytes], removed: list[str]) -> None:
        """Outputs and state are durable now."""
        self.state.settle(changed, removed)
        self._changes = ({}, [])
        if batch.outputs:
            self.newest = batch.outputs[-1].id

    def _attempt(
        self, entries: Sequence[Entry], urgent: Callable[[], bool], *, halting: Halting
    ) -> Batch:
        """Handle and pack the state. Raises _Failed."""
        batch = self._handle(entries, urgent, halting=halting)
        try:
            self._changes = self._packed()
        except UnstorableState:  # find the entry that led to it
            self._reload()
            batch = self._handle(
                entries[: batch.handled], lambda: False, halting=halting, pack=True
            )
            self._changes = self._packed()
        return batch

    def _packed(self) -> tuple[dict[str, bytes], list[str]]:
        """Raises UnstorableState."""
        self.handler.remember()
        return self.state.changes()

    def _handle(
        self,
        entries: Sequence[Entry],
        urgent: Callable[[], bool],
        *,
        halting: Halting,
        pack: bool = False,
    ) -> Batch:
        batch, wanted = Batch(), self._wanted
        for index, entry in enumerate(entries):
            if index and (batch.full or urgent()):
                break
            batch.handled += 1
            if not wanted[entry.type]:
                continue
            try:
                event = decode(entry)
            except Exception as error:  # of any kind: the bytes may be anything
                batch.handled -= 1
                self._bury(entry, error, batch, halting=halting)
                if batch.halted:
                    break
                continue
            try:
                for output in outputs_of(self.handler, event, entry):
                    self._add(output, entry, batch)
                if pack:
                    self._packed()
            except HANDLER_ERRORS as error:
                if is_of_a_person(error):
                    raise
                raise _Failed(index, error) from error
            self._in_a_row = 0
        return batch

    def derive(self, event: AnyEvent, cause: Entry, batch: Batch) -> None:
        """Add an output behind those there are, at the id it must get."""
        self._add(encode(event, cause=cause.place), cause, batch)

    def _add(self, output: NewEntry, cause: Entry, batch: Batch) -> None:
        newest = batch.outputs[-1].id if batch.outputs else self.newest
        id_ = EntryId(max(newest.ms, cause.id.ms), newest.seq + 1)
        batch.add(Output(id_, output))

    def _bury(
        self, entry: Entry, error: BaseException | str, batch: Batch, *, halting: Halting
    ) -> None:
        """HandlerFailed in place of what the entry would have led to; where it may not be
        skipped, the task halts in front of it."""
        broken = False
        if halting is Halting.NEEDED:
            self._in_a_row += 1
            broken = 0 < self._failures_max <= self._in_a_row
        needed = broken or _name(entry) in self.group.handler.halts_on
        halts = needed if halting is Halting.NEEDED else halting is Halting.ALWAYS
        failed = failure(entry, error, group=self.group.name, version=self.version, halts=halts)
        self.derive(failed, entry, batch)
        batch.failed += 1
        if halts:
            batch.halted = halt_text(failed, in_a_row=self._in_a_row if broken else 0)
            batch.notes.append(Note(Deed.HALTED, entry.place))
        else:
            batch.handled += 1

    def _reload(self) -> None:
        """State and handler as they are durable."""
        state = self.handler.state
        state.discard()
        self._in_a_row = self._in_a_row_before
        self._changes = ({}, [])
        made = self.group.handler(**self.group.parameters)
        made.state = state
        made.setup()
        self.handler = made


def _name(entry: Entry) -> str:
    try:
        return split_type(entry.type)[0]
    except UnknownEvent:
        return entry.type

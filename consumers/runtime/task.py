"""One owned task: read a batch, handle it, commit it. After any error drop it and acquire anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from consumers.failures.inbox import Inbox
from consumers.failures.quarantine import Suspicion
from consumers.runtime.deriving import Batch, Deriving
from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.handler import Order
from consumers.runtime.journal import JournalStep, Note
from consumers.runtime.reading import BATCH_ENTRIES_MAX, Reading, tally
from consumers.runtime.rederive.snapshots import Snapshots
from consumers.runtime.rederive.starts import began
from consumers.runtime.rederive.upgrade import waits_for_choice
from consumers.runtime.requests import Requests
from events.continuity import counted_from_here
from events.log import Claim, Entry, EntryId, Lane, Log, Stream
from events.offset import Offset
from events.tasks import Commit, OffsetChange, TaskRecord

MIRROR_ALL_EVERY = 10
"""Of so many looks at the mirror, one shows every offset again, moved or not."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    entries: int = 0
    outputs: int = 0
    failed: int = 0
    halted: str = ""


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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec, self.claim, self.halted = spec, claim, record.halted
        self._log = log
        self._deriving = Deriving(group, record, breaks=True)
        self._reading = Reading(log, spec.inputs, group.handler.order, entries_max=entries_max)
        self._by_priority = group.handler.order is Order.PRIORITY
        self._journals = spec.journals(group.handler.order)
        self._durable = dict(record.offsets)
        self._offsets = {stream: self._begun(record, stream) for stream in spec.inputs}
        self._mirrored: dict[Stream, Offset] = {}
        self._mirrors = 0
        self._suspicion = Suspicion(record)
        self._inbox = Inbox(log, record, monotonic=monotonic)
        self._requests = Requests(log, claim, self._deriving, self._suspicion)
        self._begun_late = set(self._offsets.keys() - self._durable.keys())
        self._commits = record.commits
        self._snapshots = Snapshots(
            log, spec, group.handler.order, self._deriving.version, monotonic=monotonic
        )

    @property
    def offsets(self) -> Mapping[Stream, Offset]:
        """The durable offset of every input."""
        return self._offsets

    @property
    def ends(self) -> dict[Stream, EntryId]:
        """Where to read on."""
        return {stream: offset.last for stream, offset in self._offsets.items()}

    @property
    def reached(self) -> dict[Stream, EntryId]:
        """How far critical lanes were read, while the task follows priorities and goes on."""
        if not self._by_priority or self.halted:
            return {}
        read = self._reading.reached
        return {
            stream: max(offset.last, read.get(stream, offset.last))
            for stream, offset in self._offsets.items()
            if stream.lane is Lane.CRITICAL
        }

    def step(self, *, urgent: Callable[[], bool] = lambda: False) -> Step:
        """Read, handle and commit one batch; nothing happens when nothing is there.

        `urgent` is asked between entries: when it says so, the batch ends there. What operators
        ask comes first, also of a task that is halted.
        """
        if waits_for_choice(self.halted):  # whatever it wrote now would pass for our own
            return Step(halted=self.halted)
        asked = self._inbox.next()
        if asked is not None:
            return self._carry_out(asked)
        if self.halted:
            self._reading.forget()
            return Step(halted=self.halted)
        entries = self._reading.batch(self.ends)
        if not entries:
            return Step()
        if self._suspicion:
            entries, batch = self._alone(entries)
        else:
            batch = self._deriving.handle(entries, urgent)
        self._commit(entries[: batch.handled], batch)
        self._suspicion.passed(entries)
        return Step(batch.handled, len(batch.outputs), batch.failed, batch.halted)

    def _alone(self, entries: Sequence[Entry]) -> tuple[list[Entry], Batch]:
        """One entry, written down before it is handled: owners died over one of them."""
        chosen = self._suspicion.chosen(entries, self._deriving.wants)
        last = chosen[-1]
        error = self._suspicion.condemns(last)
        if error:
            return chosen, self._deriving.condemn(last, error)
        if self._deriving.wants(last):
            self._log.tasks.trying(self.claim, str(self._suspicion.trial(last)))
        return chosen, self._deriving.handle(chosen)

    def _carry_out(self, asked: tuple[str, bytes]) -> Step:
        carried = self._requests.carry_out(asked, halted=self.halted, ends=self.ends)
        self._commit(carried.moved, carried.batch, answered=(carried.request,))
        self._inbox.done(carried.request)
        self._suspicion.passed(carried.moved)
        batch = carried.batch
        return Step(len(carried.moved), len(batch.outputs), batch.failed, batch.halted)

    def halt(self, reason: str) -> None:
        """Stand still, durably, until an operator says how to go on."""
        self._commit((), Batch(halted=reason))

    def wait(self, block_ms: int) -> None:
        """Sleep until something may be there."""
        self._reading.wait(self.ends, block_ms)

    def mirror(self) -> None:
        """Show the durable offsets to operators, outside of any commit (about once a second).

        Now and then all of them: a former owner that woke up late may have shown older ones.
        """
        self._mirrors += 1
        if self._mirrors % MIRROR_ALL_EVERY == 0:
            self._mirrored.clear()
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
        return counted_from_here(self._log, stream, Offset())

    def _commit(
        self, entries: Sequence[Entry], batch: Batch, *, answered: Sequence[str] = ()
    ) -> None:
        moves = self._moves(entries)
        changed, removed = self._deriving.changes()
        snapshot = self._snapshots.due(self._commits + 1)
        self._log.tasks.commit(
            Commit(
                self.claim, self._deriving.newest, moves, changed, removed, batch.outputs,
                journal=self._row(moves, batch.notes), version=self._deriving.version,
                halted=batch.halted, answered=answered,
                snapshot=snapshot.place if snapshot else None,
                journal_from=snapshot.journal_from if snapshot else 0,
            )
        )  # fmt: skip
        for stream, change in moves.items():
            self._durable[stream] = self._offsets[stream] = change.new
        self._commits += 1
        self._begun_late.clear()
        self._deriving.settle(batch, changed, removed)
        self.halted = batch.halted

    def _row(self, moves: Mapping[Stream, OffsetChange], done: Sequence[Note]) -> bytes | None:
        """What the journal has to tell of a commit. A row with notes names every input."""
        notes = () if self._commits else began(self._deriving.newest, self._offsets)
        notes += tuple(done)
        if not notes and not self._journals:
            return None
        ends = self.ends if notes else {}
        ends |= {stream: change.new.last for stream, change in moves.items()}
        return JournalStep(self._deriving.version, ends, notes).to_bytes()

    def _moves(self, entries: Sequence[Entry]) -> dict[Stream, OffsetChange]:
        new = {s: at for s in self._begun_late if (at := self._offsets[s]) != Offset()}
        new |= {s: self._offsets[s].after(*last) for s, last in tally(entries).items()}
        return {s: OffsetChange(self._durable.get(s, Offset()), to) for s, to in new.items()}

"""What a consumer group keeps in the log: its tasks, and the port every store of them implements.

A group is split into *tasks*. Each task has a slot of its own, `{NS:GROUP:N}`, in which it keeps
its lease, offsets, state, journal and snapshots beside what it derives, so that one atomic step
can move them together. A task is owned by one worker at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from events.log import Claim, EntryId, LogError, NewEntry, Slot, Stream, check_sizes
from events.offset import Offset

SNAPSHOTS_MAX = 8
"""Snapshots kept per task, in a ring."""
COMMIT_OUTPUTS_MAX = 2_000
"""Outputs of one commit; more are refused (OversizedEntry)."""
NOTHING_DERIVED = EntryId(0, 0)
"""The newest output id of a task that derived nothing yet."""


class StaleOffset(LogError):
    """A commit started from an offset that is no longer the durable one: reload the task."""

    def __init__(self, slot: Slot, stream: str, expected: str, found: str) -> None:
        super().__init__(f"{slot}: offset in {stream} is {found!r}, not {expected!r}")
        self.slot, self.stream, self.expected, self.found = slot, stream, expected, found


class StaleOutput(LogError):
    """A commit's output ids do not follow the newest output: reload the task."""


class Holding(NamedTuple):
    """What an observer sees of a task. The holder lives as long as `beat` moves."""

    slot: Slot
    token: str
    """Empty when nobody holds the task."""
    holder: str
    beat: int
    halted: str
    """Why the task stands still, or empty."""


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """All that is durable of a task, as `acquire`, `peek` and `snapshot` give it."""

    slot: Slot
    offsets: Mapping[Stream, Offset]
    state: Mapping[str, bytes]
    newest: EntryId
    """Id of the newest output; its second number counts the outputs of the task from 1."""
    commits: int
    version: str
    """Code version that wrote the state ("" before the first commit)."""
    attempts: int = 0
    """Take-overs from a dead owner since the last commit."""
    trying: str = ""
    """The entry a worker was handling alone when it died, as `place|times`."""
    halted: str = ""
    requests: Mapping[str, bytes] = field(default_factory=dict)
    """What operators ask of the task, by request id."""


class Output(NamedTuple):
    """A derived event at the id it must get: `ms` follows its cause, `seq` counts the outputs."""

    id: EntryId
    entry: NewEntry


class OffsetChange(NamedTuple):
    """Compare-and-set of one offset."""

    expected: Offset
    new: Offset


@dataclass(frozen=True, slots=True)
class Commit:
    """One atomic step of a task. `newest` is the newest output id before it."""

    claim: Claim
    newest: EntryId
    offsets: Mapping[Stream, OffsetChange]
    changed: Mapping[str, bytes] = field(default_factory=dict)
    removed: Collection[str] = ()
    outputs: Sequence[Output] = ()
    journal: bytes | None = None
    """Kept under the number of this commit, where the order was not the log's."""
    version: str = ""
    halted: str = ""
    answered: Collection[str] = ()
    """Requests that are done with this commit."""
    snapshot: int | None = None
    """Place in the ring (0 to SNAPSHOTS_MAX - 1) for a copy of what is durable after it."""
    journal_from: int = 0
    """With a snapshot: the journal is trimmed below this commit number (0: not at all)."""


class JournalRow(NamedTuple):
    """What a commit wrote down of the order it followed."""

    commit: int
    data: bytes


class SnapshotInfo(NamedTuple):
    """A snapshot in the ring: what was durable after commit number `commit`."""

    place: int
    commit: int
    version: str


class Tasks(Protocol):
    """The port, reached as `Log.tasks`. Implementations: RedisTasks and MemoryTasks.

    Every method may raise LogUnavailable; nothing is retried inside. `beat` and `release` of a
    held task are those of `Log`.
    """

    def open_group(self, namespace: str, group: str, tasks: int) -> None:
        """Register the group as a writer. Raises LogError when it has another number of tasks."""
        ...

    def writers(self, namespace: str) -> dict[str, int]:
        """Every writer of a namespace with its number of slots: `source`, `operator`, groups."""
        ...

    def close_group(self, namespace: str, group: str, *, outputs: bool = False) -> None:
        """Remove a group for good: registration, offsets, state, journal, snapshots; with
        `outputs` also what it derived. The caller made sure that nobody runs it."""
        ...

    def join(self, reader: str, streams: Collection[Stream]) -> None:
        """Register `reader` (`GROUP.TASK`): nothing it has not read is trimmed from now on. Its
        group appears in each stream at once, at the stream's beginning where it is new."""
        ...

    def leave(self, reader: str, streams: Collection[Stream]) -> None:
        """The reader no longer holds back trimming; its mirrored offsets go too."""
        ...

    def readers(self, namespace: str) -> dict[Stream, frozenset[str]]:
        """Who is registered to read which streams of a namespace."""
        ...

    def look(self, slots: Sequence[Slot]) -> list[Holding]:
        """Who holds these tasks, in one round trip."""
        ...

    def acquire(self, slot: Slot, holder: str, *, seen: str) -> tuple[Claim, TaskRecord] | None:
        """Take a task from the token that was seen ("" for a free one) and load it, in one step.

        None when somebody was faster.
        """
        ...

    def peek(self, slot: Slot) -> TaskRecord:
        """What is durable of a task, without taking it."""
        ...

    def trying(self, claim: Claim, text: str) -> None:
        """Write down which entry is handled next, alone. Raises Fenced."""
        ...

    def commit(self, commit: Commit) -> None:
        """All or nothing. Raises Fenced, StaleOffset, StaleOutput, OversizedEntry (all: nothing
        was written). After LogUnavailable the outcome is unknown: acquire and reload."""
        ...

    def rewind(self, claim: Claim, to: TaskRecord) -> int:
        """Put an owned task back to what a snapshot says, or to an empty record, in one step.

        What it derived, journalled and copied since is taken away, so that the same can be
        derived anew; the task is released and no longer halted. Requests stay. Returns how many
        outputs were taken away. Raises Fenced.
        """
        ...

    def journal(self, slot: Slot, *, after: int = 0, count_max: int) -> list[JournalRow]:
        """Rows of commits with a number > `after`, oldest first."""
        ...

    def snapshots(self, slot: Slot) -> list[SnapshotInfo]:
        """Snapshots of a task, oldest first."""
        ...

    def snapshot(self, slot: Slot, place: int) -> TaskRecord:
        """A snapshot. Raises LogError when that place in the ring is empty."""
        ...

    def ask(self, slot: Slot, request_id: str, data: bytes) -> None:
        """Leave a request for whoever owns the task; a repeated id replaces the former."""
        ...

    def requests(self, slot: Slot) -> dict[str, bytes]:
        """Requests not answered yet."""
        ...

    def beat_worker(self, group: str, worker: str) -> None:
        """Show that a worker of the group lives and takes tasks."""
        ...

    def drop_worker(self, group: str, worker: str) -> None:
        """The worker ended, or was seen silent for long."""
        ...

    def workers(self, group: str) -> dict[str, int]:
        """Registered workers with their heartbeat counters; the observer judges who lives."""
        ...


def check_outputs(commit: Commit) -> None:
    """Raises OversizedEntry, or StaleOutput unless the output ids follow `newest` without a gap."""
    check_sizes([output.entry for output in commit.outputs], entries_max=COMMIT_OUTPUTS_MAX)
    newest = commit.newest
    for output in commit.outputs:
        if output.id.ms < newest.ms or output.id.seq != newest.seq + 1:
            raise StaleOutput(f"{commit.claim.slot}: output {output.id} does not follow {newest}")
        newest = output.id

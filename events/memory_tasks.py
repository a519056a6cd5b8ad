"""Tasks of consumer groups in memory, beside a MemoryLog and under its lock."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from events.log import (
    BEGIN,
    OPERATOR,
    SOURCE,
    Claim,
    EntryId,
    GroupInfo,
    LogError,
    Slot,
    Stream,
    checked_name,
)
from events.offset import Offset
from events.tasks import (
    NOTHING_DERIVED,
    Commit,
    Holding,
    JournalRow,
    SnapshotInfo,
    StaleOffset,
    StaleOutput,
    TaskRecord,
    check_outputs,
)

if TYPE_CHECKING:
    from events.memory_log import MemoryLog


@dataclass
class _Task:
    record: TaskRecord
    journal: list[JournalRow] = field(default_factory=list)
    snapshots: dict[int, TaskRecord] = field(default_factory=dict)


class MemoryTasks:
    """See `events.tasks.Tasks`. The three guards are methods, so that a test can take one away."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._writers: dict[str, dict[str, int]] = {}
        self._readers: dict[Stream, set[str]] = {}
        self._workers: dict[str, dict[str, int]] = {}
        self._tasks: dict[Slot, _Task] = {}

    def open_group(self, namespace: str, group: str, tasks: int) -> None:
        checked_name(group)
        with self._log.changed:
            found = self._writers.setdefault(namespace, {}).setdefault(group, tasks)
        if found != tasks:
            raise LogError(f"group {group!r} has {found} tasks in {namespace!r}, not {tasks}")

    def writers(self, namespace: str) -> dict[str, int]:
        partitions = self._log.namespaces().get(namespace, 0)
        with self._log.changed:
            groups = dict(sorted(self._writers.get(namespace, {}).items()))
        return {SOURCE: partitions, OPERATOR: 1, **groups}

    def close_group(self, namespace: str, group: str, *, outputs: bool = False) -> None:
        with self._log.changed:
            tasks = self._writers.get(namespace, {}).get(group, 0)
            for slot in (Slot(namespace, group, number) for number in range(tasks)):
                newest = self._task(slot).record.newest
                self._tasks.pop(slot)
                self._log.slot(slot).token = self._log.slot(slot).holder = ""
                if outputs:
                    for stream in slot.streams():
                        self._log.drop(stream)
                else:
                    self._task(slot, newest)
            if outputs:
                self._writers.get(namespace, {}).pop(group, None)

    def join(self, reader: str, streams: Collection[Stream]) -> None:
        with self._log.changed:
            for stream in streams:
                self._readers.setdefault(stream, set()).add(reader)
                groups = self._log.stream(stream).groups
                groups.setdefault(reader, GroupInfo(BEGIN, 0, None))

    def leave(self, reader: str, streams: Collection[Stream]) -> None:
        with self._log.changed:
            for stream in streams:
                self._readers.get(stream, set()).discard(reader)
                self._log.stream(stream).groups.pop(reader, None)

    def readers(self, namespace: str) -> dict[Stream, frozenset[str]]:
        with self._log.changed:
            return {
                stream: frozenset(names)
                for stream, names in sorted(self._readers.items())
                if stream.slot.namespace == namespace and names
            }

    def look(self, slots: Sequence[Slot]) -> list[Holding]:
        with self._log.changed:
            return [self._holding(slot) for slot in slots]

    def _holding(self, slot: Slot) -> Holding:
        held = self._log.slot(slot)
        return Holding(slot, held.token, held.holder, held.beat, self._task(slot).record.halted)

    def acquire(self, slot: Slot, holder: str, *, seen: str) -> tuple[Claim, TaskRecord] | None:
        with self._log.changed:
            held, task = self._log.slot(slot), self._task(slot)
            if held.token != seen:
                return None
            held.token, held.holder = secrets.token_hex(16), holder
            held.beat += 1
            if seen:
                task.record = dataclasses.replace(task.record, attempts=task.record.attempts + 1)
            return Claim(slot, held.token, holder), task.record

    def peek(self, slot: Slot) -> TaskRecord:
        with self._log.changed:
            return self._task(slot).record

    def trying(self, claim: Claim, text: str) -> None:
        with self._log.changed:
            self.check_token(claim)
            task = self._task(claim.slot)
            task.record = dataclasses.replace(task.record, trying=text)

    def commit(self, commit: Commit) -> None:
        check_outputs(commit)
        with self._log.changed:
            task = self._task(commit.claim.slot)
            self.check_token(commit.claim)
            self.check_offsets(commit, task.record)
            self.check_output_ids(commit, task.record)
            self._apply(commit, task)
            self._log.changed.notify_all()

    def check_token(self, claim: Claim) -> None:
        self._log.ours(claim)

    def check_offsets(self, commit: Commit, record: TaskRecord) -> None:
        for stream, change in commit.offsets.items():
            found = record.offsets.get(stream, Offset())
            if found != change.expected:
                raise StaleOffset(record.slot, str(stream), str(change.expected), str(found))

    def check_output_ids(self, commit: Commit, record: TaskRecord) -> None:
        if commit.outputs and commit.newest != record.newest:
            raise StaleOutput(f"{record.slot}: {commit.newest} is not {record.newest}")

    def _apply(self, commit: Commit, task: _Task) -> None:
        before = task.record
        held = self._log.slot(before.slot)
        for id_, entry in commit.outputs:
            self._log.add(before.slot.stream(entry.lane), id_, entry)
            if entry.last is not None:
                held.last[entry.type, entry.key] = entry.last
        held.beat += 1
        gone = set(commit.removed)
        task.record = dataclasses.replace(
            before,
            offsets={**before.offsets, **{s: change.new for s, change in commit.offsets.items()}},
            state={
                name: value
                for name, value in {**before.state, **commit.changed}.items()
                if name not in gone
            },
            newest=commit.outputs[-1].id if commit.outputs else before.newest,
            commits=before.commits + 1,
            version=commit.version,
            attempts=0,
            trying="",
            halted=commit.halted,
            requests={n: d for n, d in before.requests.items() if n not in commit.answered},
        )
        if commit.journal is not None:
            task.journal.append(JournalRow(task.record.commits, commit.journal))
        if commit.snapshot is not None:
            task.snapshots[commit.snapshot] = dataclasses.replace(task.record, requests={})
            task.journal = [row for row in task.journal if row.commit >= commit.journal_from]

    def rewind(self, claim: Claim, to: TaskRecord) -> int:
        with self._log.changed:
            self.check_token(claim)
            slot, task, removed = claim.slot, self._task(claim.slot), 0
            for stream in slot.streams():
                for entry in self._log.cut(stream, to.newest):
                    self._log.slot(slot).last.pop((entry.type, entry.key), None)
                    removed += 1
            requests = task.record.requests
            task.record = dataclasses.replace(
                to, slot=slot, attempts=0, trying="", halted="", requests=requests
            )
            task.journal = [row for row in task.journal if row.commit <= to.commits]
            task.snapshots = {
                place: record
                for place, record in task.snapshots.items()
                if record.commits <= to.commits
            }
            held = self._log.slot(slot)
            held.token = held.holder = ""
            return removed

    def journal(self, slot: Slot, *, after: int = 0, count_max: int) -> list[JournalRow]:
        with self._log.changed:
            return [row for row in self._task(slot).journal if row.commit > after][:count_max]

    def snapshots(self, slot: Slot) -> list[SnapshotInfo]:
        with self._log.changed:
            found = [
                SnapshotInfo(place, record.commits, record.version)
                for place, record in self._task(slot).snapshots.items()
            ]
        return sorted(found, key=lambda info: info.commit)

    def snapshot(self, slot: Slot, place: int) -> TaskRecord:
        with self._log.changed:
            found = self._task(slot).snapshots.get(place)
        if found is None:
            raise LogError(f"{slot} has no snapshot at place {place}")
        return found

    def ask(self, slot: Slot, request_id: str, data: bytes) -> None:
        with self._log.changed:
            task = self._task(slot)
            requests = dict(sorted({**task.record.requests, request_id: data}.items()))
            task.record = dataclasses.replace(task.record, requests=requests)

    def requests(self, slot: Slot) -> dict[str, bytes]:
        return dict(self.peek(slot).requests)

    def beat_worker(self, group: str, worker: str) -> None:
        with self._log.changed:
            workers = self._workers.setdefault(group, {})
            workers[worker] = workers.get(worker, 0) + 1

    def drop_worker(self, group: str, worker: str) -> None:
        with self._log.changed:
            self._workers.get(group, {}).pop(worker, None)

    def workers(self, group: str) -> dict[str, int]:
        with self._log.changed:
            return dict(sorted(self._workers.get(group, {}).items()))

    def _task(self, slot: Slot, newest: EntryId = NOTHING_DERIVED) -> _Task:
        fresh = TaskRecord(slot, {}, {}, newest, 0, "")
        return self._tasks.setdefault(slot, _Task(fresh))

"""Tasks whose inputs are not those they derived from: back to a snapshot, and derive again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from consumers.repair.parting import entries_after, examined, missed_entries
from consumers.repair.plan import Done, Plan
from events.continuity import Continuity, Finding
from events.log import BEGIN, OPERATOR, SOURCE, Log, LogError, Slot, Stream
from events.offset import Offset, checksum_of
from events.tasks import NOTHING_DERIVED, TaskRecord

HOLDER = "repair"


class TaskRepair:
    """Finds and cures tasks whose offsets the log does not bear out."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def plans(self, namespaces: Sequence[str] = ()) -> Iterator[Plan]:
        """One plan per task that stands on nothing. What reads from such a task may show as
        forked only after its repair: ask again then."""
        for slot in self._slots(namespaces):
            record = self._log.tasks.peek(slot)
            wrong = self._wrong(record)
            if wrong:
                yield self._plan(record, wrong)

    def _slots(self, namespaces: Sequence[str]) -> Iterator[Slot]:
        for namespace in namespaces or self._log.namespaces():
            for writer, tasks in self._log.tasks.writers(namespace).items():
                if writer not in (SOURCE, OPERATOR):
                    yield from (Slot(namespace, writer, number) for number in range(tasks))

    def _wrong(self, record: TaskRecord) -> list[Finding]:
        found = (examined(self._log, stream, o) for stream, o in sorted(record.offsets.items()))
        return [finding for finding in found if not finding.whole]

    def _plan(self, record: TaskRecord, wrong: list[Finding]) -> Plan:
        cut = [finding for finding in wrong if finding.continuity is Continuity.CUT]
        if not cut:
            target = replace(record, offsets=self._passed_over(record.offsets, wrong))
            cure = "go on behind the hole: these entries are in no log any more"
        elif record.newest == NOTHING_DERIVED and not record.state:
            target = replace(record, offsets=self._set_back(record.offsets, cut))
            cure = "go on from the entry before the fork (nothing was derived, no state kept)"
        else:
            target, cure = self._snapshot(record)
        first = (cut or wrong)[0]
        place = target.offsets.get(first.stream, Offset())
        undone = abs(first.offset.entries - place.entries)
        slot = record.slot

        def apply() -> Done:
            return Done(outputs_removed=self._rewind(slot, target))

        name = f"{slot.writer}.{slot.partition}"
        return Plan(name, first, cure, place.last, undone, apply)

    def _snapshot(self, record: TaskRecord) -> tuple[TaskRecord, str]:
        """The newest snapshot that stands on the log as it is, or the beginning."""
        slot = record.slot
        for info in reversed(self._log.tasks.snapshots(slot)):
            snapshot = self._log.tasks.snapshot(slot, info.place)
            wrong = self._wrong(snapshot)
            if any(finding.continuity is Continuity.CUT for finding in wrong):
                continue
            offsets = self._passed_over(snapshot.offsets, wrong)
            holes = f", passing over a hole in {len(wrong)} streams" if wrong else ""
            cure = f"back to the snapshot after commit {info.commit}, derive again{holes}"
            return replace(snapshot, slot=slot, offsets=offsets), cure
        begin = TaskRecord(slot, {}, {}, NOTHING_DERIVED, 0, "")
        return begin, "no snapshot lies before the fork: derive again from all the log still has"

    def _passed_over(
        self, offsets: Mapping[Stream, Offset], lost: list[Finding]
    ) -> dict[Stream, Offset]:
        """The offsets with entries that are gone for good counted as done."""
        passed = dict(offsets)
        for stream in {finding.stream for finding in lost}:
            missed = missed_entries(self._log, stream, passed[stream])
            passed[stream] = passed[stream]._replace(entries=passed[stream].entries + missed)
        return passed

    def _set_back(
        self, offsets: Mapping[Stream, Offset], cut: list[Finding]
    ) -> dict[Stream, Offset]:
        """The offsets at the newest entry that is not behind them."""
        back = dict(offsets)
        for finding in cut:
            stream, last = finding.stream, finding.offset.last
            found = self._log.newest(stream, count_max=2, before=last)
            found = [entry for entry in found if entry.id != last][:1]  # another one in its place
            place = found[0].id if found else BEGIN
            added = self._log.info(stream).entries_added
            entries = added - sum(1 for _ in entries_after(self._log, stream, place))
            back[stream] = Offset(place, entries, checksum_of(found[0]) if found else 0)
        return back

    def _rewind(self, slot: Slot, target: TaskRecord) -> int:
        """Take the task from whoever has it, and put it back."""
        [holding] = self._log.tasks.look([slot])
        taken = self._log.tasks.acquire(slot, HOLDER, seen=holding.token)
        if taken is None:
            raise LogError(f"{slot} changed hands just now: run `bridgectl repair` again")
        return self._log.tasks.rewind(taken[0], target)

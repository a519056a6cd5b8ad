"""Rows in the database that were made of entries the log has lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from consumers.repair.again import RESENT_MS_MAX, Again
from consumers.repair.kept import keep
from consumers.repair.parting import (
    begins_anew,
    counted,
    entries_after,
    last_common,
    stored_after,
)
from consumers.repair.plan import Done, Plan
from events.continuity import Continuity, Finding, look
from events.log import BEGIN, Entry, EntryId, Log
from events.offset import checksum_of
from events.postgres import StoredOffset, read_entries
from events.postgres.connection import Connection
from events.postgres.forks import GroupOffset, put, retire, set_back, stored_offsets


class DatabaseRepair:
    """Finds and cures offsets of PostgreSQL that the log does not bear out."""

    def __init__(self, log: Log, connection: Connection, *, kept_folder: Path, stamp: str) -> None:
        self._log, self._connection = log, connection
        self._folder, self._stamp = kept_folder, stamp

    def plans(self, namespaces: Sequence[str] = ()) -> Iterator[Plan]:
        """One plan per offset that leads nowhere; applying one changes no other."""
        for found in stored_offsets(self._connection):
            if namespaces and found.offset.stream.slot.namespace not in namespaces:
                continue
            finding = look(self._log, found.offset.stream, found.offset.place)
            if finding.continuity is Continuity.LOST:
                yield self._go_on(found, finding)
            elif finding.continuity is Continuity.CUT:
                yield self._go_back(found, finding)

    def _go_on(self, found: GroupOffset, finding: Finding) -> Plan:
        """Entries are gone for good: count them as passed over."""
        before = found.offset
        info = self._log.info(before.stream)
        missed = info.entries_added - info.length - before.entries
        after = StoredOffset(
            before.stream, before.last, before.entries + missed, before.ticks, before.checksum
        )

        def apply() -> Done:
            put(self._connection, found.group, before, after)
            return Done()

        cure = "go on behind the hole: these entries are in no log any more"
        return Plan(found.group, finding, cure, before.last, missed, apply)

    def _go_back(self, found: GroupOffset, finding: Finding) -> Plan:
        offset = found.offset
        common = last_common(self._log, offset.stream, offset.last, self._stored(offset))
        if common is None and not begins_anew(self._log, offset.stream):
            # Trimmed since: what is stored before its first entry cannot be compared.
            first = self._log.info(offset.stream).first_id
            older = None if first is None else self._newest_stored_before(offset, first)
            common = older
        if common is None:
            return self._begin_anew(found, finding)
        undone = counted(stored_after(self._stored(offset), common, offset.last))

        def apply() -> Done:
            kept, count = keep(
                self._folder, offset.stream, self._stamp,
                stored_after(self._stored(offset), common, offset.last),
            )  # fmt: skip
            rows = set_back(
                self._connection, found.group, offset, self._offset_at(offset, common, count)
            )
            return Done(rows_removed=rows, kept_in=kept)

        cure = "remove the rows of the lost entries and store on from the last common one"
        return Plan(found.group, finding, cure, common, undone, apply)

    def _begin_anew(self, found: GroupOffset, finding: Finding) -> Plan:
        """Nothing is shared: what is stored stays, apart from what the new log holds again."""
        offset = found.offset

        def apply() -> Done:
            again = Again()
            again.see(entries_after(self._log, offset.stream, BEGIN))
            newest = EntryId(max(0, offset.last.ms - RESENT_MS_MAX), 0)
            resent = again.resent(stored_after(self._stored(offset), newest, offset.last))
            rows = retire(
                self._connection, found.group, offset, again=again.since(), entries_again=resent
            )
            return Done(rows_removed=rows)

        cure = "a log begun anew: keep what is stored, remove what this log holds again, store it"
        return Plan(found.group, finding, cure, BEGIN, 0, apply)

    def _stored(self, offset: StoredOffset) -> _StoredEntries:
        return _StoredEntries(self._connection, offset)

    def _newest_stored_before(self, offset: StoredOffset, first: EntryId) -> EntryId | None:
        low = EntryId(max(0, first.ms - RESENT_MS_MAX), 0)
        ids = [e.id for e in stored_after(self._stored(offset), low, offset.last) if e.id < first]
        return max(ids, default=None)

    def _offset_at(self, offset: StoredOffset, common: EntryId, undone: int) -> StoredOffset:
        [entry] = self._stored(offset)(common, common)
        return StoredOffset(
            offset.stream, common, offset.entries - undone, offset.ticks, checksum_of(entry)
        )


class _StoredEntries:
    """Reads back what was stored of a stream."""

    def __init__(self, connection: Connection, offset: StoredOffset) -> None:
        self._connection, self._stream = connection, offset.stream

    def __call__(self, first: EntryId, last: EntryId) -> list[Entry]:
        return read_entries(self._connection, self._stream, first=first, last=last)

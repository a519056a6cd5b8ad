"""Rows in the database that were made of entries the log has lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from consumers.repair.again import RESENT_MS_MAX, Again
from consumers.repair.kept import keep
from consumers.repair.parting import (
    Parting,
    entries_after,
    examined,
    missed_entries,
    parting,
    stored_after,
)
from consumers.repair.plan import Done, Plan
from events.continuity import Continuity, Finding
from events.log import BEGIN, Entry, EntryId, Log
from events.postgres import SinkFenced, StoredOffset, read_entries
from events.postgres.connection import Connection
from events.postgres.forks import (
    GroupOffset,
    fence,
    put,
    retire,
    set_back,
    stored_offset,
    stored_offsets,
)

TRIES_MAX = 5
"""A group that has not noticed yet may store on meanwhile: it is fenced, and looked at again."""
CURES = {
    "hole": "go on behind the hole: these entries are in no log any more",
    "back": "remove the rows of the lost entries and store on from the last common one",
    "anew": "a log begun anew: keep what is stored, remove what this log holds again, store it",
}


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
            finding = examined(self._log, found.offset.stream, found.offset.place)
            if not finding.whole:
                yield self._plan(found, finding)

    def _plan(self, found: GroupOffset, finding: Finding) -> Plan:
        offset = found.offset
        if finding.continuity is Continuity.LOST:
            cure, place, undone = (
                CURES["hole"],
                offset.last,
                missed_entries(self._log, offset.stream, offset.place),
            )
        else:
            parted = self._parting(offset)
            cure = CURES["back" if parted else "anew"]
            place = parted.place.last if parted else BEGIN
            undone = parted.undone if parted else 0

        def apply() -> Done:
            return self._cure(found.group, offset, finding.continuity)

        return Plan(found.group, finding, cure, place, undone, apply)

    def _cure(self, group: str, offset: StoredOffset, what: Continuity) -> Done:
        for _ in range(TRIES_MAX):
            try:
                if what is Continuity.LOST:
                    return self._go_on(group, offset)
                parted = self._parting(offset)
                if parted is None:
                    return self._begin_anew(group, offset)
                return self._go_back(group, offset, parted)
            except SinkFenced as error:
                moved = error
            fence(self._connection, group, offset.stream.slot)
            offset = stored_offset(self._connection, group, offset.stream)
        raise moved

    def _go_on(self, group: str, offset: StoredOffset) -> Done:
        missed = missed_entries(self._log, offset.stream, offset.place)
        after = replace(offset, entries=offset.entries + missed)
        put(self._connection, group, offset, after)
        return Done()

    def _go_back(self, group: str, offset: StoredOffset, parted: Parting) -> Done:
        place = parted.place
        kept, _ = keep(
            self._folder, offset.stream, self._stamp,
            stored_after(self._stored(offset), place.last, offset.last),
        )  # fmt: skip
        after = StoredOffset(offset.stream, place.last, place.entries, offset.ticks, place.checksum)
        return Done(rows_removed=set_back(self._connection, group, offset, after), kept_in=kept)

    def _begin_anew(self, group: str, offset: StoredOffset) -> Done:
        """No beginning is shared: what is stored stays, apart from what the new log holds again
        (whether pulled and sent again, or stored from it already)."""
        again = Again()
        again.see(entries_after(self._log, offset.stream, BEGIN))
        newest = EntryId(max(0, offset.last.ms - RESENT_MS_MAX), 0)
        resent = again.resent(stored_after(self._stored(offset), newest, offset.last))
        rows = retire(self._connection, group, offset, again=again.since(), entries_again=resent)
        return Done(rows_removed=rows)

    def _parting(self, offset: StoredOffset) -> Parting | None:
        return parting(self._log, offset.stream, offset.place, self._stored(offset))

    def _stored(self, offset: StoredOffset) -> _StoredEntries:
        return _StoredEntries(self._connection, offset)


class _StoredEntries:
    """Reads back what was stored of a stream."""

    def __init__(self, connection: Connection, offset: StoredOffset) -> None:
        self._connection, self._stream = connection, offset.stream

    def __call__(self, first: EntryId, last: EntryId) -> list[Entry]:
        return read_entries(self._connection, self._stream, first=first, last=last)

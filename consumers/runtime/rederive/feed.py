"""A task's inputs once more, in the order in which it handled them."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from consumers.runtime.group import TaskSpec
from consumers.runtime.handler import Order
from consumers.runtime.journal import Deed, JournalStep, Note
from consumers.runtime.reading import SORTS
from events.log import BEGIN, Entry, EntryId, Log, LogError, Slot, Stream
from events.offset import Offset
from events.tasks import TaskRecord

PAGE_ENTRIES = 1_000
TURN_ENTRIES_MAX = 500
JOURNAL_PAGE = 1_000
LEFT_OUT = frozenset({Deed.SKIPPED, Deed.QUARANTINED})


class ReplayImpossible(LogError):
    """What is kept does not suffice to derive again. The message names what is missing."""


class Turn(NamedTuple):
    """Entries in the order of handling (none that was passed over unhandled), then what was done
    beside reading on.

    `ends` are those of its journal row; with notes they name every input.
    """

    entries: list[Entry]
    notes: tuple[Note, ...] = ()
    ends: Mapping[Stream, EntryId] = MappingProxyType({})


class Row(NamedTuple):
    """A journal row with the number of its commit."""

    commit: int
    step: JournalStep


class Feed:
    """The entries of one stream after an id, read in pages."""

    def __init__(self, log: Log, stream: Stream, after: EntryId) -> None:
        self._log, self._stream = log, stream
        self._page: list[Entry] = []
        self._at = 0
        self._read_to = after
        self.entries = 0
        """How many were given out."""

    def up_to(self, end: EntryId) -> Iterator[Entry]:
        """Those not given out yet with id <= end."""
        while True:
            while self._at < len(self._page) and self._page[self._at].id <= end:
                self._at += 1
                self.entries += 1
                yield self._page[self._at - 1]
            if self._at < len(self._page) or self._read_to >= end:
                return
            found = self._log.read({self._stream: self._read_to}, count_max=PAGE_ENTRIES)
            self._page, self._at = found.get(self._stream, []), 0
            if not self._page:
                return
            self._read_to = self._page[-1].id


class Feeds:
    """All inputs of a task from the offsets of one record to those of another.

    Without `journal_wanted` by entry id, whatever order the task followed.
    """

    def __init__(
        self,
        log: Log,
        spec: TaskSpec,
        order: Order,
        start: TaskRecord,
        until: TaskRecord,
        *,
        journal_wanted: bool = True,
    ) -> None:
        self._log, self._slot, self._order = log, spec.slot, order
        self._journals = journal_wanted and spec.journals(order)
        self._start, self._until = start, until
        self._feeds = {
            stream: Feed(log, stream, _offset(start, stream).last) for stream in until.offsets
        }
        self._ends = {stream: offset.last for stream, offset in until.offsets.items()}

    @property
    def entries(self) -> int:
        """How many entries lie between the two records."""
        return sum(
            offset.entries - _offset(self._start, stream).entries
            for stream, offset in self._until.offsets.items()
        )

    def turns(self) -> Iterator[Turn]:
        """Everything that was handled between the two records, in order.

        Raises ReplayImpossible when entries or journal rows are missing, or go meanwhile.
        """
        done = self._start.commits
        for row in rows(self._log, self._slot, after=done, until=self._until.commits):
            if self._journals and row.commit != done + 1:
                raise ReplayImpossible(
                    f"{self._slot}: the journal goes on with commit {row.commit} after {done}: "
                    "it was trimmed; try again, or from a younger snapshot"
                )
            done = row.commit
            if self._journals:
                yield Turn(self._batch(row.step), row.step.notes, row.step.ends)
            elif row.step.notes:
                yield from self._in_log_order(row.step.ends, left_out(row.step.notes))
                yield Turn([], row.step.notes, row.step.ends)
        if not self._journals:
            yield from self._in_log_order(self._ends)
        self._check(done)

    def _batch(self, step: JournalStep) -> list[Entry]:
        found = {stream: list(self._feed(stream).up_to(end)) for stream, end in step.ends.items()}
        ordered = SORTS[self._order]({s: entries for s, entries in found.items() if entries})
        passed_over = left_out(step.notes)
        return [e for e in ordered if e.place not in passed_over] if passed_over else ordered

    def _in_log_order(
        self, ends: Mapping[Stream, EntryId], passed_over: Collection[str] = ()
    ) -> Iterator[Turn]:
        merged = heapq.merge(
            *(self._feed(stream).up_to(end) for stream, end in sorted(ends.items())),
            key=lambda entry: (entry.id, entry.stream),
        )
        batch: list[Entry] = []
        for entry in merged:
            if passed_over and entry.place in passed_over:
                continue
            batch.append(entry)
            if len(batch) >= TURN_ENTRIES_MAX:
                yield Turn(batch)
                batch = []
        if batch:
            yield Turn(batch)

    def _feed(self, stream: Stream) -> Feed:
        if stream not in self._feeds:  # named in a row, and nothing was ever read from it
            self._feeds[stream] = Feed(self._log, stream, BEGIN)
        return self._feeds[stream]

    def _check(self, done: int) -> None:
        if self._journals and done != self._until.commits:
            raise ReplayImpossible(
                f"{self._slot}: the journal ends with commit {done} of {self._until.commits}"
            )
        for stream, offset in self._until.offsets.items():
            wanted = offset.entries - _offset(self._start, stream).entries
            found = self._feeds[stream].entries
            if found != wanted:
                raise ReplayImpossible(
                    f"{stream}: {found} entries are kept of the {wanted} that were handled "
                    "since then; the others were trimmed or lost"
                )


def left_out(notes: Collection[Note]) -> frozenset[str]:
    """Entries that offsets were moved over without handling them."""
    return frozenset(note.place for note in notes if note.deed in LEFT_OUT)


def rows(
    log: Log,
    slot: Slot,
    *,
    after: int = 0,
    until: int | None = None,
    page_rows: int = JOURNAL_PAGE,
) -> Iterator[Row]:
    """The journal of a task behind commit `after`, up to commit `until`."""
    while page := log.tasks.journal(slot, after=after, count_max=page_rows):
        for row in page:
            if until is not None and row.commit > until:
                return
            try:
                step = JournalStep.from_bytes(row.data)
            except (ValueError, TypeError) as error:
                raise ReplayImpossible(
                    f"{slot}: journal of commit {row.commit}: {error}"
                ) from error
            yield Row(row.commit, step)
        after = page[-1].commit


def retried(log: Log, slot: Slot, start: TaskRecord, until: TaskRecord) -> frozenset[str]:
    """Entries that operators had handled once more between two records."""
    return frozenset(
        note.place
        for row in rows(log, slot, after=start.commits, until=until.commits)
        for note in row.step.notes
        if note.deed is Deed.RETRIED
    )


def _offset(record: TaskRecord, stream: Stream) -> Offset:
    return record.offsets.get(stream, Offset())

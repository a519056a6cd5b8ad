"""Drives a handler through turns, honouring what was done to its task beside reading on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from consumers.runtime.deriving import Batch, Deriving, Halting
from consumers.runtime.journal import Deed, Note
from consumers.runtime.rederive.feed import ReplayImpossible, Turn
from events.log import BEGIN, Entry, EntryId, Log, Stream
from events.operations import HandlerFailed
from events.tasks import Output


class Witness(Protocol):
    """Sees what is derived again, and tells what people or accidents added to it at the time."""

    def derived(self, outputs: Sequence[Output]) -> None:
        """Outputs that followed from entries, in order."""
        ...

    def given(self, newest: EntryId, *, failure_of: str = "") -> EntryId:
        """The newest output id once those behind `newest` are counted that no handler derives.
        `failure_of` is an entry whose HandlerFailed is one of them."""
        ...


class Discarding:
    """A witness that wants nothing: only the state counts."""

    def derived(self, outputs: Sequence[Output]) -> None:
        """Outputs are discarded."""

    def given(self, newest: EntryId, *, failure_of: str = "") -> EntryId:
        """Nothing was added."""
        return newest


class Again:
    """A handler on its way through what its task handled once.

    `upgrading`: it is other code, which may bear what the former did not. What it may not skip and
    does not bear ends the way (ReplayImpossible).
    """

    def __init__(
        self,
        log: Log,
        deriving: Deriving,
        witness: Witness,
        *,
        retried: Collection[str] = (),
        upgrading: bool = False,
    ) -> None:
        self._log, self._deriving, self._witness = log, deriving, witness
        self._retried = frozenset(retried)
        self._upgrading = upgrading
        self._borne: set[str] = set()
        self.entries = 0

    def take(self, turn: Turn) -> None:
        """Derive what follows from a turn. Raises ReplayImpossible."""
        quarantined = {note.place for note in turn.notes if note.deed is Deed.QUARANTINED}
        self._given()
        self._handle(turn.entries)
        self.entries += len(turn.entries)
        for note in turn.notes:
            if note.deed is not Deed.HALTED or note.place not in quarantined:
                self._do(note, turn.ends)
            self._given()

    def _do(self, note: Note, ends: Mapping[Stream, EntryId]) -> None:
        if note.deed is Deed.HALTED:
            if not self._upgrading:  # other code may bear it, and handles it where it was resumed
                self._fail_again(note)
        elif note.deed is Deed.QUARANTINED:
            self._deriving.newest = self._witness.given(
                self._deriving.newest, failure_of=note.place
            )
        elif note.deed is Deed.RETRIED and note.place not in self._borne:
            entry = self._entry(note)
            passed_over = entry.id <= ends.get(entry.stream, BEGIN)
            halting = Halting.NEVER if passed_over else Halting.ALWAYS
            self._settle(self._deriving.handle([entry], halting=halting))

    def _fail_again(self, note: Note) -> None:
        """What halted a task left its HandlerFailed and no trace in the state."""
        batch = self._deriving.handle([self._entry(note)], halting=Halting.ALWAYS)
        self._witness.derived(batch.outputs)
        self._deriving.settle(batch, {}, [])

    def _handle(self, entries: Sequence[Entry]) -> None:
        at = 0
        while at < len(entries):
            batch = self._deriving.handle(entries[at:] if at else entries)
            if batch.halted and self._upgrading:
                raise ReplayImpossible(batch.halted)
            self._settle(batch)
            passed = entries[at : at + batch.handled]
            self._remember(passed, batch)
            at += batch.handled + (1 if batch.halted else 0)
            if not batch.handled and not batch.halted:
                raise ReplayImpossible(f"{entries[at].place} is never done with")

    def _settle(self, batch: Batch) -> None:
        changed, removed = self._deriving.changes()
        self._witness.derived(batch.outputs)
        self._deriving.settle(batch, changed, removed)

    def _remember(self, entries: Sequence[Entry], batch: Batch) -> None:
        """Which of those retried later needed no second try this time."""
        if not self._retried:
            return
        kind = f"{HandlerFailed.TYPE}.{HandlerFailed.VERSION}"
        failed = {out.entry.cause for out in batch.outputs if out.entry.type == kind}
        places = {entry.place for entry in entries}
        self._borne |= (places & self._retried) - failed

    def _given(self) -> None:
        self._deriving.newest = self._witness.given(self._deriving.newest)

    def _entry(self, note: Note) -> Entry:
        stream, _, id_text = note.place.rpartition("@")
        id_ = EntryId.parse(id_text)
        found = self._log.between(Stream.parse(stream), id_, id_, count_max=1)
        if not found:
            raise ReplayImpossible(f"{note.place} was {note.deed} and is no longer kept")
        return found[0]

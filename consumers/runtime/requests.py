"""Carrying out what operators ask of a task: retry or drop an entry it could not bear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from consumers.failures.inbox import why_refused
from consumers.failures.letters import entry_at
from consumers.failures.quarantine import Suspicion
from consumers.failures.request import (
    Action,
    BadRequest,
    Outcome,
    Request,
    halted_at,
    missing,
    parse_place,
    unread,
)
from consumers.runtime.deriving import Batch, Deriving, Halting
from consumers.runtime.journal import Deed, Note
from events.log import Claim, Entry, EntryId, Lane, Log, Stream


@dataclass(slots=True)
class Carried:
    """What a commit has to bring: the batch, the entries it moves past, the request it answers."""

    request: str
    batch: Batch = field(default_factory=Batch)
    moved: list[Entry] = field(default_factory=list)


class Requests:
    """The requests of one task. Each is carried out in a commit of its own that answers it."""

    def __init__(self, log: Log, claim: Claim, deriving: Deriving, suspicion: Suspicion) -> None:
        self._log, self._claim = log, claim
        self._deriving, self._suspicion = deriving, suspicion

    def carry_out(
        self, asked: tuple[str, bytes], *, halted: str, ends: Mapping[Stream, EntryId]
    ) -> Carried:
        """What to commit. `halted` is why the task stands still, `ends` where it reads on."""
        carried = Carried(asked[0])
        carried.batch.halted = halted
        try:
            request = Request.from_bytes(*asked)
        except BadRequest as error:
            self._refuse_unread(carried, str(error))
            return carried
        if halted_at(halted) == request.place:
            return self._halted(request, carried, ends)
        why = why_refused(self._log, self._claim.slot, request, ends)
        entry = None if why else entry_at(self._log, request.place)
        if why:
            self._answer(carried, request, Outcome.REFUSED, Deed.REFUSED, detail=why)
        elif request.action is Action.DROP:
            self._answer(carried, request, Outcome.DROPPED, Deed.SETTLED)
        elif entry is None:
            why = "its entry is no longer in the log: it can only be dropped"
            self._answer(carried, request, Outcome.REFUSED, Deed.REFUSED, detail=why)
        else:
            carried.batch = self._handled(entry, Halting.NEVER)
            carried.batch.halted = halted
            self._answer_tried(carried, request, entry)
        return carried

    def _halted(
        self, request: Request, carried: Carried, ends: Mapping[Stream, EntryId]
    ) -> Carried:
        """About the entry that the task halted in front of: the next one of its stream."""
        stream, id_ = parse_place(request.place)
        begin = ends[stream].next() if stream in ends else id_
        entries = self._log.between(stream, begin, id_, count_max=2)
        if [entry.id for entry in entries] != [id_]:
            why = "it is no longer the next entry of its stream: look at `bridgectl repair`"
            self._answer(carried, request, Outcome.REFUSED, Deed.REFUSED, detail=why)
            return carried
        if request.action is Action.DROP:
            carried.moved, carried.batch.halted = entries, ""
            self._answer(carried, request, Outcome.SKIPPED, Deed.SKIPPED, entry=entries[0])
            return carried
        carried.batch = self._handled(entries[0], Halting.ALWAYS)
        if not carried.batch.halted:
            carried.moved = entries
        self._answer_tried(carried, request, entries[0])
        return carried

    def _handled(self, entry: Entry, halting: Halting) -> Batch:
        """Handle one entry alone, under the eyes of whoever comes after us should it kill us."""
        error = self._suspicion.condemns(entry)
        if error:
            return self._deriving.condemn(entry, error, halting=halting)
        self._log.tasks.trying(self._claim, str(self._suspicion.trial(entry)))
        batch = self._deriving.handle([entry], halting=halting)
        batch.notes.clear()  # it did not halt now
        return batch

    def _answer_tried(self, carried: Carried, request: Request, entry: Entry) -> None:
        outcome = Outcome.FAILED if carried.batch.failed else Outcome.HANDLED
        if carried.batch.notes:  # condemned: no replay may handle it either
            deed = Deed.REFUSED
        else:
            deed = Deed.RESUMED if carried.moved else Deed.RETRIED
        self._answer(carried, request, outcome, deed, entry=entry)

    def _answer(
        self,
        carried: Carried,
        request: Request,
        outcome: Outcome,
        deed: Deed,
        *,
        entry: Entry | None = None,
        detail: str = "",
    ) -> None:
        answer = request.answered(self._deriving.group.name, outcome, detail)
        self._deriving.derive(answer, entry or missing(request.place), carried.batch)
        carried.batch.notes.append(Note(deed, request.place, answer.model_dump_json()))

    def _refuse_unread(self, carried: Carried, why: str) -> None:
        newest = self._deriving.newest
        answer = unread(carried.request, self._deriving.group.name, why, at_ms=newest.ms)
        own = Entry(self._claim.slot.stream(Lane.CRITICAL), newest, "", "", b"")
        self._deriving.derive(answer, own, carried.batch)
        carried.batch.notes.append(Note(Deed.REFUSED, "", answer.model_dump_json()))

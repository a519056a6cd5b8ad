"""What operators ask about entries that a sink refused: write them once more, or give them up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from consumers.failures.inbox import why_refused
from consumers.failures.letters import entry_at
from consumers.failures.request import Action, BadRequest, Outcome, Request, missing, unread
from consumers.sinks.letter import dead_letter
from events.codec import encode
from events.log import Entry, EntryId, Log, NewEntry, Slot, Stream
from events.tasks import Output

Write = Callable[[Entry], str]
"""Writes one entry; gives back why the sink refuses it, or ""."""


@dataclass(slots=True)
class Carried:
    """What a commit has to bring: outputs behind `newest`, and the request it answers."""

    request: str
    newest: EntryId
    outputs: list[Output] = field(default_factory=list)
    failed: int = 0

    def add(self, cause: Entry | None, entry: NewEntry) -> None:
        ms = self.newest.ms if cause is None else max(self.newest.ms, cause.id.ms)
        self.newest = EntryId(ms, self.newest.seq + 1)
        self.outputs.append(Output(self.newest, entry))


def carried_out(
    log: Log,
    slot: Slot,
    asked: tuple[str, bytes],
    *,
    newest: EntryId,
    ends: Mapping[Stream, EntryId],
    version: str,
    write: Write,
    halted: str = "",
) -> Carried:
    """Do what is asked. A sink that dies between its effect and the commit that answers has it
    twice: its offset does not move here. Raises whatever a sink raises that is down."""
    carried = Carried(asked[0], newest)
    try:
        request = Request.from_bytes(*asked)
    except BadRequest as error:
        answer = unread(asked[0], slot.writer, str(error), at_ms=newest.ms)
        carried.add(None, encode(answer))
        return carried
    why = why_refused(log, slot, request, ends)
    if halted:
        why = f"the task is halted: {halted}"
    outcome = Outcome.REFUSED if why else Outcome.DROPPED
    entry = None if why else entry_at(log, request.place)
    if not why and request.action is Action.RETRY:
        if entry is None:
            outcome = Outcome.REFUSED
            why = "its entry is no longer in the log: it can only be dropped"
        elif reason := write(entry):
            outcome, carried.failed = Outcome.FAILED, 1
            carried.add(entry, dead_letter(slot.writer, version, entry, reason))
        else:
            outcome = Outcome.HANDLED
    answer = request.answered(slot.writer, outcome, why)
    carried.add(entry or missing(request.place), encode(answer, cause=request.place))
    return carried

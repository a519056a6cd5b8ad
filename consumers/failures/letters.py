"""Dead letters as the log tells them: a HandlerFailed that nobody settled yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from consumers.failures.request import SETTLING, parse_place
from events.codec import BadEvent, UnknownEvent, decode
from events.log import BEGIN, END, OPERATOR, SOURCE, Entry, EntryId, Lane, Log, Slot
from events.operations import HandlerFailed, OperatorAnswered

PAGE_ENTRIES = 1_000
LETTER_CHARS = 8
_TYPES = {HandlerFailed.TYPE, OperatorAnswered.TYPE}


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that waits for a decision."""

    slot: Slot
    """The task whose handler failed."""
    id: EntryId
    """Of the newest HandlerFailed about its entry."""
    failed: HandlerFailed
    tries: int = 1

    @property
    def name(self) -> str:
        """Short, and the same as long as the letter is there."""
        text = f"{self.slot} {self.failed.place}".encode()
        return hashlib.blake2b(text, digest_size=LETTER_CHARS // 2).hexdigest()


def letters(log: Log, slots: Iterable[Slot]) -> list[Letter]:
    """Every letter of these tasks that is not settled, oldest first."""
    found = [letter for slot in slots for letter in _of_task(log, slot).values()]
    return sorted(found, key=lambda letter: (letter.id.ms, letter.slot, letter.id.seq))


def task_slots(log: Log, *, namespaces: Iterable[str] = (), group: str = "") -> list[Slot]:
    """The slots of all tasks of all groups, or of one."""
    return [
        Slot(namespace, writer, number)
        for namespace in sorted(set(namespaces) or log.namespaces())
        for writer, tasks in log.tasks.writers(namespace).items()
        if writer not in {SOURCE, OPERATOR} and group in {"", writer}
        for number in range(tasks)
    ]


def why_not_open(log: Log, slot: Slot, place: str) -> str:
    """Why nothing can be done about a letter any more ("" when it waits)."""
    for entry in _backwards(log, slot):
        event = _told(entry) if entry.key == place else None
        if isinstance(event, HandlerFailed):
            return ""
        if isinstance(event, OperatorAnswered) and event.outcome in SETTLING:
            return f"it was {event.outcome} already"
    return f"{slot.writer} has no dead letter of it"


def answer_to(log: Log, slot: Slot, request: str, after: EntryId) -> OperatorAnswered | None:
    """The answer to a request, when it is there."""
    stream = slot.stream(Lane.CRITICAL)
    for entry in log.between(stream, after.next(), count_max=PAGE_ENTRIES):
        event = _told(entry)
        if isinstance(event, OperatorAnswered) and event.request == request:
            return event
    return None


def entry_at(log: Log, place: str) -> Entry | None:
    """The entry of a letter, unless it was trimmed. Raises ValueError for what is no place."""
    stream, id_ = parse_place(place)
    found = log.between(stream, id_, id_, count_max=1)
    return found[0] if found else None


def _of_task(log: Log, slot: Slot) -> dict[str, Letter]:
    found: dict[str, Letter] = {}
    for entry in _forwards(log, slot):
        event = _told(entry)
        if isinstance(event, HandlerFailed):
            before = found.pop(event.place, None)
            tries = before.tries + 1 if before else 1
            found[event.place] = Letter(slot, entry.id, event, tries)
        elif isinstance(event, OperatorAnswered) and event.outcome in SETTLING:
            found.pop(event.place, None)
    return found


def _told(entry: Entry) -> HandlerFailed | OperatorAnswered | None:
    if entry.type.rpartition(".")[0] not in _TYPES:
        return None
    try:
        event = decode(entry)
    except (UnknownEvent, BadEvent):  # of a newer program: not ours to judge
        return None
    return event if isinstance(event, HandlerFailed | OperatorAnswered) else None


def _forwards(log: Log, slot: Slot) -> Iterator[Entry]:
    stream, after = slot.stream(Lane.CRITICAL), BEGIN
    while page := log.between(stream, after.next(), count_max=PAGE_ENTRIES):
        yield from page
        after = page[-1].id


def _backwards(log: Log, slot: Slot) -> Iterator[Entry]:
    stream, before = slot.stream(Lane.CRITICAL), END
    while page := log.newest(stream, count_max=PAGE_ENTRIES, before=before):
        yield from page
        last = page[-1].id
        if last.seq == 0 and last.ms == 0:
            return
        before = EntryId(last.ms, last.seq - 1) if last.seq else EntryId(last.ms - 1, END.seq)

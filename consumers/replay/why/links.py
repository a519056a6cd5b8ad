"""What entries say of each other by ids: a breach, the command it led to, the latch the guard set
for it, the steps of a flatten, and how that ended.

A guard writes no causes: it knows no places of entries. Its events name the ids they follow from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from events.codec import AnyEvent, BadEvent, UnknownEvent, decode
from events.decisions import Command, LimitBreach
from events.guarding import FlattenEnded, FlattenStep, LatchChanged
from events.log import ACCOUNT_PARTITION, OPERATOR, SOURCE, Entry, EntryId, Lane, Log, Slot, Stream

LINKED = frozenset({"limit_breach", "command", "latch", "flatten_step", "flatten_ended"})
SLACK_MS = 60_000
"""Ids are no clocks: what follows may have an id that is so much smaller."""
LOOKED_AT_MAX = 20_000
"""Entries of a lane in which another entry is searched."""
PAGE_ENTRIES = 1_000
CHAIN_MAX = 16
SEQ_MAX = 2**64 - 1
BREACH, COMMAND, LATCH, STEP = "limit_breach", "command", "latch", "flatten_step"


class Id(NamedTuple):
    """An id and the type of the events that have it."""

    type: str
    id: str


def is_linked(entry: Entry) -> bool:
    """Whether an entry is of a type that names ids."""
    return entry.type.partition(".")[0] in LINKED


def id_of(event: AnyEvent | None) -> Id | None:
    """What those that follow from an event call it."""
    if isinstance(event, LimitBreach):
        found = Id(BREACH, event.breach_id)
    elif isinstance(event, Command):
        found = Id(COMMAND, event.command_id)
    elif isinstance(event, LatchChanged) and event.latched:
        found = Id(LATCH, event.latch_id)
    elif isinstance(event, FlattenStep):
        found = Id(STEP, event.flatten_id)
    else:
        return None
    return found if found.id else None


def follows(event: AnyEvent | None) -> tuple[Id, ...]:
    """What an event follows from: the first of these that is there."""
    found: tuple[Id, ...] = ()
    if isinstance(event, Command):
        found = (Id(BREACH, str(event.arguments.get("breach_id", ""))),)
    elif isinstance(event, LatchChanged):
        ended = () if event.latched else (Id(LATCH, event.latch_id),)
        found = (Id(COMMAND, event.command_id), Id(BREACH, event.breach_id), *ended)
    elif isinstance(event, FlattenStep | FlattenEnded):
        # A reduction of the guard's own goes by its breach, and has no latch.
        found = (
            Id(LATCH, event.latch_id), Id(COMMAND, event.command_id),
            Id(BREACH, event.command_id),
        )  # fmt: skip
        if isinstance(event, FlattenEnded):
            found = (Id(STEP, event.flatten_id), *found)
    return tuple(one for one in found if one.id)


def linked_event(entry: Entry) -> AnyEvent | None:
    """The event of an entry that may name ids; None for others, and what nobody can read."""
    if not is_linked(entry):
        return None
    try:
        return decode(entry)
    except (BadEvent, UnknownEvent):
        return None


def parents(entries: Iterable[Entry]) -> dict[str, str]:
    """Place of an entry -> place of the entry among them that it follows from by its ids."""
    events = [(entry, event) for entry in entries if (event := linked_event(entry)) is not None]
    by_id: dict[Id, list[tuple[Entry, AnyEvent]]] = {}
    for entry, event in events:
        if (id_ := id_of(event)) is not None:
            by_id.setdefault(id_, []).append((entry, event))
    found: dict[str, str] = {}
    for entry, event in events:
        for id_ in follows(event):
            before = [one for one in by_id.get(id_, ()) if _may_follow(entry, event, one)]
            if before:
                found[entry.place] = before[-1][0].place
                break
    return found


def parent(log: Log, entry: Entry) -> Entry | None:
    """The entry that another one follows from by its ids, searched in the account's lanes of its
    namespace. Raises LogUnavailable."""
    event = linked_event(entry)
    for id_ in follows(event):
        assert event is not None
        for candidate in _naming(log, entry, id_):
            if _may_follow(entry, event, (candidate, linked_event(candidate))):
                return candidate
    return None


def chain(log: Log, entry: Entry) -> list[Entry]:
    """What an entry follows from by ids, oldest first. Raises LogUnavailable."""
    found: list[Entry] = []
    at: Entry | None = entry
    while at is not None and len(found) < CHAIN_MAX:
        at = parent(log, at)
        if at is not None and at.place not in {one.place for one in found}:
            found.insert(0, at)
    return found


def lanes(log: Log, namespace: str) -> Iterator[Stream]:
    """Where linked entries of a namespace lie."""
    for writer in dict.fromkeys((SOURCE, OPERATOR, *log.tasks.writers(namespace))):
        yield Slot(namespace, writer, ACCOUNT_PARTITION).stream(Lane.CRITICAL)


def since(log: Log, namespace: str, id_: EntryId) -> Iterator[Entry]:
    """Linked entries around an id and behind it, a lane after the other."""
    for stream in lanes(log, namespace):
        after, looked = EntryId(max(0, id_.ms - SLACK_MS), 0), 0
        while looked < LOOKED_AT_MAX and (
            page := log.between(stream, after, count_max=PAGE_ENTRIES)
        ):
            yield from (entry for entry in page if is_linked(entry))
            looked += len(page)
            after = page[-1].id.next()
            if len(page) < PAGE_ENTRIES:
                break


def _may_follow(entry: Entry, event: AnyEvent, other: tuple[Entry, AnyEvent | None]) -> bool:
    """Whether an event may follow from one whose id it names."""
    before, cause = other
    if before.place == entry.place:
        return False
    if isinstance(cause, FlattenStep):  # of its many steps the last one before
        return before.stream != entry.stream or before.id < entry.id
    if isinstance(cause, LatchChanged) and isinstance(event, FlattenStep | FlattenEnded):
        # A latch that held already was set for something else.
        return cause.command_id == event.command_id
    return True


def _naming(log: Log, entry: Entry, id_: Id) -> Iterator[Entry]:
    """Entries that have an id, the newest first."""
    text = id_.id.encode()
    for stream in lanes(log, entry.stream.slot.namespace):
        before, looked = EntryId(entry.id.ms + SLACK_MS, SEQ_MAX), 0
        while looked < LOOKED_AT_MAX and (
            page := log.newest(stream, count_max=PAGE_ENTRIES, before=before)
        ):
            for one in page:
                named = one.type.partition(".")[0] == id_.type and text in one.data
                if named and id_of(linked_event(one)) == id_:
                    yield one
            looked += len(page)
            last = page[-1].id
            if (last.ms, last.seq) == (0, 0):
                break
            before = EntryId(last.ms, last.seq - 1) if last.seq else EntryId(last.ms - 1, SEQ_MAX)

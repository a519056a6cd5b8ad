"""Why an entry is there: the entries it follows from, and those that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consumers.replay.places import UnknownPlace, read_place
from consumers.replay.why import links
from events.codec import BadEvent, UnknownEvent, decode
from events.log import OPERATOR, SOURCE, Entry, EntryId, Log, Slot, Stream
from events.views import lines

CAUSES_MAX = 64
"""Longest chain of causes that is followed."""
EFFECTS_MAX = 500
"""Entries that are shown of what followed."""
LOOKED_AT_MAX = 20_000
"""Entries of a stream in which effects are searched, from the cause on."""
PAGE_ENTRIES = 1_000

Archive = Callable[[Stream, EntryId], Entry | None]
"""Where entries are looked up that the log no longer holds."""


@dataclass(slots=True)
class Link:
    """One entry of the chain or of what followed. None: it could not be found, `lost` says why."""

    place: str
    entry: Entry | None = None
    lost: str = ""
    archived: bool = False
    effects: list[Link] = field(default_factory=list)

    @property
    def event_time_ms(self) -> int | None:
        return self._time("event_time_ms")

    @property
    def recv_time_ms(self) -> int | None:
        """When the terminal's host saw it; None for what was derived."""
        return self._time("recv_time_ms")

    @property
    def appended_ms(self) -> int | None:
        """When it was appended. Ids of derived entries follow their causes and tell no time."""
        if self.entry is None or self.entry.stream.slot.writer not in (SOURCE, OPERATOR):
            return None
        return self.entry.id.ms

    def _time(self, name: str) -> int | None:
        if self.entry is None:
            return None
        try:
            found = getattr(decode(self.entry), name, None)
        except (BadEvent, UnknownEvent):
            return None
        return found if isinstance(found, int) else None

    def as_json(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "lost": self.lost,
            "archived": self.archived,
            "event_time_ms": self.event_time_ms,
            "recv_time_ms": self.recv_time_ms,
            "appended_ms": self.appended_ms,
            "entry": None if self.entry is None else lines.as_json(self.entry),
            "effects": [effect.as_json() for effect in self.effects],
        }


@dataclass(frozen=True, slots=True)
class Why:
    """The chain from the origin to the entry that was asked for; its effects hang on the last."""

    chain: tuple[Link, ...]
    cut: str = ""
    """Why the search for effects ended early, or empty."""

    def as_json(self) -> dict[str, Any]:
        return {"chain": [link.as_json() for link in self.chain], "cut": self.cut}


def why(log: Log, stream: Stream, id_: EntryId, *, archive: Archive | None = None) -> Why:
    """Follow an entry back to its origin and on to what it led to. Raises LogUnavailable."""
    asked = _found(log, f"{stream}@{id_}", archive)
    chain, seen = [asked], {asked.place}
    while (entry := chain[0].entry) is not None:
        before = links.parent(log, entry)
        cause = entry.cause if before is None else before.place
        if not cause:
            break
        if cause in seen or len(chain) >= CAUSES_MAX:
            what = "leads back to itself" if cause in seen else "is too long"
            chain.insert(0, Link(cause, lost=f"the chain of causes {what}"))
            break
        seen.add(cause)
        chain.insert(0, Link(cause, before) if before else _found(log, cause, archive))
    cut = _add_effects(log, asked) if asked.entry is not None else ""
    return Why(tuple(chain), cut)


def _found(log: Log, place: str, archive: Archive | None) -> Link:
    try:
        stream, id_ = read_place(place)
    except UnknownPlace:
        return Link(place, lost="this is no place of an entry")
    found = next(iter(log.between(stream, id_, id_, count_max=1)), None)
    if found is not None:
        return Link(place, found)
    if archive is not None and (found := archive(stream, id_)) is not None:
        return Link(place, found, archived=True)
    if log.info(stream).last_id < id_:
        return Link(place, lost="the log holds no such entry")
    return Link(place, lost="trimmed")


def _add_effects(log: Log, root: Link) -> str:
    """Hang what followed on the root. Returns why the search ended early, or ""."""
    assert root.entry is not None
    by_cause, cut = _derived_since(log, root.entry)
    by_cause = _with_links(log, root.entry, by_cause)
    shown, waiting, seen = 0, [root], {root.place}
    while waiting:
        link = waiting.pop(0)
        for entry in by_cause.get(link.place, ()):
            if entry.place in seen:
                continue
            if shown >= EFFECTS_MAX:
                return f"more than {EFFECTS_MAX} entries followed"
            seen.add(entry.place)
            shown += 1
            effect = Link(entry.place, entry)
            link.effects.append(effect)
            waiting.append(effect)
    return cut


def _with_links(
    log: Log, root: Entry, by_cause: Mapping[str, Sequence[Entry]]
) -> Mapping[str, Sequence[Entry]]:
    """What followed by ids, too: it hangs on what it names, and not beside it on one cause."""
    derived = {entry.place: entry for entries in by_cause.values() for entry in entries}
    if not any(map(links.is_linked, (root, *derived.values()))):
        return by_cause
    around = links.since(log, root.stream.slot.namespace, root.id)
    every = derived | {entry.place: entry for entry in around} | {root.place: root}
    parents = links.parents(every.values())
    found: dict[str, list[Entry]] = {}
    for place, entry in every.items():
        if cause := parents.get(place, entry.cause):
            found.setdefault(cause, []).append(entry)
    return found


def _derived_since(log: Log, cause: Entry) -> tuple[Mapping[str, Sequence[Entry]], str]:
    """Derived entries by their cause. None has a smaller first id number than its cause."""
    by_cause: dict[str, list[Entry]] = {}
    cut = ""
    for stream in _derived_streams(log):
        after, looked_at = EntryId(cause.id.ms, 0), 0
        while page := log.between(stream, after, count_max=PAGE_ENTRIES):
            for entry in page:
                if entry.cause:
                    by_cause.setdefault(entry.cause, []).append(entry)
            looked_at += len(page)
            if len(page) < PAGE_ENTRIES:
                break
            if looked_at >= LOOKED_AT_MAX:
                cut = f"looked at {LOOKED_AT_MAX} entries of {stream}; more may have followed"
                break
            after = page[-1].id.next()
    return by_cause, cut


def _derived_streams(log: Log) -> list[Stream]:
    return [
        stream
        for namespace in log.namespaces()
        for writer, slots in log.tasks.writers(namespace).items()
        if writer not in (SOURCE, OPERATOR)
        for number in range(slots)
        for stream in Slot(namespace, writer, number).streams()
    ]

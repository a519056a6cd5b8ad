"""Copies of entries that a writer needs when it begins again, kept beside its streams.

A cursor is rebuilt from the newest entries of its feed. When those leave the log, because a symbol
was silent for long or memory is short, packed copies of them stay in the slot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from events.log import Entry, EntryId, Lane, Log, Slot, Stream
from events.retention.blocks import pack, unpack

PAGE_ENTRIES = 500
COPY_ENTRIES_MAX = 2_000
COPY_BYTES_AIM = 4 * 1024 * 1024


class Need(NamedTuple):
    """Entries of a lane that must stay readable: `types` (without version) from `first` to
    `last`, of one key or (empty) of all. `name` is what the copies are found under."""

    name: str
    lane: Lane
    types: frozenset[str]
    first: EntryId
    last: EntryId
    key: str = ""

    def wants(self, entry: Entry) -> bool:
        return (
            self.key in ("", entry.key)
            and self.first <= entry.id <= self.last
            and entry.type.rpartition(".")[0] in self.types
        )


class CopyName(NamedTuple):
    """How a copy is called: which need it serves, and its first and last entry."""

    lane: Lane
    need: str
    first: EntryId
    last: EntryId

    @classmethod
    def parse(cls, text: str) -> CopyName:
        rest, first, last = text.rsplit("|", 2)
        lane, _, need = rest.partition("|")
        return cls(Lane(int(lane)), need, EntryId.parse(first), EntryId.parse(last))

    def __str__(self) -> str:
        return f"{int(self.lane)}|{self.need}|{self.first}|{self.last}"


def copies_before(
    log: Log, stream: Stream, needs: Sequence[Need], *, begin: EntryId, until: EntryId
) -> Iterator[dict[str, bytes]]:
    """Packed copies of what is needed of `begin` <= id < `until`, a portion at a time.

    What lies before `begin` left the stream already and was copied then.
    """
    mine = [
        need
        for need in needs
        if need.lane == stream.lane and need.first < until and need.last >= begin
    ]
    if not mine:
        return
    at = max(begin, min(need.first for need in mine))
    end = max(need.last for need in mine)
    waiting: dict[str, list[Entry]] = {}
    while at < until and at <= end:
        page = log.between(stream, at, end, count_max=PAGE_ENTRIES)
        for entry in page:
            if entry.id >= until:
                break
            for need in mine:
                if need.wants(entry):
                    waiting.setdefault(need.name, []).append(entry)
        if _size(waiting) >= COPY_BYTES_AIM or _count(waiting) >= COPY_ENTRIES_MAX:
            yield _packed(stream, waiting)
            waiting = {}
        if len(page) < PAGE_ENTRIES:
            break
        at = page[-1].id.next()
    if waiting:
        yield _packed(stream, waiting)


def outdated(names: Sequence[str], needs: Sequence[Need]) -> list[str]:
    """Copies whose need has moved on behind them."""
    firsts = {(need.lane, need.name): need.first for need in needs}
    found = []
    for text in names:
        name = CopyName.parse(text)
        if name.last < firsts.get((name.lane, name.need), name.last):
            found.append(text)
    return found


def copied(log: Log, slot: Slot) -> dict[str, list[Entry]]:
    """All copies of a slot by the name of their need: each entry once, oldest first."""
    found: dict[str, dict[EntryId, Entry]] = {}
    for text, packed in log.retained.kept(slot).items():
        name = CopyName.parse(text)
        entries = unpack(packed, slot.stream(name.lane), where=f"{slot}: copy {text}")
        found.setdefault(name.need, {}).update((entry.id, entry) for entry in entries)
    return {need: [by_id[id_] for id_ in sorted(by_id)] for need, by_id in found.items()}


def _packed(stream: Stream, waiting: dict[str, list[Entry]]) -> dict[str, bytes]:
    return {
        str(CopyName(stream.lane, need, entries[0].id, entries[-1].id)): pack(entries)
        for need, entries in waiting.items()
    }


def _size(waiting: dict[str, list[Entry]]) -> int:
    return sum(len(entry.data) for entries in waiting.values() for entry in entries)


def _count(waiting: dict[str, list[Entry]]) -> int:
    return sum(map(len, waiting.values()))

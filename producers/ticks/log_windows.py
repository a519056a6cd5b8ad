"""Reading back the last ticks of symbols from the log, so that their cursors can go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from events.codec import TICKS, decode, split_type
from events.log import BEGIN, END, Entry, EntryId, Lane, Log, Slot
from events.retention import copied
from events.ticks import TickArray, TickBatch
from producers.ticks.place import CursorPlace

PAGE_ENTRIES = 500


@dataclass(slots=True)
class Window:
    """What a cursor goes on from."""

    text: str
    """The cursor's text in the log, "" for a symbol never seen."""
    entries: list[tuple[EntryId, TickArray]]
    newest_utc_ms: int | None = None
    """UTC time of the newest tick of the last entry."""


def read_windows(log: Log, slot: Slot, texts: Mapping[str, str]) -> dict[str, Window]:
    """For each symbol with its cursor's text: its tick entries from where the window begins to
    the last one appended. Spans that several symbols need are read once.

    Raises LogUnavailable.
    """
    places = {symbol: CursorPlace.parse(text) for symbol, text in texts.items() if text}
    ranges = {
        symbol: (place.window_from, place.last_entry)
        for symbol, place in places.items()
        if place.last_entry is not None
    }
    windows = {symbol: Window(text, []) for symbol, text in texts.items()}
    # The log first: what leaves it meanwhile was copied before.
    found = [
        entry
        for first, last in _merged(ranges.values())
        for entry in _entries(log, slot, first, last)
        if entry.key in ranges and ranges[entry.key][0] <= entry.id <= ranges[entry.key][1]
    ]
    for entry in _with_copies(log, slot, found, ranges):
        batch = decode(entry)
        assert isinstance(batch, TickBatch)
        windows[entry.key].entries.append((entry.id, batch.ticks))
        windows[entry.key].newest_utc_ms = batch.event_time_ms
    return windows


def _with_copies(
    log: Log, slot: Slot, found: Iterable[Entry], ranges: Mapping[str, tuple[EntryId, EntryId]]
) -> list[Entry]:
    """The tick entries found, and those that left the log and were kept: each once, in order."""
    by_id = {entry.id: entry for entry in found if split_type(entry.type)[0] == TICKS}
    for entries in copied(log, slot).values() if ranges else ():
        for entry in entries:
            first, last = ranges.get(entry.key, (END, BEGIN))
            if first <= entry.id <= last and entry.stream.lane is Lane.NORMAL:
                by_id.setdefault(entry.id, entry)
    return [by_id[id_] for id_ in sorted(by_id)]


def _entries(log: Log, slot: Slot, first: EntryId, last: EntryId) -> Iterable[Entry]:
    stream = slot.stream(Lane.NORMAL)
    while first <= last:
        page = log.between(stream, first, last, count_max=PAGE_ENTRIES)
        yield from page
        if len(page) < PAGE_ENTRIES:
            return
        first = page[-1].id.next()


def _merged(ranges: Iterable[tuple[EntryId, EntryId]]) -> list[tuple[EntryId, EntryId]]:
    merged: list[tuple[EntryId, EntryId]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged

"""The log in memory: for backtests, tests and programs that need no server."""

from __future__ import annotations

import secrets
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from events.latch import LatchStore, MemoryLatches
from events.log import (
    BEGIN,
    END,
    PARTITIONS_DEFAULT,
    READ_ENTRIES_MAX,
    Appended,
    Claim,
    CursorMove,
    Entry,
    EntryId,
    Fenced,
    GroupInfo,
    LogFull,
    NewEntry,
    Slot,
    StaleCursor,
    Stream,
    StreamInfo,
    WriterHeld,
    check_namespace,
    check_partitions,
    check_sizes,
)
from events.memory_retained import MemoryRetained
from events.memory_tasks import MemoryTasks
from events.memory_unordered import MemoryUnordered
from events.origin import LIVE, Origin, check_origin

BEAT_LOOK_S = 0.02
NOTHING_YET = EntryId(0, -1)


@dataclass
class SlotState:
    """What the memory keeps of one slot beside its streams."""

    token: str = ""
    holder: str = ""
    beat: int = 0
    newest: EntryId = NOTHING_YET
    cursors: dict[str, str] = field(default_factory=dict)
    last: dict[tuple[str, str], bytes] = field(default_factory=dict)
    posted: set[str] = field(default_factory=set)
    full: str = ""
    """Why appends are refused while that much memory is used, or empty."""
    full_above_bytes: int = 0


@dataclass
class StreamState:
    """One stream in memory."""

    ids: list[EntryId] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    groups: dict[str, GroupInfo] = field(default_factory=dict)
    trimmed: int = 0
    """Entries removed from its beginning, up to the id `trimmed_to`."""
    trimmed_to: EntryId = BEGIN


class MemoryLog:
    """See `events.log.Log`. `now_ms` gives the time ids are drawn from."""

    volatile = True

    def __init__(
        self,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now_ms = now_ms
        self._monotonic = monotonic
        self.changed = threading.Condition()
        self._partitions: dict[str, int] = {}
        self._origins: dict[str, Origin] = {}
        self._slots: dict[Slot, SlotState] = {}
        self._streams: dict[Stream, StreamState] = {}
        self.tasks = MemoryTasks(self)
        self.retained = MemoryRetained(self)
        self.unordered = MemoryUnordered(self, monotonic)
        self._latches: dict[str, MemoryLatches] = {}

    def latches(self, namespace: str) -> LatchStore:
        with self.changed:
            return self._latches.setdefault(namespace, MemoryLatches())

    def open_namespace(
        self, namespace: str, partitions: int = PARTITIONS_DEFAULT, origin: Origin = LIVE
    ) -> int:
        check_namespace(namespace, partitions)
        check_origin(namespace, origin, origin)
        with self.changed:
            found = self._partitions.setdefault(namespace, partitions)
            found_origin = self._origins.setdefault(namespace, origin)
        check_partitions(namespace, partitions, found)
        check_origin(namespace, origin, found_origin)
        return found

    def origin(self, namespace: str) -> Origin:
        with self.changed:
            return self._origins.get(namespace, LIVE)

    def namespaces(self) -> dict[str, int]:
        with self.changed:
            return dict(sorted(self._partitions.items()))

    def claim(self, slot: Slot, holder: str, *, alive_within_s: float) -> Claim:
        state = self.slot(slot)
        seen, beat = state.token, state.beat
        deadline = self._monotonic() + alive_within_s
        while seen and self._monotonic() < deadline:
            time.sleep(min(BEAT_LOOK_S, alive_within_s))
            if not state.token:
                seen = ""
            elif (state.token, state.beat) != (seen, beat):
                raise WriterHeld(str(slot), state.holder)
        with self.changed:
            if state.token != seen:
                raise WriterHeld(str(slot), state.holder or "somebody else")
            state.token, state.holder, state.beat = secrets.token_hex(16), holder, 0
            return Claim(slot, state.token, holder)

    def beat(self, claim: Claim) -> None:
        with self.changed:
            self.ours(claim).beat += 1

    def release(self, claim: Claim) -> None:
        with self.changed:
            state = self.slot(claim.slot)
            if state.token == claim.token:
                state.token = state.holder = ""

    def holder(self, slot: Slot) -> str:
        return self.slot(slot).holder

    def append(
        self, claim: Claim, entries: Sequence[NewEntry], cursors: Sequence[CursorMove] = ()
    ) -> Appended:
        check_sizes(entries)
        with self.changed:
            state = self.ours(claim)
            if state.full and self.retained.used_bytes >= state.full_above_bytes:
                raise LogFull(f"{claim.slot} takes no more: {state.full}")
            for move in cursors:
                found = state.cursors.get(move.feed, "")
                if found != move.expected:
                    raise StaleCursor(move.feed, move.expected, found)
            now = EntryId(self._now_ms(), 0)
            first = now if now.ms > state.newest.ms else state.newest.next()
            ids = tuple(EntryId(first.ms, first.seq + place) for place in range(len(entries)))
            for id_, entry in zip(ids, entries, strict=True):
                self.add(claim.slot.stream(entry.lane), id_, entry)
                if entry.last is not None:
                    state.last[entry.type, entry.key] = entry.last
            if ids:
                state.newest = ids[-1]
            newest = EntryId(state.newest.ms, max(state.newest.seq, 0))
            moved = {move.feed: f"{move.new}@{newest}" for move in cursors}
            state.cursors |= moved
            self.changed.notify_all()
            return Appended(ids, moved)

    def post(self, slot: Slot, entry: NewEntry, *, once: str = "") -> EntryId | None:
        check_sizes([entry])
        with self.changed:
            state = self.slot(slot)
            if (once or entry.key) in state.posted:
                return None
            state.posted.add(once or entry.key)
            self.add_now(slot, [entry])
            self.changed.notify_all()
            return state.newest

    def cursors(self, slot: Slot) -> dict[str, str]:
        with self.changed:
            return dict(self.slot(slot).cursors)

    def last_states(self, slot: Slot) -> dict[tuple[str, str], bytes]:
        with self.changed:
            return dict(self.slot(slot).last)

    def read(
        self,
        after: Mapping[Stream, EntryId],
        *,
        count_max: int = READ_ENTRIES_MAX,
        block_ms: int | None = None,
    ) -> dict[Stream, list[Entry]]:
        deadline = self._monotonic() + (block_ms or 0) / 1000
        with self.changed:
            while True:
                found = {}
                for stream, offset in after.items():
                    state = self.stream(stream)
                    start = bisect_right(state.ids, offset)
                    if entries := state.entries[start : start + count_max]:
                        found[stream] = entries
                left_s = deadline - self._monotonic()
                if found or not block_ms or left_s <= 0:
                    return found
                self.changed.wait(left_s)

    def between(
        self, stream: Stream, first: EntryId = BEGIN, last: EntryId = END, *, count_max: int
    ) -> list[Entry]:
        with self.changed:
            state = self.stream(stream)
            start, stop = bisect_left(state.ids, first), bisect_right(state.ids, last)
            return state.entries[start : min(stop, start + count_max)]

    def newest(self, stream: Stream, *, count_max: int = 1, before: EntryId = END) -> list[Entry]:
        with self.changed:
            state = self.stream(stream)
            stop = bisect_right(state.ids, before)
            return state.entries[max(0, stop - count_max) : stop][::-1]

    def info(self, stream: Stream) -> StreamInfo:
        with self.changed:
            state = self.stream(stream)
            ids = state.ids
            first, last = (ids[0], ids[-1]) if ids else (None, state.trimmed_to)
            return StreamInfo(len(ids), state.trimmed + len(ids), first, last)

    def mirror(self, group: str, stream: Stream, offset: EntryId, entries_read: int) -> None:
        with self.changed:
            self.stream(stream).groups[group] = GroupInfo(offset, entries_read, None)

    def groups(self, stream: Stream) -> dict[str, GroupInfo]:
        with self.changed:
            state = self.stream(stream)
            return {
                name: GroupInfo(
                    seen.offset,
                    seen.entries_read,
                    state.trimmed + len(state.ids) - seen.entries_read,
                )
                for name, seen in state.groups.items()
            }

    def close(self) -> None:
        """Nothing to do: the log lives as long as the object."""

    def now_ms(self) -> int:
        """The clock that ids are drawn from."""
        return self._now_ms()

    def streams(self) -> dict[Stream, StreamState]:
        return self._streams

    def slot(self, slot: Slot) -> SlotState:
        return self._slots.setdefault(slot, SlotState())

    def stream(self, stream: Stream) -> StreamState:
        return self._streams.setdefault(stream, StreamState())

    def cut(self, stream: Stream, last: EntryId) -> list[Entry]:
        """Take away and return everything after `last`."""
        state = self.stream(stream)
        keep = bisect_right(state.ids, last)
        tail = state.entries[keep:]
        del state.ids[keep:], state.entries[keep:]
        return tail

    def drop(self, stream: Stream) -> None:
        """Forget a stream and all its entries."""
        self._streams.pop(stream, None)
        self.retained.forget(stream)

    def ours(self, claim: Claim) -> SlotState:
        state = self.slot(claim.slot)
        if state.token != claim.token:
            raise Fenced(f"{claim.slot} is no longer ours: held by {state.holder or 'nobody'}")
        return state

    def add_now(self, slot: Slot, entries: Sequence[NewEntry]) -> None:
        """Into a slot with many writers; ids are drawn here."""
        state = self.slot(slot)
        for entry in entries:
            now = EntryId(self._now_ms(), 0)
            state.newest = now if now.ms > state.newest.ms else state.newest.next()
            self.add(slot.stream(entry.lane), state.newest, entry)
            if entry.last is not None:
                state.last[entry.type, entry.key] = entry.last

    def add(self, stream: Stream, id_: EntryId, entry: NewEntry) -> None:
        state = self.stream(stream)
        state.ids.append(id_)
        state.entries.append(Entry(stream, id_, entry.type, entry.key, entry.data, entry.cause))

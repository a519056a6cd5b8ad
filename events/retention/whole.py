"""The whole log: what Redis holds, and before it what was spilled to disk, read as one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from events.ahead import AskedRead, ReadsAhead
from events.latch import LatchStore
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
    GroupInfo,
    Log,
    LogUnavailable,
    NewEntry,
    Slot,
    Stream,
    StreamInfo,
)
from events.origin import LIVE, Origin
from events.retained import Retained, Span, linked
from events.retention.folder import SegmentFolder
from events.tasks import Tasks
from events.unordered import Unordered

LOOK_S = 0.5
"""How often is asked, while waiting for entries, whether they were spilled."""
TRIES_MAX = 8
"""How often a read begins again because entries were spilled under it."""


class WholeLog:
    """A log that reads on from segments where entries have left it. See `events.log.Log`.

    Every read is checked afterwards against how far the streams are spilled: what was taken away
    meanwhile is read from disk, so there is never a gap, nor anything twice.

    Raises SegmentMissing (the file is on another host), SegmentDamaged.
    """

    def __init__(
        self,
        log: Log,
        folder: SegmentFolder,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bare, self._folder = log, folder
        self._spilled: dict[Stream, EntryId] = {}
        self._spans: dict[Stream, list[Span]] = {}
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._looked_at: dict[Slot, float] = {}

    @property
    def tasks(self) -> Tasks:
        return self.bare.tasks

    @property
    def retained(self) -> Retained:
        return self.bare.retained

    @property
    def unordered(self) -> Unordered:
        return self.bare.unordered

    def latches(self, namespace: str) -> LatchStore:
        return self.bare.latches(namespace)

    @property
    def volatile(self) -> bool:
        return bool(getattr(self.bare, "volatile", False))

    def read(
        self,
        after: Mapping[Stream, EntryId],
        *,
        count_max: int = READ_ENTRIES_MAX,
        block_ms: int | None = None,
    ) -> dict[Stream, list[Entry]]:
        """All streams in one reply of the log, as it stands then; spilled ones continued from
        their segments up to `count_max`."""
        if any(at < self._mark(stream) for stream, at in after.items()):
            self._look(after)  # spans may be gone by now, or there may be more
        for _ in range(TRIES_MAX):
            begun = {stream: max(at, self._mark(stream)) for stream, at in after.items()}
            behind = {
                stream: list(islice(self._after(stream, at), count_max))
                for stream, at in after.items()
                if at < begun[stream]
            }
            wanted = {s: at for s, at in begun.items() if len(behind.get(s, ())) < count_max}
            found = self.bare.read(
                wanted, count_max=count_max, block_ms=None if behind else block_ms
            )
            # A wait that brought nothing is only wrong when all there is was spilled: asked now
            # and then.
            asks = bool(found) or not block_ms or self._is_due(after)
            if asks and self._look(after, begun):
                continue
            for stream, spilled in behind.items():
                found[stream] = (spilled + found.get(stream, []))[:count_max]
            return {stream: entries for stream, entries in found.items() if entries}
        raise _restless(after)

    def read_ahead(
        self, after: Mapping[Stream, EntryId], *, count_max: int, block_ms: int = 0
    ) -> AskedRead | None:
        """See `events.ahead.ReadsAhead`; what lies on disk cannot be asked for in advance."""
        if not isinstance(self.bare, ReadsAhead):
            return None
        if any(at < self._mark(stream) for stream, at in after.items()):
            return None
        asked = self.bare.read_ahead(after, count_max=count_max, block_ms=block_ms)
        return None if asked is None else _CheckedRead(self, asked, after, count_max)

    def between(
        self, stream: Stream, first: EntryId = BEGIN, last: EntryId = END, *, count_max: int
    ) -> list[Entry]:
        self._look([stream])
        for _ in range(TRIES_MAX):
            mark = self._mark(stream)
            found: list[Entry] = []
            if first <= mark:
                spilled = self._after(stream, _before(first))
                found = [e for e in islice(spilled, count_max) if e.id <= last]
            if len(found) < count_max and last > mark:
                found += self.bare.between(
                    stream, max(first, mark.next()), last, count_max=count_max - len(found)
                )
            if not self._look([stream], {stream: mark}):
                return found
        raise _restless([stream])

    def newest(self, stream: Stream, *, count_max: int = 1, before: EntryId = END) -> list[Entry]:
        found = self.bare.newest(stream, count_max=count_max, before=before)
        self._look([stream])
        if len(found) < count_max and self._mark(stream) > BEGIN:
            oldest = found[-1].id if found else END
            spilled = (e for e in self._until(stream, before) if e.id < oldest)
            found += islice(spilled, count_max - len(found))
        return found

    def info(self, stream: Stream) -> StreamInfo:
        """As the log tells, with what was spilled counted as there."""
        for _ in range(TRIES_MAX):
            mark = self._mark(stream)
            info = self.bare.info(stream)
            if self._look([stream], {stream: mark}):
                continue
            if mark == BEGIN:
                return info
            chain = linked(self._spans_of(stream), info.entries_added - info.length)
            if not chain:
                return info
            return StreamInfo(
                length=info.length + sum(span.entries for span in chain),
                entries_added=info.entries_added,
                first_id=chain[0].first,
                last_id=info.last_id,
            )
        raise _restless([stream])

    def _is_due(self, streams: Iterable[Stream]) -> bool:
        since = self._monotonic() - LOOK_S
        return any(self._looked_at.get(stream.slot, since) <= since for stream in streams)

    def _mark(self, stream: Stream) -> EntryId:
        """Entries up to this one lie in segments, as far as we know."""
        return self._spilled.get(stream, BEGIN)

    def spilled_beyond(self, after: Mapping[Stream, EntryId]) -> bool:
        """Whether entries that follow these may have left the log by now."""
        return self._look(after, after)

    def _look(
        self,
        streams: Mapping[Stream, EntryId] | Sequence[Stream],
        begun: Mapping[Stream, EntryId] | None = None,
    ) -> bool:
        """Learn how far these streams are spilled. True when one now is beyond where its reading
        has `begun`: then entries may be missing from what was read."""
        slots = {stream.slot for stream in streams}
        found = self.bare.retained.spilled(slots)
        self._looked_at |= dict.fromkeys(slots, self._monotonic())
        with self._lock:
            mine = {stream: mark for stream, mark in self._spilled.items() if stream.slot in slots}
            if found != mine:
                others = {s: mark for s, mark in self._spilled.items() if s not in mine}
                self._spilled = {**others, **found}
                for stream in {*mine, *found}:
                    self._spans.pop(stream, None)
        if begun is None:
            return False
        return any(found.get(stream, BEGIN) > at for stream, at in begun.items())

    def _spans_of(self, stream: Stream) -> list[Span]:
        spans = self._spans.get(stream)
        if spans is None:
            spans = self.bare.retained.spans([stream.slot]).get(stream, [])
            self._spans[stream] = spans
        return spans

    def _after(self, stream: Stream, offset: EntryId) -> Iterator[Entry]:
        for span in self._spans_of(stream):
            if span.last > offset:
                yield from self._folder.open(span).after(offset)

    def _until(self, stream: Stream, newest: EntryId) -> Iterator[Entry]:
        for span in reversed(self._spans_of(stream)):
            if span.first <= newest:
                yield from self._folder.open(span).until(newest)

    # --- as the log itself does

    def open_namespace(
        self, namespace: str, partitions: int = PARTITIONS_DEFAULT, origin: Origin = LIVE
    ) -> int:
        return self.bare.open_namespace(namespace, partitions, origin)

    def origin(self, namespace: str) -> Origin:
        return self.bare.origin(namespace)

    def namespaces(self) -> dict[str, int]:
        return self.bare.namespaces()

    def claim(self, slot: Slot, holder: str, *, alive_within_s: float) -> Claim:
        return self.bare.claim(slot, holder, alive_within_s=alive_within_s)

    def beat(self, claim: Claim) -> None:
        self.bare.beat(claim)

    def release(self, claim: Claim) -> None:
        self.bare.release(claim)

    def holder(self, slot: Slot) -> str:
        return self.bare.holder(slot)

    def append(
        self, claim: Claim, entries: Sequence[NewEntry], cursors: Sequence[CursorMove] = ()
    ) -> Appended:
        return self.bare.append(claim, entries, cursors)

    def post(self, slot: Slot, entry: NewEntry, *, once: str = "") -> EntryId | None:
        return self.bare.post(slot, entry, once=once)

    def cursors(self, slot: Slot) -> dict[str, str]:
        return self.bare.cursors(slot)

    def last_states(self, slot: Slot) -> dict[tuple[str, str], bytes]:
        return self.bare.last_states(slot)

    def mirror(self, group: str, stream: Stream, offset: EntryId, entries_read: int) -> None:
        self.bare.mirror(group, stream, offset, entries_read)

    def groups(self, stream: Stream) -> dict[str, GroupInfo]:
        return self.bare.groups(stream)

    def close(self) -> None:
        self.bare.close()


class _CheckedRead:
    """A read that was asked for, made again when entries were spilled under it."""

    def __init__(
        self, log: WholeLog, asked: AskedRead, after: Mapping[Stream, EntryId], count_max: int
    ) -> None:
        self._log, self._asked, self._after, self._count_max = log, asked, after, count_max

    def ready(self) -> bool:
        return self._asked.ready()

    def take(self) -> dict[Stream, list[Entry]]:
        found = self._asked.take()
        if self._log.spilled_beyond(self._after):
            return self._log.read(self._after, count_max=self._count_max)
        return found

    def drop(self) -> None:
        self._asked.drop()


def _before(first: EntryId) -> EntryId:
    """An id so close below `first` that nothing lies between."""
    if first.seq > 0:
        return EntryId(first.ms, first.seq - 1)
    return EntryId(first.ms - 1, END.seq) if first.ms > 0 else BEGIN


def _restless(streams: Mapping[Stream, EntryId] | Sequence[Stream]) -> LogUnavailable:
    names = ", ".join(map(str, streams))
    return LogUnavailable(f"{names}: spilled again and again while being read; try again")

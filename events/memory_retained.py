"""Retention in memory, beside a MemoryLog and under its lock."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from events.log import Claim, EntryId, Slot, Stream, check_sizes
from events.retained import LaneUse, Placed, SlotUse, Span, StalePlace, Trimmed

if TYPE_CHECKING:
    from events.memory_log import MemoryLog, StreamState

ENTRY_OVERHEAD_BYTES = 100
"""What an entry costs beside its data, roughly."""


@dataclass
class _Slot:
    spans: list[Span] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)


class MemoryRetained:
    """See `events.retained.Retained`. `limit_bytes` stands for a server's maxmemory."""

    def __init__(self, log: MemoryLog, *, limit_bytes: int = 0) -> None:
        self._log = log
        self._slots: dict[Slot, _Slot] = {}
        self.limit_bytes = limit_bytes

    def look(self, slot: Slot) -> SlotUse:
        with self._log.changed:
            lanes = tuple(self._lane(stream) for stream in slot.streams())
            return SlotUse(
                slot=slot,
                now_ms=self._log.now_ms(),
                used_bytes=self.used_bytes,
                limit_bytes=self.limit_bytes,
                lanes=lanes,
                spans=tuple(sorted(self._slot(slot).spans)),
                full=self._log.slot(slot).full,
                full_above_bytes=self._log.slot(slot).full_above_bytes,
            )

    def _lane(self, stream: Stream) -> LaneUse:
        state = self._log.stream(stream)
        return LaneUse(
            stream=stream,
            length=len(state.ids),
            entries_added=state.trimmed + len(state.ids),
            first_id=state.ids[0] if state.ids else None,
            last_id=state.ids[-1] if state.ids else state.trimmed_to,
            memory_bytes=_memory_bytes(state),
            offsets={name: seen.offset for name, seen in state.groups.items()},
        )

    def trim(self, stream: Stream, below: EntryId, readers: Collection[str]) -> Trimmed:
        with self._log.changed:
            state, slot = self._log.stream(stream), self._slot(stream.slot)
            if not set(readers) <= set(state.groups):
                return Trimmed(0)
            below = min([below, *(seen.offset for seen in state.groups.values())])
            gone = [s for s in sorted(slot.spans) if s.stream == stream and s.last < below]
            slot.spans = [span for span in slot.spans if span not in gone]
            return Trimmed(self._remove(state, below), tuple(gone))

    def spill(self, span: Span) -> bool:
        with self._log.changed:
            state = self._log.stream(span.stream)
            if not state.ids or state.ids[0] != span.first or span.last not in state.ids:
                return False
            self._slot(span.stream.slot).spans.append(span)
            self._remove(state, span.last.next())
            return True

    def spans(self, slots: Sequence[Slot]) -> dict[Stream, list[Span]]:
        found: dict[Stream, list[Span]] = {}
        with self._log.changed:
            for slot in slots:
                for span in sorted(self._slot(slot).spans):
                    found.setdefault(span.stream, []).append(span)
        return found

    def spilled(self, slots: Collection[Slot]) -> dict[Stream, EntryId]:
        return {stream: spans[-1].last for stream, spans in self.spans(list(slots)).items()}

    def put(self, claim: Claim, entries: Sequence[Placed]) -> None:
        check_sizes([placed.entry for placed in entries])
        with self._log.changed:
            state = self._log.ours(claim)
            newest = state.newest
            for id_, _ in entries:
                if id_ <= newest:
                    raise StalePlace(claim.slot, newest)
                newest = id_
            for id_, entry in entries:
                self._log.add(claim.slot.stream(entry.lane), id_, entry)
                if entry.last is not None:
                    state.last[entry.type, entry.key] = entry.last
            state.newest = newest
            self._log.changed.notify_all()

    def keep(self, slot: Slot, copies: Mapping[str, bytes], gone: Collection[str] = ()) -> None:
        with self._log.changed:
            kept = self._slot(slot).kept
            kept |= copies
            for name in gone:
                kept.pop(name, None)

    def kept(self, slot: Slot) -> dict[str, bytes]:
        with self._log.changed:
            return dict(sorted(self._slot(slot).kept.items()))

    def refuse(self, slot: Slot, why: str, *, above_bytes: int = 0) -> None:
        with self._log.changed:
            state = self._log.slot(slot)
            state.full, state.full_above_bytes = why, above_bytes

    @property
    def used_bytes(self) -> int:
        """What all entries take, roughly."""
        return sum(_memory_bytes(state) for state in self._log.streams().values())

    def _slot(self, slot: Slot) -> _Slot:
        return self._slots.setdefault(slot, _Slot())

    def forget(self, stream: Stream) -> None:
        """The stream is gone, with all that was spilled of it."""
        slot = self._slot(stream.slot)
        slot.spans = [span for span in slot.spans if span.stream != stream]

    @staticmethod
    def _remove(state: StreamState, below: EntryId) -> int:
        count = bisect_left(state.ids, below)
        if count:
            state.trimmed += count
            state.trimmed_to = max(state.trimmed_to, state.ids[count - 1])
            del state.ids[:count], state.entries[:count]
        return count


def _memory_bytes(state: StreamState) -> int:
    return sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in state.entries)

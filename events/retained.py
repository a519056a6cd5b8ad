"""What is kept of a slot's streams, and where: in the log, in segments on disk, as kept copies.

Entries leave a stream at its beginning only: *trimmed*, once nobody needs them, or *spilled*, into
a segment file that the slot registers in the same step. So a stream always is its spans, one
after the other without a gap, and then what the log itself holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from events.log import Claim, EntryId, LogError, NewEntry, Slot, Stream


class Span(NamedTuple):
    """Entries of one stream that lie in a segment file, from `first` to `last`."""

    stream: Stream
    first: EntryId
    last: EntryId
    entries: int
    before: int
    """Entries of the stream that came before the first one."""
    size_bytes: int
    """Of the file."""
    host: str
    path: str


@dataclass(frozen=True, slots=True)
class LaneUse:
    """One stream of a slot as retention sees it."""

    stream: Stream
    length: int
    entries_added: int
    first_id: EntryId | None
    last_id: EntryId
    memory_bytes: int
    """0 where the server does not tell."""
    offsets: Mapping[str, EntryId] = field(default_factory=dict)
    """Reader -> the oldest entry it still needs (its offset, or what it has not acknowledged)."""


@dataclass(frozen=True, slots=True)
class SlotUse:
    """A slot, its server, and what of it lies on disk."""

    slot: Slot
    now_ms: int
    """The log's clock, the one ids are drawn from."""
    used_bytes: int
    """Memory of the whole server, as its maxmemory counts (0 where it does not tell)."""
    limit_bytes: int
    """Its maxmemory (0: none)."""
    lanes: tuple[LaneUse, ...]
    spans: tuple[Span, ...] = ()
    """By stream, oldest first."""
    full: str = ""
    """Why appends to this slot are refused while that much memory is used, or empty."""
    full_above_bytes: int = 0

    def spans_of(self, stream: Stream) -> tuple[Span, ...]:
        return tuple(span for span in self.spans if span.stream == stream)


class Placed(NamedTuple):
    """An entry and the id it is to have."""

    id: EntryId
    entry: NewEntry


class StalePlace(LogError):
    """An entry cannot stand at its id: the slot reaches further already, up to `newest`."""

    def __init__(self, slot: Slot, newest: EntryId) -> None:
        super().__init__(f"{slot} reaches {newest} already: nothing can be put before it")
        self.slot, self.newest = slot, newest


class Trimmed(NamedTuple):
    """What a trim did. `more`: call again, it stopped after as much as one step may remove."""

    entries: int
    spans: tuple[Span, ...] = ()
    """Segments that nobody needs any more: no longer registered, their files may go."""
    more: bool = False


class Retained(Protocol):
    """The port, reached as `Log.retained`. Every method may raise LogUnavailable."""

    def look(self, slot: Slot) -> SlotUse:
        """Sizes, offsets and spans of a slot, seen at one moment."""
        ...

    def trim(self, stream: Stream, below: EntryId, readers: Collection[str]) -> Trimmed:
        """Remove entries and spans below `below`, but nothing that a group of the stream needs:
        checked in the same step. Nothing goes while one of `readers` has no group yet."""
        ...

    def spill(self, span: Span) -> bool:
        """Register a span and remove its entries from the stream, in one step. The file must be
        on disk. False when the stream does not begin with this span (any more)."""
        ...

    def spans(self, slots: Sequence[Slot]) -> dict[Stream, list[Span]]:
        """Registered spans, oldest first."""
        ...

    def spilled(self, slots: Collection[Slot]) -> dict[Stream, EntryId]:
        """Where spilled streams go on in the log: the last id of their newest span. Cheap; asked
        with every read."""
        ...

    def put(self, claim: Claim, entries: Sequence[Placed]) -> None:
        """Entries at the ids they had elsewhere, all or nothing.

        Raises Fenced (claim lost), StalePlace unless the ids rise and lie behind everything the
        slot holds, OversizedEntry. After LogUnavailable the outcome is unknown: look at `info`.
        """
        ...

    def keep(self, slot: Slot, copies: Mapping[str, bytes], gone: Collection[str] = ()) -> None:
        """Keep packed copies of entries under these names, and drop those named in `gone`."""
        ...

    def kept(self, slot: Slot) -> dict[str, bytes]:
        """The packed copies of a slot."""
        ...

    def refuse(self, slot: Slot, why: str, *, above_bytes: int = 0) -> None:
        """From now on appends to the slot are refused (LogFull) for this reason while the
        server uses that much memory or more, seen by each append; "" ends it."""
        ...


def whole_from(use: SlotUse, stream: Stream) -> EntryId | None:
    """The first entry from which on a stream is whole, in spans and in the log; None: it is
    empty, or its spans do not reach what the log holds."""
    lane = next(lane for lane in use.lanes if lane.stream == stream)
    chain = linked(use.spans_of(stream), lane.entries_added - lane.length)
    return chain[0].first if chain else lane.first_id


def linked(spans: Sequence[Span], removed: int) -> list[Span]:
    """Those spans that follow each other without a gap up to the stream in the log, from which
    `removed` entries were taken."""
    chain: list[Span] = []
    for span in reversed(spans):
        if span.before + span.entries != removed:
            break
        chain.insert(0, span)
        removed = span.before
    return chain

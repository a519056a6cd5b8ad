"""What a commit writes down where its order was not the log's: enough to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgpack

from events.log import EntryId, Stream


@dataclass(frozen=True, slots=True)
class JournalStep:
    """One batch: where it ended in each stream that it moved, and the code that handled it.

    `note` tells what was done beside reading on, such as a request that was carried out.
    """

    version: str
    ends: Mapping[Stream, EntryId] = field(default_factory=dict)
    note: str = ""

    def to_bytes(self) -> bytes:
        ends = [[str(stream), id_.ms, id_.seq] for stream, id_ in sorted(self.ends.items())]
        packed: bytes = msgpack.packb([1, self.version, ends, self.note])
        return packed

    @classmethod
    def from_bytes(cls, packed: bytes) -> JournalStep:
        """Raises ValueError on anything that is no journal row of this format."""
        layout, version, ends, note = msgpack.unpackb(packed)
        if layout != 1:
            raise ValueError(f"journal row of layout {layout}: written by a newer program")
        return cls(version, {Stream.parse(s): EntryId(ms, seq) for s, ms, seq in ends}, note)

"""What a commit writes down where the ids of its inputs do not tell it: enough to repeat it.

A task whose order is not the log's writes a row with every commit. Every task writes one when
something was done beside reading on: a dead letter tried again, an entry passed over, a halt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import msgpack

from events.log import EntryId, Stream

LAYOUT = 1


class Deed(StrEnum):
    """What was done beside reading on. `place` is the entry (`stream@id`) it was done with."""

    BEGAN = "began"
    """The first commit: `told` is the offset in stream `place` from which the task began."""
    GIVEN = "given"
    """With BEGAN: the task began with `told` (base64 of the packed value) under the key `place`
    of its state."""
    HALTED = "halted"
    """`place` failed and may not be skipped: its HandlerFailed was derived, offsets stay in front
    of it."""
    RESUMED = "resumed"
    """A halted task goes on: `place`, which it had halted in front of, was handled at last and
    the offsets lie behind it. `told` is the operator's answer."""
    SKIPPED = "skipped"
    """`place`, which the task had halted in front of, was passed over unhandled; the offsets lie
    behind it. `told` is the operator's answer."""
    QUARANTINED = "quarantined"
    """`place` was not handled, since it ended processes; its HandlerFailed says `told`. The
    offsets lie behind it, unless its type halts the task: then HALTED follows."""
    RETRIED = "retried"
    """`place` was handled now, with the state of now, and the offsets do not move: it was passed
    over long ago, or the task halted in front of it and still does. `told` is the answer."""
    SETTLED = "settled"
    """The dead letter of `place` was dropped; nothing was handled. `told` is the answer."""
    REFUSED = "refused"
    """A request could not be carried out; nothing was handled. `told` is the answer."""
    UPGRADED = "upgraded"
    """The state was derived again by other code; `told` names the version before."""


class Note(NamedTuple):
    """One deed. Those of a commit are done in their order, after the entries it moved over.

    Where an operator asked for it, `told` is the JSON of the OperatorAnswered that is derived
    last.
    """

    deed: Deed
    place: str = ""
    told: str = ""


@dataclass(frozen=True, slots=True)
class JournalStep:
    """One commit: where it ended in each stream that it moved, and the code that handled it.

    A row with notes names the end of every input, moved or not: so its moment is known even where
    the commits around it left no rows.
    """

    version: str
    ends: Mapping[Stream, EntryId] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    def to_bytes(self) -> bytes:
        ends = [[str(stream), id_.ms, id_.seq] for stream, id_ in sorted(self.ends.items())]
        notes = [[str(note.deed), note.place, note.told] for note in self.notes]
        packed: bytes = msgpack.packb([LAYOUT, self.version, ends, notes])
        return packed

    @classmethod
    def from_bytes(cls, packed: bytes) -> JournalStep:
        """Raises ValueError on anything that is no journal row of this format."""
        layout, version, ends, notes = msgpack.unpackb(packed)
        if layout != LAYOUT:
            raise ValueError(f"journal row of layout {layout}: written by a newer program")
        return cls(
            version,
            {Stream.parse(s): EntryId(ms, seq) for s, ms, seq in ends},
            tuple(Note(Deed(deed), place, told) for deed, place, told in notes),
        )

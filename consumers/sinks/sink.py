"""What a user writes to have an effect outside of the log: a sink."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from consumers.runtime.handler import Inputs, Order
from events.codec import AnyEvent
from events.log import Entry, Fenced, Slot, Stream
from events.offset import Offset

Offsets = Mapping[Stream, Offset]


class Refused(Exception):
    """A sink will never take this entry. It must have kept nothing of the batch.

    The entries before it are written again without it, and HandlerFailed stands in its place.
    """

    def __init__(self, entry: Entry, reason: str) -> None:
        super().__init__(f"{entry.place}: {reason}")
        self.entry, self.reason = entry, reason


class WrittenElsewhere(Fenced):
    """The sink's own offset is not where this batch begins: somebody else wrote on. Nothing was
    kept of the batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What to write in one go: entries in the log's order, and the event of each.

    `before` and `after` say as text how far the task has come. A sink that keeps `after` together
    with its effect, and only where it finds `before`, has every effect exactly once.
    """

    task: Slot
    entries: Sequence[Entry]
    events: Sequence[AnyEvent]
    """Empty for a sink with `raw = True`."""
    before: str
    after: str


GIVEN_MAX = 5


class Sink:
    """Subclass it and write. One object serves one task, in one thread.

    `write` raises when the sink is down: the offset stays, and the same batch is written again
    later. So an effect happens at least once; it happens exactly once when the sink keeps the
    offset itself (`offset_of`), in one step with its effect.
    """

    order: ClassVar[Order] = Order.LOG
    inputs: ClassVar[Inputs] = Inputs()
    tasks: ClassVar[int | None] = None
    """None: one task per partition. 1: one task over all partitions."""
    types: ClassVar[frozenset[str]] = frozenset()
    """Names of the events it wants, such as {"deal", "account"}; empty means all."""
    live_only: ClassVar[bool] = False
    """Nothing that came by import, replay or backtest: its effect is meant for now."""
    raw: ClassVar[bool] = False
    """Entries as they are, unknown ones too, and nothing decoded. Else an entry that cannot be
    read becomes a dead letter (HandlerFailed) and the sink never sees it."""
    version: ClassVar[str] = "1"
    given_max: ClassVar[int] = GIVEN_MAX
    """Without an order: an entry that was given out so often, and never acknowledged, becomes a
    dead letter. More where the program may be started again while the sink is down."""

    def open(self, task: Slot) -> None:
        """Connect. Called before the first batch, and again after an error."""

    def offset_of(self, task: Slot) -> str | None:
        """The text that was kept with the newest effect ("" for none yet), or None when this
        sink keeps no offset: then the log keeps it, after the effect."""
        return None

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Have the effect of the whole batch, or raise. Raises Refused for an entry that will
        never do."""
        raise TypeError(f"{type(self).__name__} does not say how it writes")

    def close(self) -> None:
        """Let go of what `open` took. Called after every error too; must not raise."""


def offsets_text(offsets: Offsets) -> str:
    """Offsets as a sink keeps them: `STREAM=ms-seq:entries:checksum` a line, in order."""
    return "\n".join(f"{stream}={offset}" for stream, offset in sorted(offsets.items()))


def parsed_offsets(text: str) -> dict[Stream, Offset]:
    """Read `offsets_text`. Raises ValueError on anything else."""
    pairs = (line.rpartition("=") for line in text.splitlines() if line)
    return {Stream.parse(stream): Offset.parse(offset) for stream, _, offset in pairs}

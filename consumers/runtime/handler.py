"""What a user writes: a pure step from one event to the events that follow from it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

from consumers.runtime.state import State
from events.codec import AnyEvent
from events.log import SOURCE, Entry, EntryId, Lane, Stream


class Order(StrEnum):
    """In which order a task handles what lies before it."""

    LOG = "log"
    """The order of the log: by entry id over all lanes. The same in every run."""
    PRIORITY = "priority"
    """Critical and high lanes first, with a share for the rest; the order used is journalled."""


EVERY_WRITER = "*"
FAILURES_MAX = 50
"""A handler that fails so often without one success is broken, and its entries are not: its task
halts, where it would otherwise fill the dead letters with everything there is."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a group reads, in every namespace it runs for."""

    writers: tuple[str, ...] = (SOURCE,)
    """`source` (the terminal), `operator` (commands), the names of other groups, or
    EVERY_WRITER: all there are, but the group itself."""
    lanes: tuple[Lane, ...] = (Lane.CRITICAL, Lane.HIGH, Lane.NORMAL)
    account: bool = False
    """Account, book, marks and deals (partition 0) for every task, whatever its partition."""
    namespaces_together: bool = False
    """One task reads all namespaces, in place of one set of tasks for each."""
    lanes_of: tuple[tuple[str, tuple[Lane, ...]], ...] = ()
    """(writer, lanes) of writers of which other lanes are read than of the rest."""


LooksBack = Callable[[Entry], bool]
"""Takes entries of one stream, the newest first; says whether older ones are wanted too."""


class Level(NamedTuple):
    """The newest state of something, as the log keeps it beside its entries."""

    type: str
    key: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a task that never ran begins, when it does not begin with the oldest entry."""

    task: str
    """`GROUP.TASK`."""
    version: str
    since: EntryId
    """The newest entry that was there: nothing is to follow from it, or from any before it."""
    after: Mapping[Stream, EntryId]
    """Where reading begins: at `since`, or before it in streams that are looked back into."""
    entries_back: int
    levels: Sequence[Level]


@dataclass(frozen=True, slots=True)
class Given:
    """What a task begins with: values of its state, and events that tell of its beginning."""

    state: Mapping[str, Any]
    events: Sequence[AnyEvent] = ()


class Handler:
    """Subclass it, and yield what follows from an event.

    `handle` must be pure: no clock, no randomness, no input or output, and everything it
    remembers in `self.state` (nothing else survives; attributes may only cache what follows from
    state). Time is the event's own.
    """

    order: ClassVar[Order] = Order.LOG
    inputs: ClassVar[Inputs] = Inputs()
    tasks: ClassVar[int | None] = None
    """None: one task per partition. 1: one task over all partitions."""
    types: ClassVar[frozenset[str]] = frozenset()
    """Names of the events it wants, such as {"ticks", "account"}; empty means all."""
    version: ClassVar[str] = "1"
    """Change it when the meaning of the state changes: the state is then derived again."""
    live_only: ClassVar[bool] = False
    """It acts on the world: namespaces that a replay, an import or a backtest made are refused."""
    halts_on: ClassVar[frozenset[str]] = frozenset({"deal"})
    """Events that may not be skipped when handling them fails: the task halts and tells."""
    failures_max: ClassVar[int] = FAILURES_MAX
    """Entries that may fail in a row; with the last of them the task halts and tells. 0: any
    number."""

    levels: ClassVar[frozenset[str]] = frozenset()
    """Names of level events whose newest ones `begins` is given: of the terminal, or of another
    writer's account partition as `writer:name`."""

    state: State
    entry: Entry | None = None
    """The entry that is being handled: its place tells what a decision was taken on."""

    def setup(self) -> None:
        """Called once after the state was loaded, before the first event."""

    def remember(self) -> None:
        """Called before the state is stored, behind a batch: put into it what attributes hold.
        Whatever is told twice must come out alike, however events are cut into batches."""

    @classmethod
    def looks_back(cls, stream: Stream, partitions: int) -> LooksBack | None:
        """How far a new task that begins with what comes next reads back in a stream, to warm up;
        None: not at all. `partitions` are those of the namespace."""
        return None

    @classmethod
    def begins(cls, beginning: Beginning) -> Given:
        """What such a task has in its state before its first entry; pure, as `handle` is."""
        return Given({})

    @abstractmethod
    def handle(self, event: AnyEvent) -> Iterable[AnyEvent]:
        """The events that follow from this one, in order."""
        raise TypeError(f"{type(self).__name__} does not say how it handles events")

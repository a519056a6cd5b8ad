"""The log: where facts are kept, and the port every log implements.

A *namespace* is one terminal. It has a fixed number of *partitions*. Everything one *writer*
derives for one partition lies in one slot, as four *lanes* (one stream per priority). Entry ids
are drawn from one counter per slot, so ids order all lanes of a slot: that is the log's order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol
from zlib import crc32

if TYPE_CHECKING:
    from events.latch import LatchStore
    from events.origin import Origin
    from events.retained import Retained
    from events.tasks import Tasks
    from events.unordered import Unordered

PARTITIONS_DEFAULT = 4
ENTRY_BYTES_MAX = 16 * 1024 * 1024
"""Largest `data` of one entry; a larger one is refused by `append` (OversizedEntry)."""
APPEND_ENTRIES_MAX = 1_000
READ_ENTRIES_MAX = 10_000

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,47}")


class LogError(Exception):
    """The log could not do what was asked. The message names cause and cure."""


class LogUnavailable(LogError):
    """No answer from the log. The outcome of the call is unknown: ask the log, never resend."""


class LogFull(LogUnavailable):
    """The log has no memory or disk left. Nothing was written; try again when there is room."""


class OversizedEntry(LogError, ValueError):
    """An entry is larger than ENTRY_BYTES_MAX, or a batch longer than APPEND_ENTRIES_MAX."""


class StaleCursor(LogError):
    """A feed's cursor is not where the caller thought: read the cursor and go on from there."""

    def __init__(self, feed: str, expected: str, found: str) -> None:
        super().__init__(f"cursor of {feed!r} is {found!r}, not {expected!r}")
        self.feed, self.expected, self.found = feed, expected, found


class Fenced(LogError):
    """The writer's slot is claimed by somebody else: stop writing."""


class WriterHeld(LogError):
    """The slot has a living holder; `holder` names it (host, process, since when)."""

    def __init__(self, slot: str, holder: str) -> None:
        super().__init__(f"{slot} is held by {holder}: stop that one first")
        self.slot, self.holder = slot, holder


class Lane(IntEnum):
    """The four priorities of the log (0 is served first)."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3

    @property
    def label(self) -> str:
        return _LABELS[self]


_LABELS = tuple(lane.name.lower() for lane in Lane)


class EntryId(NamedTuple):
    """The place of an entry: two integers, ordered as numbers. It is no clock."""

    ms: int
    seq: int

    @classmethod
    def parse(cls, text: str | bytes) -> EntryId:
        """Read `ms-seq`. Raises ValueError on anything else."""
        ms, dash, seq = (text.decode() if isinstance(text, bytes) else text).partition("-")
        if not (dash and ms.isdecimal() and seq.isdecimal()):
            raise ValueError(f"not an entry id: {text!r} (expected <ms>-<seq>)")
        return cls(int(ms), int(seq))

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    def next(self) -> EntryId:
        """The smallest id after this one."""
        return EntryId(self.ms, self.seq + 1)


BEGIN = EntryId(0, 0)
END = EntryId(2**64 - 1, 2**64 - 1)


class Slot(NamedTuple):
    """What one writer keeps for one partition of a namespace (one cluster slot)."""

    namespace: str
    writer: str
    partition: int

    def __str__(self) -> str:
        return f"{{{self.namespace}:{self.writer}:{self.partition}}}"

    @classmethod
    def parse(cls, text: str) -> Slot:
        namespace, writer, partition = text.strip("{}").split(":")
        return cls(checked_name(namespace), checked_name(writer), int(partition))

    def stream(self, lane: Lane) -> Stream:
        return Stream(self, lane)

    def streams(self) -> tuple[Stream, ...]:
        return tuple(Stream(self, lane) for lane in Lane)


class Stream(NamedTuple):
    """One lane of a slot; its text form is the Redis key."""

    slot: Slot
    lane: Lane

    def __str__(self) -> str:
        return f"{self.slot}:{self.lane.label}"

    @classmethod
    def parse(cls, text: str | bytes) -> Stream:
        slot, _, lane = (text.decode() if isinstance(text, bytes) else text).rpartition(":")
        return cls(Slot.parse(slot), Lane[lane.upper()])


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry before it has a place: `type` is name.version (`ticks.1`), `data` its bytes.

    `last`, when given, replaces the slot's last-state cache of (type, key) in the same step.
    """

    lane: Lane
    type: str
    key: str
    data: bytes
    cause: str = ""
    last: bytes | None = None


class Entry(NamedTuple):
    """An entry at its place. `cause` names the entry it follows from (`stream@id`), or is empty."""

    stream: Stream
    id: EntryId
    type: str
    key: str
    data: bytes
    cause: str = ""

    @property
    def place(self) -> str:
        return f"{self.stream}@{self.id}"


@dataclass(frozen=True, slots=True)
class CursorMove:
    """Compare-and-set of one feed's cursor, in the same step as an append.

    `expected` is the whole text `Log.cursors` gave ("" for a feed never seen). The log stores
    `new` with the id of the last entry of that append behind it: `new@ms-seq`.
    """

    feed: str
    expected: str
    new: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write into a slot, proved by a random token."""

    slot: Slot
    token: str
    holder: str


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did: one id per entry, in order, and the stored text of each moved cursor."""

    ids: tuple[EntryId, ...]
    cursors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """Length and reach of one stream, as the server counts them."""

    length: int
    entries_added: int
    first_id: EntryId | None
    last_id: EntryId


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """How far a group has come in one stream; `lag` is entries behind, None when unknown."""

    offset: EntryId
    entries_read: int
    lag: int | None
    pending: int = 0
    """Given out and not acknowledged (only unordered groups have such)."""


class Log(Protocol):
    """The port. Implementations: `events.redis.RedisLog`, `events.memory_log.MemoryLog`.

    Every method may raise LogUnavailable; nothing is ever retried inside.
    """

    @property
    def tasks(self) -> Tasks:
        """What consumer groups keep beside the entries."""
        ...

    @property
    def retained(self) -> Retained:
        """What entries are kept, where, and how they leave."""
        ...

    @property
    def unordered(self) -> Unordered:
        """Entries handed out to any number of consumers at once."""
        ...

    def latches(self, namespace: str) -> LatchStore:
        """The latches of a namespace's accounts: the copy that lies in the log's server."""
        ...

    def open_namespace(
        self, namespace: str, partitions: int = PARTITIONS_DEFAULT, origin: Origin = "live"
    ) -> int:
        """Register the namespace, or check it. Returns its number of partitions.

        Raises LogError when it exists with another number or origin (an import may enter a
        live one, which stays live)."""
        ...

    def origin(self, namespace: str) -> Origin:
        """How the namespace came about; live when unknown, or opened by an older version."""
        ...

    def namespaces(self) -> dict[str, int]:
        """Every registered namespace with its number of partitions."""
        ...

    def claim(self, slot: Slot, holder: str, *, alive_within_s: float) -> Claim:
        """Take a slot for writing. Waits up to `alive_within_s` to see whether a former holder
        still beats, judged on our monotonic clock. Raises WriterHeld if it does."""
        ...

    def beat(self, claim: Claim) -> None:
        """Show that the holder lives. Raises Fenced when the slot was taken over."""
        ...

    def release(self, claim: Claim) -> None:
        """Give the slot up; nothing happens when it is no longer ours."""
        ...

    def holder(self, slot: Slot) -> str:
        """Who holds the slot ("" for nobody)."""
        ...

    def append(
        self, claim: Claim, entries: Sequence[NewEntry], cursors: Sequence[CursorMove] = ()
    ) -> Appended:
        """Append in order and move the cursors, all or nothing.

        Raises Fenced (claim lost), StaleCursor (first cursor that differs), OversizedEntry.
        After LogUnavailable the outcome is unknown: compare `cursors`.
        """
        ...

    def post(self, slot: Slot, entry: NewEntry, *, once: str = "") -> EntryId | None:
        """Append to a slot with many writers (the operators'), once per `once` (`entry.key` unless
        given); a level replaces its last state. None when it was already posted."""
        ...

    def cursors(self, slot: Slot) -> dict[str, str]:
        """Every feed's cursor of a slot, as `append` stored it."""
        ...

    def last_states(self, slot: Slot) -> dict[tuple[str, str], bytes]:
        """The last-state cache of a slot: (type with version, key) -> data."""
        ...

    def read(
        self,
        after: Mapping[Stream, EntryId],
        *,
        count_max: int = READ_ENTRIES_MAX,
        block_ms: int | None = None,
    ) -> dict[Stream, list[Entry]]:
        """Up to `count_max` entries of each stream after the given id; absent when none.

        With `block_ms`, waits that long for the first entry of any of them.
        """
        ...

    def between(
        self, stream: Stream, first: EntryId = BEGIN, last: EntryId = END, *, count_max: int
    ) -> list[Entry]:
        """Entries with first <= id <= last, oldest first."""
        ...

    def newest(self, stream: Stream, *, count_max: int = 1, before: EntryId = END) -> list[Entry]:
        """The newest entries with id <= before, newest first."""
        ...

    def info(self, stream: Stream) -> StreamInfo:
        """Length and reach; all zero for a stream that does not exist yet."""
        ...

    def mirror(self, group: str, stream: Stream, offset: EntryId, entries_read: int) -> None:
        """Show a group's durable offset to operators (`XINFO GROUPS`); nothing reads it back."""
        ...

    def groups(self, stream: Stream) -> dict[str, GroupInfo]:
        """The mirrored groups of a stream, by name."""
        ...

    def close(self) -> None: ...


def check_sizes(entries: Sequence[NewEntry], *, entries_max: int = APPEND_ENTRIES_MAX) -> None:
    """Raises OversizedEntry for what no append takes."""
    if len(entries) > entries_max:
        raise OversizedEntry(f"{len(entries)} entries in one append: at most {entries_max}")
    for entry in entries:
        if len(entry.data) > ENTRY_BYTES_MAX:
            raise OversizedEntry(
                f"{entry.type} {entry.key}: {len(entry.data)} bytes, at most {ENTRY_BYTES_MAX}"
            )


def checked_name(text: str) -> str:
    """A namespace, writer or group name as keys allow it. Raises ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name for a namespace or group: use 1-48 of a-z 0-9 _ . - "
            "and begin with a letter or digit"
        )
    return text


def check_namespace(namespace: str, partitions: int) -> None:
    """Whether a namespace may be opened so. Raises ValueError, LogError."""
    checked_name(namespace)
    if partitions < 1:
        raise LogError(f"{partitions} partitions: a namespace needs at least 1")


def check_partitions(namespace: str, partitions: int, found: int) -> None:
    """Raises LogError when the namespace exists with another number of partitions."""
    if found != partitions:
        raise LogError(
            f"namespace {namespace!r} has {found} partitions, not {partitions}: "
            "the number is fixed when it is first used"
        )


def partition_of(symbol: str, partitions: int) -> int:
    """The partition of a symbol's market data (crc32, the same on every machine)."""
    return crc32(symbol.encode()) % partitions


ACCOUNT_PARTITION = 0
"""Account, book, orders, deals and commands of a terminal lie in this partition."""

SOURCE = "source"
"""The writer name of a producer."""

OPERATOR = "operator"
"""The writer name of the slots in which people and programs post commands."""

"""Every reader of the log: its offsets, its lag, whether it lives, and what waits for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from events.log import EntryId, GroupInfo, Lane, Log, Slot, Stream
from events.retained import LaneUse, SlotUse, Span
from events.tasks import Holding

WATCH_S = 1.5
"""How long beats are watched: longer than any pause between two of them."""
_READER = re.compile(r"(?P<group>.+)\.(?P<task>\d+)")


class Kind(StrEnum):
    """What keeps a reader's durable offsets."""

    TASK = "task"
    """A task of a group, in its own slot of the log."""
    ELSEWHERE = "elsewhere"
    """Something else, such as the database for `persist`."""
    UNREGISTERED = "unregistered"
    """A consumer group of Redis that nobody registered: somebody else's, or an old one."""


@dataclass(frozen=True, slots=True)
class ReaderLane:
    """A reader's place in one stream."""

    stream: str
    offset: str
    lag: int | None
    """Entries not read; None when the server cannot tell."""
    oldest_unread_ms: int | None
    """From the id of the first entry not read."""
    spilled: int
    """Entries not read that lie in segments on disk."""
    holds_back: bool
    """Nothing behind its offset can be trimmed because of it alone, or together with others."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One reader, `GROUP.TASK`, in one namespace."""

    namespace: str
    name: str
    group: str
    kind: Kind
    holder: str
    alive: bool | None
    """None: it leaves no sign of life in the log."""
    halted: str
    lanes: tuple[ReaderLane, ...]

    @property
    def lag(self) -> int:
        return sum(lane.lag or 0 for lane in self.lanes)

    @property
    def spilled(self) -> int:
        return sum(lane.spilled for lane in self.lanes)

    @property
    def holds_back(self) -> bool:
        return any(lane.holds_back for lane in self.lanes)

    @property
    def oldest_unread_ms(self) -> int | None:
        times = [lane.oldest_unread_ms for lane in self.lanes if lane.oldest_unread_ms is not None]
        return min(times, default=None)

    def lag_by_lane(self) -> dict[str, int]:
        """Entries not read, by lane, of all its streams."""
        found = dict.fromkeys((lane.label for lane in Lane), 0)
        for lane in self.lanes:
            found[lane.stream.rpartition(":")[2]] += lane.lag or 0
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace, "reader": self.name, "group": self.group,
            "kind": self.kind.value, "holder": self.holder, "alive": self.alive,
            "halted": self.halted, "lag": self.lag, "lag_by_lane": self.lag_by_lane(),
            "oldest_unread_ms": self.oldest_unread_ms, "holds_back": self.holds_back,
            "spilled": self.spilled, "lanes": [asdict(lane) for lane in self.lanes],
        }  # fmt: skip


def group_of(reader: str) -> str:
    """`risk.0` is a task of `risk`; a name without a number stands for itself."""
    found = _READER.fullmatch(reader)
    return found["group"] if found else reader


def collect(
    log: Log,
    *,
    namespaces: Collection[str] = (),
    watch_s: float = WATCH_S,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Reader]:
    """Every reader of these namespaces (all when none are given). Watches for signs of life that
    long. Raises LogError."""
    known = [name for name in log.namespaces() if not namespaces or name in namespaces]
    seen = {name: _Namespace(log, name) for name in known}
    groups = {group_of(reader) for one in seen.values() for reader in one.readers}
    before = _signs(log, seen, groups)
    if groups:
        sleep(watch_s)
    after = _signs(log, seen, groups)
    return [
        _reader(one, name, before, after) for one in seen.values() for name in sorted(one.readers)
    ]


@dataclass
class _Signs:
    tasks: dict[Slot, Holding]
    workers: dict[str, dict[str, int]]


def _signs(log: Log, seen: Mapping[str, _Namespace], groups: Collection[str]) -> _Signs:
    slots = [slot for one in seen.values() for slot in one.task_slots()]
    return _Signs(
        {holding.slot: holding for holding in log.tasks.look(slots)},
        {group: log.tasks.workers(group) for group in groups},
    )


class _Namespace:
    """What the log tells of one namespace, read once."""

    def __init__(self, log: Log, name: str) -> None:
        self.name = name
        self.registered = log.tasks.readers(name)
        self.writers = log.tasks.writers(name)
        self.uses: dict[Slot, SlotUse] = {}
        self.shown: dict[Stream, dict[str, GroupInfo]] = {}
        self.next_ids: dict[tuple[Stream, EntryId], int] = {}
        for writer, count in self.writers.items():
            for number in range(count):
                self._look(log, Slot(name, writer, number))
        names: dict[str, set[Stream]] = {}
        for stream, readers in self.registered.items():
            for reader in readers:
                names.setdefault(reader, set()).add(stream)
        for stream, shown in self.shown.items():
            for reader in shown:
                names.setdefault(reader, set()).add(stream)
        self.readers = names

    def _look(self, log: Log, slot: Slot) -> None:
        use = log.retained.look(slot)
        self.uses[slot] = use
        for lane in use.lanes:
            if not lane.offsets:
                continue
            self.shown[lane.stream] = log.groups(lane.stream)
            for offset in set(lane.offsets.values()):
                following = log.between(lane.stream, offset.next(), count_max=1)
                if following:
                    self.next_ids[lane.stream, offset] = following[0].id.ms

    def task_slots(self) -> list[Slot]:
        """Slots of all its groups' tasks."""
        return [slot for slot in self.uses if slot.writer not in ("source", "operator")]

    def lane(self, stream: Stream) -> LaneUse | None:
        use = self.uses.get(stream.slot)
        return use.lanes[int(stream.lane)] if use is not None else None


def _reader(seen: _Namespace, name: str, before: _Signs, after: _Signs) -> Reader:
    group = group_of(name)
    found = _READER.fullmatch(name)
    slot = _task_slot(seen.name, group, int(found["task"]), after) if found else None
    holding = after.tasks.get(slot) if slot is not None else None
    living = [
        worker
        for worker, beat in after.workers[group].items()
        if beat != before.workers[group].get(worker)
    ]
    alive: bool | None = None
    if holding is not None and holding.token:
        alive = before.tasks[holding.slot].beat != holding.beat
    elif holding is not None or after.workers[group]:
        alive = bool(living)
    is_registered = any(name in readers for readers in seen.registered.values())
    kind = Kind.TASK if holding is not None else Kind.ELSEWHERE
    return Reader(
        namespace=seen.name,
        name=name,
        group=group,
        kind=kind if is_registered else Kind.UNREGISTERED,
        holder=holding.holder if holding is not None else ", ".join(living),
        alive=alive,
        halted=holding.halted if holding is not None else "",
        lanes=tuple(_lane(seen, name, stream) for stream in sorted(seen.readers[name])),
    )


def _task_slot(namespace: str, group: str, number: int, signs: _Signs) -> Slot | None:
    """Its own slot; that of a group over several namespaces lies in one of the others."""
    own = Slot(namespace, group, number)
    if own in signs.tasks:
        return own
    same = [slot for slot in signs.tasks if (slot.writer, slot.partition) == (group, number)]
    return min(same, default=None)


def _lane(seen: _Namespace, name: str, stream: Stream) -> ReaderLane:
    lane = seen.lane(stream)
    shown = seen.shown.get(stream, {}).get(name)
    if lane is None or shown is None:  # registered and not there yet
        length = lane.entries_added if lane is not None else 0
        return ReaderLane(str(stream), "0-0", length, None, 0, holds_back=bool(length))
    need = lane.offsets.get(name, shown.offset)
    spans = seen.uses[stream.slot].spans_of(stream)
    unread = [span for span in spans if span.last > need]
    oldest = unread[0].first.ms if unread else seen.next_ids.get((stream, need))
    floor = min(lane.offsets.values())
    return ReaderLane(
        stream=str(stream),
        offset=str(shown.offset),
        lag=shown.lag if name not in seen.registered.get(stream, ()) else _lag(lane, shown),
        oldest_unread_ms=oldest,
        spilled=_spilled(unread, shown),
        holds_back=need <= floor and need < lane.last_id,
    )


def _lag(lane: LaneUse, shown: GroupInfo) -> int:
    """From what the reader itself counted: the server may leave out what was spilled."""
    return max(0, lane.entries_added - shown.entries_read)


def _spilled(unread: Sequence[Span], shown: GroupInfo) -> int:
    if not unread:
        return 0
    end = unread[-1].before + unread[-1].entries
    return max(0, end - max(shown.entries_read, unread[0].before))

"""The state of the bridge, collected from the log (and the database where there is one)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from events.codec import AnyEvent, BadEvent, UnknownEvent, decode_data
from events.event import Event
from events.guarding import FlattenEnded, GuardState, LatchChanged
from events.log import SOURCE, Lane, Log, Slot
from events.operations import ClockChanged, ProducerState, TerminalDown, TerminalUp
from events.trading import Account, Book

if TYPE_CHECKING:  # its drivers are loaded by whoever really asks a database
    from events.postgres import OffsetRow

BROKEN_MAX = 20
_TASK = re.compile(r"\.\d+$")
"""Groups are mirrored per task, `GROUP.TASK`."""
EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True, slots=True)
class LaneState:
    """One lane of one partition; `lag` is entries behind by group, None when unknown."""

    stream: str
    lane: str
    length: int
    entries_added: int
    last_id: str
    lag: Mapping[str, int | None]
    spilled: int = 0
    """Entries that lie in segments on disk, because somebody has not read them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How far one group has stored a namespace, by the database's own offsets."""

    group: str
    ticks: int
    entries_behind: int
    halted: tuple[str, ...]
    """Why streams are not stored any further."""


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """One terminal as its log shows it."""

    name: str
    partitions: int
    origin: str
    """How it came about; all but `live` is the past, and nothing acts on it."""
    holders: tuple[str, ...]
    """Who writes each partition ("" for nobody)."""
    lanes: tuple[LaneState, ...]
    producer: ProducerState | None
    up: TerminalUp | None
    down: TerminalDown | None
    clock: ClockChanged | None
    account: Account | None
    book: Book | None
    unreadable: tuple[str, ...] = ()
    stored: Stored | None = None
    """What the database holds of it; None where nobody looked."""
    guard: GuardState | None = None
    latch: LatchChanged | None = None
    flatten: FlattenEnded | None = None
    """How the newest flatten ended."""

    @property
    def connection(self) -> str:
        """In a word: up, the reason why not, or unknown."""
        if not any(self.holders):
            return "no producer"
        newest = max(
            (event for event in (self.up, self.down) if event is not None),
            key=lambda event: event.event_time_ms,
            default=None,
        )
        if newest is None:  # a log that was begun anew does not hold it any more
            return (self.producer and self.producer.connection) or "unknown"
        return newest.reason if isinstance(newest, TerminalDown) else "up"

    def entries_by_lane(self) -> dict[str, int]:
        """Entries ever appended, by lane."""
        added = {lane.label: 0 for lane in Lane}
        for lane in self.lanes:
            added[lane.lane] += lane.entries_added
        return added

    def lag(self, group: str, label: str | None = None) -> int:
        """Entries the group has not read, in one lane or in all (unknown ones count as none)."""
        return sum(
            behind or 0
            for lane in self.lanes
            for task, behind in lane.lag.items()
            if _TASK.sub("", task) == group and label in (None, lane.lane)
        )

    def lag_by_group(self) -> dict[str, int]:
        """Entries not read, by group."""
        groups = sorted({_TASK.sub("", task) for lane in self.lanes for task in lane.lag})
        return {group: self.lag(group) for group in groups}

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        events = {
            name: event.model_dump(mode="json") if event is not None else None
            for name, event in (
                ("producer", self.producer), ("up", self.up), ("down", self.down),
                ("clock", self.clock), ("account", self.account), ("book", self.book),
                ("guard", self.guard), ("latch", self.latch), ("flatten", self.flatten),
            )
        }  # fmt: skip
        return {
            "name": self.name,
            "connection": self.connection,
            "partitions": self.partitions,
            "origin": self.origin,
            "holders": list(self.holders),
            "lanes": [asdict(lane) for lane in self.lanes],
            "entries_by_lane": self.entries_by_lane(),
            "lag_by_group": self.lag_by_group(),
            "unreadable": list(self.unreadable),
            "stored": asdict(self.stored) if self.stored is not None else None,
            **events,
        }


@dataclass
class _LastEvents:
    newest: dict[type[Event], Event] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def take(self, states: Mapping[tuple[str, str], bytes]) -> None:
        """Keep the newest event of each type; undecodable ones are named, not fatal."""
        for (type_, key), content in states.items():
            try:
                event: AnyEvent = decode_data(type_, key, content, place=f"last {type_} {key}")
            except (BadEvent, UnknownEvent) as error:
                if len(self.broken) < BROKEN_MAX:
                    self.broken.append(str(error))
                continue
            if isinstance(event, Event):
                before = self.newest.get(type(event))
                if before is None or event.event_time_ms >= before.event_time_ms:
                    self.newest[type(event)] = event

    def get(self, kind: type[EventT]) -> EventT | None:
        event = self.newest.get(kind)
        return event if isinstance(event, kind) else None


def collect(log: Log, *, only: str | None = None) -> tuple[NamespaceState, ...]:
    """The state of every namespace (or of the one called `only`). Raises LogUnavailable."""
    return tuple(
        _namespace(log, name, partitions)
        for name, partitions in sorted(log.namespaces().items())
        if only is None or name == only
    )


def with_stored(
    namespaces: Sequence[NamespaceState], offsets: Sequence[OffsetRow]
) -> tuple[NamespaceState, ...]:
    """The same with what the database tells of one group's offsets."""
    rows = {row.stream: row for row in offsets}

    def stored(namespace: NamespaceState) -> Stored | None:
        mine = [(lane, rows[lane.stream]) for lane in namespace.lanes if lane.stream in rows]
        if not mine:
            return None
        return Stored(
            group=mine[0][1].group,
            ticks=sum(row.ticks for _, row in mine),
            entries_behind=sum(max(0, lane.entries_added - row.entries) for lane, row in mine),
            halted=tuple(dict.fromkeys(row.halted for _, row in mine if row.halted)),
        )

    return tuple(replace(namespace, stored=stored(namespace)) for namespace in namespaces)


def _namespace(log: Log, name: str, partitions: int) -> NamespaceState:
    slots = [Slot(name, SOURCE, partition) for partition in range(partitions)]
    last = _LastEvents()
    for slot in slots:
        last.take(log.last_states(slot))
    return NamespaceState(
        name=name,
        partitions=partitions,
        origin=log.origin(name),
        holders=tuple(log.holder(slot) for slot in slots),
        lanes=tuple(lane for slot in slots for lane in _lanes(log, slot)),
        producer=last.get(ProducerState),
        up=last.get(TerminalUp),
        down=last.get(TerminalDown),
        clock=last.get(ClockChanged),
        account=last.get(Account),
        book=last.get(Book),
        unreadable=tuple(last.broken),
        guard=last.get(GuardState),
        latch=last.get(LatchChanged),
        flatten=last.get(FlattenEnded),
    )


def _lanes(log: Log, slot: Slot) -> list[LaneState]:
    lanes = []
    spans = log.retained.spans([slot])
    for stream in slot.streams():
        info = log.info(stream)
        groups = log.groups(stream)
        lanes.append(
            LaneState(
                stream=str(stream),
                lane=stream.lane.label,
                length=info.length,
                entries_added=info.entries_added,
                last_id=str(info.last_id),
                lag={name: group.lag for name, group in groups.items()},
                spilled=sum(span.entries for span in spans.get(stream, ())),
            )
        )
    return lanes

"""`replay --verify`: derive again what a task derived, and compare every event to the byte."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from consumers.replay.recorded import Recorded
from consumers.runtime.deriving import Deriving
from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.rederive.again import Again
from consumers.runtime.rederive.feed import Feeds, ReplayImpossible, retried
from consumers.runtime.rederive.starts import Start, upgrades, usable_starts
from events.codec import BadEvent, UnknownEvent, decode
from events.log import Entry, EntryId, Log, LogError, LogUnavailable
from events.operations import HandlerFailed
from events.tasks import Output, TaskRecord
from events.views import lines

STATE_KEYS_SHOWN_MAX = 5
COUNTS = (
    "entries", "equal", "different", "missing", "extra", "retold", "given", "trimmed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """One output that was derived otherwise. None: there was, or is, no such output."""

    ordinal: int
    recorded: Entry | None
    derived: Entry | None

    @property
    def what(self) -> str:
        if self.recorded is None:
            return "derived now, but not at the time"
        if self.derived is None:
            return "derived at the time, but not now"
        parts = [
            name for name in ("id", "stream", "type", "key", "cause", "data")
            if getattr(self.recorded, name) != getattr(self.derived, name)
        ]  # fmt: skip
        return "other " + ", ".join(parts)

    @property
    def causes(self) -> tuple[str, ...]:
        """Places of the entries it follows from, without repeating one."""
        found = [one.cause for one in (self.recorded, self.derived) if one and one.cause]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class StateDifference:
    """A value of the state that came out otherwise."""

    key: str
    recorded: Any
    derived: Any


@dataclass(slots=True)
class TaskVerification:
    """What came of one task."""

    task: str
    version: str
    began: str = ""
    """Where deriving again began."""
    entries: int = 0
    """Input entries that were handled again."""
    equal: int = 0
    different: int = 0
    missing: int = 0
    """Derived now, and not found at the time."""
    retold: int = 0
    """Dead letters of the same entry and error whose traceback names other lines by now."""
    extra: int = 0
    """Found, and not derived now."""
    given: int = 0
    """Added by people and upgrades: not derived, so not compared."""
    trimmed: int = 0
    """Derived now, no longer kept to be compared with."""
    skipped: list[str] = field(default_factory=list)
    """Spans that were not compared, and why."""
    first: Difference | None = None
    state: list[StateDifference] = field(default_factory=list)
    problem: str = ""
    """Why nothing, or not everything, could be derived again."""

    @property
    def same(self) -> bool:
        """Whether no difference was found."""
        return not (self.different or self.missing or self.extra or self.state)

    @property
    def good(self) -> bool:
        return self.same and not self.problem

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("task", "version", "began", *COUNTS, "skipped", "problem", "good")
        }
        shown["state_keys_different"] = [one.key for one in self.state]
        if self.first is not None:
            shown["first_difference"] = {
                "ordinal": self.first.ordinal,
                "what": self.first.what,
                "recorded": lines.as_json(self.first.recorded) if self.first.recorded else None,
                "derived": lines.as_json(self.first.derived) if self.first.derived else None,
            }
        return shown


class _Comparing:
    """The witness of a verification."""

    def __init__(self, log: Log, spec: TaskSpec, after: EntryId, found: TaskVerification,
                 until: EntryId) -> None:  # fmt: skip
        self._slot, self._found = spec.slot, found
        self._recorded = Recorded(log, spec.slot, after, until)

    def derived(self, outputs: Sequence[Output]) -> None:
        for id_, new in outputs:
            entry = Entry(self._slot.stream(new.lane), id_, new.type, new.key, new.data, new.cause)
            self._extra(self._recorded.before(id_.seq))
            recorded = self._recorded.at(id_.seq)
            if recorded is None and self._recorded.was_trimmed(new.lane, id_):
                self._found.trimmed += 1
            elif recorded is None:
                self._found.missing += 1
                self._differ(Difference(id_.seq, None, entry))
            elif recorded == entry:
                self._found.equal += 1
            elif _failed_alike(recorded, entry):
                self._found.retold += 1
            else:
                self._found.different += 1
                self._differ(Difference(id_.seq, recorded, entry))

    def given(self, newest: EntryId, *, failure_of: str = "") -> EntryId:
        while entry := self._recorded.given_at(newest.seq + 1, failure_of):
            self._found.given += 1
            newest = entry.id
        return newest

    def finish(self, until: EntryId) -> None:
        """What is left was derived at the time alone."""
        self._extra(self._recorded.before(until.seq + 1))

    def _extra(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._found.extra += 1
            self._differ(Difference(entry.id.seq, entry, None))

    def _differ(self, difference: Difference) -> None:
        if self._found.first is None:
            self._found.first = difference


def verify_task(
    log: Log,
    group: Group,
    spec: TaskSpec,
    *,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> TaskVerification:
    """Derive a task's outputs again up to what is durable now, and compare them.

    `told` gets (entries handled again, entries there are). Raises LogUnavailable.
    """
    version = group.handler.version
    record = log.tasks.peek(spec.slot)  # what comes later is left to the next time
    found = TaskVerification(spec.reader, version)
    if not record.commits:
        found.skipped.append("nothing was committed yet")
        return found
    if record.version != version:
        found.skipped.append(f"commits up to {record.commits} by version {record.version!r}")
        found.problem = (
            f"version {record.version!r} derived all there is, and this is {version!r}: "
            "compare with that code"
        )
        return found
    try:
        since = max(upgrades(log, spec.slot), default=0)
        for start in usable_starts(log, record, version, since_commit=since):
            found = _compared(log, group, spec, start, record, since, told)
            if not found.problem:
                break
    except LogUnavailable:
        raise
    except LogError as error:
        found.problem = str(error)
    return found


def _compared(
    log: Log,
    group: Group,
    spec: TaskSpec,
    start: Start,
    record: TaskRecord,
    since: int,
    told: Callable[[int, int], None],
) -> TaskVerification:
    """From one start on. `problem` says that something is missing on the way."""
    found = TaskVerification(spec.reader, group.handler.version, began=start.told)
    if since:
        found.skipped.append(f"commits up to {since} by other versions")
    if start.record.commits > since:
        found.skipped.append(
            f"commits {since + 1} to {start.record.commits}: what they read is no longer kept whole"
        )
    comparing = _Comparing(log, spec, start.record.newest, found, record.newest)
    deriving = Deriving(group, start.record)
    feeds = Feeds(log, spec, group.handler.order, start.record, record)
    again = Again(log, deriving, comparing, retried=retried(log, spec.slot, start.record, record))
    try:
        for turn in feeds.turns():
            again.take(turn)
            found.entries = again.entries
            told(again.entries, feeds.entries)
    except ReplayImpossible as error:  # what differed may have differed for that reason
        return TaskVerification(
            found.task, found.version, found.began, found.entries,
            skipped=found.skipped, problem=str(error),
        )  # fmt: skip
    comparing.finish(record.newest)
    found.state = list(_state_differences(record, deriving))
    return found


def _failed_alike(recorded: Entry, derived: Entry) -> bool:
    """Whether two dead letters differ in nothing but where in the code it happened: any edit of
    a file moves its lines."""
    if recorded._replace(data=b"") != derived._replace(data=b""):
        return False
    try:
        before, now = decode(recorded), decode(derived)
    except (BadEvent, UnknownEvent):
        return False
    if not (isinstance(before, HandlerFailed) and isinstance(now, HandlerFailed)):
        return False
    return before.model_copy(update={"traceback": now.traceback}) == now


def _state_differences(record: TaskRecord, deriving: Deriving) -> list[StateDifference]:
    stored = deriving.state.stored
    keys = [k for k in sorted({*record.state, *stored}) if record.state.get(k) != stored.get(k)]
    return [
        StateDifference(key, _unpacked(record.state.get(key)), _unpacked(stored.get(key)))
        for key in itertools.islice(keys, STATE_KEYS_SHOWN_MAX)
    ]


def _unpacked(packed: bytes | None) -> Any:
    return None if packed is None else msgpack.unpackb(packed, strict_map_key=False)

"""What one strategy did live, as the log tells: where its tasks began, what they said and why,
and which deals followed."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.rederive.feed import Feed
from consumers.runtime.rederive.starts import Start, beginning, missing, removed, snapshot_starts
from consumers.runtime.state import State
from consumers.strategies.running.handler import SINCE
from events.codec import decode
from events.decisions import TradeSignal
from events.executing import ExecutionSet, OrderIntent, TargetState
from events.log import (
    ACCOUNT_PARTITION,
    BEGIN,
    OPERATOR,
    SOURCE,
    Entry,
    EntryId,
    Lane,
    Log,
    LogError,
    Slot,
)
from events.magic import owner_of, parts_of
from events.operations import HandlerUpgraded
from events.tasks import TaskRecord
from events.trading import Account, Deal

EXECUTE = "execute"
ACCOUNT_LOOK = 5_000
"""Entries among which the account at the beginning is looked for."""


class NoParity(LogError):
    """There is nothing to compare, or not enough of it is kept. Names cause and cure."""


class LiveSignal(NamedTuple):
    """A signal as it lies in the log."""

    event: TradeSignal
    place: str
    cause: str
    """Place of the entry it was derived from."""
    version: str
    """Of the code that derived it."""


@dataclass(frozen=True, slots=True)
class LiveTask:
    """One task of the strategy's group, from where it can be followed to what is durable."""

    spec: TaskSpec
    record: TaskRecord
    start: Start

    @property
    def from_beginning(self) -> bool:
        """Whether nothing that it said is left out."""
        return self.start.record.commits == 0

    @property
    def since(self) -> EntryId:
        """Entries up to this one only warmed it up."""
        since = State(self.start.record.state).get(SINCE)
        return BEGIN if since is None else EntryId(*since)


@dataclass(slots=True)
class Live:
    """One strategy in one namespace."""

    log: Log
    namespace: str
    group: Group
    tasks: tuple[LiveTask, ...]
    signals: tuple[LiveSignal, ...]
    """By time; those that the tasks derived behind their starts."""
    deals: tuple[Deal, ...] = ()
    """Of positions that the strategy owns."""
    intents: Mapping[int, OrderIntent] = field(default_factory=dict)
    """By magic."""
    targets: Mapping[str, TargetState] = field(default_factory=dict)
    """Place of a signal -> how its target stood at last."""
    account: Account | None = None
    """As it was when the strategy began."""
    switches: tuple[tuple[EntryId, ExecutionSet], ...] = ()
    """What operators said about acting on signals, oldest first."""
    notes: list[str] = field(default_factory=list)
    """What of it is not kept, a line each."""

    @property
    def executed(self) -> bool:
        """Whether anything was asked of the broker."""
        return bool(self.intents or self.deals)

    @property
    def versions(self) -> tuple[str, ...]:
        """Of the code that ran."""
        return tuple(dict.fromkeys(task.record.version for task in self.tasks))

    def moments(self) -> dict[str, int]:
        """Place of a signal -> its time."""
        return {one.place: one.event.event_time_ms for one in self.signals}


def live_of(log: Log, namespace: str, group: Group) -> Live:
    """Read it. Raises NoParity, LogUnavailable."""
    tasks = tuple(_tasks(log, group))
    if not tasks:
        raise NoParity(
            f"{group.name} never ran on {namespace}: run it with `bridgectl consume --group "
            f"{group.name}`, and compare when it has said something"
        )
    notes = [
        f"{task.spec.reader} is followed from {task.start.told}: what it said before is not kept"
        for task in tasks
        if not task.from_beginning
    ]
    signals = sorted(
        (signal for task in tasks for signal in _signals(log, task, notes)),
        key=lambda one: one.event.event_time_ms,
    )
    found = Live(log, namespace, group, tasks, tuple(signals), notes=notes)
    begun = _begun(tasks)
    found.account = _account_at(log, namespace, begun)
    found.switches = tuple(_switches(log, namespace, found.account))
    if signals:
        _read_trading(found, [one.event for one in signals])
    return found


def _tasks(log: Log, group: Group) -> Iterator[LiveTask]:
    """Tasks that committed something, each with the oldest moment it can be followed from."""
    for spec in group.specs(log):
        record = log.tasks.peek(spec.slot)
        if record.commits:
            yield LiveTask(spec, record, _start(log, spec, record))


def _start(log: Log, spec: TaskSpec, record: TaskRecord) -> Start:
    """The beginning where all since then is kept, else the oldest snapshot of this version."""
    first = beginning(log, spec.slot)
    starts = [first] if first is not None else []
    reasons = []
    for start in [*starts, *snapshot_starts(log, spec.slot, record.version)]:
        why = missing(log, start.record, record.offsets)
        if not why:
            return start
        reasons.append(f"{start.told}: {why}")
    told = "; ".join(reasons) or "its journal was trimmed, and it left no snapshot"
    raise NoParity(f"{spec.reader}: nothing to begin from: {told}")


def _signals(log: Log, task: LiveTask, notes: list[str]) -> Iterator[LiveSignal]:
    """What the task said behind its start, each with the version of the code that said it."""
    slot, record = task.spec.slot, task.record
    changes = list(_upgrades(log, slot, record.newest))
    numbers = [number for number, _ in changes]
    before = [version for _, version in changes]
    stream = slot.stream(Lane.NORMAL)
    if removed(log, stream):
        notes.append(f"{task.spec.reader}: its oldest signals have left the log")
    for entry in Feed(log, stream, task.start.record.newest).up_to(record.newest):
        event = _decoded(entry, TradeSignal.TYPE)
        if isinstance(event, TradeSignal):
            at = bisect.bisect_right(numbers, entry.id.seq)
            version = before[at] if at < len(before) else record.version
            yield LiveSignal(event, entry.place, entry.cause, version)


def _upgrades(log: Log, slot: Slot, until: EntryId) -> Iterator[tuple[int, str]]:
    """(number of the output, version before it) of each change of the code."""
    for entry in Feed(log, slot.stream(Lane.HIGH), EntryId(0, 0)).up_to(until):
        event = _decoded(entry, HandlerUpgraded.TYPE)
        if isinstance(event, HandlerUpgraded):
            yield entry.id.seq, event.version_before


def _begun(tasks: Sequence[LiveTask]) -> EntryId:
    """The first entry of the terminal that any of the tasks read lies behind this one."""
    return min(
        (
            offset.last
            for task in tasks
            for stream, offset in task.start.record.offsets.items()
            if stream.slot.writer == SOURCE and offset.last.ms
        ),
        default=BEGIN,
    )


def _switches(
    log: Log, namespace: str, account: Account | None
) -> Iterator[tuple[EntryId, ExecutionSet]]:
    stream = Slot(namespace, OPERATOR, ACCOUNT_PARTITION).stream(Lane.CRITICAL)
    for entry in Feed(log, stream, BEGIN).up_to(log.info(stream).last_id):
        event = _decoded(entry, ExecutionSet.TYPE)
        if isinstance(event, ExecutionSet) and account is not None \
                and event.login == account.login:  # fmt: skip
            yield entry.id, event


def _account_at(log: Log, namespace: str, begun: EntryId) -> Account | None:
    """The first look at the account behind the beginning of the tasks."""
    stream = Slot(namespace, SOURCE, ACCOUNT_PARTITION).stream(Lane.HIGH)
    for entry in log.between(stream, EntryId(begun.ms, 0), count_max=ACCOUNT_LOOK):
        event = _decoded(entry, Account.TYPE)
        if isinstance(event, Account):
            return event
    return None


def _read_trading(live: Live, signals: Sequence[TradeSignal]) -> None:
    """Intents, targets and deals of the strategy, from its first signal on."""
    name = signals[0].strategy
    owners = {owner_of(name, one.symbol, one.leg) for one in signals}
    first = min(EntryId.parse(one.place.rpartition("@")[2]) for one in live.signals)
    after = EntryId(max(0, first.ms - 1), 0)
    intents: dict[int, OrderIntent] = {}
    targets: dict[str, TargetState] = {}
    for entry in _lane(live.log, Slot(live.namespace, EXECUTE, 0), after):
        kind = entry.type.rpartition(".")[0]
        if kind not in (OrderIntent.TYPE, TargetState.TYPE):
            continue
        event = decode(entry)
        if isinstance(event, OrderIntent) and event.strategy == name:
            intents[event.magic or event.intent_id] = event
        elif isinstance(event, TargetState) and event.strategy == name and event.signal:
            targets[event.signal] = event
    deals = []
    for entry in _lane(live.log, Slot(live.namespace, SOURCE, ACCOUNT_PARTITION), after):
        deal = _decoded(entry, Deal.TYPE)
        if isinstance(deal, Deal):
            parts = parts_of(deal.magic)
            if parts is not None and parts[0] in owners:
                deals.append(deal)
    live.deals = tuple(sorted(deals, key=lambda one: (one.time_server_ms, one.ticket)))
    live.intents, live.targets = intents, targets


def _lane(log: Log, slot: Slot, after: EntryId) -> Iterator[Entry]:
    stream = slot.stream(Lane.HIGH)
    yield from Feed(log, stream, after).up_to(log.info(stream).last_id)


def _decoded(entry: Entry, kind: str) -> object:
    return decode(entry) if entry.type.rpartition(".")[0] == kind else None

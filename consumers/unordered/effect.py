"""What an unordered group does with entries: derive with a handler, or write with a sink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from consumers.failures.failure import told
from consumers.runtime.group import Group
from consumers.runtime.handler import Handler
from consumers.runtime.outputs import HANDLER_ERRORS, is_of_a_person, outputs_of
from consumers.runtime.state import State
from consumers.sinks import Batch, Refused, Sink, SinkGroup
from consumers.sinks.letter import dead_letter
from consumers.workers.taking import GroupRefused
from events.codec import AnyEvent, BadEvent, UnknownEvent, decode
from events.log import Entry, Slot
from events.unordered import Derived


class KeepsState(GroupRefused):
    """A handler that keeps state cannot be run without an order."""


class FailsAlways(RuntimeError):
    """A handler failed so often in a row that its entries cannot be the cause. They wait."""


@dataclass(slots=True)
class Done:
    """What came of some entries. Only those that derive anything are listed."""

    derived: list[Derived] = field(default_factory=list)
    outputs: int = 0
    failed: int = 0

    def add(self, one: Derived) -> None:
        self.derived.append(one)
        self.outputs += len(one.outputs)


class Effect(Protocol):
    """Raises whatever a sink raises that is down: the entries are given again."""

    def of(self, task: Slot, entries: Sequence[Entry]) -> Done: ...

    def close(self) -> None: ...


def effect_of(group: Group | SinkGroup) -> Effect:
    """Raises whatever the start of the handler or sink raises."""
    if isinstance(group, SinkGroup):
        return _Writes(group)
    return _Derives(group)


class _Derives:
    """A handler that keeps nothing in mind from one entry to the next."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._handler: Handler = group.handler(**group.parameters)
        self._handler.state = State()
        self._handler.setup()
        self._in_a_row = 0
        """Entries that failed since one succeeded."""

    def of(self, task: Slot, entries: Sequence[Entry]) -> Done:
        """Raises FailsAlways, and then none of these entries is done with."""
        done, last = Done(), ""
        name, version = self._group.name, self._group.handler.version
        for entry in entries:
            if not _wanted(entry, self._group.handler.types):
                continue
            try:
                outputs = outputs_of(self._handler, decode(entry), entry)
            except HANDLER_ERRORS as error:
                if is_of_a_person(error):
                    raise
                self._in_a_row += 1
                last = f"{entry.place}: {told(error)}"
                outputs = [dead_letter(name, version, entry, error)]
                done.failed += 1
            else:
                self._in_a_row = 0
            if len(self._handler.state):
                raise KeepsState(
                    f"{self._group.name} keeps state ({next(iter(self._handler.state))!r}): "
                    "that needs an order; run it without --unordered"
                )
            if outputs:
                done.add(Derived(entry, outputs))
        failures_max = self._group.handler.failures_max
        if done.failed and 0 < failures_max <= self._in_a_row:
            raise FailsAlways(
                f"{failures_max} entries or more in a row failed, {last}: correct the handler and "
                "start it again"
            )
        return done

    def close(self) -> None:
        """Nothing is open."""


class _Writes:
    """One sink object per task, opened when it is first needed."""

    def __init__(self, group: SinkGroup) -> None:
        self._group = group
        self._sinks: dict[Slot, Sink] = {}

    def of(self, task: Slot, entries: Sequence[Entry]) -> Done:
        done = Done()
        wanted, events = self._readable(entries, done)
        while wanted:
            try:
                self._opened(task).write(Batch(task, wanted, events, "", ""))
            except Refused as refused:
                place = [entry.place for entry in wanted].index(refused.entry.place)
                self._bury(refused.entry, refused.reason, done)
                wanted = wanted[:place] + wanted[place + 1 :]
                events = events[:place] + events[place + 1 :]
                continue
            break
        return done

    def close(self) -> None:
        while self._sinks:
            self._sinks.popitem()[1].close()

    def _opened(self, task: Slot) -> Sink:
        if task not in self._sinks:
            sink = self._group.sink(**self._group.parameters)
            sink.open(task)
            self._sinks[task] = sink
        return self._sinks[task]

    def _readable(self, entries: Sequence[Entry], done: Done) -> tuple[list[Entry], list[AnyEvent]]:
        wanted: list[Entry] = []
        events: list[AnyEvent] = []
        for entry in entries:
            if not _wanted(entry, self._group.sink.types):
                continue
            if not self._group.sink.raw:
                try:
                    events.append(decode(entry))
                except (UnknownEvent, BadEvent) as error:
                    self._bury(entry, told(error), done)
                    continue
            wanted.append(entry)
        return wanted, events

    def _bury(self, entry: Entry, reason: str, done: Done) -> None:
        letter = dead_letter(self._group.name, self._group.sink.version, entry, reason)
        done.failed += 1
        done.add(Derived(entry, [letter]))


def _wanted(entry: Entry, types: frozenset[str]) -> bool:
    return not types or entry.type.rpartition(".")[0] in types

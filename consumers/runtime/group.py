"""A group: a handler by name, and the tasks it is split into."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from consumers.runtime.handler import EVERY_WRITER, Handler, Inputs, Order
from consumers.runtime.state import State
from events.log import ACCOUNT_PARTITION, Lane, Log, LogError, Slot, Stream
from events.tasks import TaskRecord

ACCOUNT_LANES = (Lane.CRITICAL, Lane.HIGH)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task: where it keeps what is its own, and the streams it reads, in fixed order."""

    slot: Slot
    inputs: tuple[Stream, ...]

    @property
    def reader(self) -> str:
        """Its name among the readers of a stream: `GROUP.TASK`."""
        return f"{self.slot.writer}.{self.slot.partition}"

    def journals(self, order: Order) -> bool:
        """Whether the order it follows must be written down: ids order one slot only."""
        return order is Order.PRIORITY or len({stream.slot for stream in self.inputs}) > 1


@dataclass(frozen=True, slots=True)
class Group:
    """What `consume --group NAME` runs. `namespaces` are those it runs for; empty means all."""

    name: str
    handler: type[Handler]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    namespaces: tuple[str, ...] = ()

    def make(self, record: TaskRecord) -> Handler:
        """A handler with the durable state of a task."""
        made = self.handler(**self.parameters)
        made.state = State(record.state)
        made.setup()
        return made

    def specs(self, log: Log) -> tuple[TaskSpec, ...]:
        """Every task, from what namespaces and writers exist now. Raises LogError."""
        known = log.namespaces()
        chosen = [name for name in sorted(self.namespaces or known) if name in known]
        if self.handler.live_only:
            chosen = self._live(log, chosen)
        if self.handler.inputs.namespaces_together:
            return self._together(log, chosen)
        return tuple(spec for name in chosen for spec in self._of_namespace(log, name))

    def _live(self, log: Log, namespaces: list[str]) -> list[str]:
        """Those whose events come from a terminal. Raises LogError for others that are named."""
        origins = {name: log.origin(name) for name in namespaces}
        for name in self.namespaces:
            if origins.get(name, "live") != "live":
                raise LogError(
                    f"{self.name} acts on live terminals only, {name} was made by "
                    f"{origins[name]}: leave --terminal {name} out"
                )
        return [name for name in namespaces if origins[name] == "live"]

    def _together(self, log: Log, namespaces: list[str]) -> tuple[TaskSpec, ...]:
        if not namespaces:
            return ()
        inputs = [stream for name in namespaces for stream in self._all_streams(log, name)]
        # Where it began it stays, whatever the names of namespaces that come later.
        homes = [name for name in namespaces if self.name in log.tasks.writers(name)]
        home = homes[0] if homes else namespaces[0]
        return (TaskSpec(Slot(home, self.name, 0), tuple(sorted(inputs))),)

    def _of_namespace(self, log: Log, namespace: str) -> Iterator[TaskSpec]:
        wanted = self.handler.tasks
        if wanted not in (None, 1):
            raise LogError(f"{self.name}: tasks = {wanted}; allowed are None and 1")
        if wanted == 1:
            streams = tuple(sorted(self._all_streams(log, namespace)))
            yield TaskSpec(Slot(namespace, self.name, 0), streams)
            return
        for partition in range(log.namespaces()[namespace]):
            streams = tuple(sorted(self._partition_streams(log, namespace, partition)))
            yield TaskSpec(Slot(namespace, self.name, partition), streams)

    def _all_streams(self, log: Log, namespace: str) -> set[Stream]:
        writers = log.tasks.writers(namespace)
        lanes_of = dict(self._inputs.lanes_of)
        return {
            Stream(Slot(namespace, writer, number), lane)
            for writer in self._read_writers(writers)
            for number in range(writers.get(writer, 0))
            for lane in lanes_of.get(writer, self._inputs.lanes)
        }

    def _read_writers(self, known: Collection[str]) -> Collection[str]:
        if EVERY_WRITER in self._inputs.writers:
            return [writer for writer in known if writer != self.name]
        return self._inputs.writers

    def _partition_streams(self, log: Log, namespace: str, partition: int) -> set[Stream]:
        found = {s for s in self._all_streams(log, namespace) if s.slot.partition == partition}
        if self._inputs.account:
            found |= {
                Stream(Slot(namespace, writer, ACCOUNT_PARTITION), lane)
                for writer in self._read_writers(log.tasks.writers(namespace))
                for lane in ACCOUNT_LANES
            }
        return found

    @property
    def _inputs(self) -> Inputs:
        return self.handler.inputs

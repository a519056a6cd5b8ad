"""A group of sinks: a sink by name, and the tasks it is split into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.handler import Handler
from consumers.sinks.run import SinkRun
from consumers.sinks.sink import Sink
from events.log import Claim, Log
from events.tasks import TaskRecord


@dataclass(frozen=True, slots=True)
class SinkGroup:
    """As `consumers.runtime.group.Group`, for a sink in place of a handler."""

    name: str
    sink: type[Sink]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    namespaces: tuple[str, ...] = ()

    def specs(self, log: Log) -> tuple[TaskSpec, ...]:
        """Every task, from what namespaces and writers exist now. Raises LogError."""
        return Group(self.name, self._declared(), namespaces=self.namespaces).specs(log)

    def run(self, log: Log, spec: TaskSpec, claim: Claim, record: TaskRecord) -> SinkRun:
        """An acquired task, ready to step."""
        sink = self.sink(**self.parameters)
        return SinkRun(log, sink, spec, claim, record)

    def _declared(self) -> type[Handler]:
        """A handler that reads what the sink reads: the rules for tasks are the same."""
        declared = {
            name: getattr(self.sink, name) for name in ("order", "inputs", "tasks", "live_only")
        }
        return type(self.sink.__name__, (Handler,), declared)

"""From an acquired task to one that can be stepped: a handler's or a sink's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.handler import Order
from consumers.runtime.reading import BATCH_ENTRIES_MAX
from consumers.runtime.rederive.upgrade import Upgrade, upgraded
from consumers.runtime.task import Step, TaskRun
from consumers.sinks import SinkGroup, SinkRun
from consumers.workers.beating import HANDLE_S_MAX
from consumers.workers.beginning import Begin, is_new, pass_over_what_is_there
from consumers.workers.ownership import LEASE_S
from events.log import Claim, EntryId, Log, LogError, Stream
from events.offset import Offset
from events.tasks import TaskRecord

MIRROR_S = 1.0

AnyGroup = Group | SinkGroup


class GroupRefused(LogError):
    """The group cannot run like this, now or later. The message names cause and cure."""


class Run(Protocol):
    """A task in a worker's hands: `TaskRun` of a handler, `SinkRun` of a sink."""

    spec: TaskSpec
    claim: Claim
    halted: str

    @property
    def offsets(self) -> Mapping[Stream, Offset]: ...

    @property
    def ends(self) -> dict[Stream, EntryId]: ...

    def step(self, *, urgent: Callable[[], bool] = ...) -> Step: ...

    def halt(self, reason: str) -> None: ...

    def mirror(self) -> None: ...

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What an operator chooses. `holder` tells people where the worker runs."""

    holder: str
    lease_s: float = LEASE_S
    entries_max: int = BATCH_ENTRIES_MAX
    begin: Begin = Begin.OLDEST
    upgrade: Upgrade = Upgrade.DERIVE
    mirror_s: float = MIRROR_S
    handle_s_max: float = HANDLE_S_MAX


def load(
    log: Log,
    group: AnyGroup,
    spec: TaskSpec,
    claim: Claim,
    record: TaskRecord,
    options: WorkerOptions,
    *,
    moved: Callable[[], None],
    monotonic: Callable[[], float] = time.monotonic,
) -> Run:
    """Make what was acquired ready to step; `moved` is called while that takes long.

    Raises GroupRefused, what a commit raises, and whatever a handler's or a sink's own start
    raises.
    """
    if is_new(record) and log.unordered.done_to(spec.slot):
        raise GroupRefused(
            f"group {group.name!r} was run with --unordered before: run it so again, or give this "
            "one another name with --group"
        )
    if options.begin is Begin.NEWEST and is_new(record):
        record = pass_over_what_is_there(log, group, spec, claim, record)
    if isinstance(group, SinkGroup):
        sink = group.sink(**group.parameters)
        return SinkRun(
            log, sink, spec, claim, record,
            entries_max=options.entries_max, monotonic=monotonic,
        )  # fmt: skip
    record = upgraded(
        log, group, spec, claim, record,
        policy=options.upgrade, told=lambda _: moved(), monotonic=monotonic,
    )  # fmt: skip
    return TaskRun(
        log, group, spec, claim, record, entries_max=options.entries_max, monotonic=monotonic
    )


def let_go(run: Run) -> None:
    """Believe nothing of it any more."""
    if isinstance(run, SinkRun):
        run.close()


def is_waiting(run: object) -> str:
    """Why entries are left to lie for now, or empty."""
    return run.waiting if isinstance(run, SinkRun) else ""


def by_priority(group: AnyGroup) -> bool:
    """Whether something critical may cut a batch of this group short."""
    return isinstance(group, Group) and group.handler.order is Order.PRIORITY


def prioritised(runs: Iterable[Run]) -> Iterator[TaskRun]:
    """Those whose critical lanes may cut a batch short."""
    return (run for run in runs if isinstance(run, TaskRun))

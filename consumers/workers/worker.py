"""A worker: one loop that owns several tasks of a group, and starts anew after any error."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TypeVar

from consumers.runtime.group import TaskSpec
from consumers.runtime.sharing import Members, worker_name
from consumers.runtime.urgent import CriticalWatch
from consumers.workers.beating import Beater
from consumers.workers.ownership import Ownership
from consumers.workers.progress import Count, Progress
from consumers.workers.taking import (
    AnyGroup,
    GroupRefused,
    Run,
    WorkerOptions,
    by_priority,
    is_waiting,
    let_go,
    load,
    prioritised,
)
from events.continuity import LOOK_S, findings
from events.log import Claim, EntryId, Fenced, Log, LogError, LogUnavailable, Slot, Stream
from events.tasks import Holding, StaleOffset, StaleOutput, TaskRecord

logger = logging.getLogger(__name__)
T = TypeVar("T")

WAIT_S = 0.05
"""Longest sleep for new entries: a stop, or a task that became free, is noticed within it."""
SPECS_S = 2.0
"""How often new terminals and writers are looked for."""
JOIN_S = 30.0
"""How often the owner of a task registers again as a reader of its inputs."""
RETRY_FIRST_S, RETRY_MAX_S = 0.1, 5.0
"""Waits after trouble: they double from the first to the longest."""


class _Stopped(Exception):
    """Told to stop in the middle of taking a task."""


class Worker:
    """`run` until `stopping` is set. `turn` is one round of it, for who steps it by hand.

    `beat_log` should be a connection of its own: it is used by another thread.
    """

    def __init__(
        self,
        log: Log,
        group: AnyGroup,
        options: WorkerOptions,
        *,
        beat_log: Log | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: random.Random | None = None,
    ) -> None:
        self._log, self._group, self._options = log, group, options
        self._monotonic, self._sleep = monotonic, sleep
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries, no secret
        self.name = worker_name(options.holder, group.namespaces)
        self.stopping = False
        self.progress = Progress()
        self.beater = Beater(
            beat_log or log, group.name, self.name,
            lease_s=options.lease_s, hang_s=options.handle_s_max, monotonic=monotonic,
        )  # fmt: skip
        self._members = Members(log.tasks, group.name, self.name, monotonic=monotonic)
        self._ownership = Ownership(
            log.tasks, self._members, lease_s=options.lease_s, monotonic=monotonic
        )
        self._specs: dict[Slot, TaskSpec] = {}
        self._runs: dict[Slot, Run] = {}
        self._left: dict[Slot, Claim] = {}
        """Tasks we let fall after an error, and what proves that they are still ours."""
        self._retry: dict[Slot, tuple[float, float]] = {}
        """Tasks that could not be run: when to try again, and the wait after that."""
        self._watch, self._by_priority = CriticalWatch(log, monotonic=monotonic), by_priority(group)
        self._waits = waits(self._chance)
        self._woken = False
        """The last wait found something, and nothing was done with it since."""
        now = monotonic()
        self._not_before = self._next_specs = self._next_mirror = now
        self._next_look = now + LOOK_S
        self._next_join = now + JOIN_S

    @property
    def owned(self) -> Mapping[Slot, Run]:
        return self._runs

    def run(self) -> None:
        """Work until told to stop; then hand everything over. Raises GroupRefused."""
        self.beater.start()
        try:
            while not self.stopping:
                if not self.turn():
                    self.wait()
        finally:
            self.leave()
            self.beater.stop()

    def turn(self) -> bool:
        """One step of every task in hand; False when nothing was there to do. Raises
        GroupRefused."""
        self.beater.moves += 1
        if self._monotonic() < self._not_before:
            return False
        try:
            worked = self._turn()
        except LogUnavailable as error:
            self._lose(error)
            return False
        if worked:
            self._woken = False
        if self.progress.waiting:
            logger.info("%s: the log answers again", self._group.name)
            self.progress.waiting = ""
            self._waits = waits(self._chance)
        return worked

    def wait(self) -> None:
        """Sleep until something may be there, or it is time to look."""
        self.beater.moves += 1
        now = self._monotonic()
        if now < self._not_before:
            self._sleep(min(WAIT_S, self._not_before - now))
            return
        left_s = min(WAIT_S, max(0.001, self._ownership.due_in_s()))
        ends: dict[Stream, EntryId] = {}
        for run in self._runs.values():
            if not run.halted and not is_waiting(run):
                for stream, last in run.ends.items():
                    ends[stream] = min(last, ends.get(stream, last))
        if not ends or self._woken:  # what is there was of no use: do not ask for it again at once
            self._woken = False
            self._sleep(left_s)
            return
        try:
            block_ms = max(1, int(left_s * 1000))
            self._woken = bool(self._log.read(ends, count_max=1, block_ms=block_ms))
        except LogUnavailable as error:
            self._lose(error)

    def leave(self) -> None:
        """Hand every task over and end: whoever shares the group takes them at once."""
        with suppress(LogError):
            self.beater.leave()
            self._members.leave()
            for slot in list(self._runs):
                self._hand_over(slot)
        self._runs.clear()
        self._watch.close()

    def _turn(self) -> bool:
        self._tend()
        worked = False
        for slot in list(self._runs):
            if self.stopping:
                break
            if slot in self._runs:
                worked |= self._step(slot)
                self.beater.moves += 1
                self._tend()
        self._chores()
        return worked

    def _tend(self) -> None:
        """Take and give up tasks, when it is time to look."""
        if self._members.tend():
            self._ownership.hurry()
        for slot in self.beater.fenced():
            self._fall(slot, "its heartbeat was refused")
        if self._monotonic() >= self._next_specs:
            self._next_specs = self._monotonic() + SPECS_S
            self._find_specs()
        if not self._ownership.due:
            return
        change = self._ownership.look(self._specs, self._runs)
        for slot in change.lost:
            self._fall(slot, "another owner took it over")
        for slot in change.give:
            self._hand_over(slot)
            logger.info("%s: handed over", slot)
        for holding in change.take:
            if self._may_try(holding.slot):
                self._take(holding)

    def _find_specs(self) -> None:
        """Register for what is there to read, before anything of it is read."""
        found = registered(self._log, self._group)
        for slot, spec in found.items():
            if self._specs.get(slot) != spec:
                self._log.tasks.join(spec.reader, spec.inputs)
                if slot in self._runs:  # it has more to read now
                    self._hand_over(slot)
                self._ownership.hurry()
        for slot in self._runs.keys() - found.keys():  # its terminal is gone
            self._hand_over(slot)
        self._specs = found

    def _take(self, holding: Holding) -> None:
        """Acquire a task and load it; checks that its inputs are those it knows."""
        slot, seen = holding.slot, holding.token
        ours = self._left.pop(slot, None)
        if ours is not None and ours.token == seen:
            self._log.release(ours)
            seen = ""
        taken = self._log.tasks.acquire(slot, self.name, seen=seen)
        if taken is None:
            self._ownership.hurry()
            return
        claim, record = taken
        self.beater.hold(claim)
        self.beater.busy_with = f"taking {slot}"
        try:
            self._begin(claim, record)
        except LogUnavailable:
            self.beater.drop(slot)
            self._left[slot] = claim
            raise
        except (Fenced, StaleOffset, StaleOutput) as error:
            self._fall(slot, str(error))
            return
        except Exception as error:
            self.beater.drop(slot)
            self._log.release(claim)
            if isinstance(error, GroupRefused):
                raise
            if not isinstance(error, _Stopped):
                self._failed(slot, error)
            return
        if seen:
            logger.warning("%s: taken over from %s, which was silent", slot, holding.holder)
        elif not ours:
            logger.info("%s: taken", slot)

    def _begin(self, claim: Claim, record: TaskRecord) -> None:
        spec = self._specs[claim.slot]
        run = load(
            self._log, self._group, spec, claim, record, self._options,
            moved=self._still_taking, monotonic=self._monotonic,
        )  # fmt: skip
        self._check(run)
        self._runs[claim.slot] = run

    def _still_taking(self) -> None:
        """Called while a state is derived again, which may take long."""
        self.beater.moves += 1
        if self.stopping:
            raise _Stopped("told to stop while taking a task")

    def _check(self, run: Run) -> None:
        """Halt a task whose inputs are no longer the streams it has read."""
        wrong = findings(self._log, run.offsets) if not run.halted else ()
        if wrong:
            run.halt("; ".join(map(str, wrong)))
        self._note_halt(run)

    def _note_halt(self, run: Run) -> None:
        told = self.progress.halted.get(run.spec.slot, "")
        if run.halted and run.halted != told:
            logger.error("%s is halted: %s", run.spec.slot, run.halted)
            self.progress.halted[run.spec.slot] = run.halted
        elif told and not run.halted:
            logger.warning("%s goes on", run.spec.slot)
            del self.progress.halted[run.spec.slot]

    def _step(self, slot: Slot) -> bool:
        run = self._runs[slot]
        self.beater.busy_with = str(slot)
        step = self._guarded(slot, lambda: run.step(urgent=self._urgent))
        if step is None:
            return True
        self._note_halt(run)
        if not step.entries and not step.outputs:
            return False
        count = self.progress.tasks.setdefault(slot, Count())
        count.entries += step.entries
        count.outputs += step.outputs
        count.failed += step.failed
        count.commits += 1
        self._retry.pop(slot, None)
        return True

    def _guarded(self, slot: Slot, work: Callable[[], T]) -> T | None:
        """Do something with a task in hand. None when it is no longer in hand after that."""
        try:
            return work()
        except (Fenced, StaleOffset, StaleOutput) as error:
            self._fall(slot, str(error))
        except LogUnavailable:
            raise
        except Exception as error:
            self._drop(slot)
            self._failed(slot, error)
        return None

    def _urgent(self) -> bool:
        """Asked between entries: whether the batch should end here."""
        self.beater.moves += 1
        if self._by_priority and self._watch.urgent(prioritised(self._runs.values())):
            return True
        return self.stopping

    def _chores(self) -> None:
        now = self._monotonic()
        if now >= self._next_mirror:
            self._next_mirror = now + self._options.mirror_s
            for run in self._runs.values():
                run.mirror()
        if now >= self._next_join:  # in case somebody flushed the log, or removed us
            self._next_join = now + JOIN_S
            for run in self._runs.values():
                self._log.tasks.join(run.spec.reader, run.spec.inputs)
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            for slot, run in list(self._runs.items()):
                self._guarded(slot, lambda run=run: self._check(run))  # type: ignore[misc] # mypy cannot infer

    def _hand_over(self, slot: Slot) -> None:
        """Between two commits, so that the next owner begins where this one ended."""
        run = self._runs.pop(slot)
        self.beater.drop(slot)
        self._left[slot] = run.claim
        run.release()  # first of all: somebody may wait for it
        del self._left[slot]
        run.mirror()
        self.progress.halted.pop(slot, None)

    def _drop(self, slot: Slot) -> None:
        """Believe nothing of a task any more; it stays ours until somebody takes it."""
        run = self._runs.pop(slot, None)
        self.beater.drop(slot)
        if run is not None:
            self._left[slot] = run.claim
            let_go(run)
        self._ownership.hurry()

    def _fall(self, slot: Slot, why: str) -> None:
        self.progress.fenced += 1
        self._drop(slot)
        logger.warning("%s: fenced (%s): what was not committed is dropped, nothing is lost",
                       slot, why)  # fmt: skip

    def _failed(self, slot: Slot, error: Exception) -> None:
        """A task that cannot be run at all: try again later, and later still."""
        first = slot not in self._retry
        _, wait_s = self._retry.get(slot, (0.0, RETRY_FIRST_S))
        self._retry[slot] = (self._monotonic() + wait_s, min(wait_s * 2, RETRY_MAX_S))
        if first:
            logger.error("%s cannot go on, and is tried again and again: %s: %s", slot,
                         type(error).__name__, error,
                         exc_info=None if isinstance(error, LogError) else error)  # fmt: skip

    def _may_try(self, slot: Slot) -> bool:
        return self._monotonic() >= self._retry.get(slot, (0.0, 0.0))[0]

    def _lose(self, error: LogUnavailable) -> None:
        """The log does not answer: nothing in memory may be believed, wait before asking again."""
        for slot in list(self._runs):
            self._drop(slot)
        self._not_before = self._monotonic() + next(self._waits)
        if not self.progress.waiting:
            logger.warning("%s: %s: waiting, nothing is lost", self._group.name, error)
        self.progress.waiting = str(error)


def registered(log: Log, group: AnyGroup) -> dict[Slot, TaskSpec]:
    """Every task of a group, which is a writer from now on. Raises GroupRefused, LogUnavailable."""
    try:
        found = {spec.slot: spec for spec in group.specs(log)}
        for namespace in {slot.namespace for slot in found}:
            tasks = sum(slot.namespace == namespace for slot in found)
            log.tasks.open_group(namespace, group.name, tasks)
    except LogUnavailable:
        raise
    except LogError as error:
        raise GroupRefused(str(error)) from error
    return found


def waits(chance: random.Random) -> Iterator[float]:
    """Pauses after trouble, each shortened by up to a quarter so that not all ask at once."""
    wait_s = RETRY_FIRST_S
    while True:
        yield wait_s * (1 - chance.random() / 4)
        wait_s = min(wait_s * 2, RETRY_MAX_S)

"""A worker whose every call to the log can go wrong, as turns of a scheduler."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from consumers.runtime.group import TaskSpec
from consumers.runtime.sharing import Members, share
from consumers.runtime.task import MIRROR_ALL_EVERY, TaskRun
from events.log import Fenced, Log, LogUnavailable, Slot
from events.tasks import Holding, StaleOffset, StaleOutput

if TYPE_CHECKING:
    from tests.simulation.groups.memory_world import World

GROUP = "chain"


class Crashed(BaseException):
    """The worker died here."""


class Fault(Enum):
    """What goes wrong with one call."""

    DIE_BEFORE = "die before"
    DIE_AFTER = "die after"
    LOSE_REQUEST = "lose request"
    LOSE_REPLY = "lose reply"
    DELAY = "delay"
    """The caller hears nothing; it is carried out later, when it is no longer wanted."""
    REPEAT = "repeat"
    """A client that repeats by itself: carried out twice, the second answer is heard."""
    PAUSE_BEFORE = "pause before"
    PAUSE_AFTER = "pause after"


Choose = Callable[["SimWorker", str], Fault | None]


class Faulty:
    """Stands before a log and its tasks; every call goes through `call(name, effect)`."""

    def __init__(self, inner: object, call: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._inner, self._call = inner, call

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._inner, name)
        if name == "tasks":
            return Faulty(target, self._call)
        return lambda *args, **named: self._call(name, lambda: target(*args, **named))


class SimWorker:
    """A worker as turns of a scheduler: take a share, step what is owned, drop what failed."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.paused = False
        self._begin()

    def _begin(self) -> None:
        """A new process: nothing is remembered."""
        self.world.started += 1
        me = f"{self.name}/{self.world.started}"
        self.log = cast("Log", Faulty(self.world.log, self._call))
        self.members = Members(self.log.tasks, GROUP, me, monotonic=self.world.now_s)
        self.runs: dict[Slot, TaskRun] = {}
        self._seen: dict[Slot, tuple[Holding, float]] = {}

    def turn(self) -> None:
        try:
            self._turn()
        except Crashed:
            self.world.counts["crash"] += 1
            self._begin()
        except LogUnavailable:
            self.world.counts["unavailable"] += 1
            self._lost()

    def _lost(self) -> None:
        """A call without an answer: nothing that is remembered may be believed any more."""
        self.runs.clear()

    def stop(self) -> None:
        """End as on SIGTERM: hand everything over."""
        try:
            for run in self.runs.values():
                run.mirror()
                run.release()
            self.members.leave()
        except (Crashed, LogUnavailable):
            pass
        self._begin()

    def show(self) -> None:
        """A quiet while: owners show their offsets again and again, others see that they are
        none any more."""
        for slot, run in list(self.runs.items()):
            try:
                self.log.beat(run.claim)
            except Fenced:
                del self.runs[slot]
                continue
            for _ in range(MIRROR_ALL_EVERY):
                run.mirror()

    def _turn(self) -> None:
        self.members.tend()
        specs = {spec.slot: spec for spec in self.world.specs}
        holdings = self.log.tasks.look(sorted(specs))
        held = {one.slot: one.holder for one in holdings}
        mine = share(held, self.members.living, self.members.me)
        for slot in sorted(set(self.runs) - mine):
            run = self.runs.pop(slot)
            run.mirror()
            run.release()
        for one in holdings:
            if one.slot in mine and one.slot not in self.runs:
                self._take(specs[one.slot], one)
        for slot in sorted(self.runs):
            self._step(slot)

    def _take(self, spec: TaskSpec, seen: Holding) -> None:
        before, since_s = self._seen.get(seen.slot, (None, 0.0))
        now_s = self.world.now_s()
        if seen.token:
            if before is None or (before.token, before.beat) != (seen.token, seen.beat):
                self._seen[seen.slot] = (seen, now_s)
                return
            if now_s - since_s < self.world.lease_s:
                return
        self.log.tasks.join(spec.reader, spec.inputs)
        taken = self.log.tasks.acquire(spec.slot, self.members.me, seen=seen.token)
        if taken is not None:
            self.runs[spec.slot] = self.world.loaded(self.log, spec, *taken)
            self.world.counts["acquired"] += 1

    def _step(self, slot: Slot) -> None:
        run, chance = self.runs[slot], self.world.chance
        try:
            if chance.random() < 0.3:
                self.log.beat(run.claim)
            step = run.step(urgent=self._urgent)
            self.world.counts["handled"] += step.entries
            if chance.random() < 0.2:
                run.mirror()
        except (Fenced, StaleOffset, StaleOutput) as refused:
            self.world.counts[type(refused).__name__] += 1
            del self.runs[slot]

    def _urgent(self) -> bool:
        """Asked between two entries: a place to die at, or to cut the batch."""
        fault = self.world.choose(self, "entry")
        if fault in (Fault.DIE_BEFORE, Fault.DIE_AFTER):
            raise Crashed
        return self.world.chance.random() < 0.02

    def _call(self, name: str, effect: Callable[[], Any]) -> Any:
        world = self.world
        fault = world.choose(self, name)
        if fault is not None:
            world.counts[fault.value] += 1
        if fault is Fault.DIE_BEFORE:
            raise Crashed
        if fault is Fault.LOSE_REQUEST:
            raise LogUnavailable("request lost")
        if fault is Fault.DELAY:
            world.delayed.append(effect)
            raise LogUnavailable("request delayed")
        if fault is Fault.PAUSE_BEFORE:
            world.pause(self)
        answer = effect()
        if fault is Fault.REPEAT:
            answer = effect()
        if fault is Fault.PAUSE_AFTER:
            world.pause(self)
        if fault is Fault.DIE_AFTER:
            raise Crashed
        if fault is Fault.LOSE_REPLY:
            raise LogUnavailable("reply lost")
        return answer

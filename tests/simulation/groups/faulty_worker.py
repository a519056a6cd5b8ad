"""A worker whose every call to the log can go wrong, as turns of a scheduler."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from consumers.workers.taking import WorkerOptions
from consumers.workers.worker import Worker
from events.log import Log, LogError, LogUnavailable

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
        if isinstance(target, bool | int | str):
            return target
        if not callable(target):  # the log's other ports: tasks, retained, unordered
            return Faulty(target, self._call)
        return lambda *args, **named: self._call(name, lambda: target(*args, **named))


class SteppedWorker(Worker):
    """The worker as it is, but for a place to die at between two entries."""

    sim: SimWorker

    def _urgent(self) -> bool:
        return self.sim.between_entries() or super()._urgent()


class SimWorker:
    """A worker process: it dies, is started again, and is stepped turn by turn."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.paused = False
        self._begin()

    def _begin(self) -> None:
        """A new process: nothing is remembered."""
        world = self.world
        world.started += 1
        self.log = cast("Log", Faulty(world.log, self.call))
        options = WorkerOptions(
            holder=f"{self.name}.{world.started}",
            lease_s=world.scene.lease_s,
            entries_max=world.chance.randint(1, world.scene.entries_max),
        )
        self.worker = world.scene.worker(
            self.log, world.group, options,
            monotonic=world.now_s, sleep=world.sleep, chance=world.chance,
        )  # fmt: skip
        self.worker.sim = self

    def turn(self) -> None:
        """A heartbeat, or a round of the loop."""
        self._live(self._beat if self.world.chance.random() < 0.3 else self.worker.turn)

    def stop(self) -> None:
        """End as on SIGTERM, and start anew."""
        self._live(self.worker.leave)
        self._begin()

    def _live(self, do: Callable[[], object]) -> None:
        acting, self.world.acting = self.world.acting, self
        try:
            do()
        except Crashed:
            self.world.counts["crash"] += 1
            self._note()
            self._begin()
        finally:
            self.world.acting = acting

    def _beat(self) -> None:
        """What the heartbeat's thread does; the loop meets the same trouble, and tells it."""
        with suppress(LogError):
            self.worker.beater.round()

    def _note(self) -> None:
        self.world.counts["fenced"] += self.worker.progress.fenced

    def between_entries(self) -> bool:
        """Die here, or cut the batch."""
        fault = self.world.choose(self, "entry")
        if fault in (Fault.DIE_BEFORE, Fault.DIE_AFTER):
            raise Crashed
        return self.world.chance.random() < 0.02

    def call(self, name: str, effect: Callable[[], Any]) -> Any:
        world = self.world
        fault = world.choose(self, name)
        if fault is not None:
            world.counts[fault.value] += 1
        if fault is Fault.DIE_BEFORE:
            raise Crashed
        if fault is Fault.LOSE_REQUEST:
            raise LogUnavailable("request lost")
        if fault is Fault.DELAY:
            world.delayed.append((name, effect))
            raise LogUnavailable("request delayed")
        if fault is Fault.PAUSE_BEFORE:
            world.pause(self)
        answer = world.carried_out(name, effect)
        if fault is Fault.REPEAT:
            answer = world.carried_out(name, effect)
        if fault is Fault.PAUSE_AFTER:
            world.pause(self)
        if fault is Fault.DIE_AFTER:
            raise Crashed
        if fault is Fault.LOSE_REPLY:
            raise LogUnavailable("reply lost")
        return answer

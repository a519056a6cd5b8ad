"""A supervisor of groups that come and go: each is started, changed and ended by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from consumers.workers.supervise import Crew, CrewState, GroupFailed, Screen, Supervisor, Team
from events.log import Log, LogError
from events.processes import ProcessState

logger = logging.getLogger(__name__)

FOLLOW_S = 0.5
"""How often is asked what is wanted."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A group that is to run. `what` differs when it is to be started anew."""

    what: object
    group: str
    stamp: object
    """Of its file: what cannot run is tried again when that changes."""
    crew: Callable[[], Crew]
    """Raises ValueError with cause and cure when it cannot run."""


@dataclass(slots=True)
class _Still:
    """A group that cannot run as it is."""

    wanted: Wanted
    why: str
    state: CrewState = field(init=False)

    def __post_init__(self) -> None:
        self.state = CrewState(self.wanted.group, waiting=f"it stands still: {self.why}")


class FollowingSupervisor(Supervisor):
    """One `consume` of groups that operators switch on and off.

    What cannot run stands still with its reason, until it is switched otherwise or its file is
    saved anew; the others go on. While the log does not answer everything stays as it is.
    """

    def __init__(
        self,
        wanted: Callable[[Log], Mapping[str, Wanted]],
        open_log: Callable[[], Log],
        screen: Screen,
        *,
        until_idle: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__([], open_log, screen, until_idle=until_idle, monotonic=monotonic)
        self._wanted = wanted
        self._running: dict[str, tuple[Wanted, Team]] = {}
        self._still: dict[str, _Still] = {}
        self._ending: dict[str, threading.Thread] = {}
        self._follow_at = monotonic()
        self._asked = False

    def run(self, stop: threading.Event) -> list[CrewState]:
        """See Supervisor.run. Raises GroupFailed for what stood still in a run that is to end."""
        states = super().run(stop)
        if self._until_idle and self._still:
            raise GroupFailed("; ".join(f"{s.wanted.group}: {s.why}" for s in self._still.values()))
        return states

    def _is_over(self) -> bool:
        if self._monotonic() >= self._follow_at:
            self._follow_at = self._monotonic() + FOLLOW_S
            with suppress(LogError):
                self._follow(self._wanted(self._looking()))
                self._asked = True
        for key, (wanted, team) in list(self._running.items()):
            if ProcessState.FAILED in team.watch():
                self._stand_still(key, wanted, team.last_words())
        return self._until_idle and self._asked and not self._ending and self._is_done()

    def _follow(self, wanted: Mapping[str, Wanted]) -> None:
        for key in self._running.keys() - wanted.keys():
            logger.info("%s: it is wanted no more", self._running[key][0].group)
            self._end_one(key)
        for key in self._still.keys() - wanted.keys():
            del self._still[key]
        self._ending = {key: one for key, one in self._ending.items() if one.is_alive()}
        for key, one in wanted.items():
            running, still = self._running.get(key), self._still.get(key)
            if running is not None and running[0].what != one.what:
                logger.info("%s: it is wanted otherwise", one.group)
                self._end_one(key)
            tried = still is not None and (still.wanted.what, still.wanted.stamp) == (
                one.what, one.stamp,
            )  # fmt: skip
            if key not in self._running and key not in self._ending and not tried:
                self._start(key, one)

    def _start(self, key: str, wanted: Wanted) -> None:
        try:
            team = self._team(wanted.crew())
        except (ValueError, LogError) as error:
            self._keep_still(key, wanted, str(error))
            return
        self._still.pop(key, None)
        self._running[key] = (wanted, team)
        self._teams.append(team)
        for child in team.children:
            child.start()
        logger.info("%s: started", wanted.group)

    def _stand_still(self, key: str, wanted: Wanted, why: str) -> None:
        self._end_one(key)
        self._keep_still(key, wanted, why)

    def _keep_still(self, key: str, wanted: Wanted, why: str) -> None:
        logger.error("%s stands still, others go on: %s", wanted.group, why)
        self._still[key] = _Still(wanted, why)

    def _end_one(self, key: str) -> None:
        """End its processes beside everything else: one may be in the middle of a long batch."""
        _, team = self._running.pop(key)
        self._teams.remove(team)
        thread = threading.Thread(target=team.stop, name=f"ending {key}")
        self._ending[key] = thread
        thread.start()

    def _end(self) -> None:
        super()._end()
        for thread in self._ending.values():
            thread.join()

    def _states(self) -> list[CrewState]:
        return [*super()._states(), *(still.state for still in self._still.values())]

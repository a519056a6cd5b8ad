"""Runs the workers of groups as processes: starts them again when they die, ends them together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from consumers.workers.process import Report
from consumers.workers.status import TaskStatus, is_done, look
from consumers.workers.taking import AnyGroup
from events.log import Log, LogError, LogUnavailable
from events.processes import Child, ProcessReport, ProcessSpec, ProcessState

logger = logging.getLogger(__name__)

MODULE = "bridgectl"
REFUSED = "refused: "
"""How a worker's last line begins when its group cannot run: told once, not by each of them."""
WATCH_S = 0.05
IDLE_LOOK_S = 0.1
WORKERS_MAX = 64
FINITE_FAILURES_MAX = 8
"""A run that is to end by itself gives a worker up after so many failures in a row. An entry that
kills its process takes five until it is passed over."""
BACKOFF_S = (0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses before a dead worker is started again: short at first, since its tasks wait for it."""


class GroupFailed(RuntimeError):
    """A group cannot run, or stands still. The message names cause and cure."""


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers that one command runs for a group."""

    group: AnyGroup
    command: Callable[[int], tuple[str, ...]]
    """The arguments of `bridgectl` for worker number so and so."""
    workers: int = 1
    unordered: bool = False
    """Nobody holds its tasks: any worker is given any entry."""


@dataclass(slots=True)
class Totals:
    """What all workers did for a task, those that died counted up to their last report."""

    entries: int = 0
    outputs: int = 0
    failed: int = 0
    commits: int = 0


@dataclass(slots=True)
class CrewState:
    """A group as its supervisor sees it."""

    group: str
    tasks: list[TaskStatus] = field(default_factory=list)
    done: dict[str, Totals] = field(default_factory=dict)
    fenced: int = 0
    restarts: int = 0
    workers: int = 0
    waiting: str = ""
    running: list[ProcessReport] = field(default_factory=list)
    unordered: bool = False

    @property
    def halted(self) -> dict[str, str]:
        return {str(task.slot): task.halted for task in self.tasks if task.halted}

    def total(self, what: str) -> int:
        return sum(int(getattr(one, what)) for one in self.done.values())

    def as_json(self) -> dict[str, object]:
        return {
            "group": self.group,
            "workers": self.workers,
            "tasks": len(self.tasks),
            "entries": self.total("entries"),
            "outputs": self.total("outputs"),
            "failed": self.total("failed"),
            "commits": self.total("commits"),
            "fenced": self.fenced,
            "restarts": self.restarts,
            "halted": self.halted,
        }


class Screen(Protocol):
    """Where the run shows itself."""

    def line(self, name: str, text: str) -> None: ...

    def refresh(self, states: Callable[[], Sequence[CrewState]]) -> None:
        """Called often; asks for the states when it is time to show them."""

    def close(self) -> None: ...


class Team:
    """The processes of one crew, and what they reported."""

    def __init__(self, crew: Crew, screen: Screen, *, failures_max: int | None) -> None:
        self.crew, self._screen = crew, screen
        self.children = [
            Child(
                ProcessSpec(f"{crew.group.name}-{number}", MODULE, crew.command(number)),
                on_line=self._line,
                failures_max=failures_max,
                backoff_s=BACKOFF_S,
            )
            for number in range(crew.workers)
        ]
        self._reports: dict[str, Report] = {}
        self.state = CrewState(crew.group.name, workers=crew.workers, unordered=crew.unordered)

    def _line(self, name: str, text: str) -> None:
        if REFUSED not in text:
            self._screen.line(name, text)

    def watch(self) -> list[ProcessState]:
        """Start again who died."""
        return [child.watch() for child in self.children]

    def count(self) -> CrewState:
        """Take in what the workers reported."""
        for child in self.children:
            for line in reversed(list(child.output)):
                if (report := Report.parse(line)) is not None:
                    self._reports[report.worker] = report
                    break
        done: dict[str, Totals] = {}
        for report in self._reports.values():
            for slot, counts in report.tasks.items():
                total = done.setdefault(slot, Totals())
                for what, number in counts.items():
                    setattr(total, what, getattr(total, what) + number)
        self.state.done = done
        self.state.fenced = sum(report.fenced for report in self._reports.values())
        self.state.running = [child.report() for child in self.children]
        self.state.restarts = sum(max(0, one.starts - 1) for one in self.state.running)
        pids = {one.pid for one in self.state.running}
        living = [report for report in self._reports.values() if report.pid in pids]
        self.state.waiting = next((one.waiting for one in living if one.waiting), "")
        return self.state

    def stop(self) -> None:
        """End its processes, all at once."""
        threads = [threading.Thread(target=child.stop) for child in self.children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def last_words(self) -> str:
        """Why one of them cannot run; empty when all can."""
        for child in self.children:
            report = child.report()
            if report.state is ProcessState.FAILED:
                words = report.last_line.removeprefix(f"{MODULE}: ")
                return f"{report.name}: {words or f'exit code {report.exit_code}'}"
        return ""


class Supervisor:
    """One `consume`. `open_log` opens a log to look at; the workers open their own."""

    def __init__(
        self,
        crews: Sequence[Crew],
        open_log: Callable[[], Log],
        screen: Screen,
        *,
        until_idle: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_max = FINITE_FAILURES_MAX if until_idle else None
        self._open_log, self._screen = open_log, screen
        self._teams = [self._team(crew) for crew in crews]
        self._until_idle, self._monotonic = until_idle, monotonic
        self._log: Log | None = None
        self._told_surplus: set[str] = set()
        self._look_at = monotonic()

    def _team(self, crew: Crew) -> Team:
        return Team(crew, self._screen, failures_max=self._failures_max)

    def run(self, stop: threading.Event) -> list[CrewState]:
        """Until told to stop or, with `until_idle`, until nothing is left to do. Every worker is
        gone afterwards. Raises GroupFailed when one cannot run at all."""
        try:
            for team in self._teams:
                for child in team.children:
                    child.start()
            while not stop.wait(WATCH_S) and not self._is_over():
                self._screen.refresh(self._states)
        finally:
            self._end()
        try:
            states = self._states()
        finally:
            if self._log is not None:
                self._log.close()
        if failed := "; ".join(filter(None, (team.last_words() for team in self._teams))):
            raise GroupFailed(failed)
        return states

    def _is_over(self) -> bool:
        """Whether a worker cannot run, every worker was ended, or there is nothing left to do."""
        states = [state for team in self._teams for state in team.watch()]
        if ProcessState.FAILED in states or all(s is ProcessState.DONE for s in states):
            return True
        return self._until_idle and self._is_done()

    def _end(self) -> None:
        """All workers together, so that nobody waits for another's last commit."""
        children = [child for team in self._teams for child in team.children]
        threads = [threading.Thread(target=child.stop) for child in children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _states(self) -> list[CrewState]:
        """How everything is now; of a log that does not answer, what was seen last."""
        for team in self._teams:
            team.count()
            try:
                team.state.tasks = look(self._looking(), team.crew.group)
            except LogUnavailable as error:
                team.state.waiting = team.state.waiting or str(error)
            self._tell_surplus(team)
        return [team.state for team in self._teams]

    def _looking(self) -> Log:
        if self._log is None:
            self._log = self._open_log()
        return self._log

    def _is_done(self) -> bool:
        now = self._monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + IDLE_LOOK_S
        try:
            return all(is_done(look(self._looking(), team.crew.group)) for team in self._teams)
        except LogError:
            return False

    def _tell_surplus(self, team: Team) -> None:
        name, tasks, workers = team.crew.group.name, len(team.state.tasks), team.crew.workers
        surplus = tasks and workers > tasks and not team.crew.unordered
        if surplus and name not in self._told_surplus:
            self._told_surplus.add(name)
            logger.info("%s: %d workers for %d tasks: the others stand by", name, workers, tasks)

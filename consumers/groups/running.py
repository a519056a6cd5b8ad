"""`consume` for groups of handlers: the command that supervises, and each of its workers."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial

from consumers.groups.registry import RISK, WATCH, GroupSpec
from consumers.runtime.reading import BATCH_ENTRIES_MAX
from consumers.runtime.rederive.upgrade import Upgrade
from consumers.unordered import Consumer
from consumers.unordered.undoing import namespaces_with, take_back
from consumers.workers.beating import HANDLE_S_MAX
from consumers.workers.beginning import Begin
from consumers.workers.following import FollowingSupervisor, Wanted
from consumers.workers.ownership import LEASE_S
from consumers.workers.process import Looping, run_worker
from consumers.workers.supervise import REFUSED, Crew, CrewState, GroupFailed, Supervisor
from consumers.workers.taking import MIRROR_S, AnyGroup, WorkerOptions
from events.log import Log, LogError
from events.processes import stopped_by_signals
from events.settings import Settings

logger = logging.getLogger(__name__)

MIRROR_IDLE_S = 0.1
"""How often offsets are shown where somebody waits for the group to have read everything."""


@dataclass(frozen=True, slots=True)
class RunChoice:
    """What an operator chooses for the groups of one command."""

    workers: int = 1
    namespaces: tuple[str, ...] = ()
    lease_s: float = LEASE_S
    entries_max: int = BATCH_ENTRIES_MAX
    begin: Begin = Begin.OLDEST
    upgrade: Upgrade = Upgrade.DERIVE
    handle_s_max: float = HANDLE_S_MAX
    until_idle: bool = False
    unordered: bool = False
    """Hand entries out to any number of consumers; `lease_s` is then how long one may be silent."""

    def arguments(self, spec: GroupSpec, number: int) -> tuple[str, ...]:
        """The command line of one worker."""
        words = ["consume", "--as-worker", str(number), "--group", spec.name]
        words += ["--handler", spec.handler, "--lease", str(self.lease_s)]
        words += ["--batch", str(self.entries_max), "--from", self.begin.value]
        words += ["--upgrade", self.upgrade.value, "--handle-limit", str(self.handle_s_max)]
        if self.unordered:
            words.append("--unordered")
        for name, text in spec.parameters.items():
            words += ["--set", f"{name}={text}"]
        for namespace in spec.namespaces or self.namespaces:
            words += ["--terminal", namespace]
        if spec.checksum:
            words += ["--expect", spec.checksum]
        return (*words, "--until-idle") if self.until_idle else tuple(words)


def supervise(
    specs: Sequence[GroupSpec], choice: RunChoice, open_log: Callable[[], Log], *, window: bool
) -> list[CrewState]:
    """Run the workers of these groups until told to stop, or until nothing is left to do.

    Raises GroupFailed, UnknownHandler.
    """
    from consumers.workers.screen import screen, status_line  # no worker shows anything

    crews = [_crew(spec, choice) for spec in specs]
    title = f"{', '.join(spec.name for spec in specs)}   (Ctrl-C ends it)"
    with stopped_by_signals() as stop:
        shown = screen(title, window=window)
        root = logging.getLogger()
        if isinstance(shown, logging.Handler):
            root.addHandler(shown)
        try:
            supervisor = Supervisor(crews, open_log, shown, until_idle=choice.until_idle)
            with _taken_back_when_refused(crews, open_log):
                states = supervisor.run(stop)
        finally:
            if isinstance(shown, logging.Handler):
                root.removeHandler(shown)
            shown.close()
    for state in states:
        logger.info("ended: %s", status_line(state, None))
    return states


def follow(
    wanted: Callable[[Log], Sequence[GroupSpec]],
    choice: RunChoice,
    open_log: Callable[[], Log],
    *,
    title: str,
    window: bool,
) -> list[CrewState]:
    """Run what is wanted now, and what will be: groups come and go while this runs, and one that
    cannot run stops no other. Until told to stop; with `until_idle` until nothing is left to do.

    Raises GroupFailed where a run that ends by itself left a group out.
    """
    from consumers.workers.screen import screen, status_line

    def asked(log: Log) -> dict[str, Wanted]:
        specs = wanted(log)
        return {
            f"{','.join(spec.namespaces)}/{spec.name}": Wanted(
                spec, spec.name, stamp_of(spec.handler), partial(_tried, spec, choice)
            )
            for spec in specs
        }

    with stopped_by_signals() as stop:
        shown = screen(f"{title}   (Ctrl-C ends it)", window=window)
        root = logging.getLogger()
        if isinstance(shown, logging.Handler):
            root.addHandler(shown)
        try:
            supervisor = FollowingSupervisor(asked, open_log, shown, until_idle=choice.until_idle)
            states = supervisor.run(stop)
        finally:
            if isinstance(shown, logging.Handler):
                root.removeHandler(shown)
            shown.close()
    for state in states:
        logger.info("ended: %s", status_line(state, None))
    return states


def _tried(spec: GroupSpec, choice: RunChoice) -> Crew:
    """Raises UnknownHandler."""
    crew = _crew(spec, choice)
    spec.try_out()
    return crew


def stamp_of(handler: str) -> tuple[int, int] | None:
    """When a strategy's file was saved, and its size; None: it is named by its module, or gone."""
    place, colon, name = handler.rpartition(":")
    path = place if colon and name.isidentifier() else handler
    try:
        found = os.stat(path) if path.endswith(".py") else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size)


@contextmanager
def _taken_back_when_refused(crews: Sequence[Crew], open_log: Callable[[], Log]) -> Iterator[None]:
    """A group without an order that cannot be one leaves nothing behind."""
    unordered = [crew.group for crew in crews if crew.unordered]
    known: list[frozenset[str]] = []
    if unordered:
        with suppress(LogError), closing(open_log()) as log:
            known = [namespaces_with(log, group) for group in unordered]
    try:
        yield
    except GroupFailed as failed:
        if REFUSED in str(failed):
            with suppress(LogError), closing(open_log()) as log:
                for group, before in zip(unordered, known, strict=False):
                    take_back(log, group, known=before)
        raise


def work(
    spec: GroupSpec, choice: RunChoice, open_log: Callable[[], Log], settings: Settings
) -> None:
    """One worker, in this process, until told to stop."""
    options = WorkerOptions(
        holder=f"{socket.gethostname()}:{os.getpid()}",
        lease_s=choice.lease_s,
        entries_max=choice.entries_max,
        begin=choice.begin,
        upgrade=choice.upgrade,
        handle_s_max=choice.handle_s_max,
        mirror_s=MIRROR_IDLE_S if choice.until_idle else MIRROR_S,
    )
    make = {"make": _unordered} if choice.unordered else {}
    with _beside(spec, choice, open_log, settings):
        run_worker(open_log, spec.group(choice.namespaces), options, settings, **make)


def _beside(
    spec: GroupSpec, choice: RunChoice, open_log: Callable[[], Log], settings: Settings
) -> AbstractContextManager[object]:
    """What runs in the same process: a clock that notices who is silent, beside `watch`; who
    takes up references out of the archive, beside `risk`."""
    if choice.until_idle or spec.name not in (WATCH, RISK):
        return nullcontext()
    if spec.name == RISK:
        from consumers.references.rebuilding import Rebuilding

        return Rebuilding(open_log, settings, choice.namespaces)
    from consumers.alerts.watchdog import Watchdog

    return Watchdog(open_log, settings, choice.namespaces)


def _unordered(log: Log, beat_log: Log, group: AnyGroup, options: WorkerOptions) -> Looping:
    return Consumer(log, group, options, silent_s=options.lease_s)


def _crew(spec: GroupSpec, choice: RunChoice) -> Crew:
    return Crew(
        spec.group(choice.namespaces),
        lambda number: choice.arguments(spec, number),
        choice.workers,
        unordered=choice.unordered,
    )

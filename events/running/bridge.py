"""Producers and consumer groups as children: started together, ended one after the other."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import repeat
from threading import Event as Flag
from types import FrameType

from events.processes import Child, ProcessReport, ProcessSpec, ProcessState
from events.running.screen import Screen

WATCH_S = 0.1
DRAIN_WAIT_S = 600.0
"""How long what was appended may take to be stored after the producers ended."""
UP_WAIT_S = 30.0
"""How long a run for a given time waits for its terminals before that time begins anyway."""
UP_LOOK_S = 0.25
FINITE_FAILURES_MAX = 3
"""A run that is to end by itself gives a child up after so many failures in a row."""

log = logging.getLogger(__name__)


class Ending(StrEnum):
    """Why a run ended."""

    STOPPED = "stopped"
    TIME = "time"
    PLAYED = "played"
    """Every producer ended by itself: its files are played."""
    FAILED = "failed"


class BridgeFailed(RuntimeError):
    """A part of the bridge cannot run. The message names it and its last words."""


class Bridge:
    """One run. `groups` derive further events while it lasts. `up` tells whether every terminal
    was attached, `caught_up` whether everything that was appended is stored."""

    def __init__(
        self,
        producers: Sequence[ProcessSpec],
        persist: ProcessSpec,
        groups: Sequence[ProcessSpec] = (),
        *,
        up: Callable[[], bool],
        caught_up: Callable[[], bool],
        screen: Screen,
        finite: bool,
        drains: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        failures_max = FINITE_FAILURES_MAX if finite else None
        self._producers = [self._child(spec, screen, failures_max) for spec in producers]
        self._persist = self._child(persist, screen, failures_max)
        self._groups = [self._child(spec, screen, failures_max) for spec in groups]
        self._up = up
        self._caught_up = caught_up
        self._screen = screen
        self._drains = drains
        self._monotonic = monotonic
        self._stop = Flag()

    def _child(self, spec: ProcessSpec, screen: Screen, failures_max: int | None) -> Child:
        return Child(spec, on_line=screen.line, failures_max=failures_max)

    @property
    def reports(self) -> tuple[ProcessReport, ...]:
        return tuple(child.report() for child in (*self._producers, *self._groups, self._persist))

    def run(self, *, for_s: float | None, drain_s: float = DRAIN_WAIT_S) -> tuple[Ending, bool]:
        """Run until stopped by a signal, for so many seconds from when the terminals are up, or
        until all files are played; then end the producers, the other groups, and persist (when
        it has caught up, in a run that drains).

        Returns why it ended, and whether everything is stored. Raises BridgeFailed when a part
        cannot run at all. Every child is gone afterwards.
        """
        drained = False
        with stopped_by_signals(self._stop):
            try:
                for child in (self._persist, *self._groups, *self._producers):
                    child.start()
                ending = self._watch(for_s)
                for child in self._producers:
                    child.stop()
                if self._drains and ending is not Ending.FAILED:
                    drained = self._drained(drain_s)
                    for child in self._groups:
                        child.stop()
                    if self._groups and drained:  # what they derived last
                        drained = self._drained(drain_s)
            finally:
                for child in (*self._producers, *self._groups):
                    child.stop()
                self._persist.stop()
        if ending is Ending.FAILED:
            raise BridgeFailed(self._last_words())
        return ending, drained

    def _watch(self, for_s: float | None) -> Ending:
        deadline = self._deadline(for_s)
        while not self._stop.wait(WATCH_S):
            states = [child.watch() for child in self._producers]
            others = [child.watch() for child in (self._persist, *self._groups)]
            if ProcessState.FAILED in (*states, *others):
                return Ending.FAILED
            if all(state is ProcessState.DONE for state in states):
                return Ending.PLAYED
            if self._monotonic() >= next(deadline):
                return Ending.TIME
            self._screen.refresh(self.reports)
        return Ending.STOPPED

    def _deadline(self, for_s: float | None) -> Iterator[float]:
        """When a run for `for_s` ends, asked again and again: never, as long as nothing is up.
        A start that takes long does not count as running."""
        if for_s is None:
            yield from repeat(math.inf)
            return
        start = self._monotonic()
        look_at = start
        while (now := self._monotonic()) < start + UP_WAIT_S:
            if now >= look_at:
                look_at = now + UP_LOOK_S
                if self._up():
                    break
            yield math.inf
        yield from repeat(now + for_s)

    def _drained(self, wait_s: float) -> bool:
        """Give persist the time to store what is in the log; a second signal ends it."""
        self._stop.clear()
        deadline = self._monotonic() + wait_s
        while not self._caught_up():
            others = [child.watch() for child in (self._persist, *self._groups)]
            if ProcessState.FAILED in others or self._stop.is_set():
                return False
            if self._monotonic() > deadline:
                log.error("storing what was appended did not end within %g s", wait_s)
                return False
            time.sleep(WATCH_S)
            self._screen.refresh(self.reports)
        return True

    def _last_words(self) -> str:
        for report in self.reports:
            if report.state is ProcessState.FAILED:
                return f"{report.name}: {report.last_line or f'exit code {report.exit_code}'}"
        return "a part of the bridge cannot run"


@contextmanager
def stopped_by_signals(flag: Flag) -> Iterator[None]:
    """Ctrl-C, Ctrl-Break and a polite kill set the flag; a second one interrupts at once."""

    def on_signal(number: int, _: FrameType | None) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    wanted = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        wanted.append(signal.SIGBREAK)
    former: Mapping[int, object] = {number: signal.signal(number, on_signal) for number in wanted}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal gave us

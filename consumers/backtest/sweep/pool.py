"""Trials over all cores: a process each, which maps the same ticks and gives back figures.

Every process is started anew (never forked), so that it is the same on every system. It ends when
it is asked to, and by itself when its parent is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import Event
from typing import Any

from consumers.backtest.sweep.trial import Outcome, Setting, Trial, Workshop

PROCESSES_MAX = 60
"""Windows can wait for no more than 63 things at once."""
WAITING_PER_PROCESS = 2
"""Trials that are handed over ahead of time."""
ASK_S = 0.2


class SweepStopped(Exception):
    """A human ended it. Outcomes that were there are given."""


class SweepFailed(ValueError):
    """Processes died. The message names cause and cure."""


def cores() -> int:
    """How many processes can work at once on this machine."""
    if hasattr(os, "sched_getaffinity"):  # not on Windows and macOS
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def outcomes(
    setting: Setting, trials: Iterable[Trial], *, processes: int, stop: threading.Event
) -> Iterator[Outcome]:
    """Outcomes as they come, in no order. Raises SweepStopped soon after `stop` is set, and
    SweepFailed where a process died. One process is this one."""
    waiting = iter(trials)
    if processes <= 1:
        yield from _here(setting, waiting, stop)
        return
    with _pool(setting, min(processes, PROCESSES_MAX)) as (submit, width):
        pending: set[Future[Outcome]] = set()
        while True:
            while len(pending) < width and (trial := next(waiting, None)) is not None:
                pending.add(submit(trial))
            if not pending:
                return
            done, pending = wait(pending, timeout=ASK_S, return_when=FIRST_COMPLETED)
            for one in done:
                yield _outcome(one)
            if stop.is_set():
                raise SweepStopped


def _here(setting: Setting, trials: Iterator[Trial], stop: threading.Event) -> Iterator[Outcome]:
    def asked() -> None:
        if stop.is_set():
            raise _Ended

    shop = Workshop(setting, asked=asked)
    for trial in trials:
        outcome = shop.outcome(trial)
        if stop.is_set():  # it may have been cut short
            raise SweepStopped
        yield outcome


@contextmanager
def _pool(setting: Setting, processes: int) -> Iterator[tuple[Callable[..., Any], int]]:
    context: SpawnContext = multiprocessing.get_context("spawn")
    ended = context.Event()
    executor = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(setting, ended)
    )

    def submit(trial: Trial) -> Future[Outcome]:
        with _deaf():  # a process may be started here
            return executor.submit(_outcome_of, trial)

    try:
        yield submit, processes * WAITING_PER_PROCESS
    finally:
        ended.set()
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Children that are started meanwhile do not hear Ctrl-C: they are told by their parent."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _outcome(done: Future[Outcome]) -> Outcome:
    try:
        return done.result()
    except BrokenProcessPool:
        raise SweepFailed(
            "a process of the sweep died (killed, or out of memory): look into the system's log, "
            "and try fewer at once with --jobs"
        ) from None


# --- in the processes

_shop: Workshop | None = None


class _Ended(Exception):
    """The sweep is over; what runs is of no use any more."""


def _begin(setting: Setting, ended: Event) -> None:
    """Once per process."""
    global _shop
    sys.stdout = sys.stderr  # what a strategy prints is no part of a result
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def asked() -> None:
        if ended.is_set():
            raise _Ended

    _shop = Workshop(setting, asked=asked)
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _outcome_of(trial: Trial) -> Outcome:
    assert _shop is not None, "the process was begun"
    return _shop.outcome(trial)

"""A worker as a process: told to stop by signals, reporting to its supervisor on stdout."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from consumers.workers.progress import Progress
from consumers.workers.taking import AnyGroup, WorkerOptions, is_waiting
from consumers.workers.worker import Worker, waits
from events.log import Log, LogUnavailable, Slot
from events.retention import Retention, RetentionLoop, limits_of, segment_folder, whole_log
from events.settings import Settings

logger = logging.getLogger(__name__)

REPORT_S = 0.25
STOP_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells its supervisor: one line of JSON."""

    worker: str
    pid: int
    owned: tuple[str, ...]
    tasks: Mapping[str, Mapping[str, int]]
    """What it did for each task since it started: entries, outputs, failed, commits."""
    fenced: int
    halted: Mapping[str, str]
    waiting: str

    @classmethod
    def parse(cls, line: str) -> Report | None:
        """None for a line that is something else, such as what a handler printed."""
        try:
            fields = json.loads(line)
            return cls(**{**fields, "owned": tuple(fields["owned"])})
        except (ValueError, TypeError, KeyError):
            return None

    def line(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


class Looping(Protocol):
    """What a worker process runs: `Worker`, or one that keeps no order."""

    name: str
    stopping: bool
    progress: Progress

    @property
    def owned(self) -> Mapping[Slot, object]: ...

    def run(self) -> None: ...


Make = Callable[[Log, Log, AnyGroup, WorkerOptions], Looping]


def _ordered(log: Log, beat_log: Log, group: AnyGroup, options: WorkerOptions) -> Looping:
    return Worker(log, group, options, beat_log=beat_log)


def report_of(worker: Looping) -> Report:
    progress, runs = worker.progress, list(worker.owned.values())
    return Report(
        worker=worker.name,
        pid=os.getpid(),
        owned=tuple(str(slot) for slot in list(worker.owned)),
        tasks={
            str(slot): {
                "entries": count.entries,
                "outputs": count.outputs,
                "failed": count.failed,
                "commits": count.commits,
            }
            for slot, count in list(progress.tasks.items())
        },
        fenced=progress.fenced,
        halted={str(slot): why for slot, why in list(progress.halted.items())},
        waiting=progress.waiting or next(filter(None, map(is_waiting, runs)), ""),
    )


def run_worker(
    open_log: Callable[[], Log],
    group: AnyGroup,
    options: WorkerOptions,
    settings: Settings,
    *,
    make: Make = _ordered,
) -> None:
    """Until a signal says stop. Raises GroupRefused.

    Reads what was spilled to this machine's disk, too, and trims what its tasks derived. Each
    thread has connections of its own.
    """
    with _told_to_stop() as told, ExitStack() as stack:
        logs: list[Log] = []
        for _ in ("loop", "beats", "retention"):
            if (opened := _opened(open_log, told)) is None:
                return
            stack.callback(opened.close)
            logs.append(opened)
        worker = make(whole_log(logs[0], settings), logs[1], group, options)
        told.workers.append(worker)
        worker.stopping = told.stop
        retention = Retention(logs[2], segment_folder(settings), limits_of(settings))
        spare_what_is_loaded()
        with RetentionLoop(retention, lambda: list(worker.owned)), _reporting(worker):
            worker.run()


def spare_what_is_loaded() -> None:
    """Modules, models and settings stay for ever. Each batch makes thousands of objects, and with
    them full collections: a fifth of the time went into looking through what never goes."""
    gc.collect()
    gc.freeze()


class _Told:
    """Whether a signal came: a plain flag, since a signal may come while any lock is held."""

    def __init__(self) -> None:
        self.stop = False
        self.workers: list[Looping] = []

    def on_signal(self, number: int, _: FrameType | None) -> None:
        self.stop = True
        for worker in self.workers:
            worker.stopping = True


@contextmanager
def _told_to_stop() -> Iterator[_Told]:
    told = _Told()
    wanted = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        wanted.append(signal.SIGBREAK)
    former: dict[int, Any] = {number: signal.signal(number, told.on_signal) for number in wanted}
    try:
        yield told
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _opened(open_log: Callable[[], Log], told: _Told) -> Log | None:
    """The log, as soon as it answers. None when told to stop before that."""
    pauses = waits(random.Random())  # noqa: S311 - spreads retries, no secret
    said = False
    while not told.stop:
        try:
            return open_log()
        except LogUnavailable as error:
            if not said:
                logger.warning("%s: waiting for it", error)
            said = True
        until = time.monotonic() + next(pauses)
        while not told.stop and time.monotonic() < until:
            time.sleep(STOP_LOOK_S)
    return None


@contextmanager
def _reporting(worker: Looping) -> Iterator[None]:
    """Writes a report whenever something changed, and a last one at the end."""
    ended = threading.Event()
    last = ""

    def tell() -> None:
        nonlocal last
        line = report_of(worker).line()
        if line != last:
            last = line
            try:
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
            except OSError:  # the supervisor is gone, and we are about to be told so
                ended.set()

    def run() -> None:
        while not ended.wait(REPORT_S):
            tell()

    thread = threading.Thread(target=run, name="reports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell()

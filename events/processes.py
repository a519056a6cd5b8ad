"""Child processes kept running: started again with back-off, stopped without losing anything.

A child's standard input is a lifeline: when it ends (we ask the child to stop, or we died) the
child stops cleanly by itself, on every operating system. `hold_lifeline` is the child's side.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import FrameType
from typing import IO, Any

SUPERVISED = "BRIDGE_SUPERVISED"
BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
HEALTHY_S = 60.0
"""A child that ran this long starts again with the first, shortest pause."""
STOP_WAIT_S = 30.0
KILL_WAIT_S = 5.0
ORPHAN_WAIT_S = 40.0
"""A child without a parent that has not ended by then ends itself the hard way."""
OUTPUT_LINES_MAX = 200
EXIT_SETTINGS = 2
"""Exit code for wrong usage or settings: starting again would change nothing."""

log = logging.getLogger(__name__)


class ProcessState(StrEnum):
    """How a supervised child is."""

    RUNNING = "running"
    WAITING = "waiting"
    """Ended with an error; will be started again."""
    DONE = "done"
    FAILED = "failed"
    """Ended in a way that a new start would not cure, or too often."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A child: `module` is run as `python -m MODULE ARGUMENTS`."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """How a child fares, for people."""

    name: str
    state: ProcessState
    pid: int | None
    starts: int
    exit_code: int | None
    last_line: str


class Child:
    """One supervised child. `watch` is called again and again by its owner's loop."""

    def __init__(
        self,
        spec: ProcessSpec,
        *,
        on_line: Callable[[str, str], None],
        failures_max: int | None = None,
        backoff_s: Sequence[float] = BACKOFF_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.output: deque[str] = deque(maxlen=OUTPUT_LINES_MAX)
        self._on_line = on_line
        self._failures_max = failures_max
        self._backoff_s = backoff_s
        self._monotonic = monotonic
        self._process: subprocess.Popen[str] | None = None
        self._readers: list[threading.Thread] = []
        self._state = ProcessState.WAITING
        self._starts = self._failures = 0
        self._started_at = self._due_at = 0.0
        self._exit_code: int | None = None
        self._last_line = ""

    @property
    def state(self) -> ProcessState:
        return self._state

    def report(self) -> ProcessReport:
        pid = self._process.pid if self._process is not None else None
        return ProcessReport(
            self.spec.name, self._state, pid, self._starts, self._exit_code, self._last_line
        )

    def start(self) -> None:
        environment = {
            **os.environ,
            **self.spec.environment,
            SUPERVISED: "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
        }
        command = [sys.executable, "-m", self.spec.module, *self.spec.arguments]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="utf-8",
            errors="replace",
            **_apart(),
        )
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, keep), daemon=True)
            for pipe, keep in ((self._process.stdout, True), (self._process.stderr, False))
        ]
        for reader in self._readers:
            reader.start()
        self._starts += 1
        self._started_at = self._monotonic()
        self._state = ProcessState.RUNNING

    def watch(self) -> ProcessState:
        """Look after the child: notice its end, start it again when its pause is over."""
        if self._state is ProcessState.RUNNING and self._process is not None:
            if (code := self._process.poll()) is not None:
                self._ended(code)
        elif self._state is ProcessState.WAITING and self._monotonic() >= self._due_at:
            self.start()
        return self._state

    def stop(self, *, wait_s: float = STOP_WAIT_S, kill_wait_s: float = KILL_WAIT_S) -> None:
        """Let the child end by itself, then press harder. Returns when it is gone."""
        process = self._process
        if process is None:
            if self._state is ProcessState.WAITING:
                self._state = ProcessState.DONE
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        for press, patience_s in (
            (None, wait_s),
            (process.terminate, kill_wait_s),
            (process.kill, kill_wait_s),
        ):
            if press is not None:
                log.warning("%s does not end; pressing harder", self.spec.name)
                with suppress(OSError):
                    press()
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)
                break
        self._close(process.wait())
        self._state = ProcessState.DONE

    def _ended(self, code: int) -> None:
        ran_s = self._monotonic() - self._started_at
        self._close(code)
        self._failures = 1 if ran_s >= HEALTHY_S else self._failures + 1
        if code == 0:
            self._state = ProcessState.DONE
            return
        hopeless = self._failures_max is not None and self._failures >= self._failures_max
        if code == EXIT_SETTINGS or hopeless:
            self._state = ProcessState.FAILED
            log.error("%s ended with %s and is not started again", self.spec.name, said(code))
            return
        pause_s = self._backoff_s[min(self._failures, len(self._backoff_s)) - 1]
        log.warning(
            "%s ended with %s; starting it again in %g s", self.spec.name, said(code), pause_s
        )
        self._due_at = self._monotonic() + pause_s
        self._state = ProcessState.WAITING

    def _close(self, code: int) -> None:
        process, self._process, self._exit_code = self._process, None, code
        for reader in self._readers:
            reader.join(KILL_WAIT_S)
        if process is not None:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _read(self, pipe: IO[str], keep: bool) -> None:
        lines = iter(pipe.readline, "")
        with suppress(ValueError):  # closed while we read: the child was stopped
            for line in lines:
                text = line.rstrip("\n")
                if keep:
                    self.output.append(text)
                elif text:
                    self._last_line = text
                    self._on_line(self.spec.name, text)


def said(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        with suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, Ctrl-Break and a polite kill set."""
    stop = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.set()

    wanted = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        wanted.append(signal.SIGBREAK)
    former = {number: signal.signal(number, on_signal) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def hold_lifeline() -> None:
    """In a supervised child: end cleanly when standard input ends. Otherwise does nothing."""
    if os.environ.get(SUPERVISED) != "1":
        return
    # Only this process hangs on the line; whatever it starts has an input of its own.
    os.environ.pop(SUPERVISED)
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()


def _end_with_parent() -> None:
    with suppress(OSError):
        while os.read(0, 64):
            pass
    _hush_what_nobody_reads()
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_WAIT_S)
    os._exit(1)


def _hush_what_nobody_reads() -> None:
    """With the parent gone our output leads nowhere, and writing to it would be an error that
    cuts a clean end short."""
    if sys.platform == "win32":
        return
    for descriptor in (1, 2):
        watch = select.poll()
        watch.register(descriptor, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _apart() -> dict[str, Any]:
    """Ctrl-C is ours alone: we stop the children in order."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}

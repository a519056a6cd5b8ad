"""The child process of a host, and what ties its life to ours.

Nothing may outlive us: a host whose client is gone would keep a terminal busy. Three ties, each
for another way to die: the child ends when its stdin ends; on Linux the kernel kills it when the
thread that started it ends (`prctl(2)`, PR_SET_PDEATHSIG); on Windows a job object does
(JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE), which also reaches a child that hangs in a native call.
The terminal that a host may have launched is let go on purpose: it is the user's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import IO, Any

logger = logging.getLogger(__name__)

KILL_WAIT_S = 10.0
"""How long a killed process may take to disappear before it is reported and left."""
LAST_WORDS_LINES_MAX = 20
LINE_CHARS_MAX = 500
PIPE_BYTES = 1 << 20

_ROOT = Path(__file__).resolve().parents[3]


class ChildProcess:
    """A child with binary pipes on stdin and stdout; its stderr goes to our log."""

    def __init__(self, command: Sequence[str], *, name: str) -> None:
        """Start it. Raises OSError. The calling thread must live as long as the child may."""
        self._name = name
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS_LINES_MAX)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=-1,
            env=_environment(),
            **_own_group(),
        )
        self._job = _tie_to_job(self._process)
        _widen(self.stdout)
        self._listener = Thread(target=self._listen, name=f"{name}-stderr", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def kill(self) -> None:
        """Kill it now; safe from any thread, and more than once."""
        self._process.kill()

    def reap(self) -> int | None:
        """Wait for the killed or ended process, free what it held; None if it would not die."""
        try:
            code: int | None = self._process.wait(timeout=KILL_WAIT_S)
        except subprocess.TimeoutExpired:
            logger.error("host %s: process %s cannot be killed", self._name, self.pid)
            code = None
        self._listener.join(timeout=1.0)
        for pipe in (self.stdin, self.stdout) if code is not None else ():
            try:
                pipe.close()
            except OSError:  # unsent bytes in the buffer of a dead pipe
                logger.debug("host %s: pipe of %s was broken", self._name, self.pid)
        if not self._listener.is_alive() and self._process.stderr is not None:
            self._process.stderr.close()
        _close_job(self._job)
        self._job = None
        return code

    def last_words(self) -> str:
        """The last line it wrote to stderr, for messages to people."""
        return self._last_words[-1] if self._last_words else ""

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            line = raw[:LINE_CHARS_MAX].decode("utf-8", "replace").rstrip()
            if line:
                self._last_words.append(line)
                logger.warning("host %s: %s", self._name, line)


def _widen(pipe: IO[bytes]) -> None:
    """Fewer turns between the two processes for a large answer, where the system lets us."""
    if sys.platform.startswith("linux"):
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _environment() -> dict[str, str]:
    """Ours, with the project importable also where it is not installed."""
    path = os.environ.get("PYTHONPATH")
    roots = str(_ROOT) if not path else os.pathsep.join((str(_ROOT), path))
    return {**os.environ, "PYTHONPATH": roots, "PYTHONUTF8": "1"}


def _own_group() -> dict[str, Any]:
    """Ctrl-C in a console reaches the whole group: the host must not get it, we end it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"process_group": 0}


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _JOB_EXTENDED_LIMIT_INFORMATION = 9
    _KILL_ON_JOB_CLOSE = 0x2000
    _SILENT_BREAKAWAY_OK = 0x1000

    class _BasicLimits(ctypes.Structure):
        """JOBOBJECT_BASIC_LIMIT_INFORMATION of winnt.h."""

        _fields_ = (
            ("PerProcessUserTimeLimit", wintypes.LARGE_INTEGER),
            ("PerJobUserTimeLimit", wintypes.LARGE_INTEGER),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
        )

    class _ExtendedLimits(ctypes.Structure):
        """JOBOBJECT_EXTENDED_LIMIT_INFORMATION of winnt.h."""

        _fields_ = (
            ("BasicLimitInformation", _BasicLimits),
            ("IoInfo", ctypes.c_ulonglong * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        )

    def _kernel32() -> Any:
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.CreateJobObjectW.restype = wintypes.HANDLE
        kernel32.CreateJobObjectW.argtypes = (ctypes.c_void_p, wintypes.LPCWSTR)
        kernel32.SetInformationJobObject.argtypes = (
            wintypes.HANDLE,
            ctypes.c_int,
            ctypes.c_void_p,
            wintypes.DWORD,
        )
        kernel32.AssignProcessToJobObject.argtypes = (wintypes.HANDLE, wintypes.HANDLE)
        kernel32.CloseHandle.argtypes = (wintypes.HANDLE,)
        return kernel32

    def _tie_to_job(process: subprocess.Popen[bytes]) -> int | None:
        """A job that kills the process when our last handle to it closes, as at our death."""
        kernel32 = _kernel32()
        job: int | None = kernel32.CreateJobObjectW(None, None)
        limits = _ExtendedLimits()
        limits.BasicLimitInformation.LimitFlags = _KILL_ON_JOB_CLOSE | _SILENT_BREAKAWAY_OK
        tied = (
            job
            and kernel32.SetInformationJobObject(
                job, _JOB_EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
            )
            and kernel32.AssignProcessToJobObject(job, int(process._handle))  # type: ignore[attr-defined]  # Popen keeps it private
        )
        if not tied:
            error = ctypes.WinError(ctypes.get_last_error())
            logger.warning("no job object for the host: %s", error)
        return job

    def _close_job(job: int | None) -> None:
        if job is not None:
            _kernel32().CloseHandle(job)

else:

    def _tie_to_job(process: subprocess.Popen[bytes]) -> int | None:
        """Job objects exist on Windows only."""
        return None

    def _close_job(job: int | None) -> None:
        """Nothing to close."""

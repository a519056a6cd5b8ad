"""Which programs of a state folder run, and asking them to end, on every operating system.

Each program holds a lock beside a file that names it: the system frees the lock when the program
dies, so nobody is taken for another one that got the same process number. A program that is asked
to end finds a file of its own, and ends itself as Ctrl-C would: no signal has to reach across
consoles or sessions, which on Windows none does.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from events.embedded.file_lock import FileLock

FOLDER = "programs"
LOOK_S = 0.25
"""How often a program looks whether it is asked to end."""
_NAME = re.compile(r"[^a-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Program:
    """One program of a state folder."""

    role: str
    pid: int
    parent_pid: int
    started_ms: int
    place: Path
    """Its files, without their suffixes."""

    @property
    def lives(self) -> bool:
        """Whether its lock is held. What a dead one left is removed."""
        path = _file(self.place, "lock")
        if path.exists():
            lock = FileLock(path)
            if not lock.acquire():
                return True
            lock.release()
        _clear(self.place)
        return False

    def ask_to_end(self) -> None:
        """Returns at once; whoever wants to know looks at `lives`. Raises OSError."""
        _file(self.place, "stop").touch()

    def terminate(self) -> None:
        """Press harder, where the system lets us: a signal. Its lock shows that it is the one."""
        if sys.platform != "win32" and self.lives:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGTERM)


class _Presence:
    """This process among the programs of a state folder."""

    def __init__(self, role: str, state_dir: Path) -> None:
        name = _NAME.sub("-", role.lower()).strip("-") or "bridgectl"
        self._place = state_dir / FOLDER / f"{name}-{os.getpid()}"
        self._lock = FileLock(_file(self._place, "lock"))
        self._hidden = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop-requests", daemon=True)
        if not self._lock.acquire():
            raise OSError(f"{self._place} is taken")
        _file(self._place, "stop").unlink(missing_ok=True)
        facts = {
            "role": role, "pid": os.getpid(), "parent_pid": os.getppid(),
            "started_ms": time.time_ns() // 1_000_000,
        }  # fmt: skip
        _file(self._place, "json").write_text(json.dumps(facts), encoding="utf-8")
        self._thread.start()

    def hide(self) -> None:
        self._hidden.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._lock.release()
        _clear(self._place)

    def _watch(self) -> None:
        request = _file(self._place, "stop")
        while not self._hidden.wait(LOOK_S):
            if request.exists():
                _end_this_program()
                return


_present: list[_Presence] = []


def show(role: str, state_dir: Path) -> None:
    """Count this process among the programs of a state folder, until `hide` or its death. Where
    the folder cannot be written it is not counted."""
    hide()
    with suppress(OSError):
        _present.append(_Presence(role, state_dir))


def hide() -> None:
    """Undo `show`."""
    while _present:
        _present.pop().hide()


def programs(state_dir: Path) -> list[Program]:
    """Those that run, oldest first."""
    found = []
    for path in sorted((state_dir / FOLDER).glob("*.json")):
        place = path.with_name(path.name.removesuffix(".json"))
        try:
            program = Program(**json.loads(path.read_text(encoding="utf-8")), place=place)
        except (OSError, ValueError, TypeError):
            continue  # half written, or gone meanwhile
        if program.lives:
            found.append(program)
    return sorted(found, key=lambda program: (program.started_ms, program.pid))


def roots(found: Sequence[Program]) -> list[Program]:
    """Those that no other one started: the others end with their parents."""
    pids = {program.pid for program in found}
    return [program for program in found if program.parent_pid not in pids]


def told(program: Program) -> dict[str, object]:
    """Plain values for `--json`."""
    return {name: value for name, value in asdict(program).items() if name != "place"}


def _file(place: Path, suffix: str) -> Path:
    return place.with_name(f"{place.name}.{suffix}")


def _clear(place: Path) -> None:
    for suffix in ("json", "stop", "lock"):
        with suppress(OSError):
            _file(place, suffix).unlink(missing_ok=True)


def _end_this_program() -> None:
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGTERM)

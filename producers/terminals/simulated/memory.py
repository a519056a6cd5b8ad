"""The broker's memory: a file that several processes share, one line per transaction.

What a simulated broker did stands in the file before the call that saw it is answered, so that a
host that was killed, and a second process on the same account, find the same account again. Each
line holds what changed, not what was asked: it is read back without the market being made anew.
"""

from __future__ import annotations

import json
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FORMAT = 1
_BEGINNING = b'{"format":'
LINE_BYTES_MAX = 64 << 20
"""A longer line is not one of ours."""
DRIFT_MAX_MS = 60_000
"""A clock that follows the computer's is put on it again within so much."""
LOCK_TRIES_MAX = 30
"""On Windows one try waits ten seconds."""


class MemoryDamaged(ValueError):
    """The file is no memory of this account; the text says what to do."""


class BrokerMemory:
    """One file. Its lines are read and written only inside `held`.

    Not forced to the disk: a process may die at any moment, a whole computer costs the last
    lines.
    """

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        """Raises OSError when the file cannot be opened."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._wall = wall
        # Whoever rewrites the file is alone among those who joined: open it after joining.
        users = _opened(path.with_name(path.name + ".users"))
        _join(users)
        lock = _opened(path.with_name(path.name + ".lock"))
        self._files = [_opened(path), lock, users]
        self._read_bytes = 0
        self.close = weakref.finalize(self, _close, self._files)
        """Give the file back (the memory stays); at the latest when nobody holds this any more."""

    @property
    def _file(self) -> BinaryIO:
        return self._files[0]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the file alone. The system ends this when the process dies."""
        _take(self._files[1])
        try:
            yield
        finally:
            _give_back(self._files[1])

    def news(self) -> list[dict[str, Any]]:
        """Lines that are new to us, oldest first. Half a line that a dying process left is cut
        off: what it told of was never answered. Raises MemoryDamaged."""
        size = os.fstat(self._file.fileno()).st_size
        if size == self._read_bytes:
            return []
        if size < self._read_bytes:
            raise self.damaged("it became shorter")
        self._file.seek(self._read_bytes)
        raw = self._file.read(size - self._read_bytes)
        whole = raw.rfind(b"\n") + 1
        try:
            lines = [json.loads(line) for line in raw[:whole].splitlines()]
        except ValueError:
            raise self.damaged("a line is no JSON") from None
        if not all(isinstance(line, dict) for line in lines):
            raise self.damaged("a line is no transaction")
        if not self._read_bytes and not raw.startswith(_BEGINNING[: len(raw)]):
            raise self.damaged("it does not begin like one")  # nor may anything be cut off it
        if whole < len(raw):
            self._file.truncate(self._read_bytes + whole)
        self._read_bytes += whole
        return lines

    def append(self, line: Mapping[str, Any]) -> None:
        """Keep a transaction; `news` was read before. Raises OSError, keeping nothing."""
        stamped = {**line, "wall_ms": int(self._wall() * 1000)}
        raw = _encoded(stamped)
        if len(raw) > LINE_BYTES_MAX:
            raise OSError(f"{self.path}: a transaction of {len(raw)} bytes is no transaction")
        self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(raw):
                written += self._file.write(raw[written:]) or 0
        except OSError:
            self._file.truncate(self._read_bytes)
            raise
        self._read_bytes += len(raw)

    def rewrite(self, lines: Iterable[Mapping[str, Any]]) -> bool:
        """Put these lines, stamps and all, in the place of what is there, unless somebody else
        has the file open (False). A process that dies here leaves the one or the other. Raises
        OSError."""
        users = self._files[2]
        if not _alone(users):
            return False
        try:
            other = self.path.with_name(self.path.name + ".new")
            with other.open("wb") as file:
                file.writelines(_encoded(line) for line in lines)
                file.flush()
                os.fsync(file.fileno())
            self._file.close()
            try:
                os.replace(other, self.path)
            except PermissionError:  # Windows tells only now that somebody has it open
                return False
            finally:
                self._files[0] = _opened(self.path)
            self._read_bytes = self.path.stat().st_size
            return True
        finally:
            _join(users)

    @property
    def read_bytes(self) -> int:
        """How much of the file was read and written so far."""
        return self._read_bytes

    def read_again(self) -> None:
        """Let `news` begin with the first line."""
        self._read_bytes = 0

    def begin(
        self, header: Mapping[str, Any], *, asked_start_ms: int | None
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The header of the account and all its lines; of a new file the given header, which
        is written. Raises MemoryDamaged when the file belongs to another account, OSError."""
        self.read_again()
        lines = self.news()
        if not lines:
            wall_ms = int(self._wall() * 1000)
            self.append({"format": FORMAT, **header})
            return {"format": FORMAT, **header, "wall_ms": wall_ms}, []
        kept = lines[0]
        if kept.get("format") != FORMAT:
            raise self.damaged("it has another format")
        for name, value in header.items():
            if name == "utc_ms" or (name == "start_utc_ms" and asked_start_ms is None):
                continue
            if kept.get(name) != value:
                raise self.damaged(f"its {name} is {kept.get(name)!r}, the options say {value!r}")
        return kept, lines[1:]

    def resumed_at(self, kept: Mapping[str, Any], *, speed: float, follows: bool) -> int:
        """Virtual UTC now, in ms: time went on at `speed` since the last line. `follows`: the
        clock is the computer's own and is put on it again."""
        wall_ms = int(self._wall() * 1000)
        then_ms = int(kept["utc_ms"])
        away_ms = max(0, wall_ms - int(kept["wall_ms"]))
        now_ms = then_ms + int(away_ms * speed)
        if follows and speed == 1 and abs(now_ms - wall_ms) < DRIFT_MAX_MS:
            return max(then_ms, wall_ms)
        return now_ms

    def wall_s(self) -> float:
        """The computer's time."""
        return self._wall()

    def damaged(self, why: str) -> MemoryDamaged:
        """What to raise when the file does not fit."""
        return MemoryDamaged(
            f"{self.path} is not the memory of this simulated account ({why}): put the options"
            " back, or remove the file to open a new account"
        )


def moves_in(path: Path) -> tuple[dict[str, Any], ...]:
    """How prices were pushed so far, by a memory that is only read: nobody is waited for, and a
    line that is being written does not count. No file: not at all. Raises OSError, MemoryDamaged.
    """
    moves: tuple[dict[str, Any], ...] = ()
    if not path.exists():
        return moves
    with path.open("rb") as file:
        for raw in file:
            if b'"moves":' not in raw or not raw.endswith(b"\n"):
                continue
            try:
                line = json.loads(raw)
                moves = tuple(dict(one) for one in line.get("moves", moves))
            except (ValueError, TypeError, AttributeError):
                raise MemoryDamaged(f"{path}: a line is no transaction") from None
    return moves


def _opened(path: Path) -> BinaryIO:
    return path.open("a+b", buffering=0)


def _close(files: list[BinaryIO]) -> None:
    for file in files:
        file.close()


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"


if sys.platform == "win32":

    def _take(lock: BinaryIO) -> None:
        lock.seek(0)
        for left in reversed(range(LOCK_TRIES_MAX)):
            try:
                msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)
            except OSError:
                if not left:
                    raise
            else:
                return

    def _give_back(lock: BinaryIO) -> None:
        lock.seek(0)
        msvcrt.locking(lock.fileno(), msvcrt.LK_UNLCK, 1)

    def _join(users: BinaryIO) -> None:
        """An open file cannot be replaced here: nothing to say."""

    def _alone(users: BinaryIO) -> bool:
        return True

else:

    def _take(lock: BinaryIO) -> None:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)

    def _give_back(lock: BinaryIO) -> None:
        fcntl.flock(lock.fileno(), fcntl.LOCK_UN)

    def _join(users: BinaryIO) -> None:
        """Be one of those who have the memory open."""
        fcntl.flock(users.fileno(), fcntl.LOCK_SH)

    def _alone(users: BinaryIO) -> bool:
        """Whether nobody else has joined; nobody can until we join again."""
        try:
            fcntl.flock(users.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _join(users)  # a conversion that fails costs the lock we had
            return False
        return True

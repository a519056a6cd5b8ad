"""The spool: events that cannot be pulled again are on disk before they count as taken.

One SQLite file per namespace. Rows are numbered for ever; how far the log has taken them is the
log's own knowledge (cursor of the feed `spool`: spool id and row number), so a crash anywhere
between disk and log neither loses nor doubles a row.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from events.log import Lane, NewEntry

SPOOL_BYTES_MAX = 1024 * 1024 * 1024
SPOOL_ALARM_SHARE = 0.8
KEEP_SENT_S = 600.0
"""Sent rows stay this long: a log that lost its tail (power, failover) gets them again."""
PRUNE_EVERY_S = 5.0
KNOWN_KEEP_S = 400 * 86_400
BUSY_TIMEOUT_S = 10.0
_ROW_OVERHEAD_BYTES = 64

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spool (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    type TEXT NOT NULL,
    key TEXT NOT NULL,
    data BLOB NOT NULL,
    cause TEXT NOT NULL,
    keep_last INTEGER NOT NULL,
    spooled_s REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_by_partition ON entries (partition, row);
CREATE TABLE IF NOT EXISTS known (
    kind TEXT NOT NULL, number INTEGER NOT NULL, time_s INTEGER NOT NULL,
    PRIMARY KEY (kind, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS places (name TEXT PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;
"""

_INSERT = (
    "INSERT INTO entries (partition, lane, type, key, data, cause, keep_last, spooled_s) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_COUNT_WAITING = (
    "SELECT count(*), coalesce(sum(length(data)), 0) FROM entries WHERE partition = ? AND row > ?"
)


class SpoolFull(Exception):
    """The spool or its disk is full: nothing was written, try again when there is room."""


class SpoolUnusable(Exception):
    """The spool cannot be opened or written. The message names cause and cure."""


class Spooled(NamedTuple):
    """One waiting entry and its row number."""

    row: int
    entry: NewEntry


class Known(NamedTuple):
    """A ticket that needs to be appended only once (`kind`: deal, order)."""

    kind: str
    number: int
    time_s: int
    """Server time, to forget very old ones."""


@dataclass(frozen=True, slots=True)
class SpoolSize:
    """What waits for the log."""

    rows: int
    bytes: int


class Spool:
    """Durable queue in front of the log. Threads may share one."""

    def __init__(
        self,
        path: Path,
        *,
        bytes_max: int = SPOOL_BYTES_MAX,
        keep_sent_s: float = KEEP_SENT_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Raises SpoolUnusable."""
        self.path = path
        self.bytes_max = bytes_max
        self._keep_sent_s = keep_sent_s
        self._wall = wall
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self.arrived = threading.Condition()
        self._sent: dict[int, int] = {}
        self._waiting: dict[int, list[int]] = {}
        self._pruned_s = 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _open(path)
            self._writer.executescript(_SCHEMA)
            self._reader = _open(path)
            self.id = self._identity()
            self._kept_bytes = self._count()
        except (OSError, sqlite3.Error) as error:
            raise SpoolUnusable(
                f"spool {path} cannot be opened: {error}; check the folder's rights and free "
                "space, or move the file aside (what it held and the log lacks is then lost)"
            ) from error

    def _identity(self) -> str:
        with self._transaction() as db:
            found = db.execute("SELECT id FROM spool").fetchone()
            if found:
                return str(found[0])
            fresh = secrets.token_hex(4)
            db.execute("INSERT INTO spool VALUES (?)", (fresh,))
            return fresh

    def _count(self) -> int:
        rows = self._writer.execute(
            "SELECT partition, count(*), coalesce(sum(length(data)), 0) FROM entries GROUP BY 1"
        ).fetchall()
        self._waiting = {
            partition: [count, size + count * _ROW_OVERHEAD_BYTES]
            for partition, count, size in rows
        }
        return sum(size for _, size in self._waiting.values())

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def put(
        self,
        entries: Sequence[tuple[int, NewEntry]],
        known: Iterable[Known] = (),
        *,
        place: tuple[str, int] | None = None,
        places: Mapping[str, int] | None = None,
    ) -> int:
        """Write (partition, entry) pairs and known tickets to disk, all or nothing. `place`:
        (name, row) of another journal, up to which these entries take it over; `places`: more
        numbers to remember with them.

        Returns the last row number. Raises SpoolFull, SpoolUnusable.
        """
        size = sum(len(entry.data) + _ROW_OVERHEAD_BYTES for _, entry in entries)
        if self._kept_bytes + size > self.bytes_max:
            self.prune(everything_sent=True)
            if self._kept_bytes + size > self.bytes_max:
                raise SpoolFull(
                    f"spool {self.path} holds {self._kept_bytes} of at most {self.bytes_max} "
                    "bytes: bring the log back, or raise the limit"
                )
        now = self._wall()
        row = 0
        try:
            with self._transaction() as db:
                for partition, entry in entries:
                    row = db.execute(_INSERT, _row_of(partition, entry, now)).lastrowid or row
                db.executemany("INSERT OR IGNORE INTO known VALUES (?, ?, ?)", known)
                noted = dict(places or {}) | dict([place] if place is not None else [])
                db.executemany("INSERT OR REPLACE INTO places VALUES (?, ?)", noted.items())
        except sqlite3.Error as error:
            raise _full_or_unusable(self.path, error) from error
        self._arrive(entries, size)
        return row

    def _arrive(self, entries: Sequence[tuple[int, NewEntry]], size: int) -> None:
        with self.arrived:
            for partition, entry in entries:
                waiting = self._waiting.setdefault(partition, [0, 0])
                waiting[0] += 1
                waiting[1] += len(entry.data) + _ROW_OVERHEAD_BYTES
            self._kept_bytes += size
            self.arrived.notify_all()

    def after(self, partition: int, row: int, *, count_max: int, bytes_max: int) -> list[Spooled]:
        """The oldest entries of a partition behind `row`: at least one when there is one."""
        found: list[Spooled] = []
        size = 0
        with self._read_lock:
            cursor = self._reader.execute(
                "SELECT row, lane, type, key, data, cause, keep_last FROM entries "
                "WHERE partition = ? AND row > ? ORDER BY row LIMIT ?",
                (partition, row, count_max),
            )
            for number, lane, type_, key, data, cause, keep_last in cursor:
                size += len(data)
                if found and size > bytes_max:
                    break
                last = data if keep_last else None
                found.append(Spooled(number, NewEntry(Lane(lane), type_, key, data, cause, last)))
            cursor.close()
        return found

    def mark_sent(self, partition: int, row: int, sent: Sequence[Spooled] | None = None) -> None:
        """The log has every row of the partition up to `row`. Sent rows are deleted later.

        `sent` are the rows just confirmed; without them what waits is counted anew (the log may
        have lost its tail, so `row` may lie behind what was confirmed before).
        """
        if sent is None:
            with self._read_lock:
                count, size = self._reader.execute(_COUNT_WAITING, (partition, row)).fetchone()
        else:
            count, size = len(sent), sum(len(spooled.entry.data) for spooled in sent)
        size += count * _ROW_OVERHEAD_BYTES
        with self.arrived:
            before = self._waiting.get(partition, [0, 0])
            now = [count, size] if sent is None else [before[0] - count, before[1] - size]
            self._waiting[partition] = now
            self._sent[partition] = row
        if self._wall() - self._pruned_s >= PRUNE_EVERY_S:
            self.prune()

    def prune(self, *, everything_sent: bool = False) -> None:
        """Delete rows the log has had for `keep_sent_s` (or all it has, when room is short)."""
        now = self._wall()
        self._pruned_s = now
        before = now + 1 if everything_sent else now - self._keep_sent_s
        try:
            with self._transaction() as db:
                for partition, row in list(self._sent.items()):
                    db.execute(
                        "DELETE FROM entries WHERE partition = ? AND row <= ? AND spooled_s < ?",
                        (partition, row, before),
                    )
                kept = db.execute(
                    "SELECT count(*), coalesce(sum(length(data)), 0) FROM entries"
                ).fetchone()
        except sqlite3.Error as error:
            raise _full_or_unusable(self.path, error) from error
        with self.arrived:
            self._kept_bytes = kept[1] + kept[0] * _ROW_OVERHEAD_BYTES

    def skip_to(self, row: int) -> None:
        """Number new rows above `row`: the log has seen rows this file never held (it was
        restored from an older copy)."""
        with self._transaction() as db:
            db.execute(
                "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'entries'", (row,)
            )
            if not db.execute("SELECT 1 FROM sqlite_sequence WHERE name = 'entries'").fetchone():
                db.execute("INSERT INTO sqlite_sequence VALUES ('entries', ?)", (row,))

    def place(self, name: str) -> int:
        """Up to which row another journal was taken over; 0: nothing yet."""
        with self._read_lock:
            found = self._reader.execute(
                "SELECT row FROM places WHERE name = ?", (name,)
            ).fetchone()
        return int(found[0]) if found else 0

    def unknown(self, kind: str, numbers: Iterable[int]) -> set[int]:
        """Which of these tickets were never put."""
        wanted = set(numbers)
        with self._read_lock:
            for number in list(wanted):
                found = self._reader.execute(
                    "SELECT 1 FROM known WHERE kind = ? AND number = ?", (kind, number)
                ).fetchone()
                if found:
                    wanted.discard(number)
        return wanted

    def known_newest_s(self, kind: str) -> int | None:
        """Server time of the newest known ticket of a kind."""
        with self._read_lock:
            found = self._reader.execute(
                "SELECT max(time_s) FROM known WHERE kind = ?", (kind,)
            ).fetchone()
        return None if found[0] is None else int(found[0])

    def learn(self, known: Iterable[Known]) -> None:
        """Remember tickets that are in the log already (a spool that begins anew)."""
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO known VALUES (?, ?, ?)", known)
            db.execute(
                "DELETE FROM known WHERE time_s < (SELECT max(time_s) FROM known) - ?",
                (KNOWN_KEEP_S,),
            )

    @property
    def size(self) -> SpoolSize:
        """Rows and bytes that the log has not confirmed."""
        with self.arrived:
            waiting = list(self._waiting.values())
        return SpoolSize(sum(rows for rows, _ in waiting), sum(size for _, size in waiting))

    @property
    def alarming(self) -> bool:
        """True when more than SPOOL_ALARM_SHARE of the limit waits for the log."""
        return self.size.bytes > SPOOL_ALARM_SHARE * self.bytes_max

    def close(self) -> None:
        """Close the file. Waiting rows stay for the next start."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()


def _row_of(partition: int, entry: NewEntry, now: float) -> tuple[object, ...]:
    return (
        partition, int(entry.lane), entry.type, entry.key, entry.data, entry.cause,
        entry.last is not None, now,
    )  # fmt: skip


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


def _full_or_unusable(path: Path, error: sqlite3.Error) -> SpoolFull | SpoolUnusable:
    if "full" in str(error):
        return SpoolFull(f"spool {path}: {error}; free disk space")
    return SpoolUnusable(f"spool {path}: {error}; check the disk and the folder's rights")

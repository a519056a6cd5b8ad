"""Making a backup while everything runs: database first, log after it, so that the log of the
copy reaches further than what was stored of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from events.backup.archive import CHUNK_BYTES, ArchiveWriter
from events.log import LogError
from events.postgres.dump import Dump, dump
from events.redis import RedisLog
from events.redis.copying import LogDump, offsets_ahead

LOG = "log.msgpack"
SEGMENTS = "segments/"
Tell = Callable[[str, float], None]
"""What is being copied, and which share of it is done."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a backup holds."""

    path: str
    bytes: int
    tables: int
    rows: int
    streams: int
    entries: int
    segments: int
    took_s: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def back_up(
    path: Path,
    log: RedisLog,
    dsn: str | None,
    *,
    segments: Path,
    tell: Tell = lambda _what, _share: None,
) -> BackupResult:
    """Write log, database (unless there is none) and spilled segments into one file.

    Producers and groups may run. Raises LogError, DatabaseError, OSError; then there is no file.
    """
    began = time.monotonic()
    log_dump = LogDump(log)
    log_dump.begin()
    try:
        with ArchiveWriter(path) as archive:
            archive.note(made=datetime.now(UTC).isoformat(), program=_version())
            tables = rows = 0
            offsets = {}
            if dsn is not None:
                with dump(dsn) as database:
                    offsets = database.offsets()
                    tables, rows = _add_tables(archive, database, tell)
            tell("log", 0.0)
            archive.add_records(LOG, log_dump.records())
            entries = sum(copied.entries for copied in log_dump.streams.values())
            ahead = offsets_ahead(offsets, log_dump.streams)
            if ahead:
                raise LogError(
                    f"the database has stored more of {ahead[0]} than the log holds: "
                    "run `bridgectl repair` first"
                )
            files = _add_segments(archive, segments)
            archive.note(streams=len(log_dump.streams), entries=entries)
    finally:
        log_dump.end()
    return BackupResult(
        str(path), path.stat().st_size, tables, rows, len(log_dump.streams), entries, files,
        round(time.monotonic() - began, 3),
    )  # fmt: skip


def _add_tables(archive: ArchiveWriter, database: Dump, tell: Tell) -> tuple[int, int]:
    counts = [database.rows(table) for table in database.tables]
    names = []
    done = 0
    for table, rows in zip(database.tables, counts, strict=True):
        tell(f"table {table.name}", done / max(1, sum(counts)))
        name = f"database/{table.name}.copy"
        with closing(database.copy(table)) as chunks:  # or an error waits for the copy for ever
            archive.add(name, chunks, columns=table.columns, rows=rows)
        names.append(table.name)
        done += rows
    archive.note(database={"revision": database.revision, "tables": names})
    return len(names), done


def _add_segments(archive: ArchiveWriter, folder: Path) -> int:
    """Spilled entries: files that never change once they have their name."""
    count = 0
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file() and not path.name.endswith((".part", ".tmp")):
            archive.add(f"{SEGMENTS}{path.relative_to(folder).as_posix()}", _chunks(path))
            count += 1
    return count


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _version() -> str:
    try:
        return version("mt5-stream-bridge")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"

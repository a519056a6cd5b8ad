"""A backup back into empty servers."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from events.backup.archive import Archive, ArchiveDamaged
from events.backup.making import LOG, SEGMENTS, Tell
from events.postgres.connection import DatabaseRefused
from events.postgres.dump import Table, load, refuse_unless_empty
from events.redis import RedisLog
from events.redis.copying import LogLoad


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What was restored."""

    made: str
    tables: int
    rows: int
    streams: int
    entries: int
    segments: int
    took_s: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def restore(
    path: Path,
    log: RedisLog,
    dsn: str | None,
    *,
    segments: Path,
    tell: Tell = lambda _what, _share: None,
) -> RestoreResult:
    """Check the whole file, then write log and database. Nobody may run meanwhile.

    Raises ArchiveDamaged, LogError or DatabaseRefused (both when something is there already);
    before the first write when it can be known by then.
    """
    began = time.monotonic()
    loading = LogLoad(log)
    with Archive(path) as archive:
        database = archive.manifest.get("database")
        if database is not None and dsn is None:
            raise DatabaseRefused(
                "the backup holds a database and none is configured: set POSTGRES_HOST"
            )
        loading.refuse_unless_empty()
        if database is not None and dsn is not None:
            refuse_unless_empty(dsn)
        tell("checking", 0.0)
        archive.check()
        files = _write_segments(archive, segments)
        tell("log", 0.0)
        entries = loading.write(archive.records(LOG))
        tables, rows = (0, 0)
        if database is not None and dsn is not None:
            tables, rows = _load_tables(archive, database, dsn, tell)
        return RestoreResult(
            str(archive.manifest.get("made", "")), tables, rows,
            int(archive.manifest["streams"]), entries, files, round(time.monotonic() - began, 3),
        )  # fmt: skip


def _load_tables(
    archive: Archive, database: dict[str, Any], dsn: str, tell: Tell
) -> tuple[int, int]:
    names = list(database["tables"])
    facts = {name: archive.members[f"database/{name}.copy"] for name in names}
    total, done = sum(int(one["rows"]) for one in facts.values()), 0
    with load(dsn, str(database["revision"])) as loading:
        for name in names:
            tell(f"table {name}", done / max(1, total))
            table = Table(name, tuple(facts[name]["columns"]))
            loading.copy(table, archive.chunks(f"database/{name}.copy"))
            done += int(facts[name]["rows"])
    return len(names), done


def _write_segments(archive: Archive, folder: Path) -> int:
    count = 0
    for name in archive.members:
        if not name.startswith(SEGMENTS):
            continue
        relative = PurePosixPath(name.removeprefix(SEGMENTS))
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise ArchiveDamaged(f"{archive.path}: {name} would lie outside of the segments")
        path = folder.joinpath(*relative.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in archive.chunks(name):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        count += 1
    return count

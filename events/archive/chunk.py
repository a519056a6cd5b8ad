"""A chunk: one span of one stream, as Parquet files that describe themselves.

The entries file is written last, with a checksum over every byte of every entry in its footer, and
appears under its name only after it was read back and compared: a chunk that has a name is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from events.archive.columns import Tables, TickRows, to_entries, to_tables
from events.archive.errors import ArchiveError, ChunkDamaged, arrow
from events.archive.times import times_of
from events.log import Entry, EntryId, Stream
from events.retention.segment import sync_folder

FORMAT = 1
META = b"mt5-bridge"
UNFINISHED = ".part"
COMPRESSION_LEVEL = 9
DICTIONARY_BYTES_MAX = 8 * 1024 * 1024
"""Prices of a day are few: as long as they fit so much, each row only names one."""
_LENGTHS = struct.Struct(">QQIIIQ")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a chunk holds, as its footer says."""

    stream: Stream
    first: EntryId
    last: EntryId
    entries: int
    before: int | None
    """Entries of the stream that came before the first one; None for what nobody counted."""
    ticks: int
    from_ms: int | None
    """UTC of the oldest thing in it; None when nothing in it names a time."""
    to_ms: int | None
    digest: str
    partitions: int
    """Of the namespace."""
    slots: int
    """Of the stream's writer."""
    origin: str
    covers: tuple[str, int, int] | None = None
    """What was fetched from a terminal to make it: feed, from and until (server ms)."""
    path: Path = Path()
    ticks_path: Path | None = None

    @property
    def size_bytes(self) -> int:
        paths = [self.path, *([self.ticks_path] if self.ticks_path else [])]
        return sum(path.stat().st_size for path in paths)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        fields = asdict(self)
        for name in ("stream", "first", "last", "path", "ticks_path"):
            fields[name] = str(fields[name]) if fields[name] is not None else None
        fields["stream"], fields["path"] = str(self.stream), self.path.as_posix()
        fields["first"], fields["last"] = str(self.first), str(self.last)
        return fields


@dataclass(frozen=True, slots=True)
class ChunkOf:
    """What a writer of chunks knows beside the entries."""

    before: int | None
    partitions: int
    slots: int
    origin: str
    covers: tuple[str, int, int] | None = None


def digest_of(entries: Iterable[Entry]) -> str:
    """Over every field of every entry, in order (BLAKE2b, 32 bytes)."""
    digest = hashlib.blake2b(digest_size=32)
    for entry in entries:
        texts = [text.encode("utf-8", "surrogatepass") for text in entry[2:4]]
        cause = entry.cause.encode("utf-8", "surrogatepass")
        sizes = (len(texts[0]), len(texts[1]), len(cause), len(entry.data))
        digest.update(_LENGTHS.pack(entry.id.ms, entry.id.seq, *sizes))
        for part in (*texts, cause, entry.data):
            digest.update(part)
    return digest.hexdigest()


def write_chunk(path: Path, ticks_path: Path, entries: Sequence[Entry], facts: ChunkOf) -> Chunk:
    """Write, read back, compare; the chunk is on disk under its name when this returns.

    Raises ArchiveError (the disk; entries that Parquet cannot hold), ValueError without entries.
    """
    if not entries:
        raise ValueError("a chunk needs entries")
    chunk = _described(path, entries, facts)
    try:
        for columnar in (True, False):
            found = _written(chunk, ticks_path, to_tables(entries, columnar=columnar))
            if found is not None:
                return found
    except (OSError, UnicodeError) as error:
        raise ArchiveError(f"{path} cannot be written: {error}") from error
    raise ArchiveError(f"{path}: what was written reads back differently: check this disk")


def _described(path: Path, entries: Sequence[Entry], facts: ChunkOf) -> Chunk:
    times = [found for entry in entries if (found := times_of(entry.type, entry.data))]
    return Chunk(
        stream=entries[0].stream,
        first=entries[0].id,
        last=entries[-1].id,
        entries=len(entries),
        before=facts.before,
        ticks=0,
        from_ms=min((one.oldest_ms for one in times), default=None),
        to_ms=max((one.newest_ms for one in times), default=None),
        digest=digest_of(entries),
        partitions=facts.partitions,
        slots=facts.slots,
        origin=facts.origin,
        covers=facts.covers,
        path=path,
    )


def _written(chunk: Chunk, ticks_path: Path, tables: Tables) -> Chunk | None:
    """The chunk under its name; None when it does not read back as it was."""
    has_ticks = tables.ticks is not None
    if has_ticks:
        chunk = replace(chunk, ticks=tables.ticks.num_rows, ticks_path=ticks_path)
    unfinished = _unfinished(chunk.path), _unfinished(ticks_path)
    try:
        if has_ticks:
            _write_ticks(unfinished[1], tables)
        _write_entries(unfinished[0], tables.entries, chunk)
        if digest_of(_read(chunk, *unfinished)) != chunk.digest:
            return None
        if has_ticks:
            os.replace(unfinished[1], ticks_path)
            sync_folder(ticks_path.parent)
        os.replace(unfinished[0], chunk.path)
        sync_folder(chunk.path.parent)
    finally:
        for left in unfinished:
            left.unlink(missing_ok=True)
    return chunk


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + UNFINISHED)


def _write_entries(path: Path, table: Any, chunk: Chunk) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = ["type", "key", "cause"]
    plain = ["ms", "seq", "event_time_ms", "recv_time_ms"]
    marked = table.replace_schema_metadata({META: json.dumps(_meta(chunk)).encode()})
    _write(path, [marked], dictionary=texts, delta=plain)


def _write_ticks(path: Path, tables: Tables) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ends = [*tables.groups[1:], tables.ticks.num_rows]
    parts = [
        tables.ticks.slice(first, end - first)
        for first, end in zip(tables.groups, ends, strict=True)
    ]
    values = ["symbol", "bid", "ask", "last", "volume", "volume_real", "flags"]
    _write(path, parts, dictionary=values, delta=["time", "time_msc"])


def _write(path: Path, parts: Sequence[Any], *, dictionary: list[str], delta: list[str]) -> None:
    """One row group per part, on disk when this returns."""
    _, parquet = arrow()
    with path.open("wb") as file:
        with parquet.ParquetWriter(
            file,
            parts[0].schema,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=dictionary,
            dictionary_pagesize_limit=DICTIONARY_BYTES_MAX,
            column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
        ) as writer:
            for part in parts:
                writer.write_table(part, row_group_size=max(1, part.num_rows))
        file.flush()
        os.fsync(file.fileno())


def _meta(chunk: Chunk) -> dict[str, Any]:
    return {
        "format": FORMAT, "stream": str(chunk.stream), "first": str(chunk.first),
        "last": str(chunk.last), "entries": chunk.entries, "before": chunk.before,
        "ticks": chunk.ticks, "from_ms": chunk.from_ms, "to_ms": chunk.to_ms,
        "digest": chunk.digest, "partitions": chunk.partitions, "slots": chunk.slots,
        "origin": chunk.origin, "covers": chunk.covers, "has_ticks": chunk.ticks_path is not None,
    }  # fmt: skip


def read_footer(path: Path, ticks_path: Path) -> Chunk:
    """What a chunk says of itself. Raises ChunkDamaged."""
    pa, parquet = arrow()
    try:
        with path.open("rb") as file:
            raw = (parquet.read_schema(file).metadata or {})[META]
        fields = json.loads(raw)
        if fields["format"] != FORMAT:
            raise ChunkDamaged(f"{path} has format {fields['format']}: upgrade this program")
        covers = fields["covers"]
        return Chunk(
            stream=Stream.parse(fields["stream"]),
            first=EntryId.parse(fields["first"]),
            last=EntryId.parse(fields["last"]),
            covers=None if covers is None else (str(covers[0]), int(covers[1]), int(covers[2])),
            path=path,
            ticks_path=ticks_path if fields["has_ticks"] else None,
            **{
                name: fields[name]
                for name in (
                    "entries", "before", "ticks", "from_ms", "to_ms", "digest", "partitions",
                    "slots", "origin",
                )
            },
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
        if isinstance(error, ChunkDamaged):
            raise
        reason = " ".join(str(error).split())
        raise ChunkDamaged(f"{path} is no file of an archive, or damaged: {reason}") from error


def read_chunk(chunk: Chunk) -> Iterator[Entry]:
    """Its entries, oldest first. Raises ChunkDamaged."""
    return _read(chunk, chunk.path, chunk.ticks_path)


def _read(chunk: Chunk, path: Path, ticks_path: Path | None) -> Iterator[Entry]:
    pa, parquet = arrow()
    try:
        with path.open("rb") as file:
            table = parquet.read_table(file)
        ticks = None
        if chunk.ticks_path is not None and ticks_path is not None:
            with ticks_path.open("rb") as file:
                ticks = parquet.read_table(file, read_dictionary=["symbol"]).unify_dictionaries()
        rows = TickRows(ticks)
        del ticks
        count = 0
        for entry in to_entries(chunk.stream, table, rows):
            count += 1
            yield entry
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ChunkDamaged(f"{path} is damaged: {reason}") from error
    if count != chunk.entries:
        raise ChunkDamaged(f"{path} holds {count} entries, its footer says {chunk.entries}")
    if rows.left:
        raise ChunkDamaged(f"{ticks_path} holds {rows.left} ticks more than {path} names")


def verify_chunk(chunk: Chunk) -> None:
    """Read everything and compare with the checksum. Raises ChunkDamaged."""
    if digest_of(read_chunk(chunk)) != chunk.digest:
        raise ChunkDamaged(f"{chunk.path}: its entries do not fit their checksum")

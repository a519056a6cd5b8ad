"""The folder of an archive: where chunks lie, which there are, and who may write.

    ROOT/NAMESPACE/entries/writer=W/partition=N/lane=L/FIRST_LAST.parquet
    ROOT/NAMESPACE/ticks/writer=W/partition=N/lane=L/FIRST_LAST.parquet

FIRST and LAST are entry ids. The names of the folders are columns to tools that know Hive's way
of partitioning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from events.archive.chunk import UNFINISHED, Chunk, ChunkOf, read_footer, write_chunk
from events.archive.errors import ArchiveError
from events.embedded.file_lock import FileLock
from events.log import Entry, EntryId, Lane, Slot, Stream, checked_name
from events.retention.folder import folder_name

SUFFIX = ".parquet"
ENTRIES, TICKS = "entries", "ticks"
LOCK = ".lock"


class Named(NamedTuple):
    """A chunk as its name tells, cheap to list."""

    first: EntryId
    last: EntryId
    path: Path


class ArchiveFolder:
    """Chunks under one root. Listing looks at the disk each time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def namespaces(self) -> list[str]:
        """Those of which there are chunks."""
        if not self.root.is_dir():
            return []
        found = []
        for folder in sorted(self.root.iterdir()):
            if (folder / ENTRIES).is_dir():
                named = next(self._chunk_paths(folder / ENTRIES), None)
                if named is not None:
                    found.append(self.footer(named).stream.slot.namespace)
        return found

    def streams(self, namespace: str) -> list[Stream]:
        """Streams of which there are chunks."""
        found = []
        base = self._base(namespace) / ENTRIES
        for folder in base.glob("writer=*/partition=*/lane=*"):
            if any(folder.glob(f"*{SUFFIX}")):
                writer, number, lane = (part.partition("=")[2] for part in folder.parts[-3:])
                slot = Slot(namespace, checked_name(writer), int(number))
                found.append(Stream(slot, Lane[lane.upper()]))
        return sorted(found)

    def named(self, stream: Stream) -> list[Named]:
        """Chunks of a stream by their first entry."""
        found = []
        for path in self._place(stream, ENTRIES).glob(f"*{SUFFIX}"):
            first, _, last = path.name.removesuffix(SUFFIX).partition("_")
            try:
                found.append(Named(EntryId.parse(first), EntryId.parse(last), path))
            except ValueError as error:
                raise ArchiveError(f"{path} is no chunk of an archive: move it away") from error
        return sorted(found)

    def chunks(self, stream: Stream) -> list[Chunk]:
        """With their footers. Raises ChunkDamaged."""
        return [self.footer(named.path) for named in self.named(stream)]

    def newest(self, stream: Stream) -> Chunk | None:
        """The chunk that reaches furthest."""
        named = self.named(stream)
        return self.footer(max(named, key=lambda one: one.last).path) if named else None

    def footer(self, path: Path) -> Chunk:
        """Raises ChunkDamaged."""
        return read_footer(path, self._ticks_path(path))

    def write(self, entries: Sequence[Entry], facts: ChunkOf) -> Chunk:
        """A chunk of entries of one stream, verified and on disk. Raises ArchiveError."""
        stream = entries[0].stream
        path = self._place(stream, ENTRIES) / f"{entries[0].id}_{entries[-1].id}{SUFFIX}"
        return write_chunk(path, self._ticks_path(path), entries, facts)

    @contextmanager
    def writing(self, namespace: str) -> Iterator[None]:
        """The right to write chunks of a namespace. What a writer that died left unfinished goes.
        Raises ArchiveError while somebody else writes."""
        base = self._base(namespace)
        lock = FileLock(base / LOCK)
        try:
            taken = lock.acquire()
        except OSError as error:
            raise ArchiveError(f"{base} cannot be written: {error.strerror or error}") from error
        if not taken:
            raise ArchiveError(f"another program writes to {base}: wait for it, or stop it")
        try:
            for left in base.rglob(f"*{UNFINISHED}"):
                left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def _base(self, namespace: str) -> Path:
        return self.root / folder_name(checked_name(namespace))

    def _place(self, stream: Stream, kind: str) -> Path:
        slot = stream.slot
        return self._base(slot.namespace).joinpath(
            kind, f"writer={slot.writer}", f"partition={slot.partition}",
            f"lane={stream.lane.label}",
        )  # fmt: skip

    @staticmethod
    def _ticks_path(path: Path) -> Path:
        """Beside the entries, under `ticks`."""
        base, own = path.parents[4], path.relative_to(path.parents[3])
        return base / TICKS / own

    @staticmethod
    def _chunk_paths(folder: Path) -> Iterator[Path]:
        return folder.rglob(f"*{SUFFIX}")

"""Whether the archive is what it was when it was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from events.archive.chunk import verify_chunk
from events.archive.errors import ChunkDamaged
from events.archive.folder import ArchiveFolder
from events.log import Stream


@dataclass(slots=True)
class Verified:
    """What a look at every byte found."""

    chunks: int = 0
    entries: int = 0
    damaged: list[str] = field(default_factory=list)
    holes: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.damaged and not self.holes


def verify_stream(
    folder: ArchiveFolder,
    stream: Stream,
    found: Verified,
    *,
    told: Callable[[Stream, int, int], None] = lambda _s, _d, _a: None,
) -> None:
    """Read every chunk of a stream, and add what is wrong to `found`."""
    named = folder.named(stream)
    count: int | None = 0
    for number, one in enumerate(named, 1):
        try:
            chunk = folder.footer(one.path)
            verify_chunk(chunk)
        except ChunkDamaged as error:
            found.damaged.append(str(error))
            count = None
            continue
        before = chunk.before
        if count is not None and before is not None and before > count:
            found.holes.append(f"{stream}: {before - count} entries before {chunk.first}")
        count = None if before is None else before + chunk.entries
        found.chunks += 1
        found.entries += chunk.entries
        told(stream, number, len(named))

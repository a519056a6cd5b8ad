"""The folder of segments on this machine: where they lie, how large they are, who reads them."""

from __future__ import annotations

import logging
import shutil
import socket
from collections.abc import Collection, Iterable
from pathlib import Path

from events.log import Entry, EntryId, LogError, Stream
from events.retained import Span
from events.retention.segment import SUFFIX, UNFINISHED, Segment, sync_folder, write_segment

logger = logging.getLogger(__name__)

OPEN_SEGMENTS_MAX = 32
ALARM_SHARE = 0.8
DISK_FREE_BYTES_MIN = 64 * 1024 * 1024
"""Left free on the disk whatever the budget says."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{p}{n}" for p in ("com", "lpt") for n in range(10))}
"""Names that Windows keeps for itself."""


class SegmentMissing(LogError):
    """Entries lie in a segment file that cannot be reached from here."""


class DiskFull(LogError):
    """The budget of the disk, or the disk itself, does not allow another segment."""


class SegmentFolder:
    """Segments under `root/NS/WRITER/N/LANE/FIRST.seg`, at most `bytes_max` in all."""

    def __init__(self, root: Path, *, bytes_max: int, host: str = "") -> None:
        self.root, self.bytes_max = root, bytes_max
        self.host = host or socket.gethostname()
        self._open: dict[Path, Segment] = {}
        self._warned = False

    def path_of(self, stream: Stream, first: EntryId) -> Path:
        slot = stream.slot
        parts = (slot.namespace, slot.writer, str(slot.partition), stream.lane.label)
        return self.root.joinpath(*map(folder_name, parts), f"{first}{SUFFIX}")

    @property
    def used_bytes(self) -> int:
        """Of all segments, registered or not."""
        return sum(path.stat().st_size for path in self.root.rglob(f"*{SUFFIX}"))

    def check_room(self) -> None:
        """Raises DiskFull when there is no room for more."""
        used = self.used_bytes
        if used >= self.bytes_max:
            raise DiskFull(
                f"{self.root} holds {used} bytes of segments, its budget is {self.bytes_max}: "
                "raise RETENTION_DISK_MB, let the groups that are behind catch up, or remove them "
                "(`bridgectl groups list`)"
            )
        self._warn(used)
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free
        if free < DISK_FREE_BYTES_MIN:
            raise DiskFull(f"the disk of {self.root} has {free} bytes left: free some space")

    def _warn(self, used: int) -> None:
        """Once, when most of the budget is used."""
        alarming = used >= self.bytes_max * ALARM_SHARE
        if alarming and not self._warned:
            logger.warning(
                "%s holds %d bytes of segments, over 80 %% of RETENTION_DISK_MB: see which group "
                "is behind (`bridgectl groups list`)", self.root, used,
            )  # fmt: skip
        self._warned = alarming

    def write(
        self, stream: Stream, entries: Iterable[Entry], *, first: EntryId, before: int
    ) -> Span:
        """Put a span of a stream on disk. Raises DiskFull."""
        self.check_room()
        path = self.path_of(stream, first)
        self._open.pop(path, None)
        try:
            done = write_segment(path, stream, entries, before=before)
        except OSError as error:
            raise DiskFull(f"{path} could not be written: {error}") from error
        return Span(
            stream, done.first, done.last, done.entries, before, done.size_bytes, self.host,
            str(path.absolute()),
        )  # fmt: skip

    def open(self, span: Span) -> Segment:
        """The segment of a span: of this machine, or wherever its path can be reached. Raises
        SegmentMissing, SegmentDamaged."""
        own = self.path_of(span.stream, span.first)
        for path in dict.fromkeys((own, Path(span.path))):
            try:
                segment = self._open.get(path) or Segment(path)
            except FileNotFoundError:
                continue
            if (segment.stream, segment.first, segment.last) == span[:3]:
                return self._cached(path, segment)
        raise SegmentMissing(
            f"{span.entries} entries of {span.stream} from {span.first} lie in the segment "
            f"{span.path} on host {span.host}, not on {self.host}: run this reader there, or make "
            f"that file readable here as {own}"
        )

    def _cached(self, path: Path, segment: Segment) -> Segment:
        if path not in self._open:
            for oldest in list(self._open)[: 1 - OPEN_SEGMENTS_MAX]:
                self._open.pop(oldest, None)
            self._open[path] = segment
        return segment

    def delete(self, spans: Iterable[Span]) -> None:
        """Remove the files of spans of this machine that are no longer registered."""
        for span in spans:
            path = Path(span.path)
            if span.host != self.host:
                logger.info("%s on host %s is not needed any more", span.path, span.host)
                continue
            self._open.pop(path, None)
            try:
                path.unlink(missing_ok=True)
                sync_folder(path.parent)
            except OSError as error:
                logger.warning("%s could not be removed: %s", path, error)

    def unregistered(self, stream: Stream, registered: Collection[Span]) -> list[Path]:
        """Files of a stream that no span names, and unfinished ones: from a writer that died."""
        folder = self.path_of(stream, EntryId(0, 0)).parent
        known = {Path(span.path) for span in registered}
        found = [path for path in folder.glob(f"*{SUFFIX}") if path.absolute() not in known]
        return [*found, *folder.glob(f"*{UNFINISHED}")]


def folder_name(text: str) -> str:
    """A name as any file system takes it."""
    name = text.rstrip(".") + "_" * (len(text) - len(text.rstrip(".")))
    return f"{name}_" if name.partition(".")[0] in _RESERVED else name

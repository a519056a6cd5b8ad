"""A segment: one span of one stream in one file that describes itself.

    magic | header | block ... | footer | trailer

Header (which stream) and footer (which entries, and where each block lies) are msgpack with a
checksum; the trailer says where the footer begins. The file appears under its name only when it
is whole and on disk, so one without a trailer was torn afterwards.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgpack

from events.log import Entry, EntryId, LogError, Stream
from events.retention.blocks import BLOCK_BYTES_AIM, BlockDamaged, pack, unpack

MAGIC = b"mt5-bridge segment 1\n"
SUFFIX = ".seg"
UNFINISHED = ".part"
BLOCK_ENTRIES_MAX = 4_096
FOOTER_BYTES_MAX = 16 * 1024 * 1024
CACHE_BLOCKS_MAX = 2

_PART = struct.Struct(">II")
_TRAILER = struct.Struct(">QII4s")
_END = b"SEG1"


class SegmentDamaged(LogError):
    """A segment file is torn or altered. The message names it."""


class Written(NamedTuple):
    """What was written into a segment."""

    first: EntryId
    last: EntryId
    entries: int
    size_bytes: int


class _Block(NamedTuple):
    at: int
    size: int
    first: EntryId
    last: EntryId


def write_segment(path: Path, stream: Stream, entries: Iterable[Entry], *, before: int) -> Written:
    """Write a segment, all or nothing: it is on disk under its name when this returns.

    Raises OSError (nothing is left behind), ValueError without entries.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(UNFINISHED)
    try:
        with unfinished.open("wb") as file:
            written = _write(file, stream, entries, before)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return written


def _write(file: BinaryIO, stream: Stream, entries: Iterable[Entry], before: int) -> Written:
    file.write(MAGIC + _part({"stream": str(stream), "before": before}))
    index: list[_Block] = []
    count = 0
    for block in _blocks(entries):
        packed = pack(block)
        index.append(_Block(file.tell(), len(packed), block[0].id, block[-1].id))
        file.write(packed)
        count += len(block)
    if not index:
        raise ValueError(f"a segment of {stream} needs entries")
    footer = _part({"entries": count, "blocks": [(b.at, b.size, b.first, b.last) for b in index]})
    at = file.tell()
    file.write(footer + _TRAILER.pack(at, len(footer), zlib.crc32(footer), _END))
    return Written(index[0].first, index[-1].last, count, file.tell())


def _blocks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    block: list[Entry] = []
    size = 0
    for entry in entries:
        if block and (size + len(entry.data) > BLOCK_BYTES_AIM or len(block) >= BLOCK_ENTRIES_MAX):
            yield block
            block, size = [], 0
        block.append(entry)
        size += len(entry.data)
    if block:
        yield block


def _id(entry: Entry) -> EntryId:
    return entry.id


def _part(fields: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return _PART.pack(len(packed), zlib.crc32(packed)) + packed


def _fields(part: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    size, checksum = _PART.unpack_from(part)
    packed = part[_PART.size : _PART.size + size]
    if len(packed) != size or zlib.crc32(packed) != checksum:
        raise ValueError("a checksum does not fit")
    fields: dict[str, Any] = msgpack.unpackb(packed)
    return fields


def sync_folder(folder: Path) -> None:
    """Make a rename or removal in a folder durable (Windows does so by itself)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Segment:
    """Reads one segment file. Holds no file open; keeps the newest blocks it unpacked.

    Raises SegmentDamaged, and FileNotFoundError when the file is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._read_frame(file)
        except (ValueError, KeyError, TypeError, struct.error, msgpack.UnpackException) as error:
            raise self._damaged(str(error)) from error
        self._lasts = [block.last for block in self._index]
        self._cache: dict[int, list[Entry]] = {}
        self._lock = threading.Lock()

    def _read_frame(self, file: BinaryIO) -> None:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin as a segment does")
        size, _ = _PART.unpack(head := file.read(_PART.size))
        header = _fields(head + file.read(min(size, FOOTER_BYTES_MAX)))
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _TRAILER.size))
        at, size, checksum, mark = _TRAILER.unpack(file.read(_TRAILER.size))
        if mark != _END or size > FOOTER_BYTES_MAX or at + size + _TRAILER.size != end:
            raise ValueError("its end is missing")
        file.seek(at)
        footer = file.read(size)
        if zlib.crc32(footer) != checksum:
            raise ValueError("the checksum of its footer does not fit")
        fields = _fields(footer)
        self.stream = Stream.parse(header["stream"])
        self.before, self.entries = int(header["before"]), int(fields["entries"])
        self._index = [
            _Block(at, size, EntryId(*first), EntryId(*last))
            for at, size, first, last in fields["blocks"]
        ]
        self.first, self.last = self._index[0].first, self._index[-1].last

    def after(self, offset: EntryId) -> Iterator[Entry]:
        """Entries behind an id, oldest first."""
        for number in range(bisect_right(self._lasts, offset), len(self._index)):
            block = self._block(number)
            yield from block[bisect_right(block, offset, key=_id) :]

    def until(self, newest: EntryId) -> Iterator[Entry]:
        """Entries up to an id, newest first."""
        for number in reversed(range(len(self._index))):
            if self._index[number].first <= newest:
                block = self._block(number)
                yield from reversed(block[: bisect_right(block, newest, key=_id)])

    def _block(self, number: int) -> list[Entry]:
        with self._lock:
            return self._unpacked(number)

    def _unpacked(self, number: int) -> list[Entry]:
        if number not in self._cache:
            block = self._index[number]
            with self.path.open("rb") as file:
                file.seek(block.at)
                packed = file.read(block.size)
            try:
                entries = unpack(packed, self.stream, where=f"block {number + 1}")
            except (BlockDamaged, zlib.error, ValueError, TypeError) as error:
                raise self._damaged(str(error)) from error
            while len(self._cache) >= CACHE_BLOCKS_MAX:
                self._cache.pop(next(iter(self._cache)))
            self._cache[number] = entries
        return self._cache[number]

    def _damaged(self, why: str) -> SegmentDamaged:
        return SegmentDamaged(
            f"the segment {self.path} is damaged ({why}): put a good copy of this file in its "
            "place; readers of the stream wait for it and nothing else is affected"
        )

"""Entries packed into one checked, compressed block: for segments and for kept copies."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import msgpack

from events.log import ENTRY_BYTES_MAX, Entry, EntryId, LogError, Stream

BLOCK_BYTES_AIM = 1024 * 1024
"""Data of one block; reading one entry costs unpacking its block."""
BLOCK_BYTES_MAX = 4 * ENTRY_BYTES_MAX
"""Largest block when unpacked: a damaged length must not ask for all memory."""
COMPRESSION = 1
"""Ticks shrink to a sixth, at about 180 MB/s; higher levels win little and cost much."""

_HEAD = struct.Struct(">4sIII")
_MAGIC = b"BLK1"


class BlockDamaged(LogError):
    """Bytes that are not the block that was written."""


def pack(entries: Iterable[Entry]) -> bytes:
    """One block: magic, size, checksum, unpacked size; then the compressed entries."""
    rows = [
        (entry.id.ms, entry.id.seq, entry.type, entry.key, entry.data, entry.cause)
        for entry in entries
    ]
    plain: bytes = msgpack.packb(rows, unicode_errors="surrogateescape")
    packed = zlib.compress(plain, COMPRESSION)
    return _HEAD.pack(_MAGIC, len(packed), zlib.crc32(packed), len(plain)) + packed


def unpack(block: bytes, stream: Stream, *, where: str) -> list[Entry]:
    """The entries of a block. `where` names it in errors. Raises BlockDamaged."""
    if len(block) < _HEAD.size:
        raise BlockDamaged(f"{where}: cut off after {len(block)} bytes")
    magic, size, checksum, plain_size = _HEAD.unpack_from(block)
    packed = block[_HEAD.size :]
    if magic != _MAGIC or size != len(packed) or plain_size > BLOCK_BYTES_MAX:
        raise BlockDamaged(f"{where}: no block of ours, or cut off")
    if zlib.crc32(packed) != checksum:
        raise BlockDamaged(f"{where}: the checksum does not fit")
    plain = zlib.decompressobj().decompress(packed, plain_size)
    if len(plain) != plain_size:
        raise BlockDamaged(f"{where}: {len(plain)} bytes in place of {plain_size}")
    rows = msgpack.unpackb(plain, unicode_errors="surrogateescape")
    return [
        Entry(stream, EntryId(ms, seq), type_, key, content, cause)
        for ms, seq, type_, key, content, cause in rows
    ]

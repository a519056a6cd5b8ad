"""The text of a tick file as blocks of whole lines: gzip by content, UTF-8 or UTF-16."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from events.tick_files.errors import TickFileError

BLOCK_BYTES = 1 << 21
LINE_BYTES_MAX = 4_096
"""A longer line is no line of ticks; the limit bounds memory on files without line ends."""

_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_READ_BYTES = 256 * 1024


class CutOff(ValueError):
    """The bytes end before the content does; all sound text was given before."""


def is_parquet(path: Path) -> bool:
    """Whether the file begins with Parquet's magic. Raises TickFileError when unreadable."""
    with _opened(path) as file:
        return file.read(len(_PARQUET)) == _PARQUET


def line_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """UTF-8 text in blocks that end with a line end (only the last may lack it), BOM removed.

    Raises TickFileError (cannot be opened, no text) and CutOff after the last sound whole line.
    """
    pending = b""
    try:
        for text in _decoded(path, block_bytes):
            cut = text.rfind(b"\n") + 1
            if cut:
                yield pending + text[:cut]
                pending = text[cut:]
            else:
                pending += text
            if len(pending) > LINE_BYTES_MAX:
                raise CutOff(f"a line is longer than {LINE_BYTES_MAX} bytes: this is no tick file")
    except (zlib.error, UnicodeDecodeError) as error:
        raise CutOff(f"damaged content: {error}") from error
    if pending:
        yield pending


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise TickFileError(path, f"cannot be opened: {reason}") from error


def _decoded(path: Path, block_bytes: int) -> Iterator[bytes]:
    blocks = _unpacked(path, block_bytes)
    first = next(blocks, b"")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield from _utf16_to_utf8(first, blocks)
        return
    first = first.removeprefix(codecs.BOM_UTF8)
    if first.startswith((_ZIP, b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")):
        raise TickFileError(path, "packed in a format other than gzip: unpack it first")
    if first:
        yield first
    yield from blocks


def _utf16_to_utf8(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")()
    yield decoder.decode(first).encode()
    for block in blocks:
        yield decoder.decode(block).encode()
    decoder.decode(b"", final=True)


def _unpacked(path: Path, block_bytes: int) -> Iterator[bytes]:
    with _opened(path) as file:
        head = file.read(len(_GZIP))
        file.seek(0)
        if head == _GZIP:
            yield from _inflated(file, block_bytes)
            return
        while block := file.read(block_bytes):
            yield block


def _inflated(file: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    """Every member of a gzip file. The gzip module drops what it unpacked of a cut file's last
    block; this gives it out before it complains."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    while packed := file.read(_READ_BYTES):
        while packed:
            text = unpacker.decompress(packed, block_bytes)
            if text:
                yield text
            packed = unpacker.unconsumed_tail
            if unpacker.eof:
                packed = unpacker.unused_data.lstrip(b"\0")
                unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
                if not packed:
                    packed = file.read(_READ_BYTES).lstrip(b"\0")
                if not packed:
                    return
    raise CutOff("the gzip data end too early: the file was cut off")

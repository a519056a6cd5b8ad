"""The file of a backup: a ZIP whose last member is a manifest with the checksum of every other.

It is complete or it is not there: it is written beside its name, synced, and then renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack

FORMAT = 1
MANIFEST = "manifest.json"
CHUNK_BYTES = 1024 * 1024
RECORD_BYTES_MAX = 1024 * 1024 * 1024
MANIFEST_BYTES_MAX = 64 * 1024 * 1024


class ArchiveDamaged(Exception):
    """The file is no backup of ours, or not as it was written. The message says which part."""


class ArchiveWriter:
    """Writes members one after the other; leaving it without an error makes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        self._manifest: dict[str, Any] = {"format": FORMAT}
        self._members: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> ArchiveWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._zip = zipfile.ZipFile(
            self._part, "w", zipfile.ZIP_DEFLATED, compresslevel=1, allowZip64=True
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            manifest = {**self._manifest, "members": self._members}
            self._zip.writestr(MANIFEST, json.dumps(manifest, indent=1))
            self._zip.close()
            with self._part.open("r+b") as file:
                os.fsync(file.fileno())
        except OSError:
            self._discard()
            raise
        self._part.replace(self.path)

    def _discard(self) -> None:
        with suppress(OSError, ValueError):  # it writes its end, and the disk may be full
            self._zip.close()
        self._part.unlink(missing_ok=True)

    def note(self, **facts: Any) -> None:
        """Put facts into the manifest."""
        self._manifest |= facts

    def add(self, name: str, chunks: Iterable[bytes], **facts: Any) -> int:
        """Write one member. Returns its size in bytes."""
        digest, size = hashlib.sha256(), 0
        with self._zip.open(name, "w", force_zip64=True) as member:
            for block in _blocks(chunks):
                member.write(block)
                digest.update(block)
                size += len(block)
        self._members[name] = {"sha256": digest.hexdigest(), "bytes": size, **facts}
        return size

    def add_records(self, name: str, records: Iterable[Any]) -> int:
        """Write records as msgpack, one after the other."""
        packer = msgpack.Packer()
        return self.add(name, (packer.pack(record) for record in records))


class Archive:
    """Reads a backup. Raises ArchiveDamaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            if self._zip.getinfo(MANIFEST).file_size > MANIFEST_BYTES_MAX:
                raise ArchiveDamaged(f"{path}: its manifest is too large to be ours")
            self.manifest: Mapping[str, Any] = json.loads(self._zip.read(MANIFEST))
            self.members: Mapping[str, Mapping[str, Any]] = self.manifest["members"]
            number = self.manifest["format"]
        except OSError as error:
            raise ArchiveDamaged(f"{path} cannot be read: {error.strerror or error}") from error
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ArchiveDamaged(
                f"{path} is no backup, or was cut off: {error}; take another copy"
            ) from error
        if number > FORMAT:
            raise ArchiveDamaged(f"{path} was made by a newer program: upgrade this one")

    def close(self) -> None:
        self._zip.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> None:
        """Read everything once and compare checksums."""
        for name, facts in self.members.items():
            digest = hashlib.sha256()
            for chunk in self.chunks(name):
                digest.update(chunk)
            if digest.hexdigest() != facts["sha256"]:
                raise ArchiveDamaged(f"{self.path}: {name} is damaged; take another copy")

    def chunks(self, name: str) -> Iterator[bytes]:
        try:
            with self._zip.open(name) as member:
                while chunk := member.read(CHUNK_BYTES):
                    yield chunk
        except (OSError, KeyError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ArchiveDamaged(
                f"{self.path}: {name} is damaged ({error}); take another copy"
            ) from error

    def records(self, name: str) -> Iterator[Any]:
        unpacker = msgpack.Unpacker(
            use_list=True, max_buffer_size=RECORD_BYTES_MAX, strict_map_key=False
        )
        for chunk in self.chunks(name):
            unpacker.feed(chunk)
            yield from unpacker


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in large pieces: a database hands a table out row by row."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)

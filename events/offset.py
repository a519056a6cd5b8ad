"""A reader's place in one stream, and how it shows that the stream is still the same one."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from events.log import BEGIN, Entry, EntryId


class Offset(NamedTuple):
    """Everything up to `last` is done. `entries` counts from the beginning of the stream (those
    trimmed before we came count as read), `checksum` is `checksum_of` the entry at `last`."""

    last: EntryId = BEGIN
    entries: int = 0
    checksum: int = 0

    def __str__(self) -> str:
        return f"{self.last}:{self.entries}:{self.checksum}"

    @classmethod
    def parse(cls, text: str) -> Offset:
        """Read `ms-seq:entries:checksum`; "" is the beginning. Raises ValueError."""
        if not text:
            return cls()
        last, entries, checksum = text.split(":")
        return cls(EntryId.parse(last), int(entries), int(checksum))

    def after(self, entry: Entry, count: int) -> Offset:
        """The offset `count` entries further on, of which `entry` is the last."""
        return Offset(entry.id, self.entries + count, checksum_of(entry))


def checksum_of(entry: Entry) -> int:
    """63 bits over type, key, cause and data of an entry (BLAKE2b)."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (entry.type, entry.key, entry.cause):
        digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
    digest.update(entry.data)
    number: int = struct.unpack(">Q", digest.digest())[0]
    return number >> 1

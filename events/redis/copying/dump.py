"""The log as a sequence of plain records, and back: for any engine and version that speaks Redis.

Each slot is cut in one transaction: hashes as they are, and how far each of its streams reaches.
Streams only grow, so the entries up to there are read afterwards. What reads from a slot is cut
before it: then no offset of the copy lies ahead of the stream it stands in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from events.log import EntryId, LogError, Slot, Stream
from events.offset import Offset
from events.redis import keys
from events.redis.errors import errors_translated
from events.redis.log import RedisLog

PAGE_ENTRIES = 1_000
READER = "backup.0"
"""Registered while a copy is made, so that nothing is trimmed under it."""
_FORGOTTEN = {b"token", b"holder", b"beat"}
"""Of a slot's meta: whoever wrote then writes no more."""
_READS = {
    b"hash": ("HGETALL",),
    b"set": ("SMEMBERS",),
    b"string": ("GET",),
    b"zset": ("ZRANGE", "0", "-1", "WITHSCORES"),
    b"list": ("LRANGE", "0", "-1"),
    b"stream": ("XINFO", "STREAM"),
}

Record = tuple[Any, ...]
"""("key", type, name, value), ("stream", name, last id, entries added, groups), or
("entries", name, [(id, fields), ...])."""


@dataclass(frozen=True, slots=True)
class Copied:
    """How far the copy of one stream reaches."""

    last: EntryId
    entries: int
    entries_added: int


class LogDump:
    """Reads everything of some namespaces (all when none are named)."""

    def __init__(self, log: RedisLog) -> None:
        if log.volatile:
            raise LogError("the stand-in for Redis cannot be copied: it forgets anyway")
        self._log, self._client = log, log.client
        self.streams: dict[str, Copied] = {}
        self._places: dict[str, dict[str, tuple[str, int]]] = {}

    def begin(self) -> None:
        """Hold trimming back, and note where groups stand: before anything else is copied."""
        for namespace in self._log.namespaces():
            self._log.tasks.join(READER, self._lanes(namespace))
        with errors_translated():
            for tag in self._tags():
                for name, kind in self._kinds(tag).items():
                    if kind == b"stream":
                        self._places[name] = self._groups(name)

    def end(self) -> None:
        """Let trimming go on."""
        for namespace in self._log.namespaces():
            self._log.tasks.leave(READER, self._lanes(namespace))

    def _lanes(self, namespace: str) -> list[Stream]:
        return [
            stream
            for writer, slots in self._log.tasks.writers(namespace).items()
            for number in range(slots)
            for stream in Slot(namespace, writer, number).streams()
        ]

    def records(self) -> Iterator[Record]:
        """Raises LogUnavailable, LogError."""
        with errors_translated():
            for tag in self._readers_first():
                yield from self._slot(tag)

    def _tags(self) -> list[str]:
        """The hash tags of everything that is ours."""
        namespaces = list(self._log.namespaces())
        tags = {"mt5-bridge"} | set(namespaces)
        for name in namespaces:
            for key in self._client.scan_iter(match=f"{{{name}:*", count=1_000):
                tags.add(key.decode()[1:].partition("}")[0])
            for writer, slots in self._log.tasks.writers(name).items():
                tags |= {f"{name}:{writer}:{number}" for number in range(slots)}
        return sorted(tags)

    def _readers_first(self) -> list[str]:
        """Slots so that whoever reads from another one comes before it; names of namespaces and
        registrations last."""
        reads: dict[str, set[str]] = {}
        for tag in self._tags():
            offsets = self._client.hgetall(f"{{{tag}}}:offsets") if tag.count(":") == 2 else {}
            reads[tag] = {_tag(stream.decode()) for stream in offsets}
        depths: dict[str, int] = {}

        def depth(tag: str, above: tuple[str, ...] = ()) -> int:
            if tag in above:
                raise LogError(f"groups that read from each other in a circle: {tag}")
            if tag not in depths:
                below = (depth(one, (*above, tag)) for one in reads.get(tag, ()))
                depths[tag] = max(below, default=-1) + 1
            return depths[tag]

        return sorted(reads, key=lambda tag: (tag.count(":") != 2, -depth(tag), tag))

    def _kinds(self, tag: str) -> dict[str, bytes]:
        if tag == "mt5-bridge":
            return {keys.NAMESPACES: b"set"}
        names = {key.decode() for key in self._client.scan_iter(match=f"{{{tag}}}:*", count=1_000)}
        kinds = {name: self._client.type(name) for name in sorted(names)}
        if tag.count(":") == 2:  # streams that begin while we look
            kinds |= {name: b"stream" for name in keys.lanes(Slot.parse(tag))}
        return {name: kind for name, kind in kinds.items() if kind in _READS}

    def _slot(self, tag: str) -> Iterator[Record]:
        kinds = self._kinds(tag)
        pipeline = self._client.pipeline(transaction=True)
        for name, kind in kinds.items():
            command, *rest = _READS[kind]
            if kind == b"stream":
                pipeline.execute_command(command, *rest, name)
            else:
                pipeline.execute_command(command, name, *rest)
        found = pipeline.execute(raise_on_error=False) if kinds else []
        for (name, kind), value in zip(kinds.items(), found, strict=True):
            if isinstance(value, ResponseError):
                if "no such key" not in str(value).lower():
                    raise value
            elif kind == b"stream":
                yield from self._stream(name, _pairs(value))
            elif value and (plain := _plain(kind, name, value)):
                yield "key", kind.decode(), name, plain

    def _stream(self, name: str, facts: Mapping[bytes, Any]) -> Iterator[Record]:
        last, length = facts[b"last-generated-id"].decode(), int(facts[b"length"])
        added = int(facts[b"entries-added"])
        groups = {
            group: (str(min(EntryId.parse(place), EntryId.parse(last))), min(read, added))
            for group, (place, read) in self._places.get(name, {}).items()
            if group != READER
        }
        yield "stream", name, last, added, groups
        first, count = "-", 0
        while page := self._client.execute_command(
            "XRANGE", name, first, last, "COUNT", PAGE_ENTRIES
        ):
            yield "entries", name, [(id_.decode(), _flat(row)) for id_, row in page]
            count += len(page)
            first = f"({page[-1][0].decode()}"
        if count != length:
            raise LogError(
                f"{name} was trimmed while it was copied ({count} of {length} entries): try again"
            )
        self.streams[name] = Copied(EntryId.parse(last), count, added)

    def _groups(self, name: str) -> dict[str, tuple[str, int]]:
        """Where each group goes on after a restore: what it had not acknowledged comes again."""
        places = {}
        for row in self._client.execute_command("XINFO", "GROUPS", name):
            facts = _pairs(row)
            group, place = facts[b"name"].decode(), EntryId.parse(facts[b"last-delivered-id"])
            pending = int(facts.get(b"pending") or 0)
            if pending:
                _, oldest, _, _ = self._client.execute_command("XPENDING", name, group).values()
                place = _below(EntryId.parse(oldest))
            read = max(0, int(facts.get(b"entries-read") or 0) - pending)
            places[group] = (str(place), read)
        return places


def offsets_ahead(offsets: Mapping[Stream, Offset], copied: Mapping[str, Copied]) -> list[Stream]:
    """Streams whose copy does not reach an offset that goes with it."""
    nothing = Copied(EntryId(0, 0), 0, 0)
    return [s for s, offset in offsets.items() if copied.get(str(s), nothing).last < offset.last]


def _plain(kind: bytes, name: str, value: Any) -> Any:
    if kind == b"hash":
        pairs = _pairs(value)
        if name.endswith(":meta"):
            return {field: text for field, text in pairs.items() if field not in _FORGOTTEN}
        return pairs
    if kind == b"set":
        return sorted(member for member in value if not member.endswith(b" " + READER.encode()))
    if kind == b"zset":
        flat = value if value and isinstance(value[0], tuple | list) else zip(
            value[::2], value[1::2], strict=True
        )  # fmt: skip
        return [(member, float(score)) for member, score in flat]
    return value


def _tag(stream: str) -> str:
    return stream[1:].partition("}")[0]


def _pairs(reply: Any) -> dict[bytes, Any]:
    if isinstance(reply, dict):
        return {(k.encode() if isinstance(k, str) else k): v for k, v in reply.items()}
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _flat(row: Any) -> list[bytes]:
    return [part for pair in row.items() for part in pair] if isinstance(row, dict) else row


def _below(id_: EntryId) -> EntryId:
    return EntryId(id_.ms, id_.seq - 1) if id_.seq else EntryId(max(0, id_.ms - 1), 2**64 - 1)

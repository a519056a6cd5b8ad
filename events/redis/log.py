"""The log in Redis Streams (Redis 7 and 8, Valkey 8 and 9; single server, Sentinel, Cluster)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import ResponseError

from events.log import (
    BEGIN,
    END,
    PARTITIONS_DEFAULT,
    READ_ENTRIES_MAX,
    Appended,
    Claim,
    CursorMove,
    Entry,
    EntryId,
    Fenced,
    GroupInfo,
    LogFull,
    NewEntry,
    Slot,
    StaleCursor,
    Stream,
    StreamInfo,
    WriterHeld,
    check_namespace,
    check_partitions,
    check_sizes,
)
from events.origin import LIVE, Origin, check_origin, origin_of
from events.redis import keys
from events.redis.ahead import RedisAskedRead
from events.redis.connect import BLOCK_MS_MAX, Client, connect, take_replies_as_they_come
from events.redis.errors import errors_translated
from events.redis.latch import RedisLatches
from events.redis.retention import RedisRetained
from events.redis.scripts import Script, understands_shebang
from events.redis.tasks import RedisTasks
from events.redis.unordered import RedisUnordered

BEAT_LOOK_S = 0.1
"""How often a claim looks whether a former holder still beats."""
POSTED_KEYS_MAX = 10_000
WAKE_POLL_S = 0.002
"""How often a cluster is asked when a read waits on several of its slots."""

FOREIGN_TYPE = "foreign.0"
"""Given to entries that were not written by any log of ours."""

_new = tuple.__new__
_APPEND, _CLAIM, _BEAT, _POST = (Script(name) for name in ("append", "claim", "beat", "post"))


class RedisLog:
    """See `events.log.Log`. `volatile` tells that the server is a stand-in that forgets."""

    def __init__(self, client: Client, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.client = client
        self._monotonic = monotonic
        self._cluster = isinstance(client, RedisCluster)
        self._stand_in: bool | None = None
        self.tasks = RedisTasks(client, self._run, self._calls)
        self.retained = RedisRetained(client, self._run, self._calls)
        self.unordered = RedisUnordered(client, self._run, self._calls, _entries)
        if not self._cluster:
            take_replies_as_they_come(client)

    @property
    def volatile(self) -> bool:
        """True for the stand-in: it loses everything when it stops."""
        if self._stand_in is None:
            with self._calls():
                self._stand_in = not understands_shebang(self.client)
            self._drop_broken_connections()
        return self._stand_in

    @contextmanager
    def _calls(self) -> Iterator[None]:
        with errors_translated():
            try:
                yield
            except ResponseError:
                self._drop_broken_connections()
                raise

    def _drop_broken_connections(self) -> None:
        """The stand-in hangs up after every error it reports; the pool does not know."""
        if self._stand_in:
            self.client.connection_pool.disconnect()

    def latches(self, namespace: str) -> RedisLatches:
        return RedisLatches(self.client, self._run, self._calls, namespace)

    def open_namespace(
        self, namespace: str, partitions: int = PARTITIONS_DEFAULT, origin: Origin = LIVE
    ) -> int:
        check_namespace(namespace, partitions)
        check_origin(namespace, origin, origin)
        names = keys.partitions(namespace), keys.origin(namespace)
        with self._calls():
            # Both or none: one that has a number and no origin was opened by an older version.
            self.client.msetnx(dict(zip(names, (partitions, origin), strict=True)))
            self.client.set(names[0], partitions, nx=True)
            self.client.sadd(keys.NAMESPACES, namespace)
            number, came_by = self.client.mget(names)
        check_partitions(namespace, partitions, int(number))
        check_origin(namespace, origin, origin_of(came_by))
        return int(number)

    def origin(self, namespace: str) -> Origin:
        with self._calls():
            return origin_of(self.client.get(keys.origin(namespace)))

    def namespaces(self) -> dict[str, int]:
        with self._calls():
            names = sorted(name.decode() for name in self.client.smembers(keys.NAMESPACES))
            return {name: int(self.client.get(keys.partitions(name)) or 0) for name in names}

    def claim(self, slot: Slot, holder: str, *, alive_within_s: float) -> Claim:
        seen, former = self._seen_silent(slot, alive_within_s)
        token = secrets.token_hex(16)
        if self._run(_CLAIM, [keys.meta(slot), *keys.lanes(slot)], [seen, token, holder]) != 1:
            raise WriterHeld(str(slot), self.holder(slot) or former or "somebody else")
        return Claim(slot, token, holder)

    def _seen_silent(self, slot: Slot, alive_within_s: float) -> tuple[str, str]:
        """The token to take over from; waits until its holder was silent long enough."""
        token, holder, beat = self._meta(slot)
        deadline = self._monotonic() + alive_within_s
        while token and self._monotonic() < deadline:
            time.sleep(min(BEAT_LOOK_S, alive_within_s))
            token_now, holder_now, beat_now = self._meta(slot)
            if not token_now:
                return "", ""
            if (token_now, beat_now) != (token, beat):
                raise WriterHeld(str(slot), holder_now)
        return token, holder

    def _meta(self, slot: Slot) -> tuple[str, str, str]:
        with self._calls():
            found = self.client.hmget(keys.meta(slot), "token", "holder", "beat")
        token, holder, beat = ((text or b"").decode() for text in found)
        return token, holder, beat

    def beat(self, claim: Claim) -> None:
        if self._run(_BEAT, [keys.meta(claim.slot)], [claim.token, "0"]) != 1:
            raise Fenced(f"{claim.slot} was taken over by {self.holder(claim.slot) or 'nobody'}")

    def release(self, claim: Claim) -> None:
        self._run(_BEAT, [keys.meta(claim.slot)], [claim.token, "1"])

    def holder(self, slot: Slot) -> str:
        return self._meta(slot)[1]

    def append(
        self, claim: Claim, entries: Sequence[NewEntry], cursors: Sequence[CursorMove] = ()
    ) -> Appended:
        check_sizes(entries)
        slot = claim.slot
        args: list[Any] = [claim.token, len(cursors)]
        for move in cursors:
            args += (move.feed, move.expected, move.new)
        for entry in entries:
            has_last = entry.last is not None
            args += (
                int(entry.lane), entry.type, entry.key, entry.data, entry.cause,
                "1" if has_last else "0", entry.last if has_last else b"",
            )  # fmt: skip
        slot_keys = [keys.meta(slot), keys.cursors(slot), keys.last(slot), *keys.lanes(slot)]
        reply = self._run(_APPEND, slot_keys, args)
        answer, *rest = (text.decode() for text in reply)
        if answer == "fenced":
            raise Fenced(f"{slot} is no longer ours: held by {self.holder(slot) or 'nobody'}")
        if answer == "full":
            raise LogFull(f"{slot} takes no more: {rest[0]}")
        if answer == "stale":
            raise StaleCursor(*rest)
        ms, first, newest = int(rest[0]), int(rest[1]), rest[2]
        return Appended(
            tuple(EntryId(ms, first + place) for place in range(len(entries))),
            {move.feed: f"{move.new}@{newest}" for move in cursors},
        )

    def post(self, slot: Slot, entry: NewEntry, *, once: str = "") -> EntryId | None:
        check_sizes([entry])
        lane = str(slot.stream(entry.lane))
        touched = [keys.meta(slot), keys.posted(slot), lane, keys.last(slot)]
        args = [
            entry.key, entry.type, entry.data, entry.cause, once or entry.key, POSTED_KEYS_MAX,
            int(entry.last is not None),
        ]  # fmt: skip
        reply = self._run(_POST, touched, args)
        return None if reply is None else EntryId.parse(reply)

    def cursors(self, slot: Slot) -> dict[str, str]:
        with self._calls():
            found = self.client.hgetall(keys.cursors(slot))
        return {feed.decode(): cursor.decode() for feed, cursor in found.items()}

    def last_states(self, slot: Slot) -> dict[tuple[str, str], bytes]:
        with self._calls():
            found = self.client.hgetall(keys.last(slot))
        states = {}
        for name, data in found.items():
            type_, _, key = name.decode().partition(":")
            states[type_, key] = data
        return states

    def read(
        self,
        after: Mapping[Stream, EntryId],
        *,
        count_max: int = READ_ENTRIES_MAX,
        block_ms: int | None = None,
    ) -> dict[Stream, list[Entry]]:
        deadline = self._monotonic() + (block_ms or 0) / 1000
        while True:
            left_ms = max(0, int((deadline - self._monotonic()) * 1000))
            found = self._read_once(after, count_max, left_ms if block_ms else 0)
            if found or left_ms <= 0 or not after:
                return found

    def _read_once(
        self, after: Mapping[Stream, EntryId], count_max: int, wait_ms: int
    ) -> dict[Stream, list[Entry]]:
        batches: list[list[tuple[Stream, EntryId]]] = [list(after.items())]
        if self._cluster:
            by_slot = sorted(after.items())
            batches = [list(part) for _, part in groupby(by_slot, lambda item: item[0].slot)]
        # A cluster node blocks on one slot only, so several are asked in turn.
        block_ms = min(wait_ms, BLOCK_MS_MAX) if len(batches) == 1 else 0
        found: dict[Stream, list[Entry]] = {}
        for batch in batches:
            found |= self._xread(dict(batch), count_max, block_ms)
        if not found and wait_ms and not block_ms:
            time.sleep(WAKE_POLL_S)
        return found

    def _xread(
        self, after: Mapping[Stream, EntryId], count_max: int, block_ms: int
    ) -> dict[Stream, list[Entry]]:
        if not after:
            return {}
        with self._calls():
            reply = self.client.execute_command(*_xread(after, count_max, block_ms))
        return _found(after, reply)

    def read_ahead(
        self, after: Mapping[Stream, EntryId], *, count_max: int, block_ms: int = 0
    ) -> RedisAskedRead | None:
        """See `events.ahead.ReadsAhead`. A cluster's streams lie on several connections."""
        if self._cluster or not after:
            return None
        command, streams = _xread(after, count_max, min(block_ms, BLOCK_MS_MAX)), tuple(after)
        return RedisAskedRead(
            self.client, command, lambda reply: _found(streams, reply), self._calls
        )

    def between(
        self, stream: Stream, first: EntryId = BEGIN, last: EntryId = END, *, count_max: int
    ) -> list[Entry]:
        with self._calls():
            rows = self.client.execute_command(
                "XRANGE", str(stream), str(first), str(last), "COUNT", count_max
            )
        return _entries(stream, rows)

    def newest(self, stream: Stream, *, count_max: int = 1, before: EntryId = END) -> list[Entry]:
        with self._calls():
            rows = self.client.execute_command(
                "XREVRANGE", str(stream), str(before), "-", "COUNT", count_max
            )
        return _entries(stream, rows)

    def info(self, stream: Stream) -> StreamInfo:
        fields = self._xinfo("STREAM", stream)
        if not fields:
            return StreamInfo(0, 0, None, BEGIN)
        [facts] = fields
        first = facts.get("first-entry")
        return StreamInfo(
            length=facts["length"],
            entries_added=facts.get("entries-added", facts["length"]),
            first_id=EntryId.parse(first[0]) if first else None,
            last_id=EntryId.parse(facts["last-generated-id"]),
        )

    def mirror(self, group: str, stream: Stream, offset: EntryId, entries_read: int) -> None:
        setid = ("XGROUP", "SETID", str(stream), group, str(offset), "ENTRIESREAD", entries_read)
        with self._calls():
            try:
                self.client.execute_command(*setid)
            except ResponseError as error:
                if "NOGROUP" not in str(error) and "requires the key to exist" not in str(error):
                    raise
                self._drop_broken_connections()
                self._create_group(group, stream)
                self.client.execute_command(*setid)

    def _create_group(self, group: str, stream: Stream) -> None:
        try:
            self.client.execute_command(
                "XGROUP", "CREATE", str(stream), group, "0", "MKSTREAM", "ENTRIESREAD", 0
            )
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
            self._drop_broken_connections()

    def groups(self, stream: Stream) -> dict[str, GroupInfo]:
        return {
            facts["name"].decode(): GroupInfo(
                offset=EntryId.parse(facts["last-delivered-id"]),
                entries_read=facts.get("entries-read") or 0,
                lag=facts.get("lag"),
                pending=facts.get("pending") or 0,
            )
            for facts in self._xinfo("GROUPS", stream)
        }

    def _xinfo(self, what: str, stream: Stream) -> list[dict[str, Any]]:
        with self._calls():
            try:
                reply = self.client.execute_command("XINFO", what, str(stream))
            except ResponseError as error:
                if "no such key" in str(error).lower():
                    self._drop_broken_connections()
                    return []
                raise
        return [_fields(row) for row in ([reply] if what == "STREAM" else reply)]

    def close(self) -> None:
        self.client.close()

    def _run(self, script: Script, script_keys: Sequence[str], args: Sequence[Any]) -> Any:
        plain = self.volatile
        with self._calls():
            return script.run(self.client, script_keys, args, plain=plain)


def open_log(url: str, *, reply_timeout_s: float = 5.0) -> RedisLog:
    """The log at a URL (forms: `events.redis.connect`). Raises LogUnavailable, LogError."""
    with errors_translated():
        log = RedisLog(connect(url, reply_timeout_s=reply_timeout_s))
        log.client.ping()
    return log


def _xread(after: Mapping[Stream, EntryId], count_max: int, block_ms: int = 0) -> list[Any]:
    command: list[Any] = ["XREAD", "COUNT", count_max]
    if block_ms:
        command += ("BLOCK", block_ms)
    return [*command, "STREAMS", *map(str, after), *map(str, after.values())]


def _found(streams: Iterable[Stream], reply: Any) -> dict[Stream, list[Entry]]:
    by_key = {str(stream).encode(): stream for stream in streams}
    return {by_key[key]: _entries(by_key[key], rows) for key, rows in reply or ()}


def _entries(stream: Stream, rows: Any) -> list[Entry]:
    """Rows as entries. This runs for every entry that is ever read: tuples are made directly,
    and what repeats (types, keys) is decoded once."""
    entries = []
    texts = _Texts()
    for id_, row in rows:
        # A cluster's nodes answer with dicts: their clients are not ours to set up.
        fields = [part for pair in row.items() for part in pair] if isinstance(row, dict) else row
        ms, _, seq = id_.partition(b"-")
        place = _new(EntryId, (int(ms), int(seq)))
        try:
            cause = fields[7].decode() if len(fields) > 7 else ""
            entry = (stream, place, texts[fields[1]], texts[fields[3]], fields[5], cause)
        except (IndexError, UnicodeDecodeError):
            # Somebody else's entry must not stop the reading of ours: no codec knows this type.
            entry = (stream, place, FOREIGN_TYPE, "", b"\0".join(fields), "")
        entries.append(_new(Entry, entry))
    return entries


class _Texts(dict[bytes, str]):
    """Bytes that were decoded already."""

    def __missing__(self, raw: bytes) -> str:
        text = self[raw] = raw.decode()
        return text


def _fields(row: Any) -> dict[str, Any]:
    if isinstance(row, dict):
        return {(name.decode() if isinstance(name, bytes) else name): v for name, v in row.items()}
    return {row[i].decode(): row[i + 1] for i in range(0, len(row), 2)}

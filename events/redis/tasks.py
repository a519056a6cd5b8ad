"""Tasks of consumer groups in Redis: each in one slot, each step one script."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

from events.log import (
    OPERATOR,
    SOURCE,
    Claim,
    EntryId,
    Fenced,
    LogError,
    Slot,
    Stream,
    checked_name,
)
from events.offset import Offset
from events.redis import keys
from events.redis.connect import Client
from events.redis.rewind import rewind
from events.redis.scripts import Script
from events.tasks import (
    SNAPSHOTS_MAX,
    Commit,
    Holding,
    JournalRow,
    SnapshotInfo,
    StaleOffset,
    StaleOutput,
    TaskRecord,
    check_outputs,
)

ACQUIRE, COMMIT, TRYING, JOIN = (Script(name) for name in ("acquire", "commit", "trying", "join"))
Run = Callable[[Script, Sequence[str], Sequence[Any]], Any]
Calls = Callable[[], AbstractContextManager[None]]


class RedisTasks:
    """See `events.tasks.Tasks`. Made by RedisLog, whose connections and error handling it uses."""

    def __init__(self, client: Client, run: Run, calls: Calls) -> None:
        self._client, self._run, self._calls = client, run, calls

    def open_group(self, namespace: str, group: str, tasks: int) -> None:
        checked_name(group)
        with self._calls():
            self._client.hsetnx(keys.writers(namespace), group, tasks)
            found = int(self._client.hget(keys.writers(namespace), group) or 0)
        if found != tasks:
            raise LogError(
                f"group {group!r} has {found} tasks in {namespace!r}, not {tasks}: the number is "
                "fixed when it is first used (`bridgectl groups remove --outputs` begins anew)"
            )

    def writers(self, namespace: str) -> dict[str, int]:
        with self._calls():
            partitions = int(self._client.get(keys.partitions(namespace)) or 0)
            found = self._client.hgetall(keys.writers(namespace))
        groups = {name.decode(): int(count) for name, count in sorted(found.items())}
        return {SOURCE: partitions, OPERATOR: 1, **groups}

    def close_group(self, namespace: str, group: str, *, outputs: bool = False) -> None:
        slots = [Slot(namespace, group, n) for n in range(self.writers(namespace).get(group, 0))]
        with self._calls():
            for slot in slots:
                doomed = [make(slot) for make in (keys.offsets, keys.state, keys.journal)]
                doomed += [keys.requests(slot), *_snapshot_keys(slot)]
                doomed += [keys.derived(slot), keys.done_to(slot)]
                if outputs:
                    doomed += [keys.meta(slot), keys.last(slot), *keys.lanes(slot)]
                    doomed += [keys.segments(slot), keys.spilled(slot), keys.kept(slot)]
                self._client.delete(*doomed)
                if not outputs:  # ids go on behind what stays
                    self._client.hdel(
                        keys.meta(slot), "token", "holder", "attempts", "trying", "version",
                        "halted", "commits",
                    )  # fmt: skip
            if outputs or not slots:
                self._client.hdel(keys.writers(namespace), group)

    def join(self, reader: str, streams: Collection[Stream]) -> None:
        with self._calls():
            for stream in streams:
                self._client.sadd(keys.readers(stream.slot.namespace), f"{stream} {reader}")
        by_slot: dict[Slot, list[str]] = {}
        for stream in streams:
            by_slot.setdefault(stream.slot, []).append(str(stream))
        for names in by_slot.values():
            self._run(JOIN, names, [reader])

    def leave(self, reader: str, streams: Collection[Stream]) -> None:
        for stream in streams:
            with self._calls():
                self._client.srem(keys.readers(stream.slot.namespace), f"{stream} {reader}")
                if self._client.exists(str(stream)):
                    self._client.xgroup_destroy(str(stream), reader)

    def readers(self, namespace: str) -> dict[Stream, frozenset[str]]:
        with self._calls():
            found = self._client.smembers(keys.readers(namespace))
        readers: dict[Stream, set[str]] = {}
        for member in found:
            stream, _, reader = member.decode().partition(" ")
            readers.setdefault(Stream.parse(stream), set()).add(reader)
        return {stream: frozenset(names) for stream, names in sorted(readers.items())}

    def look(self, slots: Sequence[Slot]) -> list[Holding]:
        with self._calls():
            pipeline = self._client.pipeline(transaction=False)
            for slot in slots:
                pipeline.hmget(keys.meta(slot), "token", "holder", "beat", "halted")
            rows = pipeline.execute() if slots else []
        return [
            Holding(slot, _text(token), _text(holder), int(beat or 0), _text(halted))
            for slot, (token, holder, beat, halted) in zip(slots, rows, strict=True)
        ]

    def acquire(self, slot: Slot, holder: str, *, seen: str) -> tuple[Claim, TaskRecord] | None:
        token = secrets.token_hex(16)
        own = [keys.meta(slot), keys.offsets(slot), keys.state(slot), keys.requests(slot)]
        reply = self._run(ACQUIRE, own, [seen, token, holder])
        if reply is None:
            return None
        return Claim(slot, token, holder), _record(slot, *map(_pairs, reply))

    def peek(self, slot: Slot) -> TaskRecord:
        with self._calls():
            pipeline = self._client.pipeline(transaction=True)
            for make in (keys.meta, keys.offsets, keys.state, keys.requests):
                pipeline.hgetall(make(slot))
            return _record(slot, *map(_pairs, pipeline.execute()))

    def trying(self, claim: Claim, text: str) -> None:
        if self._run(TRYING, [keys.meta(claim.slot)], [claim.token, text]) != 1:
            raise Fenced(f"{claim.slot} was taken over")

    def commit(self, commit: Commit) -> None:
        check_outputs(commit)
        slot = commit.claim.slot
        names = [
            keys.meta(slot), keys.offsets(slot), keys.state(slot), keys.last(slot),
            keys.journal(slot), keys.requests(slot), *keys.lanes(slot),
        ]  # fmt: skip
        if commit.snapshot is not None:
            names += keys.snapshot(slot, commit.snapshot)
        reply = [_text(part) for part in self._run(COMMIT, names, _arguments(commit))]
        if reply[0] == "fenced":
            raise Fenced(f"{slot} was taken over: nothing was committed")
        if reply[0] == "stale":
            raise StaleOffset(slot, *reply[1:])
        if reply[0] == "output":
            raise StaleOutput(f"{slot}: outputs after {reply[1]} would not follow {reply[2]}")

    def rewind(self, claim: Claim, to: TaskRecord) -> int:
        return rewind(self._client, self._run, self._calls, claim, to)

    def journal(self, slot: Slot, *, after: int = 0, count_max: int) -> list[JournalRow]:
        with self._calls():
            rows = self._client.execute_command(
                "XRANGE", keys.journal(slot), f"{after + 1}-0", "+", "COUNT", count_max
            )
        found = []
        for id_, row in rows:
            fields = (
                [part for pair in row.items() for part in pair] if isinstance(row, dict) else row
            )
            found.append(JournalRow(EntryId.parse(id_).ms, fields[1]))
        return found

    def snapshots(self, slot: Slot) -> list[SnapshotInfo]:
        found = []
        for place in range(SNAPSHOTS_MAX):
            with self._calls():
                meta = self._client.hgetall(keys.snapshot(slot, place)[0])
            if meta:
                found.append(SnapshotInfo(place, int(meta[b"commits"]), _text(meta[b"version"])))
        return sorted(found, key=lambda info: info.commit)

    def snapshot(self, slot: Slot, place: int) -> TaskRecord:
        with self._calls():
            pipeline = self._client.pipeline(transaction=True)
            for key in keys.snapshot(slot, place):
                pipeline.hgetall(key)
            meta, offsets, state = map(_pairs, pipeline.execute())
        if not meta:
            raise LogError(f"{slot} has no snapshot at place {place}")
        return _record(slot, meta, offsets, state, {})

    def ask(self, slot: Slot, request_id: str, data: bytes) -> None:
        with self._calls():
            self._client.hset(keys.requests(slot), request_id, data)

    def requests(self, slot: Slot) -> dict[str, bytes]:
        with self._calls():
            found = self._client.hgetall(keys.requests(slot))
        return {_text(name): data for name, data in sorted(found.items())}

    def beat_worker(self, group: str, worker: str) -> None:
        with self._calls():
            self._client.hincrby(keys.workers(group), worker, 1)

    def drop_worker(self, group: str, worker: str) -> None:
        with self._calls():
            self._client.hdel(keys.workers(group), worker)

    def workers(self, group: str) -> dict[str, int]:
        with self._calls():
            found = self._client.hgetall(keys.workers(group))
        return {_text(name): int(beat) for name, beat in sorted(found.items())}


def _arguments(commit: Commit) -> list[Any]:
    arguments: list[Any] = [
        commit.claim.token, commit.newest.ms, commit.newest.seq, commit.version, commit.halted,
        "0" if commit.journal is None else "1", commit.journal or b"",
        "0" if commit.snapshot is None else "1", commit.journal_from,
        len(commit.offsets), len(commit.changed), len(commit.removed), len(commit.answered),
        len(commit.outputs),
    ]  # fmt: skip
    for stream, change in commit.offsets.items():
        arguments += (str(stream), str(change.expected), str(change.new))
    for name, value in commit.changed.items():
        arguments += (name, value)
    arguments += (*commit.removed, *commit.answered)
    for id_, entry in commit.outputs:
        has_last = entry.last is not None
        arguments += (
            int(entry.lane), id_.ms, id_.seq, entry.type, entry.key, entry.data, entry.cause,
            "1" if has_last else "0", entry.last if has_last else b"",
        )  # fmt: skip
    return arguments


def _record(
    slot: Slot,
    meta: Mapping[bytes, bytes],
    offsets: Mapping[bytes, bytes],
    state: Mapping[bytes, bytes],
    requests: Mapping[bytes, bytes],
) -> TaskRecord:
    return TaskRecord(
        slot=slot,
        offsets={Stream.parse(name): Offset.parse(_text(text)) for name, text in offsets.items()},
        state={_text(name): value for name, value in state.items()},
        newest=EntryId(int(meta.get(b"ms", 0)), int(meta.get(b"seq", 0))),
        commits=int(meta.get(b"commits", 0)),
        version=_text(meta.get(b"version", b"")),
        attempts=int(meta.get(b"attempts", 0)),
        trying=_text(meta.get(b"trying", b"")),
        halted=_text(meta.get(b"halted", b"")),
        requests={_text(name): data for name, data in sorted(requests.items())},
    )


def _snapshot_keys(slot: Slot) -> list[str]:
    return [key for place in range(SNAPSHOTS_MAX) for key in keys.snapshot(slot, place)]


def _pairs(reply: Any) -> dict[bytes, bytes]:
    """A hash inside the reply of a script or of a cluster's transaction is a flat list."""
    if isinstance(reply, dict):
        return cast("dict[bytes, bytes]", reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "surrogateescape")

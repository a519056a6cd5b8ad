"""Retention in Redis: what it needs to know of a slot, and its two ways to remove entries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgpack

from events.log import (
    Claim,
    EntryId,
    Fenced,
    Lane,
    LogError,
    LogFull,
    Slot,
    Stream,
    check_sizes,
)
from events.redis import keys
from events.redis.connect import Client
from events.redis.scripts import Script
from events.retained import LaneUse, Placed, SlotUse, Span, StalePlace, Trimmed

TRIM_ENTRIES_MAX = 100_000
"""Removed in one step: a server does nothing else meanwhile."""

LOOK, TRIM, SPILL, PUT = (Script(name) for name in ("look", "trim", "spill", "put"))
Run = Callable[[Script, Sequence[str], Sequence[Any]], Any]
Calls = Callable[[], AbstractContextManager[None]]


class RedisRetained:
    """See `events.retained.Retained`. Made by RedisLog, whose connections it uses."""

    def __init__(self, client: Client, run: Run, calls: Calls) -> None:
        self._client, self._run, self._calls = client, run, calls

    def look(self, slot: Slot) -> SlotUse:
        names = [keys.meta(slot), keys.segments(slot), *keys.lanes(slot)]
        seconds, micros, used, limit, full, above, records, lanes = self._run(LOOK, names, [])
        return SlotUse(
            slot=slot,
            now_ms=int(seconds) * 1000 + int(micros) // 1000,
            used_bytes=int(used),
            limit_bytes=int(limit),
            lanes=tuple(
                _lane_use(stream, row) for stream, row in zip(slot.streams(), lanes, strict=True)
            ),
            spans=tuple(_spans(records)),
            full=full.decode("utf-8", "replace"),
            full_above_bytes=int(above),
        )

    def trim(self, stream: Stream, below: EntryId, readers: Collection[str]) -> Trimmed:
        arguments = [int(stream.lane), below.ms, below.seq, TRIM_ENTRIES_MAX, *sorted(readers)]
        removed, more, records = self._run(TRIM, _names(stream), arguments)
        return Trimmed(int(removed), tuple(_spans(records)), bool(more))

    def spill(self, span: Span) -> bool:
        arguments = [
            int(span.stream.lane), str(span.first), str(span.last), str(span.last.next()),
            span.entries, _record(span),
        ]  # fmt: skip
        done = int(self._run(SPILL, _names(span.stream), arguments))
        if done == 2:
            raise LogError(
                f"{span.stream}: another number of entries than the {span.entries} of {span.path} "
                "was removed; somebody else removes entries of this stream: stop that"
            )
        return done == 1

    def put(self, claim: Claim, entries: Sequence[Placed]) -> None:
        check_sizes([placed.entry for placed in entries])
        slot = claim.slot
        args: list[Any] = [claim.token]
        for id_, new in entries:
            has_last = new.last is not None
            args += (
                int(new.lane), id_.ms, id_.seq, new.type, new.key, new.data, new.cause,
                "1" if has_last else "0", new.last if has_last else b"",
            )  # fmt: skip
        names = [keys.meta(slot), keys.last(slot), *keys.lanes(slot)]
        answer, *rest = (text.decode() for text in self._run(PUT, names, args))
        if answer == "fenced":
            raise Fenced(f"{slot} is no longer ours")
        if answer == "full":
            raise LogFull(f"{slot} takes no more: {rest[0]}")
        if answer == "behind":
            raise StalePlace(slot, EntryId(*map(int, rest[0].split("-", 1))))

    def spans(self, slots: Sequence[Slot]) -> dict[Stream, list[Span]]:
        found: dict[Stream, list[Span]] = {}
        with self._calls():
            for slot in slots:
                for span in _spans(self._client.hvals(keys.segments(slot))):
                    found.setdefault(span.stream, []).append(span)
        return found

    def spilled(self, slots: Collection[Slot]) -> dict[Stream, EntryId]:
        ordered = list(slots)
        with self._calls():
            if len(ordered) == 1:
                rows = [self._client.hgetall(keys.spilled(ordered[0]))]
            else:
                pipeline = self._client.pipeline(transaction=False)
                for slot in ordered:
                    pipeline.hgetall(keys.spilled(slot))
                rows = pipeline.execute() if ordered else []
        return {
            slot.stream(Lane(int(lane))): EntryId.parse(last)
            for slot, row in zip(ordered, rows, strict=True)
            for lane, last in row.items()
        }

    def keep(self, slot: Slot, copies: Mapping[str, bytes], gone: Collection[str] = ()) -> None:
        with self._calls():
            if copies:
                self._client.hset(keys.kept(slot), mapping=dict(copies))
            if gone:
                self._client.hdel(keys.kept(slot), *gone)

    def kept(self, slot: Slot) -> dict[str, bytes]:
        with self._calls():
            found = self._client.hgetall(keys.kept(slot))
        return {name.decode(): packed for name, packed in sorted(found.items())}

    def refuse(self, slot: Slot, why: str, *, above_bytes: int = 0) -> None:
        with self._calls():
            fields = {"full": why, "full_above": above_bytes}
            self._client.hset(keys.meta(slot), mapping=fields)


def _names(stream: Stream) -> list[str]:
    return [str(stream), keys.segments(stream.slot), keys.spilled(stream.slot)]


def _lane_use(stream: Stream, row: Sequence[Any]) -> LaneUse:
    length, added, first, last, memory, groups = row
    return LaneUse(
        stream=stream,
        length=int(length),
        entries_added=int(added),
        first_id=EntryId.parse(first) if first else None,
        last_id=EntryId.parse(last),
        memory_bytes=int(memory),
        offsets={
            groups[i].decode(): EntryId.parse(groups[i + 1]) for i in range(0, len(groups), 2)
        },
    )


def _record(span: Span) -> bytes:
    packed: bytes = msgpack.packb(
        [
            str(span.stream), str(span.first), str(span.last), span.entries, span.before,
            span.size_bytes, span.host, span.path,
        ]
    )  # fmt: skip
    return packed


def _spans(records: Iterable[bytes]) -> list[Span]:
    found = []
    for record in records:
        stream, first, last, *rest = msgpack.unpackb(record)
        found.append(Span(Stream.parse(stream), EntryId.parse(first), EntryId.parse(last), *rest))
    return sorted(found)

"""Entries of the log as lines for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from events.candles import CandleBatch
from events.codec import AnyEvent, BadEvent, UnknownEvent, decode
from events.log import Entry, EntryId, Lane, Log, Slot, Stream
from events.marks import Marks
from events.operations import ClockTick
from events.ticks import TickBatch
from events.views.moments import offset_text, three_times

TEXT_CHARS_MAX = 400
RECORDS_IN_JSON_MAX = 1_000
"""Ticks or candles of one batch that JSON shows; `count` tells the whole number."""
LOOK_BACK_MAX = 20_000
"""How many entries of a stream are looked through for wanted ones."""
PAGE_MAX = 200
SEQ_MAX = 2**64 - 1
FOLLOW_BLOCK_MS = 1_000
FOLLOW_COUNT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are shown: types without version, keys; empty means all."""

    types: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()

    def takes(self, entry: Entry) -> bool:
        name = entry.type.rpartition(".")[0]
        return (not self.types or name in self.types or entry.type in self.types) and (
            not self.keys or entry.key in self.keys
        )


EVERYTHING = Wanted()


def newest(
    log: Log, ends: Mapping[Stream, EntryId], *, count_max: int, wanted: Wanted = EVERYTHING
) -> list[Entry]:
    """The newest wanted entries up to the given ends of streams together, oldest first.

    Looks back at most LOOK_BACK_MAX entries per stream.
    """
    found = [
        entry
        for stream, end in ends.items()
        for entry in _newest(log, stream, end, count_max=count_max, wanted=wanted)
    ]
    found.sort(key=lambda entry: (entry.id, str(entry.stream)))
    return found[-count_max:] if count_max else []


def _newest(
    log: Log, stream: Stream, before: EntryId, *, count_max: int, wanted: Wanted
) -> list[Entry]:
    kept: list[Entry] = []
    looked = 0
    while len(kept) < count_max and looked < LOOK_BACK_MAX:
        page = log.newest(stream, count_max=PAGE_MAX, before=before)
        if not page:
            break
        looked += len(page)
        kept += [entry for entry in page if wanted.takes(entry)]
        oldest = page[-1].id
        before = (
            EntryId(oldest.ms, oldest.seq - 1) if oldest.seq else EntryId(oldest.ms - 1, SEQ_MAX)
        )
    return kept[:count_max]


def follow(
    log: Log, after: dict[Stream, EntryId], *, block_ms: int = FOLLOW_BLOCK_MS
) -> Iterator[Entry]:
    """Entries behind the given ids as they come, each stream in order; never ends."""
    while True:
        # The blocking read only wakes us; the plain one behind it sees every lane.
        if not log.read(after, count_max=1, block_ms=block_ms):
            continue
        found = log.read(after, count_max=FOLLOW_COUNT_MAX)
        entries = sorted(
            (entry for batch in found.values() for entry in batch),
            key=lambda entry: (entry.id, str(entry.stream)),
        )
        for stream, batch in found.items():
            after[stream] = batch[-1].id
        yield from entries


def streams_of(
    log: Log, *, namespace: str | None, writers: Sequence[str] | None, lanes: Sequence[Lane]
) -> list[Stream]:
    """Every stream that matches; `namespace` or `writers` None means all."""
    return [
        Stream(Slot(name, writer, number), lane)
        for name, partitions in sorted(log.namespaces().items())
        if namespace in (None, name)
        for writer, slots in (
            sorted(log.tasks.writers(name).items())
            if writers is None
            else [(writer, partitions) for writer in writers]
        )
        for number in range(slots)
        for lane in lanes
    ]


def line(entry: Entry) -> str:
    """One entry in a line: where, what, when and its most telling values."""
    slot = entry.stream.slot
    head = f"{entry.id} {slot.namespace}:{slot.partition} {entry.stream.lane.label} {entry.type}"
    return f"{head} {entry.key}  {summary(entry)}".rstrip()


def summary(entry: Entry) -> str:
    """When it happened and its most telling values."""
    try:
        text = _told(decode(entry))
    except (BadEvent, UnknownEvent) as error:
        text = f"cannot be read: {error}"
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"


def as_json(entry: Entry) -> dict[str, Any]:
    """One entry as plain values; what cannot be decoded is shown as hex."""
    slot = entry.stream.slot
    shown: dict[str, Any] = {
        "place": entry.place,
        "id": str(entry.id),
        "stream": str(entry.stream),
        "namespace": slot.namespace,
        "partition": slot.partition,
        "lane": entry.stream.lane.label,
        "type": entry.type,
        "key": entry.key,
        "cause": entry.cause,
    }
    try:
        shown["event"] = _values(decode(entry))
    except (BadEvent, UnknownEvent) as error:
        shown["error"] = str(error)
        shown["data_hex"] = entry.data.hex()
    return shown


def _told(event: AnyEvent) -> str:
    if isinstance(event, TickBatch):
        return _ticks_told(event)
    if isinstance(event, CandleBatch):
        last = event.candles[-1] if len(event) else None
        closes = f", last close {float(last['close']):.10g}" if last is not None else ""
        when = three_times(event.event_time_ms, event.offset_s)
        return f"{len(event)} candles{closes}; {when}"
    if isinstance(event, Marks):
        return f"{len(event.rows)} marks; {three_times(event.event_time_ms, event.offset_s)}"
    offset_s = getattr(event, "offset_s", 0)
    when = three_times(event.event_time_ms, offset_s)
    if isinstance(event, ClockTick):
        return f"{offset_text(offset_s)} {event.offset_source.name.lower()}; {when}"
    fields = event.model_dump(mode="json", exclude={"event_time_ms", "recv_time_ms"})
    told = " ".join(f"{name}={_short(value)}" for name, value in fields.items())
    return f"{when}; {told}"


def _ticks_told(batch: TickBatch) -> str:
    when = three_times(batch.event_time_ms, batch.offset_s)
    marks = f" [{batch.marks.name}]" if batch.marks else ""
    if not len(batch):
        return f"0 ticks{marks}; {when}"
    last = batch.ticks[-1]
    return (
        f"{len(batch)} ticks{marks}, bid {float(last['bid']):.10g} "
        f"ask {float(last['ask']):.10g}; {when}"
    )


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{len(value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_short(part)}" for name, part in value.items()) + "}"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _values(event: AnyEvent) -> dict[str, Any]:
    if isinstance(event, TickBatch):
        return _batch_values(event, event.ticks) | {"marks": int(event.marks)}
    if isinstance(event, CandleBatch):
        return _batch_values(event, event.candles) | {"timeframe": event.timeframe}
    if isinstance(event, Marks):
        return {
            "login": str(event.login),
            "event_time_ms": event.event_time_ms,
            "recv_time_ms": event.recv_time_ms,
            "offset_s": event.offset_s,
            "count": len(event.rows),
            "records": _records(event.rows),
        }
    return event.model_dump(mode="json")


def _batch_values(batch: TickBatch | CandleBatch, records: npt.NDArray[np.void]) -> dict[str, Any]:
    return {
        "symbol": batch.symbol,
        "event_time_ms": batch.event_time_ms,
        "recv_time_ms": batch.recv_time_ms,
        "offset_s": batch.offset_s,
        "offset_source": batch.offset_source.name.lower(),
        "count": len(records),
        "records": _records(records),
    }


def _records(records: npt.NDArray[np.void]) -> list[dict[str, Any]]:
    names = records.dtype.names or ()
    rows = records[:RECORDS_IN_JSON_MAX].tolist()
    return [dict(zip(names, row, strict=True)) for row in rows]

"""From the archive into a log: the same entries at the same ids, each once, however often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from events.archive.errors import ArchiveError
from events.archive.folder import ArchiveFolder
from events.archive.source import EntrySource, Wanted
from events.archive.stream_reading import Hole
from events.codec import EVENT_TYPES, MARKS
from events.log import BEGIN, OPERATOR, SOURCE, Claim, Entry, Log, NewEntry, Slot, Stream
from events.retained import Placed

PUT_ENTRIES_MAX = 500
PUT_BYTES_AIM = 2 * 1024 * 1024
ALIVE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Imported:
    """What one import did."""

    namespace: str
    into: str
    slots: int
    entries: int
    """Put into the log by this run."""
    holes: tuple[Hole, ...] = ()


def import_archive(
    folder: ArchiveFolder,
    log: Log,
    wanted: Wanted,
    *,
    into: str,
    holder: str,
    told: Callable[[Slot, int], None] = lambda _s, _n: None,
) -> Imported:
    """Put everything `wanted` into the namespace `into`, where it goes on behind what is there.

    Causes that name a place of the archived namespace then name the same place of `into`. Raises
    ArchiveError, ChunkDamaged, WriterHeld, LogFull, LogUnavailable: start again, it goes on.
    """
    source = EntrySource(None, folder)
    streams = source.streams(wanted)
    if not streams:
        known = ", ".join(folder.namespaces()) or "nothing"
        raise ArchiveError(f"{folder.root} holds nothing of {wanted.namespace!r}: it has {known}")
    log.open_namespace(into, source.partitions(wanted.namespace), "import")
    if log.origin(into) != "import":
        raise ArchiveError(f"namespace {into!r} is a terminal's own: choose another with --into")
    _open_writers(folder, log, streams, into)
    done = 0
    slots = [slot for slot, _ in groupby(streams, key=lambda stream: stream.slot)]
    for slot in slots:
        target = Slot(into, slot.writer, slot.partition)
        claim = log.claim(target, holder, alive_within_s=ALIVE_WITHIN_S)
        try:
            for count in _slot(source, log, wanted, claim, slot):
                done += count
                told(target, count)
        finally:
            log.release(claim)
    return Imported(wanted.namespace, into, len(slots), done, tuple(source.holes))


def _open_writers(folder: ArchiveFolder, log: Log, streams: Sequence[Stream], into: str) -> None:
    """Register who wrote, so that whoever reads the namespace sees all of it."""
    for stream in streams:
        if stream.slot.writer not in (SOURCE, OPERATOR, *log.tasks.writers(into)):
            chunk = folder.newest(stream)
            assert chunk is not None, "it was found by its chunks"
            log.tasks.open_group(into, stream.slot.writer, chunk.slots)


def _slot(source: EntrySource, log: Log, wanted: Wanted, claim: Claim, slot: Slot) -> Iterator[int]:
    """The entries of one slot in its order; yields how many each step put."""
    target = claim.slot
    own = Wanted(
        wanted.namespace, writers=(slot.writer,), lanes=wanted.lanes,
        partitions=(slot.partition,), from_ms=wanted.from_ms, until_ms=wanted.until_ms,
    )  # fmt: skip
    ends = {stream: log.info(target.stream(stream.lane)).last_id for stream in slot.streams()}
    newest = max(ends.values(), default=BEGIN)
    # A slot is put in the order of its ids: what lies before the newest one is there.
    after = dict.fromkeys(slot.streams(), newest)
    batch: list[Placed] = []
    size = 0
    for entry in source.entries(own, after=after):
        batch.append(Placed(entry.id, _new(entry, slot.namespace, target.namespace)))
        size += len(entry.data)
        if len(batch) >= PUT_ENTRIES_MAX or size >= PUT_BYTES_AIM:
            log.retained.put(claim, batch)
            log.beat(claim)
            yield len(batch)
            batch, size = [], 0
    if batch:
        log.retained.put(claim, batch)
        yield len(batch)


def _new(entry: Entry, archived: str, into: str) -> NewEntry:
    cause = entry.cause
    if into != archived and cause.startswith(f"{{{archived}:"):
        cause = f"{{{into}:" + cause.removeprefix(f"{{{archived}:")
    last = entry.data if keeps_last(entry.type) else None
    return NewEntry(entry.stream.lane, entry.type, entry.key, entry.data, cause, last)


def keeps_last(type_: str) -> bool:
    """Whether entries of this type stand in the last-state cache."""
    name = type_.rpartition(".")[0]
    kind = EVENT_TYPES.get(name)
    return name == MARKS or (kind is not None and kind.KEEP_LAST)

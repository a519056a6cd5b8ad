"""One worker of the persist group: acquire, read, build, store; after any error, start anew.

Reading and building go on while the former portion is being stored. Nothing in memory is
believed after an error: slots are acquired again and offsets read back from the database.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from consumers.persist import reading
from events.log import Entry, Log, LogError, Slot, Stream
from events.postgres import (
    DatabaseRefused,
    DatabaseUnavailable,
    OffsetMove,
    RowsRejected,
    Sink,
    SinkBatch,
    SinkFenced,
    StoredOffset,
)
from events.postgres.connection import backoff_s
from events.postgres.offsets import LEASE_S

logger = logging.getLogger(__name__)

GROUP = "persist"
WAIT_MS = 500
"""Longest sleep for new entries: a stop is heard within it."""
LINGER_S = 0.05
"""After a wake-up more entries are let come, so that a quiet market costs few transactions."""
BEAT_S = 1.0
MIRROR_S = 1.0
LOOK_S = 5.0
"""How often new namespaces, free slots and lost entries are looked for."""
LOOK_WITHOUT_SLOTS_S = 0.5


@dataclass(frozen=True, slots=True)
class PersistOptions:
    """What a worker needs. `slots` lists the slots to store; it is asked again now and then."""

    dsn: str
    open_log: Callable[[], Log]
    slots: Callable[[Log], Sequence[Slot]]
    holder: str
    group: str = GROUP
    lease_s: float = LEASE_S
    until_idle: bool = False
    accept_new_log: bool = False
    monotonic: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class Progress:
    """What a worker did since it started. Written by the worker, read by whoever shows it."""

    entries: int = 0
    ticks: int = 0
    rows: int = 0
    commits: int = 0
    dead: int = 0
    errors: int = 0
    last_error: str = ""
    held: tuple[Slot, ...] = ()
    halted: dict[Slot, str] = field(default_factory=dict)
    waiting: str = ""
    refused: str = ""
    """Why the worker ended for good."""


class PersistWorker:
    """Runs in its own thread until `stop` is set, the log is drained (`until_idle`), or the
    database refuses."""

    def __init__(self, options: PersistOptions, stop: threading.Event) -> None:
        self._options, self._stop = options, stop
        self.progress = Progress()

    def run(self) -> None:
        waits = backoff_s(random.Random())  # noqa: S311 - spreads retries, no secret
        while not self._stop.is_set():
            commits = self.progress.commits
            try:
                with _Session(self._options, self._stop, self.progress) as session:
                    session.run()
                return
            except DatabaseRefused as error:
                self.progress.refused = str(error)
                logger.error("%s", error)
                return
            except (DatabaseUnavailable, LogError, SinkFenced, RowsRejected) as error:
                self._tell(str(error))
            except Exception as error:
                logger.exception("persist worker failed; it starts anew")
                self._tell(f"{type(error).__name__}: {error}")
            if self.progress.commits > commits:
                waits = backoff_s(random.Random())  # noqa: S311 - as above
            self._stop.wait(next(waits))

    def _tell(self, text: str) -> None:
        """Once per trouble, not once per try."""
        self.progress.errors += 1
        self.progress.last_error = text
        if self.progress.waiting != text:
            logger.warning("%s: waiting, nothing is lost", text)
        self.progress.waiting = text


class _Session:
    """One life of a worker: a log, a sink, and the offsets of the slots it holds."""

    def __init__(self, options: PersistOptions, stop: threading.Event, progress: Progress) -> None:
        self._options, self._stop, self._progress = options, stop, progress
        self._monotonic = options.monotonic
        self._log = options.open_log()
        try:
            self._sink = Sink(
                options.dsn, options.group, holder=options.holder, lease_s=options.lease_s
            )
        except BaseException:
            self._log.close()
            raise
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="persist-write")
        self._stored: dict[Stream, StoredOffset] = {}
        self._read: dict[Stream, StoredOffset] = {}
        self._mirrored: dict[Stream, StoredOffset] = {}
        self._size = reading.ReadSize()
        self._writing: Future[None] | None = None
        self._next_look = self._next_beat = self._next_mirror = self._monotonic()

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(wait=True, cancel_futures=True)
        self._progress.held = ()
        self._sink.close()
        self._log.close()

    def run(self) -> None:
        """Until told to stop or, with `until_idle`, until everything is stored."""
        while not self._stop.is_set():
            self._look_around()
            found = self._read_more(block_ms=None)
            if not found:
                self._settle()
                if self._options.until_idle and self._is_idle():
                    break
                self._wait_for_more()
            for portion in reading.portions(found):
                self._store(portion)
                self._chores()
        self._settle()
        self._mirror()

    def _store(self, portion: list[Entry]) -> None:
        """Build rows while the former portion is being stored; then hand them over."""
        batch = self._sink.build(portion)
        after = reading.advanced(self._read, portion, batch.ticks_by_stream)
        moves = [OffsetMove(self._read[stream], offset) for stream, offset in after.items()]
        self._settle()
        self._read |= after
        self._writing = self._writer.submit(self._write, portion, batch, moves)

    def _write(self, portion: list[Entry], batch: SinkBatch, moves: list[OffsetMove]) -> None:
        """In the writer's thread."""
        try:
            self._sink.write(batch, moves)
        except RowsRejected as error:
            logger.warning("%s: storing %d entries one by one", error, len(portion))
            self._write_one_by_one(portion, {m.before.stream: m.before for m in moves})
        else:
            self._count(batch, len(portion))
        self._stored |= {move.after.stream: move.after for move in moves}

    def _write_one_by_one(self, portion: list[Entry], offsets: dict[Stream, StoredOffset]) -> None:
        """The database refuses some row of these: keep that entry raw, store all others."""
        for entry in portion:
            batch = self._sink.build([entry])
            after = reading.advanced(offsets, [entry], batch.ticks_by_stream)
            moves = [OffsetMove(offsets[entry.stream], after[entry.stream])]
            try:
                self._sink.write(batch, moves)
            except RowsRejected as error:
                batch = self._sink.build_buried(entry, str(error))
                self._sink.write(batch, moves)
            self._count(batch, 1)
            offsets |= after

    def _count(self, batch: SinkBatch, entries: int) -> None:
        progress = self._progress
        progress.commits += 1
        progress.entries += entries
        progress.rows += batch.row_count
        progress.ticks += sum(batch.ticks_by_stream.values())
        progress.dead += len(batch.dead)
        progress.waiting = ""
        for entry, reason in batch.dead:
            logger.error("%s is kept in dead_entries: %s", entry.place, reason)

    def _settle(self) -> None:
        """Wait for the portion being stored. Raises what storing raised."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _read_more(self, *, block_ms: int | None) -> dict[Stream, list[Entry]]:
        if not self._read:
            return {}
        found = self._log.read(
            reading.ends(self._read), count_max=self._size.count, block_ms=block_ms
        )
        self._size.learn(found)
        return found

    def _wait_for_more(self) -> None:
        """A blocking read only wakes: what it found is read again, all lanes alike."""
        if self._read:
            found = self._log.read(reading.ends(self._read), count_max=1, block_ms=WAIT_MS)
            if found and not self._options.until_idle:
                self._stop.wait(LINGER_S)
        else:
            self._stop.wait(LOOK_WITHOUT_SLOTS_S)
        self._chores()

    def _chores(self) -> None:
        now = self._monotonic()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_S
            self._sink.beat()
        if now >= self._next_mirror:
            self._next_mirror = now + MIRROR_S
            self._mirror()

    def _mirror(self) -> None:
        """Show the durable offsets where operators look for lag; nothing reads them back."""
        for stream, offset in list(self._stored.items()):
            if offset.entries and self._mirrored.get(stream) != offset:
                self._log.mirror(self._options.group, stream, offset.last, offset.entries)
                self._mirrored[stream] = offset

    def _look_around(self) -> None:
        """Take free slots; see whether held ones lost entries."""
        now = self._monotonic()
        if now < self._next_look:
            return
        self._next_look = now + (LOOK_S if self._read else LOOK_WITHOUT_SLOTS_S)
        self._settle()
        for offset in list(self._stored.values()):
            self._halt_if(offset.stream.slot, reading.entries_lost(self._log, offset))
        wanted = [slot for slot in self._options.slots(self._log) if slot not in self._halted]
        for slot, offsets in self._sink.acquire(wanted).items():
            self._begin(slot, offsets)
        self._progress.held = self._sink.slots

    def _begin(self, slot: Slot, offsets: Sequence[StoredOffset]) -> None:
        """Begin to store a slot, unless its log is not the one we stored from."""
        cut = next(filter(None, (reading.log_was_cut(self._log, each) for each in offsets)), "")
        if cut and (self._options.accept_new_log or getattr(self._log, "volatile", False)):
            logger.warning("%s: this log was begun anew; storing it from its beginning", cut)
            offsets, cut = self._sink.begin_anew(slot), ""
        begun = {each.stream: reading.counted_from_here(self._log, each) for each in offsets}
        self._stored |= begun
        self._read |= begun
        logger.info("storing %s from %s", slot, ", ".join(str(o.last) for o in begun.values()))
        self._halt_if(slot, cut)
        for offset in begun.values():
            self._halt_if(slot, reading.entries_lost(self._log, offset))

    @property
    def _halted(self) -> dict[Slot, str]:
        return self._progress.halted

    def _halt_if(self, slot: Slot, reason: str) -> None:
        """Stop storing a slot and say why; the others go on."""
        if not reason or slot in self._halted:
            return
        told = (
            f"{slot} is halted: {reason}. Restore the log from its newest copy and start again;"
            " or, if the log was meant to begin anew, start once with --accept-new-log"
        )
        logger.error("%s", told)
        self._halted[slot] = told
        self._sink.halt(slot, told)
        for stream in slot.streams():
            self._stored.pop(stream, None)
            self._read.pop(stream, None)

    def _is_idle(self) -> bool:
        """Whether every slot that is ours to store is stored to its end."""
        wanted = {slot for slot in self._options.slots(self._log) if slot not in self._halted}
        if wanted - set(self._sink.slots):
            return False
        for stream, offset in self._stored.items():
            info = self._log.info(stream)
            if info.length and info.last_id > offset.last:
                return False
        return True

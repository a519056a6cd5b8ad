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
from consumers.persist.share import SlotShare
from events.log import BEGIN, Entry, Log, LogError, Slot, Stream
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
WAIT_MS = 50
"""Longest sleep for new entries: a stop, or a slot that became free, is noticed within it."""
LINGER_S = 0.05
"""After a wake-up more entries are let come, so that a quiet market costs few transactions."""
BEAT_S = 1.0
MIRROR_S = 1.0
LOOK_S = 5.0
"""How often lost entries are looked for."""


@dataclass(frozen=True, slots=True)
class PersistOptions:
    """What a worker needs. `slots` lists the slots to store; it is asked again now and then.

    `holder` names the worker, unlike any other (`consumers.runtime.sharing.worker_name`).
    """

    dsn: str
    open_log: Callable[[], Log]
    slots: Callable[[Log], Sequence[Slot]]
    holder: str
    group: str = GROUP
    namespaces: tuple[str, ...] = ()
    """Those it stores; empty means all."""
    lease_s: float = LEASE_S
    until_idle: bool = False
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

    def __init__(
        self, options: PersistOptions, stop: threading.Event, halted: dict[Slot, str]
    ) -> None:
        self._options, self._stop = options, stop
        self.progress = Progress(halted=halted)

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
        self._share = SlotShare(
            self._log,
            self._sink,
            options.group,
            options.holder,
            slots=options.slots,
            halted=progress.halted,
            monotonic=options.monotonic,
        )
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
        self._share.leave()
        self._log.close()

    def run(self) -> None:
        """Until told to stop or, with `until_idle`, until everything is stored."""
        while not self._stop.is_set():
            self._look_around()
            found = self._read_more(block_ms=None)
            if not found:
                self._settle()
                self._progress.waiting = ""
                if self._options.until_idle and self._is_idle():
                    break
                self._wait_for_more()
            for portion in reading.portions(found):
                if self._stop.is_set():
                    break
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
            self._stop.wait(WAIT_MS / 1000)
        self._chores()

    def _chores(self) -> None:
        self._share.tend()
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
                self._log.mirror(self._reader(stream.slot), stream, offset.last, offset.entries)
                self._mirrored[stream] = offset

    def _look_around(self) -> None:
        """Hand over what is not ours to store, take what is; see whether entries were lost."""
        change = self._share.look()
        if change.surplus:
            self._hand_over(change.surplus)
        for slot, offsets in self._sink.acquire(sorted(change.missing)).items():
            self._begin(slot, offsets)
        if self._monotonic() >= self._next_look:
            self._next_look = self._monotonic() + LOOK_S
            self._check()
        self._progress.held = self._sink.slots

    def _check(self) -> None:
        """Halt what lost entries; go on where a halted slot was repaired."""
        self._settle()
        for offset in list(self._stored.values()):
            self._halt_if(offset.stream.slot, reading.not_whole(self._log, offset))
        for slot in self._sink.repaired(list(self._halted)):
            self._halted.pop(slot, None)

    def _hand_over(self, slots: frozenset[Slot]) -> None:
        """After the commit under way, so that the next holder begins where it ended."""
        self._settle()
        self._mirror()
        for slot in slots:
            self._forget(slot)
        self._sink.release(slots)
        logger.info("handed over: %s", ", ".join(map(str, sorted(slots))))

    def _forget(self, slot: Slot) -> None:
        for stream in slot.streams():
            for offsets in (self._stored, self._read, self._mirrored):
                offsets.pop(stream, None)

    def _reader(self, slot: Slot) -> str:
        """Its name among the readers of a stream."""
        return f"{self._options.group}.{slot.partition}"

    def _begin(self, slot: Slot, offsets: Sequence[StoredOffset]) -> None:
        """Begin to store a slot, unless its log is not the one we stored from."""
        self._log.tasks.join(self._reader(slot), slot.streams())
        self._log.tasks.leave(self._options.group, slot.streams())  # its name in older versions
        cut = next(filter(None, (reading.log_was_cut(self._log, each) for each in offsets)), "")
        if cut and getattr(self._log, "volatile", False):
            logger.warning("%s: this log was begun anew; storing it from its beginning", cut)
            offsets, cut = self._sink.begin_anew(slot), ""
        begun = {each.stream: reading.counted_from_here(self._log, each) for each in offsets}
        self._stored |= begun
        self._read |= begun
        logger.info("storing %s from %s", slot, ", ".join(str(o.last) for o in begun.values()))
        self._halt_if(slot, cut)
        for offset in begun.values():
            self._halt_if(slot, reading.not_whole(self._log, offset))

    @property
    def _halted(self) -> dict[Slot, str]:
        return self._progress.halted

    def _halt_if(self, slot: Slot, reason: str) -> None:
        """Stop storing a slot and say why; the others go on."""
        if not reason or slot in self._halted:
            return
        told = (
            f"{slot} is halted: {reason}. Look with `bridgectl repair --dry-run`, then run"
            " `bridgectl repair`: it goes back to the last entry that log and database share"
        )
        logger.error("%s", told)
        self._halted[slot] = told
        self._sink.halt(slot, told)
        self._forget(slot)

    def _is_idle(self) -> bool:
        """Whether every slot is stored to its end, by us or by others."""
        places = self._sink.places()
        for stream in (stream for slot in self._share.wanted() for stream in slot.streams()):
            info = self._log.info(stream)
            if info.length and info.last_id > places.get(stream, BEGIN):
                return False
        return True

"""Bulk import: tick files to tick batches in the log, each file exactly once.

A file has a cursor feed of its own (symbol and hash of its content), which tells how many of its
rows are in the log. It moves in the same step as the rows are appended, so an import that was
stopped anywhere goes on where it stood, and a file that is in the log is not imported again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Literal, NamedTuple

from events.clock_rules import ClockRule
from events.codec import encode
from events.log import LogError, LogUnavailable, NewEntry, StaleCursor, partition_of
from events.tick_files import TickFileError, TickSource
from events.tick_files.runs import Run, server_runs
from events.ticks import Mark, TickArray, TickBatch
from producers.append import Outcome, Writer

ENTRY_TICKS = 1_000
APPEND_ENTRIES = 32
"""Entries per append, some 2 MB. On a server that syncs each append to disk fewer were measured
to be slower, and so were 128."""
HELD_TICKS_MAX = 4_000_000
"""A file of at most so many ticks (240 MB) is checked and kept in memory; a larger one is read
twice when a fault shall stop it before anything is appended."""
READY_APPENDS_MAX = 8
ASK_AGAIN_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between questions to a log that does not answer; then the import gives up (and can be
started again)."""

_DONE = "done"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """`clock` is the server's clock rule, None when unknown; `file_clock` the one the files'
    times are in, None when it is the server's. Files in another clock need `clock`, unless
    their clock is to be taken as the server's."""

    clock: ClockRule | None = None
    file_clock: ClockRule | None = None
    lane: Literal["auto", "live", "history"] = "auto"
    """`history` puts ticks into the low lane, behind which live feeds go on undisturbed; `auto`
    does so for symbols that have a live feed in the log."""
    on_error: Literal["stop", "keep"] = "stop"
    entry_ticks: int = ENTRY_TICKS


@dataclass(frozen=True, slots=True)
class FileImport:
    """What became of one file."""

    symbol: str
    path: Path
    ticks: int
    """In the log now, from this file."""
    appended: int
    """By this run."""
    history: bool
    fault: str = ""
    """Where a damaged file was left (`on_error="keep"`)."""

    @property
    def already_there(self) -> bool:
        return self.appended == 0 and self.ticks > 0


class Progress(NamedTuple):
    """Told after each append."""

    source: TickSource
    ticks: int
    """Of this file in the log."""


def import_ticks(
    writer: Writer,
    sources: Sequence[TickSource],
    *,
    options: ImportOptions | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    sleep: Callable[[float], None] = time.sleep,
) -> list[FileImport]:
    """Append the ticks of every file, in order, each row once. `writer` is open.

    Raises TickFileError (nothing of that file was appended, unless `on_error="keep"`), Fenced,
    and LogUnavailable when the log stays away: start again, it goes on where it stood.
    """
    chosen = options or ImportOptions()
    return [_FileRun(writer, source, chosen, progress, now_ms, sleep).run() for source in sources]


def content_hash(path: Path) -> str:
    """Of the file's bytes. Raises TickFileError when it cannot be read."""
    digest = sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise TickFileError(path, f"cannot be opened: {error.strerror or error}") from error
    return digest.hexdigest()[:24]


class _Append(NamedTuple):
    """Entries of one append, and how many of the file's rows are in the log behind it."""

    entries: list[NewEntry]
    rows: int


class _FileRun:
    """One file on its way into the log."""

    def __init__(
        self,
        writer: Writer,
        source: TickSource,
        options: ImportOptions,
        progress: Callable[[Progress], None],
        now_ms: Callable[[], int],
        sleep: Callable[[float], None],
    ) -> None:
        self._writer, self._source, self._options = writer, source, options
        self._progress, self._now_ms, self._sleep = progress, now_ms, sleep
        self._partition = partition_of(source.symbol, writer.partitions)
        self._feed = f"import:{source.symbol}:{content_hash(source.path)}"
        self._fault = ""
        live = bool(writer.cursor(self._partition, f"ticks:{source.symbol}"))
        self._history = options.lane == "history" or (options.lane == "auto" and live)

    def run(self) -> FileImport:
        rows, done = self._in_log()
        begun = rows
        if not done:
            for step in _ahead(self._appends(rows)):
                self._append(step.entries, str(step.rows))
                rows = step.rows
                self._progress(Progress(self._source, rows))
            if not self._fault:
                self._append([], f"{rows} {_DONE}")
        return FileImport(
            self._source.symbol, self._source.path, rows, rows - begun, self._history, self._fault
        )

    def _in_log(self) -> tuple[int, bool]:
        """How many rows of this file the log holds, and whether that is all of them."""
        text = self._writer.cursor(self._partition, self._feed).rpartition("@")[0]
        rows, _, state = text.partition(" ")
        return int(rows or 0), state == _DONE

    def _appends(self, skip: int) -> Iterator[_Append]:
        """Everything behind the first `skip` rows."""
        entries: list[NewEntry] = []
        rows = done = 0
        for run in self._runs():
            rows += len(run.ticks)
            new = run.ticks[max(0, skip - (rows - len(run.ticks))) :]
            done = rows - len(new)
            for batch in self._batches(run, new):
                entries.append(encode(batch, history=self._history))
                done += len(batch)
                if len(entries) == APPEND_ENTRIES:
                    yield _Append(entries, done)
                    entries = []
        if entries:
            yield _Append(entries, done)

    def _batches(self, run: Run, ticks: TickArray) -> Iterator[TickBatch]:
        step = self._options.entry_ticks
        for begin in range(0, len(ticks), step):
            part = ticks[begin : begin + step]
            yield TickBatch(
                symbol=self._source.symbol,
                ticks=part,
                offset_s=run.offset_s,
                offset_source=run.offset_source,
                event_time_ms=int(part["time_msc"].max()) - run.offset_s * 1000,
                recv_time_ms=self._now_ms(),
                marks=Mark.IMPORTED,
            )

    def _runs(self) -> Iterator[Run]:
        if self._options.on_error == "stop":
            yield from _sound(self._read)
            return
        try:
            yield from self._read()
        except TickFileError as error:
            self._fault = str(error)

    def _read(self) -> Iterator[Run]:
        options = self._options
        return server_runs(self._source, clock=options.clock, file_clock=options.file_clock)

    def _append(self, entries: list[NewEntry], cursor: str) -> None:
        """Append and move the cursor. A lost reply is answered by asking the log."""
        moves = {self._feed: cursor}
        for wait_s in (*ASK_AGAIN_S, None):
            try:
                self._writer.append(self._partition, entries, moves)
                return
            except (LogUnavailable, StaleCursor) as error:
                if self._landed(moves, wait_s, error):
                    return

    def _landed(self, moves: dict[str, str], wait_s: float | None, error: LogError) -> bool:
        """Whether the append is in the log after all. Raises when the log stays silent."""
        if wait_s is None:
            raise error
        self._sleep(wait_s)
        try:
            outcome = self._writer.settle(self._partition, moves)[self._feed]
        except LogUnavailable:
            return False
        if outcome is Outcome.FOREIGN:
            raise LogError(f"{self._source.path} is being imported by somebody else") from error
        return outcome is Outcome.LANDED


def _sound(read: Callable[[], Iterator[Run]]) -> Iterator[Run]:
    """The runs of a file that was found sound to its end. Raises TickFileError before any."""
    held: list[Run] | None = []
    held_ticks = 0
    for run in read():
        if held is not None:
            held.append(run)
            held_ticks += len(run.ticks)
            held = held if held_ticks <= HELD_TICKS_MAX else None
    yield from read() if held is None else held


class _Failed(NamedTuple):
    error: BaseException


def _ahead(steps: Iterator[_Append]) -> Iterator[_Append]:
    """The steps, prepared by a thread while the log works on those before."""
    ready: Queue[_Append | _Failed | None] = Queue(READY_APPENDS_MAX)
    stopped = Event()

    def put(item: _Append | _Failed | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def prepare() -> None:
        try:
            for step in chain(steps, [None]):
                if not put(step):
                    return
        except Exception as error:
            put(_Failed(error))

    thread = Thread(target=prepare, name="tick-import", daemon=True)
    thread.start()
    try:
        while (step := ready.get()) is not None:
            if isinstance(step, _Failed):
                raise step.error
            yield step
    finally:
        stopped.set()
        thread.join()

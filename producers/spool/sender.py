"""From the spool to the log: in order, each row once, however often the log goes away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from events.log import Fenced, LogError
from producers.append import Outcome, Writer
from producers.report import Report
from producers.spool.file import Spool, SpoolFull, SpoolUnusable

FEED = "spool"
SEND_ENTRIES_MAX = 500
SEND_BYTES_MAX = 4 * 1024 * 1024
WAIT_S = 0.5
BACK_OFF_S = (0.05, 0.2, 0.5, 1.0, 2.0)
DRAIN_POLL_S = 0.02


class Sender:
    """A thread that appends what waits in the spool.

    The feed's cursor in each partition reads `SPOOL_ID:ROW`: rows up to ROW are in the log.
    """

    def __init__(self, spool: Spool, writer: Writer, report: Report) -> None:
        self._spool, self._writer, self._report = spool, writer, report
        self._rows: dict[int, int] = {}
        self._rewinds: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Find out what the log has, then send in the background. The writer must be open."""
        for partition in range(self._writer.partitions):
            self._adopt(partition)
        self._thread = threading.Thread(target=self._run, name="producer-spool", daemon=True)
        self._thread.start()

    def _adopt(self, partition: int) -> None:
        """Take the place to go on from out of the log's cursor. Where the log lost its tail
        that lies behind what was sent: rows sent not long ago are kept, and go once more."""
        self._rewinds[partition] = self._writer.rewinds(partition)
        spool_id, _, row = self._writer.cursor(partition, FEED).rpartition("@")[0].partition(":")
        at = int(row) if spool_id == self._spool.id and row.isdecimal() else 0
        self._spool.skip_to(at)
        self._rows[partition] = at
        self._spool.mark_sent(partition, at)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set() and self._writer.fenced is None:
            try:
                sent = self._send_round()
            except Fenced:
                return
            except (LogError, SpoolFull, SpoolUnusable) as error:
                self._report.incident("spool", str(error))
                self._stop.wait(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
                failures += 1
                continue
            failures = 0
            self._report.recovered("spool")
            if not sent:
                with self._spool.arrived:
                    if not self._spool.size.rows:
                        self._spool.arrived.wait(WAIT_S)

    def _send_round(self) -> int:
        return sum(self._send(partition) for partition in range(self._writer.partitions))

    def _send(self, partition: int) -> int:
        if self._writer.rewinds(partition) != self._rewinds[partition]:
            self._adopt(partition)
        row = self._rows[partition]
        waiting = self._spool.after(
            partition, row, count_max=SEND_ENTRIES_MAX, bytes_max=SEND_BYTES_MAX
        )
        if not waiting:
            return 0
        move = {FEED: f"{self._spool.id}:{waiting[-1].row}"}
        try:
            self._writer.append(partition, [entry for _, entry in waiting], move)
        except Fenced:
            raise
        except LogError:
            if self._writer.settle(partition, move)[FEED] is not Outcome.LANDED:
                self._adopt(partition)
                raise
        self._rows[partition] = waiting[-1].row
        self._spool.mark_sent(partition, waiting[-1].row, waiting)
        return len(waiting)

    def drain(self, within_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> bool:
        """Wait until nothing waits any more. Returns False when time was up before."""
        deadline = monotonic() + within_s
        while self._spool.size.rows:
            if monotonic() >= deadline or self._writer.fenced is not None:
                return False
            time.sleep(DRAIN_POLL_S)
        return True

    def stop(self) -> None:
        """End the thread. What still waits is sent at the next start."""
        self._stop.set()
        with self._spool.arrived:
            self._spool.arrived.notify_all()
        if self._thread is not None:
            self._thread.join()

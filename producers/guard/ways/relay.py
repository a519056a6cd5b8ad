"""From a guard's journal into the log: through the producer's spool, each row once.

How far the journal was taken over is written in the same transaction as the rows themselves, so
a crash anywhere neither loses nor doubles what a guard told.
"""

from __future__ import annotations

import logging
from threading import Event as Signal
from threading import Thread
from typing import Protocol

from events.log import ACCOUNT_PARTITION, Lane, LogError, NewEntry
from producers.guard.journal import HeardRow
from producers.spool.file import Spool, SpoolFull, SpoolUnusable
from producers.terminals.interface import TerminalLost

logger = logging.getLogger(__name__)

LOOK_S = 0.1
TROUBLE_S = 1.0
ROWS_MAX = 500


class GuardSource(Protocol):
    """A guard that is heard, near or far."""

    def identity(self) -> str:
        """Names its journal; empty while it has none."""
        ...

    def hear(self, after_row: int, count_max: int = ...) -> list[HeardRow]: ...


class GuardRelay:
    """A thread that takes over what a guard tells. `start` and `stop` once."""

    def __init__(self, source: GuardSource, spool: Spool) -> None:
        self._source, self._spool = source, spool
        self._stopping = Signal()
        self._thread = Thread(target=self._run, name="guard-relay", daemon=True)

    def start(self) -> None:
        """Relay in the background."""
        self._thread.start()

    def stop(self) -> None:
        """What is told until now is taken over, as far as it can be."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        trouble = ""
        while True:
            stopping = self._stopping.is_set()
            try:
                more = self.step()
                trouble = ""
            except (LogError, SpoolFull, SpoolUnusable, TerminalLost) as error:
                if str(error) != trouble:
                    logger.warning("what the guard tells waits in its journal: %s", error)
                more, trouble = False, str(error)
            if stopping and not more:
                return
            if not more:
                self._stopping.wait(TROUBLE_S if trouble else LOOK_S)

    def step(self) -> bool:
        """Take over what there is, up to ROWS_MAX rows; True when there may be more.

        Raises SpoolFull, SpoolUnusable, LogError (the journal), TerminalLost (a far guard).
        """
        identity = self._source.identity()
        if not identity:
            return False
        name = f"guard:{identity}"
        rows = self._source.hear(self._spool.place(name), ROWS_MAX)
        if rows:
            entries = [(ACCOUNT_PARTITION, _entry(row)) for row in rows]
            self._spool.put(entries, place=(name, rows[-1].row))
        return len(rows) >= ROWS_MAX


def _entry(row: HeardRow) -> NewEntry:
    last = row.data if row.keep_last else None
    return NewEntry(Lane(row.lane), row.type, row.key, row.data, last=last)

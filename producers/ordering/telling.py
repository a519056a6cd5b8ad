"""From the journal of orders into the log: through the producer's spool, each answer once.

How far the journal was taken over is written in the same transaction as the rows themselves, so a
crash anywhere neither loses nor doubles an answer.
"""

from __future__ import annotations

import logging
from threading import Event as Signal
from threading import Thread

from events.log import ACCOUNT_PARTITION, Lane, LogError, NewEntry
from producers.ordering.journal import HEAR_ROWS_MAX, AnswerRow, OrderJournal
from producers.spool.file import Spool, SpoolFull, SpoolUnusable

logger = logging.getLogger(__name__)

WAIT_S = 0.5
TROUBLE_S = 1.0


class AnswerTelling:
    """A thread that takes answers over as soon as they are there. `start` and `stop` once."""

    def __init__(self, journal: OrderJournal, spool: Spool) -> None:
        self._journal, self._spool = journal, spool
        self._name = f"orders:{journal.id}"
        self._stopping = Signal()
        self._thread = Thread(target=self._run, name="orders-telling", daemon=True)

    def start(self) -> None:
        """Tell in the background."""
        self._thread.start()

    def stop(self) -> None:
        """What is answered until now is taken over, as far as it can be."""
        self._stopping.set()
        with self._journal.told:
            self._journal.told.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def step(self) -> bool:
        """Take over what there is; True when there may be more.

        Raises SpoolFull, SpoolUnusable, OrderJournalUnusable.
        """
        rows = self._journal.hear(self._spool.place(self._name))
        if rows:
            entries = [(ACCOUNT_PARTITION, _entry(row)) for row in rows]
            self._spool.put(entries, place=(self._name, rows[-1].row))
            self._journal.heard(rows[-1].row)
        return len(rows) >= HEAR_ROWS_MAX

    def _run(self) -> None:
        trouble = ""
        while True:
            stopping = self._stopping.is_set()
            before = self._journal.told_count
            try:
                more = self.step()
                trouble = ""
            except (LogError, SpoolFull, SpoolUnusable) as error:
                if str(error) != trouble:
                    logger.warning("answers to intents wait in their journal: %s", error)
                more, trouble = False, str(error)
            if stopping and not more:
                return
            if trouble:
                self._stopping.wait(TROUBLE_S)
            elif not more:
                self._wait(before)

    def _wait(self, before: int) -> None:
        """Until there is another answer than before the last step, or it is time to look."""
        with self._journal.told:
            if self._journal.told_count == before and not self._stopping.is_set():
                self._journal.told.wait(WAIT_S)


def _entry(row: AnswerRow) -> NewEntry:
    return NewEntry(Lane(row.lane), row.type, row.key, row.data, row.cause)

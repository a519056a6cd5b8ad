"""A thread with its own connection to the log, which is made anew whenever it is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event as Signal
from threading import Thread

from events.log import Log, LogError

logger = logging.getLogger(__name__)

BACK_OFF_S = (0.2, 0.5, 1.0, 2.0)
HELD_S = 5.0
"""A connection that held so long was a good one: what then goes wrong is news."""


class LogThread:
    """Calls `follow` with a log until `stop`; `follow` returns soon once `stopping` is set, or to
    be called again with another connection.

    What keeps it from following is said once, not with every try. `who` begins those lines.
    """

    def __init__(
        self,
        name: str,
        open_log: Callable[[], Log],
        follow: Callable[[Log], None],
        *,
        who: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`open_log` may raise LogError, and so may `follow` when the log goes away."""
        self.stopping = Signal()
        self._open_log, self._follow, self._who = open_log, follow, who
        self._monotonic = monotonic
        self._failures, self._said = 0, ""
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Follow in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Returns when the connection is closed. Also without `start`."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                log = self._open_log()
            except LogError as error:
                self._failed(error)
            else:
                self._follow_until_lost(log)
            wait_s = BACK_OFF_S[min(max(self._failures - 1, 0), len(BACK_OFF_S) - 1)]
            self.stopping.wait(wait_s)

    def _follow_until_lost(self, log: Log) -> None:
        began_s = self._monotonic()
        try:
            self._follow(log)
            self._failures, self._said = 0, ""
        except LogError as error:
            if self._monotonic() - began_s >= HELD_S:
                self._failures, self._said = 0, ""
            self._failed(error)
        except Exception:
            logger.exception("%s failed", self._who)
            self._failures += 1
        finally:
            log.close()

    def _failed(self, error: LogError) -> None:
        self._failures += 1
        if str(error) != self._said:
            self._said = str(error)
            logger.warning("%s: %s", self._who, error)

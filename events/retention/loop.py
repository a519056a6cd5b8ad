"""Retention in a thread of its own, so that it never holds up what is being written."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

from events.log import LogError, Slot
from events.retention.keeper import Needs, Retention, nothing_needed

logger = logging.getLogger(__name__)

LOOK_S = 1.0
PRESSED_S = 0.02
"""Pause while memory is short."""
STOP_S = 30.0

Slots = Callable[[], Iterable[Slot]]
"""The slots that are ours now."""


class RetentionLoop:
    """Keeps slots until stopped; an error is told once and tried again."""

    def __init__(
        self,
        retention: Retention,
        slots: Slots,
        needs: Needs = nothing_needed,
        *,
        look_s: float = LOOK_S,
    ) -> None:
        self._retention, self._slots, self._needs, self._look_s = retention, slots, needs, look_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        self._told = ""
        self.trimmed = self.spilled = 0
        """Entries, since the start."""
        self.full: dict[Slot, str] = {}
        """Slots whose appends are refused, and why."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the slot that is being looked at."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def __enter__(self) -> RetentionLoop:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(PRESSED_S if self._round() else self._look_s)

    def _round(self) -> bool:
        """Every slot once. True while memory is short."""
        pressed = False
        try:
            for slot in self._slots():
                if self._stop.is_set():
                    return False
                done = self._retention.keep(slot, self._needs)
                self.trimmed += done.trimmed
                self.spilled += done.spilled
                if done.full:
                    self.full[slot] = done.full
                else:
                    self.full.pop(slot, None)
                pressed = pressed or (done.pressed and bool(done.trimmed or done.spilled))
        except LogError as error:
            self._tell(str(error))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if text != self._told:
                logger.exception("retention failed; it is tried again")
            self._tell(text)
        else:
            self._told = ""
        return pressed

    def _tell(self, text: str) -> None:
        if text != self._told:
            logger.warning("nothing is trimmed for now: %s", text)
        self._told = text

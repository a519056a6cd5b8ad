"""Server times of a tick file to UTC, in the order of the file."""

from __future__ import annotations

import numpy as np

from events.clock_rules import ClockRule
from events.tick_files.fields import Bools, Ints

STEP_BACK_MS = 5 * 60_000
"""A jump back by more than this inside a repeated hour begins its second showing."""


class SkippedTime(ValueError):
    """A time that the server's clock never showed. `row` counts from 0."""

    def __init__(self, row: int, server_ms: int, rule: ClockRule) -> None:
        time = np.datetime64(server_ms, "ms")
        super().__init__(
            f"the clock {rule} never showed {time}: say which clock the file has (file clock)"
        )
        self.row, self.server_ms = row, server_ms


class FileClock:
    """Finds the offset of each tick of a file whose times are a server's wall clock.

    When such a clock is put back, an hour is shown twice. A file has both hours in the order
    they happened, so the jump back between them tells which is which; where a quiet market
    shows no jump, the first showing is assumed. Chunks are taken in the order of the file.
    """

    def __init__(self, rule: ClockRule) -> None:
        self.rule = rule
        self.rows = 0
        self._time_ms = np.int64(0)
        self._repeated = False
        self._second = False

    def offsets_s(self, server_ms: Ints) -> Ints:
        """Server - UTC in seconds for the next rows. Raises SkippedTime."""
        first = self.rule.offsets_s_of_server(server_ms, fold=0)
        if not self.rule.switches or not len(server_ms):
            self.rows += len(server_ms)
            return first
        second = self.rule.offsets_s_of_server(server_ms, fold=1)
        self._refuse_skipped(server_ms, first, second)
        repeated = first > second
        if not repeated.any():
            self._repeated = self._second = False
            chosen = first
        else:
            is_second = self._second_showing(server_ms, repeated)
            self._repeated, self._second = bool(repeated[-1]), bool(is_second[-1])
            chosen = np.where(is_second, second, first)
        self._time_ms = server_ms[-1]
        self.rows += len(server_ms)
        return chosen

    def _second_showing(self, server_ms: Ints, repeated: Bools) -> Bools:
        """Rows behind a jump back that lies in the same run of repeated times."""
        before = np.concatenate([[self._time_ms], server_ms[:-1]])
        repeated_before = np.concatenate([[self._repeated], repeated[:-1]])
        jumps = repeated & repeated_before & (server_ms < before - STEP_BACK_MS)
        jumped = np.cumsum(jumps) + (1 if self._second else 0)
        begins = repeated & ~repeated_before
        at_begin = np.maximum.accumulate(np.where(begins, jumped, 0))
        found: Bools = repeated & (jumped > at_begin)
        return found

    def _refuse_skipped(self, server_ms: Ints, first: Ints, second: Ints) -> None:
        suspects = np.flatnonzero(first < second)
        if len(suspects):
            row = int(suspects[0])
            raise SkippedTime(self.rows + row, int(server_ms[row]), self.rule)

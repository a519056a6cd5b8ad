"""What is written down on the way: balance and equity, one row per interval in which something
changed, and how far the broker's clock was ahead of UTC."""

from __future__ import annotations

from itertools import repeat

import numpy as np
import numpy.typing as npt

from consumers.backtest.result import EquityCurve

INTERVAL_MS = 60_000
ROWS_MAX = 100_000
"""With more rows the interval is doubled and rows are merged, so that memory is bounded."""
OFFSETS_MAX = 1_000
"""Clocks are changed twice a year; more than that is late ticks of both sides of a change."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Row = tuple[int, float, float, float, int]


class CurveRecorder:
    """Takes stretches of a run in order; the account's balance holds over each of them."""

    def __init__(self, *, interval_ms: int = INTERVAL_MS, rows_max: int = ROWS_MAX) -> None:
        self._interval_ms, self._rows_max = interval_ms, rows_max
        self._rows: list[Row] = []

    def still(self, time_ms: int, balance: float) -> None:
        """Nothing is open; the balance stands."""
        if self._rows:
            last = self._rows[-1]
            if last[1] == balance and last[2] == balance and not last[4]:
                return
        self._add((time_ms, balance, balance, balance, 0))

    def stretch(self, times_ms: Ints, equity: Floats, *, balance: float, positions: int) -> None:
        """Ticks over which positions were open: `equity` at each of them."""
        if not len(times_ms):
            return
        begins = slot_begins(times_ms, self._interval_ms)
        ends = np.append(begins[1:], len(times_ms)) - 1
        rows = zip(
            times_ms[ends].tolist(), repeat(balance), equity[ends].tolist(),
            np.minimum.reduceat(equity, begins).tolist(), repeat(positions),
        )  # fmt: skip
        self._add(next(rows))  # it may belong to the row before
        self._rows.extend(rows)
        self._bound()

    def ended(self, time_ms: int, balance: float, equity: float, positions: int) -> None:
        """The last row, whatever changed."""
        self._add((time_ms, balance, equity, equity, positions))

    def curve(self) -> EquityCurve:
        columns = list(zip(*self._rows, strict=True)) if self._rows else [()] * 5
        return EquityCurve(
            np.array(columns[0], np.int64), np.array(columns[1], np.float64),
            np.array(columns[2], np.float64), np.array(columns[3], np.float64),
            np.array(columns[4], np.int64),
        )  # fmt: skip

    def _add(self, row: Row) -> None:
        if self._rows and _slot(self._rows[-1], self._interval_ms) == _slot(row, self._interval_ms):
            self._rows[-1] = _joined(self._rows[-1], row)
            return
        self._rows.append(row)
        self._bound()

    def _bound(self) -> None:
        while len(self._rows) > self._rows_max:
            self._interval_ms *= 2
            kept: list[Row] = []
            for one in self._rows:
                if kept and _slot(kept[-1], self._interval_ms) == _slot(one, self._interval_ms):
                    kept[-1] = _joined(kept[-1], one)
                else:
                    kept.append(one)
            self._rows = kept


class OffsetRecorder:
    """Takes every run of ticks in order."""

    def __init__(self) -> None:
        self._changes: list[tuple[int, int]] = []

    def look(self, time_ms: Ints, time_server_ms: Ints) -> None:
        """Times of the same ticks in UTC and as the broker's clock showed them."""
        if not len(time_ms):
            return
        first = int(time_server_ms[0] - time_ms[0]) // 1000
        ahead_ms = time_server_ms - time_ms
        if bool((ahead_ms == ahead_ms[0]).all()):
            if not self._changes or self._changes[-1][1] != first:
                self._change(int(time_ms[0]), first)
            return
        offsets_s = ahead_ms // 1000
        if not self._changes or self._changes[-1][1] != first:
            self._change(int(time_ms[0]), first)
        for row in (np.flatnonzero(offsets_s[1:] != offsets_s[:-1]) + 1).tolist():
            self._change(int(time_ms[row]), int(offsets_s[row]))

    def changes(self) -> tuple[tuple[int, int], ...]:
        """See `BacktestResult.offsets`."""
        return tuple(self._changes)

    def _change(self, time_ms: int, offset_s: int) -> None:
        if len(self._changes) < OFFSETS_MAX:
            self._changes.append((time_ms, offset_s))


def slot_begins(times_ms: Ints, interval_ms: int) -> npt.NDArray[np.intp]:
    """Where each stretch of times of one interval begins; there is at least one time. Where times
    only go forward the edges are searched for, since dividing every time takes longer than all
    else."""
    first, last = int(times_ms[0]) // interval_ms, int(times_ms[-1]) // interval_ms
    if last - first >= len(times_ms) or bool((times_ms[1:] < times_ms[:-1]).any()):
        slots = times_ms // interval_ms
        return np.append(0, np.flatnonzero(slots[1:] != slots[:-1]) + 1)
    edges = times_ms.searchsorted(np.arange(first + 1, last + 1) * interval_ms)
    return np.append(0, np.unique(edges))


def _slot(row: Row, interval_ms: int) -> int:
    return row[0] // interval_ms


def _joined(before: Row, row: Row) -> Row:
    time_ms, balance, equity, lowest, positions = row
    return (time_ms, balance, equity, min(before[3], lowest), positions)

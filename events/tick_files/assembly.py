"""Columns of numbers to MT5's tick records: unchanged values carried forward, flags filled in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from events.tick_files.fields import Bools, Floats, Ints
from events.ticks import TICK_DTYPE, TickArray

BID, ASK, LAST, VOLUME = 2, 4, 8, 16
"""MT5's TICK_FLAG_* bits."""
_NAMES = ("bid", "ask", "last", "volume")


class Prices(NamedTuple):
    """One column of numbers, and which rows have a value of their own."""

    values: Floats
    present: Bools


class TickRows:
    """Builds ticks block by block. An empty value means "as before" (MT5's export leaves out
    what did not change); before the first value it is 0, as in MT5's own rows."""

    def __init__(self) -> None:
        self._before = dict.fromkeys(_NAMES, 0.0)
        self._first = True

    def ticks(
        self,
        time_ms: Ints,
        columns: dict[str, Prices | None],
        flags: npt.NDArray[np.uint32] | None,
        *,
        rows: slice,
        keep: Bools,
    ) -> TickArray:
        """The rows of one block that are sound (`rows`) and wanted (`keep`)."""
        wanted = keep[rows]
        ticks = np.zeros(int(wanted.sum()), TICK_DTYPE)
        if not len(ticks):
            return ticks
        whole = bool(wanted.all())

        def pick(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
            return values[rows] if whole else values[rows][wanted]

        ticks["time_msc"] = pick(time_ms)
        ticks["time"] = ticks["time_msc"] // 1000
        before = dict(self._before)
        for name in _NAMES:
            column = columns.get(name)
            if column is not None:
                values = carried(pick(column.values), pick(column.present), self._before[name])  # type: ignore[arg-type] # floats and bools
                self._before[name] = float(values[-1])
                ticks["volume_real" if name == "volume" else name] = values
        ticks["volume"] = ticks["volume_real"].astype(np.uint64)
        ticks["flags"] = self._changes(ticks, before) if flags is None else pick(flags)
        self._first = False
        return ticks

    def _changes(self, ticks: TickArray, before: dict[str, float]) -> npt.NDArray[np.uint32]:
        """Flags of a file that has none: what differs from the tick before. A tick that changes
        nothing counts as bid and ask given anew, so that no flag filter hides it."""
        flags = np.zeros(len(ticks), np.uint32)
        for name, bit in (("bid", BID), ("ask", ASK), ("last", LAST), ("volume_real", VOLUME)):
            values = ticks[name]
            old = np.concatenate([[before["volume" if bit == VOLUME else name]], values[:-1]])
            flags |= np.where(values != old, bit, 0).astype(np.uint32)
        return np.where(flags == 0, np.uint32(BID | ASK), flags)


def carried(values: Floats, present: Bools, before: float) -> Floats:
    """Values with every absent one replaced by the last present one."""
    if present.all():
        return values
    places = np.where(present, np.arange(1, len(values) + 1), 0)
    np.maximum.accumulate(places, out=places)
    filled: Floats = np.concatenate([[before], values])[places]
    return filled

"""The usual answer: everything known, in the order it is known, and behind it what is new."""

from __future__ import annotations

import numpy as np

from events.ticks import TickArray
from producers.ticks.state import CursorLimits, CursorState, CursorStats, Request, Taken, all_good
from producers.ticks.window import common_prefix, masked


def take_onward(
    state: CursorState,
    request: Request,
    rows: TickArray,
    *,
    limits: CursorLimits,
    stats: CursorStats,
) -> tuple[CursorState, Taken] | None:
    """The state after a usual answer, and its new rows; None when anything about it is unusual.

    It begins with the known rows of the span byte for byte, and the times of the rows behind
    them go on from the newest known one and never fall.
    """
    window, hi_msc = state.window, state.hi_msc
    known = window.since(request.from_s)
    if hi_msc is None or not isinstance(known, slice) or len(rows) < known.stop - known.start:
        return None
    count = known.stop - known.start
    if common_prefix(window.rows[known], masked(rows[:count])) < count:
        return None
    fresh, full = rows[count:], len(rows) >= request.count
    times = np.ascontiguousarray(fresh["time_msc"])
    if len(fresh):
        falls = times[0] < hi_msc or (times[1:] < times[:-1]).any()
        if falls or not all_good(fresh):
            return None
        window, hi_msc = window.extended(fresh, times // 1000), int(times[-1])
    after = state.answered(
        request, limits, window=window, hi_msc=hi_msc, new=len(fresh), full=full, reached=True
    )
    if len(fresh):
        after = after.after_silence(state, times, limits)
    stats.answers += 1
    stats.rows += len(rows)
    stats.new += len(fresh)
    stats.gaps += len(after.gaps) > len(state.gaps)
    plain = np.zeros(len(fresh), np.bool_)
    taken = Taken(fresh, plain, plain, more=full, backfill=state.behind)
    return after.pruned(limits), taken

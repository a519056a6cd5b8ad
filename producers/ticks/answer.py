"""One answer of the terminal held against a cursor's state: what is new in it, and what next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from events.ticks import TickArray
from producers.ticks.onward import take_onward
from producers.ticks.state import (
    STEP_BACK_MS,
    CursorLimits,
    CursorState,
    CursorStats,
    Request,
    Taken,
    is_bad,
    runs_of,
)
from producers.ticks.window import (
    BoolArray,
    Int64Array,
    TickWindow,
    common_prefix,
    masked,
    match,
    seconds_of,
)

ALTERED_MAX = 10_000
"""How many changed rows are remembered, so that each is told once."""


@dataclass(frozen=True, slots=True)
class _Answer:
    rows: TickArray
    """Raw, without rows older than anything remembered."""
    masked: TickArray
    seconds: Int64Array
    runs: Int64Array
    full: bool
    unasked: int

    @property
    def times(self) -> Int64Array:
        times: Int64Array = self.masked["time_msc"]
        return times


@dataclass(frozen=True, slots=True)
class _Sorted:
    """Which rows are new, which stand for changed ones, and the window that follows."""

    new: BoolArray
    altered: BoolArray
    window: TickWindow
    vanished: int = 0
    compared: bool = False
    short: bool = False
    """Some known rows lie behind the end of the answer."""


def take(
    state: CursorState,
    request: Request,
    rows: TickArray,
    *,
    limits: CursorLimits,
    stats: CursorStats,
    known_altered: set[bytes],
) -> tuple[CursorState, Taken]:
    """The state after an answer to `request`, and what it brought."""
    onward = take_onward(state, request, rows, limits=limits, stats=stats)
    if onward is not None:
        return onward
    answer = _read(rows, request, state)
    found = _sort(answer, request, state.window)
    hi_msc, stepped = _newest(answer, found.new, state, limits)
    new = answer.rows[found.new]
    late = _late(answer, found.new, state.hi_msc, stepped=stepped)
    after = state.answered(
        request,
        limits,
        window=found.window,
        hi_msc=hi_msc,
        new=len(new),
        full=answer.full,
        reached=not answer.full or _reaches(answer, state.hi_msc),
        resume_s=_resume_s(answer, request, found),
    )
    if stepped:
        assert hi_msc is not None
        after = after.put_back(hi_msc, limits)
    elif state.hi_msc is not None:
        onward_times = answer.times[found.new & (answer.times > state.hi_msc)]
        after = after.after_silence(state, onward_times, limits)
    taken = Taken(
        new=new,
        late=late,
        bad=is_bad(new),
        more=answer.full,
        backfill=state.behind or (bool(state.gaps) and bool(late.any())),
        stepped_back=stepped,
        altered=_first_seen(answer, found.altered, known_altered),
    )
    _count(stats, answer, taken, found)
    stats.gaps += len(after.gaps) > len(state.gaps)
    return after.pruned(limits), taken


def _read(rows: TickArray, request: Request, state: CursorState) -> _Answer:
    full = len(rows) >= request.count
    copy = masked(rows)
    seconds = seconds_of(copy, request.from_s)
    runs = runs_of(copy["time_msc"])
    unasked = (seconds < min(request.from_s, state.floor_s)) & (runs == 0)
    if unasked.any():
        asked = ~unasked
        rows, copy, seconds, runs = rows[asked], copy[asked], seconds[asked], runs[asked]
    return _Answer(rows, copy, seconds, runs, full, int(np.count_nonzero(unasked)))


def _sort(answer: _Answer, request: Request, window: TickWindow) -> _Sorted:
    from_s = request.from_s
    if len(answer.seconds):
        from_s = min(from_s, int(answer.seconds.min()))
    view = window.since(from_s)
    known = window.rows[view]
    placed = bool((answer.times > 0).all())
    if placed and common_prefix(known, answer.masked) == len(known):
        new = np.ones(len(answer.rows), np.bool_)
        new[: len(known)] = False
        fresh = slice(len(known), None)
        grown = window.extended(answer.masked[fresh], answer.seconds[fresh])
        return _Sorted(new, np.zeros(len(new), np.bool_), grown)
    return _compare(answer, window, view)


def _compare(answer: _Answer, window: TickWindow, view: slice | BoolArray) -> _Sorted:
    known, seconds = window.rows[view], window.seconds[view]
    timeless = np.zeros(len(window), np.bool_)
    if (answer.times <= 0).any():  # may stand anywhere: compare with every such row remembered
        timeless = (window.rows["time_msc"] <= 0) & (window.rows["time"] <= 0)
    in_view = timeless.copy()
    in_view[view] = True
    if timeless.any():
        known, seconds = window.rows[in_view], window.seconds[in_view]
    found = match(known, answer.masked)
    end_s = int(answer.seconds.max()) - int(answer.full) if len(answer.seconds) else -1
    covered = seconds <= end_s
    absent = found.absent & covered
    altered = found.new & _replaces(answer.times, found.new, known["time_msc"][absent])
    before = window.absences[in_view]
    absences = window.absences.copy()
    absences[in_view] = np.where(absent, np.minimum(before + 1, 2), 0)
    stay = ~in_view
    stay[in_view] = found.absent
    kept = ~altered
    return _Sorted(
        new=found.new & kept,
        altered=altered,
        window=window.rewritten(stay, absences, answer.masked[kept], answer.seconds[kept]),
        vanished=int(np.count_nonzero(absent & (before == 1))),
        compared=True,
        short=bool((found.absent & ~covered).any()),
    )


def _replaces(times: Int64Array, new: BoolArray, lost: Int64Array) -> BoolArray:
    """New rows that stand at the millisecond of a lost one, at most as many as were lost."""
    replaces = np.zeros(len(times), np.bool_)
    if not len(lost):
        return replaces
    moments, counts = np.unique(lost, return_counts=True)
    for place in np.flatnonzero(new & np.isin(times, moments)):
        at = np.searchsorted(moments, times[place])
        replaces[place] = counts[at] > 0
        counts[at] -= 1
    return replaces


def _newest(
    answer: _Answer, new: BoolArray, state: CursorState, limits: CursorLimits
) -> tuple[int | None, bool]:
    """The newest tick taken, and whether the clock was put back on the way to it."""
    timed, hi_msc = answer.times > 0, state.hi_msc
    if not timed.any():
        return hi_msc, False
    last = timed & (answer.runs == answer.runs[-1])
    fresh = new & last
    usable = fresh & ~is_bad(answer.masked)
    usable = usable if usable.any() else fresh
    newest = int(answer.times[usable].max()) if usable.any() else None
    if hi_msc is None or (newest is None and answer.runs[-1] == 0):
        return (hi_msc if newest is None else newest), False
    if answer.runs[-1] > 0:
        tail = answer.times[last]
        top = int(tail.max())
        goes_on = top > tail[0]  # no single stray row
        if hi_msc > top + STEP_BACK_MS and goes_on and state.can_be_put_back(top, limits):
            return (top if newest is None else newest), True
        if hi_msc > top:
            return hi_msc, False
    return (hi_msc if newest is None else max(hi_msc, newest)), False


def _late(answer: _Answer, new: BoolArray, hi_msc: int | None, *, stepped: bool) -> BoolArray:
    """Which of the new rows are older than one taken before, each run of the clock by itself."""
    late = np.zeros(int(np.count_nonzero(new)), np.bool_)
    times, runs = answer.times[new], answer.runs[new]
    present = int(answer.runs[-1]) if len(answer.runs) else 0
    for run in np.unique(runs):
        mine = runs == run
        known = answer.times[~new & (answer.runs == run)]
        seed = int(known.max()) if len(known) else 0
        if hi_msc is not None and run == present - int(stepped):
            seed = hi_msc  # known rows beyond it were taken before the clock was put back
        before = np.maximum.accumulate(np.concatenate(([seed], times[mine])))[:-1]
        late[mine] = (times[mine] < before) & (times[mine] > 0)
    return late


def _reaches(answer: _Answer, hi_msc: int | None) -> bool:
    """Whether a page that was cut off still covers everything up to the newest known tick."""
    return hi_msc is None or not len(answer.times) or int(answer.times[-1]) >= hi_msc


def _resume_s(answer: _Answer, request: Request, found: _Sorted) -> int | None:
    """Where to ask again when an answer ended early: terminals may cap their answers."""
    if answer.full or not found.short or not len(answer.seconds) or found.new.any():
        return None
    last_s = int(answer.seconds[-1])
    return last_s if last_s > request.from_s else None


def _first_seen(answer: _Answer, altered: BoolArray, known: set[bytes]) -> TickArray:
    places = [p for p in np.flatnonzero(altered) if answer.masked[p].tobytes() not in known]
    if len(known) > ALTERED_MAX:
        known.clear()
    known.update(answer.masked[p].tobytes() for p in places)
    return answer.rows[places]


def _count(stats: CursorStats, answer: _Answer, taken: Taken, found: _Sorted) -> None:
    stats.answers += 1
    stats.rows += len(answer.rows)
    stats.new += len(taken.new)
    stats.late += int(np.count_nonzero(taken.late))
    stats.bad += int(np.count_nonzero(taken.bad))
    stats.altered += len(taken.altered)
    stats.vanished += found.vanished
    stats.compared += found.compared
    stats.unasked += answer.unasked
    stats.steps_back += taken.stepped_back

"""The place of a reader in one symbol's ticks: nothing lost, nothing twice (no I/O, no clock).

    from_s, count = cursor.request()              # ask copy_ticks_from(symbol, from_s, count, ALL)
    taken = cursor.take(rows)                     # proposes: taken.new in the order of the answer
    text = cursor.cursor_text()                   # goes into the log in one step with the ticks
    cursor.commit(); cursor.appended(entry_id)    # they are in the log; or:
    cursor.abandon()                              # they are not: the same ticks come again

Times are the server's wall clock. Every request reaches back into what is known, because ticks
come late, several share a millisecond and identical rows are legal; an answer is compared with
the remembered window as a multiset. From time to time, and after gaps, it reaches back further.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from events.log import BEGIN, EntryId
from events.ticks import TICK_DTYPE, TickArray
from producers.ticks import answer
from producers.ticks.place import CursorPlace, EntryTrail
from producers.ticks.state import (
    STEP_BACK_MS,
    CursorLimits,
    CursorState,
    CursorStats,
    Gap,
    Request,
    Taken,
    TwiceSince,
)
from producers.ticks.window import TickWindow, masked, seconds_of

PROPOSALS_MAX = 64
"""How many answers may be taken and not yet committed."""


@dataclass(frozen=True, slots=True)
class _Proposal:
    state: CursorState
    total_before: int
    oldest_s: int
    newest_s: int


class TickCursor:
    """Not thread-safe: one poller drives it."""

    def __init__(
        self,
        start_s: int,
        *,
        limits: CursorLimits | None = None,
        window_from: EntryId = BEGIN,
        twice_since_s: TwiceSince | None = None,
    ) -> None:
        """A first start: ticks of the server second `start_s` and later.

        `twice_since_s`: what is known of hours that the server's clock shows twice
        (`BrokerClock.twice_since_s`). Without it, a clock put back is found by its traces.
        `window_from`: no entry of this symbol lies before it in the log (saves reading later).
        """
        self.limits = limits or CursorLimits()
        self.stats = CursorStats()
        self._twice_since_s = twice_since_s or _once
        self._done = self._tip = CursorState(TickWindow.empty(), begin_s=start_s)
        self._trail = EntryTrail(window_from)
        self._proposals: deque[_Proposal] = deque()
        self._altered: set[bytes] = set()
        self._landed: _Proposal | None = None
        self._asked: Request | None = None
        self._low_quote: int | None = None
        self._first_answer: tuple[int, int, int] | None = None
        self._warmups_left = self.limits.warmup_tries

    @staticmethod
    def parse(text: str) -> CursorPlace:
        """Read a cursor's text as the log stored it, with or without the entry behind `@`."""
        return CursorPlace.parse(text)

    @classmethod
    def resume(
        cls,
        text: str,
        entries: Iterable[tuple[EntryId, TickArray]],
        *,
        limits: CursorLimits | None = None,
        twice_since_s: TwiceSince | None = None,
    ) -> TickCursor:
        """The cursor whose text the log holds. `entries`: the symbol's tick entries from the
        text's `window_from` to its last entry, in order."""
        place = cls.parse(text)
        parts = [rows for _, rows in entries if len(rows)]
        cursor = cls(0, limits=limits, twice_since_s=twice_since_s)
        cursor.restore(
            np.concatenate(parts) if parts else np.empty(0, TICK_DTYPE), place.hi_msc, place=place
        )
        return cursor

    def restore(
        self, window_rows: TickArray, hi_msc: int | None, *, place: CursorPlace | None = None
    ) -> None:
        """Begin again from ticks of our own log, in the order they were appended.

        They must be all that was appended from some entry on: what is older is taken for
        unknown and never asked for. `hi_msc` is the newest of the present run of the clock,
        `place` the parsed text of the cursor (without it the next texts name the log's begin).
        """
        rows = masked(_checked(window_rows))
        if hi_msc is None and len(rows) and rows["time_msc"].max() > 0:
            hi_msc = int(rows["time_msc"].max())
        hi_s = 0 if hi_msc is None else hi_msc // 1000
        place = place or CursorPlace(hi_msc=hi_msc, total=len(rows), rows=len(rows) + 1)
        seconds = seconds_of(rows, hi_s)
        complete_s = place.complete_s
        if len(rows) < place.rows:  # the log was trimmed: its first second may be cut in two
            complete_s = max(complete_s, int(seconds[0]) + 1 if len(rows) else hi_s)
        window = TickWindow.empty().extended(rows, seconds)
        state = CursorState(
            window,
            begin_s=complete_s,
            complete_s=0 if len(rows) >= max(place.total, place.rows) else complete_s,
            hi_msc=hi_msc,
            total=place.total,
        )
        if hi_msc is not None:
            back_s = hi_s - self.limits.keep_s if place.reread_s is None else place.reread_s
            state = state.with_gap(Gap(max(complete_s, back_s)))
        self._reset(state, EntryTrail(place.window_from))
        if len(rows):
            self._trail.appended(
                place.last_entry or place.window_from,
                total_before=place.total - len(rows),
                oldest_s=int(seconds.min()),
                newest_s=int(seconds.max()),
            )
        self._warmups_left = 0

    def rewind(self, server_s: int) -> None:
        """Pull again from this server second on, and look for its back-fill for some time.

        Reaches no further back than what is remembered (`window_begin_s`).
        """
        if self._tip.hi_msc is not None:
            self._settle(self._tip.with_gap(Gap(max(server_s, self._tip.floor_s))))

    def request(self) -> tuple[int, int]:
        """(server second, count) to ask for. May be asked any number of times."""
        self._asked = self._tip.request(self.limits, self._twice_since_s)
        return self._asked.from_s, self._asked.count

    def take(self, rows: TickArray) -> Taken:
        """Hold the answer to the last `request` against what is known.

        Pass no answer that is unknown (None): just ask again. New ticks are a proposal until
        `commit` or `abandon`; further answers may be taken meanwhile (they build on it) and are
        committed in order. Raises ValueError for rows of another dtype.
        """
        if self._asked is None:
            raise RuntimeError("take() without request(): nothing was asked for")
        rows = _checked(rows)
        if self._warming(rows, self._asked):
            return Taken.nothing(more=len(rows) >= self._asked.count, warming=True)
        state, taken = answer.take(
            self._tip,
            self._asked,
            rows,
            limits=self.limits,
            stats=self.stats,
            known_altered=self._altered,
        )
        if not len(taken.new):
            self._settle(state)
            return taken
        if len(self._proposals) >= PROPOSALS_MAX:
            raise RuntimeError(f"{PROPOSALS_MAX} answers taken and none committed")
        oldest_s, newest_s = _span_s(taken.new, state.floor_s)
        total_before = self._tip.total
        self._tip = state
        self._proposals.append(_Proposal(state, total_before, oldest_s, newest_s))
        return taken

    def commit(self) -> None:
        """The oldest proposal is in the log. Without one, nothing happens."""
        if self._proposals:
            proposal = self._proposals.popleft()
            self._done = proposal.state
            self._landed = proposal

    def abandon(self) -> None:
        """No proposal counts: their ticks will be asked for and taken again."""
        self._proposals.clear()
        self._tip = self._done
        self._asked = None

    def appended(self, entry_id: EntryId) -> None:
        """The rows of the last commit lie in entries up to this one (first, last or each)."""
        landed, self._landed = self._landed, None
        if landed is None:
            self._trail.reached(entry_id)
            return
        self._trail.appended(
            entry_id,
            total_before=landed.total_before,
            oldest_s=landed.oldest_s,
            newest_s=landed.newest_s,
        )
        self._trail.forget(self._floor_s(self._done))

    def quote_seen(self, time_msc: int) -> bool:
        """Tell the time of the newest quote. True when it shows that the clock was put back.

        Saves time only: without it a clock put back is found by the regular deep readings.
        """
        tip = self._tip
        lower = tip.hi_msc is not None and 0 < time_msc < tip.hi_msc - STEP_BACK_MS
        if not lower or not tip.can_be_put_back(time_msc, self.limits):
            self._low_quote = None
            return False
        low, self._low_quote = self._low_quote, time_msc
        if low is None or time_msc <= low:
            return False
        self._low_quote = None
        self.stats.steps_back += 1
        self._settle(self._tip.put_back(low, self.limits))
        return True

    def cursor_text(self) -> str:
        """The text for the log, for the state after everything taken so far."""
        tip = self._tip
        floor_s = self._floor_s(tip)
        window_from, total_before = self._trail.window_from(floor_s)
        place = CursorPlace(
            hi_msc=tip.hi_msc,
            total=tip.total,
            window_from=window_from,
            rows=tip.total - total_before,
            complete_s=max(tip.floor_s, floor_s),
            reread_s=min((gap.from_s for gap in tip.gaps), default=None),
        )
        return str(place)

    @property
    def hi_msc(self) -> int | None:
        """Newest tick committed, server clock in ms (None before the first)."""
        return self._done.hi_msc

    @property
    def total(self) -> int:
        """Ticks committed since the first start of the symbol, over all restarts."""
        return self._done.total

    @property
    def window_begin_s(self) -> int:
        """From this server second on every tick taken is remembered; nothing older is asked."""
        return self._tip.floor_s

    @property
    def window_rows(self) -> int:
        return len(self._tip.window)

    @property
    def open_gaps(self) -> int:
        """Spans whose back-fill is still looked for."""
        return len(self._tip.gaps)

    def _reset(self, state: CursorState, trail: EntryTrail) -> None:
        self._done = self._tip = state
        self._trail = trail
        self._proposals.clear()
        self._altered.clear()
        self._landed = self._asked = self._low_quote = self._first_answer = None

    def _settle(self, state: CursorState) -> None:
        """Take over a state that brought no ticks: it stands or falls with the last proposal."""
        self._tip = state
        if self._proposals:
            self._proposals[-1] = replace(self._proposals[-1], state=state)
        else:
            self._done = state

    def _floor_s(self, state: CursorState) -> int:
        floor_s = state.reread_from_s(self.limits)
        return state.floor_s if floor_s is None else floor_s

    def _warming(self, rows: TickArray, asked: Request) -> bool:
        """A first answer counts when the next one holds as many rows up to its last whole second:
        a terminal that is still loading its history answers with what it has."""
        if self._warmups_left <= 0:
            return False
        self._warmups_left -= 1
        seconds = seconds_of(rows, asked.from_s)
        if self._first_answer is not None:
            from_s, closed_s, count = self._first_answer
            if from_s == asked.from_s and count == np.count_nonzero(seconds <= closed_s):
                self._warmups_left = 0
                return False
        closed_s = int(seconds.max()) - 1 if len(rows) else asked.from_s
        closed = int(np.count_nonzero(seconds <= closed_s))
        self._first_answer = (asked.from_s, closed_s, closed)
        return self._warmups_left > 0


def _once(server_s: int) -> int:
    return server_s


def _span_s(rows: TickArray, otherwise: int) -> tuple[int, int]:
    """The oldest and the newest server second of rows."""
    times = rows["time_msc"]
    if times.min() > 0:
        return int(times.min()) // 1000, int(times.max()) // 1000
    seconds = seconds_of(rows, otherwise)
    return int(seconds.min()), int(seconds.max())


def _checked(rows: TickArray) -> TickArray:
    if rows.dtype != TICK_DTYPE or rows.ndim != 1:
        raise ValueError(f"{rows.dtype} of shape {rows.shape} are no ticks (see TICK_DTYPE)")
    return rows

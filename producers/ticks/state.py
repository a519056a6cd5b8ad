"""What a tick cursor knows, what it asks for next, and how one answer changes it (no I/O)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from events.ticks import TICK_DTYPE, TickArray
from producers.ticks.window import BoolArray, Int64Array, TickWindow

STEP_BACK_MS = 300_000
"""A newest tick this far below the one before means that the server's clock was put back."""
TwiceSince = Callable[[int], int]
"""Gives the begin of the hour shown twice that holds a server second, else the second."""

GAPS_MAX = 64
IDLE_SHALLOW = 4
"""Every so many-th answer in a row that brings nothing, ask from the newest second only: a
terminal may cap its answers below what is known of the seconds before."""
IDLE_DEEP = 16
IDLE_DEEP_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorLimits:
    """How far back a cursor reads again, and how much it remembers. Seconds of server time."""

    page: int = 10_000
    """New ticks one answer may bring; the count asked for is this and every known row."""
    reread_s: int = 15
    """Read again with every request: ticks come up to seconds late."""
    deep_s: int = 300
    """Read again with every `deep_every`-th request."""
    deep_every: int = 32
    silence_s: int = 60
    """A longer silence may be an outage that is filled in later."""
    settle_s: int = 300
    """How long after a gap its back-fill is looked for."""
    keep_s: int = 3_900
    """Remembered, so that a clock put back by an hour doubles nothing."""
    rows_max: int = 400_000
    """Bound of the memory (60 bytes a row), whatever the seconds above say."""
    warmup_tries: int = 5
    """Answers a first start waits for two that agree (a terminal still loading gives few rows)."""

    def __post_init__(self) -> None:
        if min(self.page, self.reread_s, self.deep_every, self.rows_max) < 1:
            raise ValueError("page, reread_s, deep_every and rows_max of a cursor are at least 1")
        if not self.reread_s <= self.deep_s <= self.keep_s:
            raise ValueError("a cursor needs reread_s <= deep_s <= keep_s")


@dataclass(frozen=True, slots=True)
class Gap:
    """A span that may still be filled in: read again from `from_s` until some time after
    `end_msc` (None until the first answer that reaches the present)."""

    from_s: int
    end_msc: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """Ask for `count` ticks from the server second `from_s` on."""

    from_s: int
    count: int
    deep: bool = False


@dataclass(slots=True)
class CursorStats:
    """Counters since the cursor was made; never reset."""

    answers: int = 0
    rows: int = 0
    new: int = 0
    late: int = 0
    bad: int = 0
    altered: int = 0
    """Rows that stand where a row taken before stood, with other values: kept back, not taken."""
    vanished: int = 0
    """Rows taken that two answers in a row lacked, though they covered their second."""
    compared: int = 0
    """Answers that did not simply continue what was known."""
    unasked: int = 0
    """Rows older than anything remembered, though not asked for."""
    steps_back: int = 0
    gaps: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What one answer brought. Masks have one element per row of `new`."""

    new: TickArray
    """Rows not taken before, in the order of the answer, with their raw flags."""
    late: BoolArray
    """Older than a tick taken before (in the same run of the server's clock)."""
    bad: BoolArray
    """Without time or prices: data, but no quote."""
    more: bool = False
    """The answer was as long as asked for: ask again at once."""
    backfill: bool = False
    """Pulled while catching up, or late ticks of a span that was open as a gap."""
    stepped_back: bool = False
    """The server's clock was put back within this answer."""
    warming: bool = False
    """Nothing is taken yet: a first answer counts once a second one agrees with it."""
    altered: TickArray = field(default_factory=lambda: np.empty(0, TICK_DTYPE))
    """Kept back and seen for the first time: they replace rows taken before."""

    @classmethod
    def nothing(cls, *, more: bool = False, warming: bool = False) -> Taken:
        none = np.zeros(0, np.bool_)
        return cls(np.empty(0, TICK_DTYPE), none, none, more=more, warming=warming)

    def __len__(self) -> int:
        return len(self.new)


@dataclass(frozen=True, slots=True)
class CursorState:
    """A value: an answer gives another state, which counts once its ticks are in the log."""

    window: TickWindow
    begin_s: int
    """Ticks of earlier server seconds are not wanted."""
    complete_s: int = 0
    """From this server second on, the window holds every row ever taken."""
    hi_msc: int | None = None
    """Newest tick taken in the present run of the server's clock."""
    total: int = 0
    gaps: tuple[Gap, ...] = ()
    catching_up: bool = True
    """The last answer did not reach the present."""
    deep_in: int = 0
    deep_wait: int = 1
    idle: int = 0
    """Answers in a row that brought nothing."""
    resume_s: int | None = None
    """An answer ended before what is known: ask once from there, the terminal may cap answers."""

    @property
    def floor_s(self) -> int:
        """No request reaches further back: older ticks are unwanted, or not remembered."""
        return max(self.begin_s, self.complete_s)

    @property
    def behind(self) -> bool:
        """Whether a span is being pulled again and the present is not reached yet."""
        return any(gap.end_msc is None for gap in self.gaps)

    def reread_from_s(self, limits: CursorLimits) -> int | None:
        """The oldest second that may still be asked for again."""
        if self.hi_msc is None:
            return None
        return min([self.hi_msc // 1000 - limits.keep_s, *(gap.from_s for gap in self.gaps)])

    def with_gap(self, gap: Gap) -> CursorState:
        """With a gap, to be read again at once."""
        gaps = (*self.gaps, gap)
        if len(gaps) > GAPS_MAX:
            first = Gap(min(gaps[0].from_s, gaps[1].from_s), gaps[1].end_msc)
            gaps = (first, *gaps[2:])
        return replace(self, gaps=gaps, deep_in=0, deep_wait=1)

    def can_be_put_back(self, hi_msc: int, limits: CursorLimits) -> bool:
        """Whether enough is remembered to tell new ticks of that time from those taken before.

        A quote from further back is a stale one, or the clock changed by more than `keep_s`.
        """
        return hi_msc // 1000 >= self.complete_s - limits.reread_s

    def put_back(self, hi_msc: int, limits: CursorLimits) -> CursorState:
        """After the server's clock was put back: everything remembered is read again."""
        begin_s = min(self.begin_s, hi_msc // 1000 - limits.reread_s)
        state = replace(self, begin_s=begin_s, hi_msc=hi_msc, gaps=(), idle=0, resume_s=None)
        from_s = max(state.floor_s, hi_msc // 1000 - limits.keep_s)
        return state.with_gap(Gap(from_s, hi_msc))

    def request(self, limits: CursorLimits, twice_since_s: TwiceSince) -> Request:
        """What to ask for next. Inside an hour that the clock shows twice, from its begin.

        The count is a page and every known row of the span. So an answer of that length holds a
        page of new rows in whatever order the terminal gives them, and paging cannot get stuck.
        """
        from_s, deep = self.floor_s, False
        if self.hi_msc is not None:
            hi_s = self.hi_msc // 1000
            from_s = hi_s - limits.reread_s
            if self.idle % IDLE_SHALLOW == IDLE_SHALLOW - 1:
                from_s = hi_s
            elif self.resume_s is not None:
                from_s = max(from_s, self.resume_s)
            elif _idle_deep(self.idle):
                from_s, deep = min(self.floor_s, from_s), True
            elif self.deep_in <= 0:
                spans = (gap.from_s for gap in self.gaps)
                from_s, deep = min([from_s, hi_s - limits.deep_s, *spans]), True
            from_s = twice_since_s(from_s)
            from_s = max(from_s, min(self.floor_s, hi_s))
        return Request(from_s, limits.page + self.window.count_since(from_s), deep)

    def answered(
        self,
        request: Request,
        limits: CursorLimits,
        *,
        window: TickWindow,
        hi_msc: int | None,
        new: int,
        full: bool,
        reached: bool,
        resume_s: int | None = None,
    ) -> CursorState:
        """After an answer to `request` that brought `new` rows, with the next readings planned.

        `full`: it was cut off; `reached`: it covers all up to the newest tick known before.
        """
        gaps = self.gaps
        if gaps and not full:
            gaps = tuple(g if g.end_msc is not None else Gap(g.from_s, hi_msc) for g in gaps)
        deep_in, deep_wait = self.deep_in, self.deep_wait
        if request.deep and reached:
            deep_in, deep_wait = deep_wait, min(2 * deep_wait, limits.deep_every)
            gaps = tuple(gap for gap in gaps if not _settled(gap, hi_msc, limits))
        elif not request.deep and not full:
            deep_in -= 1
        return CursorState(
            window=window,
            begin_s=self.begin_s,
            complete_s=self.complete_s,
            hi_msc=hi_msc,
            total=self.total + new,
            gaps=gaps,
            catching_up=full,
            deep_in=deep_in,
            deep_wait=deep_wait,
            idle=0 if new or full else self.idle + 1,
            resume_s=resume_s,
        )

    def after_silence(
        self, before: CursorState, onward: Int64Array, limits: CursorLimits
    ) -> CursorState:
        """Note a gap when the ticks that go on come after, or hold, a long silence."""
        if before.hi_msc is None or before.catching_up or not len(onward):
            return self
        if int(onward[-1]) - before.hi_msc <= limits.silence_s * 1000:
            return self
        reach = np.maximum.accumulate(np.concatenate(([before.hi_msc], onward)))
        silences_s = np.diff(reach) // 1000
        if int(silences_s.max()) <= limits.silence_s:
            return self
        first = int(np.argmax(silences_s > limits.silence_s))
        back_s = limits.keep_s if silences_s.max() >= limits.settle_s else limits.deep_s
        from_s = max(before.floor_s, int(reach[first]) // 1000 - back_s)
        return self.with_gap(Gap(from_s, self.hi_msc))

    def pruned(self, limits: CursorLimits) -> CursorState:
        """Without what will not be asked for again."""
        before_s = self.reread_from_s(limits)
        if before_s is None or not self.window.worth_pruning(before_s, limits.rows_max):
            return self
        window = self.window.pruned(before_s, limits.rows_max)
        dropped = self.window.seconds[: len(self.window) - len(window)]
        if not len(dropped):
            return self
        complete_s = max(self.complete_s, int(dropped.max()) + 1)
        return replace(self, window=window, complete_s=complete_s)


def _settled(gap: Gap, hi_msc: int | None, limits: CursorLimits) -> bool:
    if gap.end_msc is None or hi_msc is None:
        return False
    return hi_msc >= gap.end_msc + limits.settle_s * 1000


def _idle_deep(idle: int) -> bool:
    if idle < IDLE_DEEP:
        return False
    return idle % IDLE_DEEP_MAX == 0 or (idle < IDLE_DEEP_MAX and idle & (idle - 1) == 0)


def is_bad(rows: TickArray) -> BoolArray:
    """Rows without a time, or without any price (an empty book, a terminal's hiccup)."""
    quoted = (rows["bid"] > 0) & (rows["ask"] > 0)
    finite = np.isfinite(rows["bid"]) & np.isfinite(rows["ask"])
    good: BoolArray = (rows["time_msc"] > 0) & (quoted | (rows["last"] > 0)) & finite
    return ~good


def all_good(rows: TickArray) -> bool:
    """Whether every row has a bid and an ask (the usual case, found quickly)."""
    low = rows["bid"].min() > 0 and rows["ask"].min() > 0
    return bool(low and rows["bid"].max() < np.inf and rows["ask"].max() < np.inf)


def runs_of(times: Int64Array) -> Int64Array:
    """The run of the server's clock each row belongs to: a new one begins where the time falls
    by more than STEP_BACK_MS from one row to the next. Rows without time (<= 0) go on."""
    timed = times > 0
    if not timed.all():
        places = np.maximum.accumulate(np.where(timed, np.arange(len(times)), 0))
        times = times[places]
    runs = np.zeros(len(times), np.int64)
    if len(times) > 1:
        np.cumsum((np.diff(times) < -STEP_BACK_MS) & (times[:-1] > 0), out=runs[1:])
    return runs

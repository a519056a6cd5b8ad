"""One symbol's ticks on their way to the log: answers in, entries and cursor moves out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from events.codec import encode
from events.log import EntryId, NewEntry
from events.ticks import Mark, OffsetSource, TickArray, TickBatch
from producers.terminals.interface import Reply
from producers.ticks.cursor import TickCursor
from producers.ticks.log_windows import Window
from producers.ticks.state import CursorLimits, Taken, TwiceSince

FEED_PREFIX = "ticks:"
REWIND_S = 120
"""How far before the last good moment a gap is pulled again."""
FIRST_S = 60
"""A symbol seen for the first time begins with its last minute, at least."""

Segment = tuple[slice, int, OffsetSource]
Segments = Callable[[TickArray, Reply, int | None], Iterable[Segment]]
"""Splits ticks of an answer, that came after a UTC time in ms, into spans of one clock offset:
(span, offset in s, how it is known)."""


class FeedState(Enum):
    """What has to happen before the next call."""

    ASTRAY = "astray"
    """The cursor is not the log's (yet): make it anew from the log."""
    READY = "ready"
    UNSETTLED = "unsettled"
    """An append ended without an answer: ask the log."""


@dataclass(slots=True)
class Gap:
    """A span in which nothing was seen, until it was caught up with."""

    reason: str
    from_server_ms: int
    ticks: int = 0
    caught_up: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """The new ticks of one answer, ready to be appended."""

    entries: list[NewEntry]
    cursor_text: str
    taken: Taken
    offset_s: int
    """Of the last entry."""
    after_utc_ms: int | None
    """UTC time of the newest tick before the page."""


class TickFeed:
    """State of one symbol. Not thread-safe: the poller of its group drives it."""

    def __init__(
        self,
        symbol: str,
        partition: int,
        *,
        limits: CursorLimits,
        entry_ticks_max: int,
        bulk: bool,
        twice_since_s: TwiceSince | None = None,
    ) -> None:
        self.symbol, self.partition, self.bulk = symbol, partition, bulk
        self.name = f"{FEED_PREFIX}{symbol}"
        self.state = FeedState.ASTRAY
        self.cursor: TickCursor | None = None
        """None: never appended anything, and where to begin is not known yet."""
        self.gap: Gap | None = None
        self.in_flight = False
        self.ending = False
        """The terminal said that nothing new will come: what one more answer lacks is not there."""
        self.finished = False
        self.epoch = 0
        """Grows when the cursor is made anew: answers asked for before belong to nothing."""
        self.copy_at = 0.0
        self.again = False
        """The last answer was cut off or not believed yet: copy at once."""
        self.quote: tuple[object, ...] = ()
        self.newest_utc_ms: int | None = None
        """UTC time of the newest tick of the last page."""
        self.known_s: int | None = None
        """Server second up to which a log that now knows nothing of the symbol had its ticks."""
        self._log_rewound = False
        self.sent: deque[Page] = deque()
        """Pages proposed and not known to be in the log, oldest first."""
        self._limits, self._entry_ticks_max = limits, entry_ticks_max
        self._twice_since_s = twice_since_s

    def resume(self, window: Window) -> None:
        """Go on from where the log is."""
        self.sent.clear()
        self.epoch += 1
        self.again = True
        self.state = FeedState.READY
        self.newest_utc_ms = window.newest_utc_ms
        former, self.cursor = self.cursor, None
        if former is not None and former.hi_msc is not None:
            self.known_s = former.hi_msc // 1000
        if window.text:
            self.cursor = TickCursor.resume(
                window.text,
                window.entries,
                limits=self._limits,
                twice_since_s=self._twice_since_s,
            )
        if self._log_rewound:
            self._log_rewound = False
            self.begin_gap("log_rewound")

    def begin(self, server_s: int, log_end: EntryId) -> None:
        """A first start at this second of the server's clock; the log holds nothing of the
        symbol up to `log_end`."""
        self.cursor = TickCursor(
            server_s,
            limits=self._limits,
            window_from=log_end,
            twice_since_s=self._twice_since_s,
        )

    def page(self, reply: Reply, segments: Segments) -> Page | None:
        """Take an answer: its new ticks as entries, None when there are none."""
        assert self.cursor is not None
        taken = self.cursor.take(reply.value)
        self.again = taken.more or taken.warming
        if not len(taken):
            return None
        marks = Mark.BACKFILL if taken.backfill or self.healing else Mark.NONE
        entries: list[NewEntry] = []
        offset_s = 0
        for span, offset_s, source in segments(taken.new, reply, self.newest_utc_ms):
            for begin in range(span.start, span.stop, self._entry_ticks_max):
                part = slice(begin, min(begin + self._entry_ticks_max, span.stop))
                late = Mark.LATE if bool(taken.late[part].any()) else Mark.NONE
                entries.append(self._entry(taken.new[part], offset_s, source, marks | late, reply))
        page = Page(entries, self.cursor.cursor_text(), taken, offset_s, self.newest_utc_ms)
        timed = taken.new["time_msc"][taken.new["time_msc"] > 0]
        if len(timed):
            self.newest_utc_ms = int(timed[-1]) - offset_s * 1000
        self.sent.append(page)
        return page

    def _entry(
        self, ticks: TickArray, offset_s: int, source: OffsetSource, marks: Mark, reply: Reply
    ) -> NewEntry:
        newest_ms = int(ticks["time_msc"].max())
        batch = TickBatch(
            symbol=self.symbol,
            ticks=ticks,
            offset_s=offset_s,
            offset_source=source,
            event_time_ms=newest_ms - offset_s * 1000 if newest_ms > 0 else reply.utc_ms,
            recv_time_ms=reply.utc_ms,
            marks=marks,
        )
        return encode(batch)

    @property
    def healing(self) -> bool:
        """Whether a gap is being caught up with."""
        return self.gap is not None and not self.gap.caught_up

    def landed(self, ids: Iterable[EntryId]) -> Page:
        """The oldest page sent is in the log, in these entries."""
        assert self.cursor is not None
        page = self.sent.popleft()
        self.cursor.commit()
        for entry_id in ids:
            self.cursor.appended(entry_id)
        if self.gap is not None and (self.healing or page.taken.backfill):
            self.gap.ticks += len(page.taken)
        return page

    def unsettled(self) -> None:
        """Whether the oldest page sent is in the log is not known."""
        self.state = FeedState.UNSETTLED
        self.epoch += 1

    def dropped(self) -> None:
        """No page sent is in the log: the same ticks will be pulled again."""
        assert self.cursor is not None
        self.cursor.abandon()
        if self.sent:
            self.newest_utc_ms = self.sent[0].after_utc_ms
        self.sent.clear()
        self.again = True
        self.state = FeedState.READY

    def astray(self) -> None:
        """The log knows better: make the cursor anew from it."""
        self.sent.clear()
        self.state = FeedState.ASTRAY
        self.epoch += 1

    def rewound(self) -> None:
        """The log lost its tail: go on from what it has, and tell of the gap."""
        self._log_rewound = True
        self.ending = self.finished = False
        self.astray()

    def begin_gap(self, reason: str) -> None:
        """The terminal (or the log) is back after a time in which nothing was seen."""
        if self.cursor is None or self.cursor.hi_msc is None:
            return
        self.cursor.rewind(self.cursor.hi_msc // 1000 - REWIND_S)
        self.again = True
        if self.gap is None:
            self.gap = Gap(reason, self.cursor.hi_msc)
        self.gap.caught_up = False

    def healed(self) -> Gap | None:
        """After an answer: what is to be told about the gap. Back-fill that comes in later, while
        the cursor still looks for it, is told again with its own count."""
        gap = self.gap
        if gap is None or self.cursor is None or self.again or self.sent:
            return None
        told = gap if gap.ticks or not gap.caught_up else None
        if self.cursor.open_gaps:
            self.gap = Gap(gap.reason, gap.from_server_ms, caught_up=True)
        else:
            self.gap = None
        return told

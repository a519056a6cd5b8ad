"""Streams of ticks of several symbols as one, by time, with little of each in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from consumers.backtest.sources.source import Portion, part_of
from events.ticks import TickBatch

PORTION_TICKS_MAX = 250_000
"""A portion is about that long at most (15 MB): where one stream is far denser than others, all
wait for it."""


class _Feed:
    """One stream with what was read of it and not given out yet."""

    def __init__(self, batches: Iterable[TickBatch]) -> None:
        self._batches = iter(batches)
        self._waiting: deque[tuple[TickBatch, npt.NDArray[np.int64]]] = deque()
        self._reached = np.iinfo(np.int64).min
        self.ended = False

    def fill(self) -> None:
        """Read on where nothing is left."""
        while not self._waiting and not self.ended:
            batch = next(self._batches, None)
            if batch is None:
                self.ended = True
            elif len(batch):
                # A tick that is older than one before it is seen right after that one.
                seen = np.maximum.accumulate(np.maximum(batch.utc_ms(), self._reached))
                self._reached = seen[-1]
                self._waiting.append((batch, seen))

    @property
    def reaches_ms(self) -> int:
        return int(self._waiting[-1][1][-1])

    def passes_ms(self, count: int) -> int:
        """When so many of the ticks that were read were seen; where all are fewer, the last."""
        for _, seen in self._waiting:
            if len(seen) >= count:
                return int(seen[count - 1])
            count -= len(seen)
        return self.reaches_ms

    def up_to(self, time_ms: int) -> list[TickBatch]:
        """Take what is seen by then."""
        taken = []
        while self._waiting:
            batch, seen = self._waiting[0]
            count = int(np.searchsorted(seen, time_ms, side="right"))
            if count == len(seen):
                taken.append(batch)
                self._waiting.popleft()
                continue
            if count:
                taken.append(part_of(batch, slice(0, count)))
                self._waiting[0] = (part_of(batch, slice(count, None)), seen[count:])
            break
        return taken

    @property
    def waits(self) -> bool:
        return bool(self._waiting)


def merged(feeds: Iterable[Iterable[TickBatch]]) -> Iterator[Portion]:
    """Ticks of every feed (one per symbol, each in order) in portions that are merged by time.

    Ticks of one millisecond stand in the order of the feeds.
    """
    open_feeds = [_Feed(feed) for feed in feeds]
    if len(open_feeds) == 1:
        yield from _alone(open_feeds[0])
        return
    while True:
        for feed in open_feeds:
            feed.fill()
        open_feeds = [feed for feed in open_feeds if feed.waits]
        if not open_feeds:
            return
        share = max(1, PORTION_TICKS_MAX // len(open_feeds))
        until_ms = min(feed.passes_ms(share) for feed in open_feeds)
        batches = [batch for feed in open_feeds for batch in feed.up_to(until_ms)]
        yield Portion(tuple(batches), by_time=len({batch.symbol for batch in batches}) > 1)


def _alone(feed: _Feed) -> Iterator[Portion]:
    """One symbol needs no merging; small batches are gathered."""
    held: list[TickBatch] = []
    count = 0
    while True:
        feed.fill()
        if not feed.waits:
            break
        for batch in feed.up_to(feed.reaches_ms):
            held.append(batch)
            count += len(batch)
        if count >= PORTION_TICKS_MAX:
            yield Portion(tuple(held))
            held, count = [], 0
    if held:
        yield Portion(tuple(held))

"""A terminal's past as a namespace of the log: entries, and the spans they cover, in one step.

The spans of a feed are its cursor, so no step is appended twice however a fetch ends. A log is
read in its order, so a feed grows only at its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from events.codec import encode
from events.log import LogError, partition_of
from events.ticks import TICK_DTYPE
from producers.append import Writer
from producers.history.batches import Feed
from producers.history.fetching import Step

APPEND_ENTRIES_MAX = 500
APPEND_BYTES_AIM = 4 * 1024 * 1024
ROW_BYTES = TICK_DTYPE.itemsize
"""A candle has as many."""
SPANS_MAX = 1_000
"""Of one feed: each fetch that leaves a gap begins another."""
_SPAN = re.compile(r"(-?\d+)\.\.(-?\d+)")


class IntoLog:
    """Appends to the namespace of an open writer, which nothing live writes into."""

    ticks_step_ms = 3_600_000

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def covered(self, feed: Feed) -> list[tuple[int, int]]:
        """As the feed's cursor tells."""
        text = self._writer.cursor(self._partition(feed), _cursor(feed)).rpartition("@")[0]
        return [(int(one[1]), int(one[2])) for one in _SPAN.finditer(text)]

    def check(self, feed: Feed, missing: Sequence[tuple[int, int]]) -> None:
        """Raises LogError for what lies before that which is there, or between it."""
        covered = self.covered(feed)
        if covered and missing and missing[0][0] < covered[-1][1]:
            raise LogError(
                f"{self._writer.namespace} holds later {feed} already, and a log is read in its "
                "order: fetch the earlier ones into another --namespace, or into the archive"
            )
        if len(covered) >= SPANS_MAX:
            raise LogError(
                f"{feed} of {self._writer.namespace} has {len(covered)} gaps: fetch without gaps "
                "into another --namespace, or into the archive"
            )

    def take(self, steps: Sequence[Step]) -> int:
        """Append steps, those of one partition together and by time as far as an append goes.
        Raises LogUnavailable, Fenced, StaleCursor: start again, it goes on."""
        appends = 0
        for partition in sorted({self._partition(step.feed) for step in steps}):
            own = [step for step in steps if self._partition(step.feed) == partition]
            for together in _packed(own):
                batches = [batch for step in together for batch in step.batches]
                batches.sort(key=lambda one: one.event_time_ms)
                moves = {_cursor(step.feed): self._spans(step) for step in together}
                self._writer.append(partition, [encode(one) for one in batches], moves)
                appends += 1
        return appends

    def _partition(self, feed: Feed) -> int:
        return partition_of(feed.symbol, self._writer.partitions)

    def _spans(self, step: Step) -> str:
        """The spans with this step: what lies between it and the one before it was asked for, and
        is empty."""
        spans = self.covered(step.feed)
        if spans and spans[-1][1] >= step.since_ms:
            spans[-1] = (spans[-1][0], step.until_ms)
        else:
            spans.append((step.since_ms, step.until_ms))
        return " ".join(f"{begin}..{until}" for begin, until in spans)


def _cursor(feed: Feed) -> str:
    return f"history:{feed}"


def _packed(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps that may go in one append; a step is never divided."""
    held: list[Step] = []
    entries = size = 0
    for step in steps:
        rows = sum(len(batch) for batch in step.batches)
        entries += len(step.batches)
        size += rows * ROW_BYTES
        if held and (entries > APPEND_ENTRIES_MAX or size > APPEND_BYTES_AIM):
            yield held
            held, entries, size = [], len(step.batches), rows * ROW_BYTES
        held.append(step)
    if held:
        yield held

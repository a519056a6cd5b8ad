"""Ticks and candles of the past from a terminal, step by step, to where they are kept.

Whoever keeps them knows which spans it has in the same moment as it has the rows: so a fetch that
was ended, however, goes on with the spans that are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from events.clock_rules import ClockRule
from events.ticks import RateArray, TickArray
from producers.history.batches import TICKS, Batch, Batches, Feed

CANDLES_STEP_MS = 7 * 24 * 3_600_000


class Past(Protocol):
    """A terminal that is asked for its past. Times are server ms, from <= time < until."""

    def ticks(self, symbol: str, from_server_ms: int, until_server_ms: int) -> TickArray: ...

    def candles(
        self, symbol: str, timeframe: str, from_server_ms: int, until_server_ms: int
    ) -> RateArray: ...


@dataclass(frozen=True, slots=True)
class Span:
    """What of a feed is wanted: server ms, from <= time < until."""

    feed: Feed
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a span that is asked for at once."""

    feed: Feed
    from_ms: int
    until_ms: int
    since_ms: int
    """Where the span begins that nothing covered: up to `from_ms` it was asked for before."""
    batches: Sequence[Batch] = ()


class Target(Protocol):
    """Where what was fetched is kept."""

    ticks_step_ms: int
    """How much is asked for at once."""

    def covered(self, feed: Feed) -> list[tuple[int, int]]:
        """Spans that are there, by their begin (server ms). Raises LogError."""
        ...

    def check(self, feed: Feed, missing: Sequence[tuple[int, int]]) -> None:
        """Raises LogError where these spans cannot be added."""
        ...

    def take(self, steps: Sequence[Step]) -> int:
        """Keep steps that end at the same time, each with its span, each all or nothing. Returns
        the number of pieces it made of them. Raises LogError."""
        ...


@dataclass(slots=True)
class Fetched:
    """What one run brought of one feed."""

    feed: str
    rows: int = 0
    chunks: int = 0
    """Files, or appends, that hold rows of it."""
    steps: int = 0
    empty_steps: int = 0
    """Spans of which the terminal has nothing: closed markets, or no history."""
    already_ms: int = 0
    """Of the span, there before."""


class HistoryFetch:
    """Fetches spans into a target. `clock` is the broker's, None when unknown. `told` gets the
    feed at work, and server ms done and in all, over all feeds."""

    def __init__(
        self,
        past: Past,
        target: Target,
        *,
        clock: ClockRule | None,
        now_ms: Callable[[], int],
        pause: Callable[[], None] = lambda: None,
        told: Callable[[Feed, int, int], None] = lambda _feed, _done, _all: None,
    ) -> None:
        self._past, self._target, self._told = past, target, told
        self._batches, self._pause = Batches(clock, now_ms), pause

    def run(self, spans: Sequence[Span]) -> list[Fetched]:
        """Fetch what is not there yet, all feeds side by side, by the time at which steps end.
        Raises what the terminal raises, and LogError: start again, it goes on."""
        found = [Fetched(str(span.feed)) for span in spans]
        steps = [step for n, span in enumerate(spans) for step in self._steps(n, span, found[n])]
        steps.sort(key=lambda one: (one[1].until_ms, one[0]))
        total = sum(step.until_ms - step.from_ms for _, step in steps)
        done = 0
        for _, together in groupby(steps, key=lambda one: one[1].until_ms):
            filled = []
            for number, step in together:
                batches = self._fetch(step)
                fetched = found[number]
                fetched.steps += 1
                fetched.rows += sum(len(one) for one in batches)
                fetched.chunks += bool(batches)
                fetched.empty_steps += not batches
                if batches:
                    filled.append(
                        Step(step.feed, step.from_ms, step.until_ms, step.since_ms, batches)
                    )
                done += step.until_ms - step.from_ms
                self._told(step.feed, done, total)
                self._pause()
            if filled:
                self._target.take(filled)
        return found

    def _steps(self, number: int, span: Span, fetched: Fetched) -> Iterator[tuple[int, Step]]:
        """What is missing of a span."""
        covered = self._target.covered(span.feed)
        missing = list(uncovered(covered, span.from_ms, span.until_ms))
        self._target.check(span.feed, missing)
        left = sum(until - begin for begin, until in missing)
        fetched.already_ms = max(0, span.until_ms - span.from_ms) - left
        step_ms = self._target.ticks_step_ms if span.feed.what == TICKS else CANDLES_STEP_MS
        for since, until in missing:
            at = since
            while at < until:
                end = min((at // step_ms + 1) * step_ms, until)
                yield number, Step(span.feed, at, end, since)
                at = end

    def _fetch(self, step: Step) -> list[Batch]:
        feed = step.feed
        if feed.what == TICKS:
            ticks = self._past.ticks(feed.symbol, step.from_ms, step.until_ms)
            return self._batches.ticks(feed, ticks)
        bars = self._past.candles(feed.symbol, feed.what, step.from_ms, step.until_ms)
        return self._batches.candles(feed, bars)


def uncovered(
    covered: Sequence[tuple[int, int]], begin: int, until: int
) -> Iterator[tuple[int, int]]:
    """The parts of begin <= time < until that none of the spans (sorted) covers."""
    at = begin
    for first, end in covered:
        if at >= until:
            return
        if first > at:
            yield at, min(first, until)
        at = max(at, end)
    if at < until:
        yield at, until

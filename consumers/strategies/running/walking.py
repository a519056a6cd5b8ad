"""The tight loop: ticks of a run through `on_tick`, with closed bars in between."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import call
from typing import Any, NamedTuple

from consumers.strategies.authoring.signal import BadSignal, Signal
from consumers.strategies.authoring.tick import Tick
from consumers.strategies.running.tick_run import TickRun, TickWalk

CHUNK_TICKS = 1_024
"""Ticks that are made ready at once; what is cut off behind a signal is copied, so not more."""

NO_STOP_ITERATION = "StopIteration was raised inside: next(...) without a default?"
OnTick = Callable[[Tick], Any]
_END = object()


class StrategyFailed(RuntimeError):
    """A strategy's own code raised. Names the method, the symbol, and when that was."""


class Happening(NamedTuple):
    """Something a strategy is told of right before a tick: a bar that this tick closed."""

    at: int
    order: int
    """Of those with one index."""
    tell: Callable[[], Sequence[Signal]]


class Said(NamedTuple):
    """A signal, and on which tick of the run it was given."""

    at: int
    signal: Signal


def is_generator(method: Callable[..., Any]) -> bool:
    """Whether a method yields."""
    return inspect.isgeneratorfunction(method)


def signals_of(given: object, what: str) -> list[Signal]:
    """What a method gave back, as a list. Raises BadSignal for what is no signal."""
    if given is None:
        return []
    if isinstance(given, Signal):
        return [given]
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise BadSignal(_no_signal(given, what))
    found = list(given)
    for one in found:
        if not isinstance(one, Signal):
            raise BadSignal(_no_signal(one, what))
    return found


def _no_signal(given: object, what: str) -> str:
    return f"{what} gave {type(given).__name__} {given!r:.60}: yield self.target(...), or nothing"


class Walking:
    """A run on its way through the strategies of a task.

    `on_ticks` names what each symbol's ticks are told to; symbols that are missing are passed
    over. Nothing is done ahead of the place that was walked to, but for bars, which are built for
    the whole run at once.
    """

    def __init__(
        self,
        run: TickRun,
        first: int,
        *,
        on_tick: Mapping[str, OnTick],
        happenings: Sequence[Happening],
        generates: bool,
    ) -> None:
        self.run, self.at = run, first
        self.noted = first
        """How far whoever walks it took note of what was seen."""
        self._happenings, self._next = happenings, 0
        self._generates = generates
        self._calls = self._calls_by_symbol(on_tick)
        self._walk: TickWalk | None = None
        self._walk_stop = first

    def _calls_by_symbol(self, on_tick: Mapping[str, OnTick]) -> list[OnTick]:
        """One call per symbol of the run; empty when no tick is of interest."""
        if not any(symbol in on_tick for symbol in self.run.symbols):
            return []
        silent: OnTick = _nothing_to_yield if self._generates else _nothing
        return [on_tick.get(symbol, silent) for symbol in self.run.symbols]

    def go(self, stop: int) -> tuple[int, list[Said]]:
        """Walk on until something is said, or to `stop`; the index of the next tick, and what was
        said at the one before it. Raises StrategyFailed."""
        while self.at < stop:
            limit = min(stop, self._next_index())
            if self.at < limit:
                said = self._ticks(limit)
                if said:
                    return self.at, said
            if self.at < stop and self.at == self._next_index():
                said = self._happen()
                said += self._ticks(self.at + 1)
                if said:
                    return self.at, said
        return self.at, []

    def _next_index(self) -> int:
        if self._next < len(self._happenings):
            return self._happenings[self._next].at
        return len(self.run)

    def _happen(self) -> list[Said]:
        said: list[Said] = []
        while self._next < len(self._happenings):
            one = self._happenings[self._next]
            if one.at != self.at:
                break
            self._next += 1
            said += [Said(self.at, signal) for signal in one.tell()]
        return said

    def _ticks(self, limit: int) -> list[Said]:
        """Ticks up to `limit`, or behind the first at which something is said."""
        if not self._calls:
            self.at = limit
            return []
        while self.at < limit:
            walk = self._ready(limit)
            count = min(limit, self._walk_stop) - self.at
            found = self._first(walk, count)
            at = walk.at
            self.at = at
            if found:
                return [Said(at - 1, signal) for signal in found]
        return []

    def _ready(self, limit: int) -> TickWalk:
        """Ticks from where we are: those that were made ready, or the next chunk."""
        if self._walk is None or self.at >= self._walk_stop or self._walk.at != self.at:
            self._walk_stop = min(len(self.run), self.at + CHUNK_TICKS)
            self._walk = self.run.walk(self.at, self._walk_stop)
        return self._walk

    def _first(self, walk: TickWalk, count: int) -> list[Signal]:
        """What is said at the first of `count` ticks that says something."""
        begun = walk.at
        try:
            if self._generates:
                return self._first_yielded(walk, count)
            return self._first_returned(walk, count)
        except Exception as error:
            self._failed(error, max(begun, walk.at - 1))
            raise AssertionError from error  # never reached: _failed raises

    def _first_yielded(self, walk: TickWalk, count: int) -> list[Signal]:
        yielded = chain.from_iterable(self._told(walk, count))
        first = next(yielded, _END)
        if first is _END:
            return []
        walk.end_here()  # the rest of this generator, and no further tick
        try:
            said = [one for one in (first, *yielded) if one is not None]
        finally:
            walk.go_on()
        return signals_of(said, "on_tick")

    def _first_returned(self, walk: TickWalk, count: int) -> list[Signal]:
        begun = walk.at
        for given in filter(None, self._told(walk, count)):
            found = signals_of(given, "on_tick")
            if found:
                return found
        if walk.at - begun != count:  # it looks like the end of the ticks to whoever maps over them
            raise RuntimeError(NO_STOP_ITERATION)
        return []

    def _told(self, walk: TickWalk, count: int) -> Iterator[Any]:
        ticks = islice(walk.ticks, count)
        if len(self._calls) == 1:
            return map(self._calls[0], ticks)
        numbers = self.run.symbol
        assert numbers is not None
        at = walk.at
        calls = map(self._calls.__getitem__, numbers[at : at + count].tolist())
        return map(call, calls, ticks)

    def _failed(self, error: BaseException, index: int) -> None:
        """Raises StrategyFailed."""
        index = min(max(index, 0), len(self.run) - 1)
        raise StrategyFailed(
            f"on_tick failed at the tick of {self.run.symbol_of(index)} at "
            f"{int(self.run.time_ms[index])} ms UTC: {type(error).__name__}: {error}"
        ) from error


def _nothing(_: Tick) -> None:
    return None


def _nothing_to_yield(_: Tick) -> Iterable[Signal]:
    return ()

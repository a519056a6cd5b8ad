"""Whether a strategy sees the future: its input is cut, and it must say the same up to the cut.

Each cut is walked in a process that was never given what lies behind it, so nothing that a
strategy hides away (in its module, in its class, in the memory of the process) can tell it. Cuts
lie right behind ticks at which it gave a signal: whoever needed the ticks behind one says something
else then.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from consumers.backtest.planning import BacktestRequest, planned
from consumers.backtest.running import run_backtest
from consumers.backtest.sources.source import Portion, Source, part_of
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.operations import ClockTick
from events.settings import load
from events.views.moments import utc_text

CUTS = 8
CUTS_PER_PROCESS = 4


class Said(NamedTuple):
    """A signal, and the tick it was given at, counted from the first of the run."""

    tick: int
    time_ms: int
    text: str
    """All of it."""


@dataclass(frozen=True, slots=True)
class LookAhead:
    """What a check found. `differences` has a line for each cut at which other signals came."""

    cuts: int
    signals: int
    differences: tuple[str, ...]

    def __str__(self) -> str:
        if self.differences:
            return f"looks ahead: {len(self.differences)} of {self.cuts} cuts change signals"
        return f"no look ahead: {self.cuts} cuts change none of {self.signals} signals before them"


def check_look_ahead(
    request: BacktestRequest,
    *,
    cuts: int = CUTS,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> LookAhead:
    """Run a request whole and cut. `told` gets (runs done, all of them).

    Raises what `planned` and `run_backtest` raise.
    """
    context = multiprocessing.get_context("spawn")
    jobs = min(os.cpu_count() or 1, -(-cuts // CUTS_PER_PROCESS))
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        try:
            whole = pool.submit(_whole, request).result()
            places = cut_places(whole, cuts=cuts)
            told(1, jobs + 1)
            found: list[tuple[int, str]] = []
            tasks = [pool.submit(_cut, request, places[one::jobs]) for one in range(jobs)]
            for done, (first, task) in enumerate(enumerate(tasks), start=2):
                for place, said in zip(places[first::jobs], task.result(), strict=True):
                    found += [(place, line) for line in difference(whole, said, place)]
                told(done, jobs + 1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return LookAhead(len(places), len(whole), tuple(line for _, line in sorted(found)))


def cut_places(whole: Sequence[Said], *, cuts: int) -> list[int]:
    """After how many ticks the input is cut: behind ticks with signals, the first and last among
    them."""
    ticks = sorted({one.tick + 1 for one in whole})
    if len(ticks) <= cuts:
        return ticks
    return [ticks[place] for place in np.linspace(0, len(ticks) - 1, cuts).astype(int).tolist()]


def difference(whole: Sequence[Said], cut: Sequence[Said], ticks: int) -> list[str]:
    """A line where a run over so many ticks said something else than the whole one did by then."""
    expected = [one for one in whole if one.tick < ticks]
    for index in range(max(len(expected), len(cut))):
        before = expected[index] if index < len(expected) else None
        after = cut[index] if index < len(cut) else None
        if before == after:
            continue
        where = before or after
        assert where is not None, "one of them is longer"
        return [
            f"tick {where.tick + 1} ({utc_text(where.time_ms)} UTC): with the ticks behind tick "
            f"{ticks} it said {_told(before)}, without them {_told(after)}"
        ]
    return []


def said_of(request: BacktestRequest, ticks: int | None) -> list[Said]:
    """Signals of a run over the first `ticks` ticks; None: over all."""
    found: list[Said] = []

    def told(tick: int, signal: TradeSignal) -> None:
        found.append(Said(tick, signal.event_time_ms, signal.model_dump_json()))

    with planned(request, load()) as plan:
        source = plan.source if ticks is None else CutSource(plan.source, ticks)
        run_backtest(replace(plan, source=source), signalled=told)
    return found


def _whole(request: BacktestRequest) -> list[Said]:
    return said_of(request, None)


def _cut(request: BacktestRequest, places: Sequence[int]) -> list[list[Said]]:
    """The shortest first: then no process ever held a tick behind the cut it walks up to."""
    return [said_of(request, ticks) for ticks in sorted(places)]


def _told(said: Said | None) -> str:
    if said is None:
        return "nothing"
    signal = TradeSignal.model_validate_json(said.text)
    return f"{signal.target} {signal.symbol}" + (f" ({signal.reason})" if signal.reason else "")


class CutSource:
    """Another source up to some number of ticks; what lies behind is not read."""

    def __init__(self, source: Source, ticks: int) -> None:
        self._source, self._ticks = source, ticks
        self.warnings = source.warnings

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._source.symbols

    def facts(self) -> list[AnyEvent]:
        """Those of the other."""
        return self._source.facts()

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        """See `Source.portions`. Seconds that were recorded behind the last tick come too."""
        left = self._ticks
        for portion in self._source.portions(clock=clock):
            if isinstance(portion, ClockTick):
                yield portion
                continue
            if left <= 0:
                return
            count = sum(map(len, portion.batches))
            yield portion if count <= left else _first_of(portion, left)
            left -= count


def _first_of(portion: Portion, ticks: int) -> Portion:
    """The first ticks of a portion, in the order in which they are seen."""
    counts = [len(batch) for batch in portion.batches]
    keep = np.zeros(sum(counts), np.bool_)
    if portion.by_time:
        times = np.concatenate([batch.utc_ms() for batch in portion.batches])
        keep[np.argsort(times, kind="stable")[:ticks]] = True
    else:
        keep[:ticks] = True
    kept = [
        part_of(batch, own)
        for batch, own in zip(
            portion.batches, np.split(keep, np.cumsum(counts)[:-1]), strict=True
        )
        if own.any()
    ]  # fmt: skip
    return Portion(tuple(kept), by_time=portion.by_time)

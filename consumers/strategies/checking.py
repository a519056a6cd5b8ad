"""What a strategy would have said: on made-up ticks, on files, or on what was recorded.

Ticks are given to one object whole, and to another in pieces with restarts between them: signals
that differ show a look ahead, or something that is not remembered.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.tick_run import TickRun
from events.archive.source import MARKET_WRITERS, EntrySource, Wanted
from events.clock_rules import ClockRule
from events.codec import AnyEvent, BadEvent, UnknownEvent, decode
from events.decisions import TradeSignal
from events.log import Lane
from events.tick_files import TickFileError, TickSource
from events.tick_files.runs import server_runs
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch

MADE_UP_TICKS, PORTION_TICKS = 100_000, 5_000
RESTARTS_AT = frozenset(10**power for power in range(9))
"""After so many portions the second object is begun anew from what it remembered."""
SIGNALS_KEPT_MAX = 100_000
Portion = TickRun | AnyEvent


class NothingToCheck(ValueError):
    """There is no tick to try a strategy on. The message names what is there."""


@dataclass(slots=True)
class Trial:
    """What came of it."""

    ticks: int = 0
    seconds: float = 0.0
    """That the first object took."""
    signals: list[TradeSignal] = field(default_factory=list)
    same: bool = True
    """In pieces, with restarts, it said the same."""
    unpriced: int = 0
    missing: tuple[str, ...] = ()
    """Symbols it is for that had no tick."""
    first_ms: int | None = None
    last_ms: int | None = None

    def warnings(self, *, no_stop: bool) -> list[str]:
        """What a trader should look at, a line each."""
        found = []
        if not self.same:
            found.append("OTHER signals in pieces: it looks ahead, or something is not remembered")
        if not self.signals:
            found.append("it never signalled")
        naked = sum(s.target != "flat" and s.stop_loss is None for s in self.signals)
        if naked and not no_stop:
            found.append(
                f"{naked} entries have no stop-loss: they will be refused, unless it declares "
                "no_stop = True"
            )
        if self.missing:
            found.append(f"no tick of {', '.join(self.missing)}")
        if self.unpriced:
            found.append(f"{self.unpriced} rows without a bid or an ask were left out")
        return found

    def as_json(self) -> dict[str, Any]:
        """For scripts; the first signals only."""
        return {
            "ticks": self.ticks, "signals": len(self.signals), "same_in_pieces": self.same,
            "ticks_per_s": self.ticks / self.seconds if self.seconds else 0.0,
            "unpriced": self.unpriced, "from_ms": self.first_ms, "to_ms": self.last_ms,
            "first": [one.model_dump(mode="json") for one in self.signals[:5]],
        }  # fmt: skip


def tried(casting: Casting, portions: Iterable[Portion]) -> Trial:
    """Raises StrategyFailed, NotStorable, NothingToCheck."""
    trial, whole, cut = Trial(), Instances(casting), Instances(casting)
    kept: dict[str, Any] = {}
    seen: set[str] = set()
    for number, portion in enumerate(portions, 1):
        if isinstance(portion, TickRun) and len(portion):
            seen |= set(portion.symbols)
        said = _whole(trial, whole, portion)
        again = _in_pieces(cut, portion)
        trial.same &= said == again
        if len(trial.signals) < SIGNALS_KEPT_MAX:
            trial.signals += said
        if number in RESTARTS_AT:
            kept |= cut.remember()
            cut = Instances(casting)
            cut.restore(kept)
    trial.missing = tuple(sorted(set(casting.wanted) - seen))
    if not trial.ticks:
        raise NothingToCheck("there is no tick of its symbols in what was named")
    return trial


def _whole(trial: Trial, instances: Instances, portion: Portion) -> list[TradeSignal]:
    begun = time.perf_counter()
    if not isinstance(portion, TickRun):
        return instances.deliver(portion)
    said = instances.run_all(portion)
    trial.seconds += time.perf_counter() - begun
    trial.ticks += len(portion)
    trial.unpriced += sum(portion.unpriced.values())
    if len(portion):
        first, last = int(portion.time_ms[0]), int(portion.time_ms[-1])
        trial.first_ms = first if trial.first_ms is None else trial.first_ms
        trial.last_ms = last
    return said


def _in_pieces(instances: Instances, portion: Portion) -> list[TradeSignal]:
    if not isinstance(portion, TickRun):
        return instances.deliver(portion)
    edge = len(portion) // 3
    said = instances.run_all(portion.part(0, edge))
    return said + instances.run_all(portion.part(edge, len(portion)))


def made_up(symbols: Sequence[str]) -> Iterator[TickRun]:
    """A seeded random walk per symbol, by time."""
    batches = []
    for seed, symbol in enumerate(symbols):
        chance, count = np.random.default_rng(seed), MADE_UP_TICKS // len(symbols)
        ticks = np.zeros(count, TICK_DTYPE)
        ticks["time_msc"] = 1_700_000_000_000 + np.cumsum(chance.integers(1, 20_000, count))
        ticks["bid"] = np.round(1.1 * np.exp(np.cumsum(chance.normal(0, 1e-4, count))), 5)
        ticks["ask"] = ticks["bid"] + 1e-4
        ticks["flags"] = 6
        batches.append(TickBatch(symbol, ticks, 0, OffsetSource.ASSUMED, 0, 0))
    yield from _portions(TickRun.merged(batches))


def _portions(run: TickRun) -> Iterator[TickRun]:
    for begin in range(0, len(run), PORTION_TICKS):
        yield run.part(begin, min(begin + PORTION_TICKS, len(run)))


def of_files(
    files: Sequence[TickSource], clock: ClockRule | None, from_ms: int | None, to_ms: int | None
) -> Iterator[TickRun]:
    """Ticks of files; of several symbols by time, for which all of them are loaded. Raises
    TickFileError."""
    batches = (batch for file in files for batch in _batches(file, clock))
    if len({file.symbol for file in files}) > 1:
        for part in _portions(TickRun.merged(batches)):
            yield _cut(part, from_ms, to_ms)
        return
    for batch in batches:
        yield _cut(TickRun.of(batch), from_ms, to_ms)


def _batches(file: TickSource, clock: ClockRule | None) -> Iterator[TickBatch]:
    try:
        for run in server_runs(file, clock=clock, file_clock=None):
            yield TickBatch(file.symbol, run.ticks, run.offset_s, run.offset_source, 0, 0)
    except TickFileError as error:
        if not error.rows:  # what is sound before a fault is used
            raise


def recorded(
    source: EntrySource,
    namespace: str,
    casting: Casting,
    from_ms: int | None,
    to_ms: int | None,
) -> Iterator[Portion]:
    """What was recorded of a terminal, in the order of the log. Raises what reading raises."""
    wanted = Wanted(
        namespace, MARKET_WRITERS, (Lane.HIGH, Lane.NORMAL), from_ms=from_ms, until_ms=to_ms
    )
    for entry in source.entries(wanted):
        try:
            event = decode(entry)
        except (BadEvent, UnknownEvent):
            continue  # a dead letter where it runs
        if not isinstance(event, TickBatch):
            yield event
        elif not casting.wanted or event.symbol in casting.wanted:
            yield _cut(TickRun.of(event), from_ms, to_ms)


def _cut(run: TickRun, from_ms: int | None, to_ms: int | None) -> TickRun:
    chosen = np.ones(len(run), np.bool_)
    if from_ms is not None:
        chosen &= run.time_ms >= from_ms
    if to_ms is not None:
        chosen &= run.time_ms < to_ms
    if chosen.all():
        return run
    return replace(run.picked(np.flatnonzero(chosen)), unpriced=run.unpriced)

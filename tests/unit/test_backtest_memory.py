"""A backtest holds a bounded number of ticks, however many there are."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks.parts.realistic import write_days
from consumers.backtest.broker.spec.writing import example_spec, spec_text
from consumers.backtest.running import Plan, run_backtest
from consumers.backtest.sources.source import Portion
from consumers.strategies.running.instances import Casting
from consumers.strategies.running.loading import load_strategy
from events.codec import AnyEvent
from events.operations import ClockTick
from events.ticks import TICK_DTYPE, TickArray
from tests.made_ticks import batch_of, random_walk

SPEC = "spec.toml"
SYMBOL, PORTION = "EURUSD", 1_000
START_MS = 1_772_409_600_000  # Monday, 2 March 2026, 00:00 UTC
MB = 1 << 20


def measured_mb(folders: list[Path], days: list[int]) -> list[tuple[int, float]]:
    """Ticks of a run over each folder, one after the other, and what this process held at most."""
    from benchmarks.backtest_memory import measured

    found = []
    for folder, count in zip(folders, days, strict=True):
        files = [f"{path.stem}={path}" for path in sorted(folder.glob("*.parquet"))]
        one = measured(files, folder / SPEC, days=count, code="breakout:Breakout", sets=())
        found.append((one.ticks, one.peak_mb))
    return found


class Watched:
    """Portions of one symbol, and how many of them are held by anybody when the next is read."""

    name, symbols = "watched", (SYMBOL,)

    def __init__(self, portions: int) -> None:
        self._portions = portions
        self.warnings: list[str] = []
        self.alive: list[int] = []

    def facts(self) -> list[AnyEvent]:
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        held: list[weakref.ref[TickArray]] = []
        for number in range(self._portions):
            rows = random_walk(
                PORTION, start_ms=START_MS + number * PORTION * 1_000, step_ms=1_000, seed=number
            )
            held.append(weakref.ref(rows))
            yield Portion((batch_of(rows, SYMBOL),))
            del rows
            gc.collect()
            self.alive.append(sum(one() is not None for one in held))


@pytest.mark.parametrize(
    ("code", "parameters"),
    [("ema_cross:EmaCross", {"fast": 500, "slow": 2_000}), ("breakout:Breakout", {})],
)
def test_no_portion_is_held_once_it_was_walked(code: str, parameters: dict[str, int]) -> None:
    facts = example_spec((SYMBOL,))
    assert facts.account is not None
    loaded = load_strategy(code, parameters)
    casting = Casting(loaded.strategy, "tried", (SYMBOL,), loaded.parameters, facts.instruments)
    source = Watched(5)
    result = run_backtest(Plan(casting, code, source, facts.account, facts.instruments))
    assert result.ticks == 5 * PORTION
    assert max(source.alive) <= 1, source.alive


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read the POSIX way")
def test_three_times_the_ticks_take_no_more_memory(tmp_path: Path) -> None:
    days, folders = [3, 9], [tmp_path / "few", tmp_path / "many"]
    for count, folder in zip(days, folders, strict=True):
        folder.mkdir()
        files, _ = write_days(folder, symbols=3, days=count, seed=5)
        named = [text.partition("=")[0] for text in files]
        (folder / SPEC).write_text(spec_text(example_spec(named)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        few, many = pool.submit(measured_mb, folders, days).result()
    more = many[0] - few[0]
    assert more > 2 * few[0]
    assert many[1] - few[1] < more * TICK_DTYPE.itemsize / MB / 3, (few, many)

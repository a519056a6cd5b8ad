"""Strategies: cuts and restarts change no signal, nothing of the future is seen, bad files."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.groups import GroupSpec, group_specs
from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from consumers.strategies import Bar, Crossover, Ema, Signal, Strategy, Tick, TickRun
from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.loading import BadStrategy, load_strategy
from consumers.strategies.running.remembering import NotStorable
from consumers.strategies.running.walking import StrategyFailed
from events.codec import decode, encode
from events.decisions import TradeSignal
from events.log import Lane, Slot
from events.memory_log import MemoryLog
from events.operations import HandlerFailed
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch


class Everything(Strategy):
    """Uses ticks and bars, containers and indicators that share an object."""

    timeframes: tuple[str, ...] = ("M1", "M5")
    no_stop = True

    def setup(self) -> None:
        self.fast = Ema(3)
        self.cross = Crossover(self.fast, Ema(7))
        self.last: deque[float] = deque(maxlen=4)
        self.bars: dict[str, list[float]] = {}
        self.newest: Bar | None = None

    def on_tick(self, tick: Tick) -> Iterator[Signal]:
        self.last.append(tick.mid)
        if side := self.cross.update(tick.mid):
            yield self.target(side, reason=f"{sum(self.last):.9f}")
            if self.newest is not None:
                yield self.target("flat", leg="second", reason=str(self.newest.time_ms))

    def on_bar(self, bar: Bar) -> Signal | None:
        self.newest = bar
        closes = self.bars.setdefault(bar.timeframe, [])
        closes.append(bar.close)
        return self.target("short") if len(closes) % 5 == 0 else None


class Peeks(Everything):
    warm_up = 3


def batch(symbol: str, seed: int, count: int, *, begin: int = 0) -> TickBatch:
    chance = np.random.default_rng(seed)
    ticks = np.zeros(count, TICK_DTYPE)
    ticks["time_msc"] = 1_700_000_000_000 + np.cumsum(chance.integers(0, 9_000, count))
    ticks["bid"] = np.round(1.1 + np.cumsum(chance.normal(0, 1e-4, count)), 5)
    ticks["ask"] = ticks["bid"] + 1e-4
    ticks["flags"] = chance.integers(2, 7, count)
    return cut(TickBatch(symbol, ticks, 0, OffsetSource.LIVE, 0, 0), begin, count)


def cut(whole: TickBatch, begin: int, stop: int) -> TickBatch:
    ticks = whole.ticks[begin:stop]
    last = int(ticks["time_msc"][-1]) if len(ticks) else 0
    return TickBatch(whole.symbol, ticks, 0, OffsetSource.LIVE, last, last)


def fresh(kind: type[Strategy] = Everything) -> Instances:
    return Instances(Casting(kind, "tried"))


def restarted(instances: Instances, kept: dict[str, object]) -> Instances:
    kept |= instances.remember()
    stored = msgpack.unpackb(msgpack.packb(kept, strict_types=True), strict_map_key=False)
    again = fresh(instances.casting.strategy)
    again.restore(stored)
    return again


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, 399), max_size=12, unique=True),
    kind=st.sampled_from([Everything, Peeks]),
)
def test_neither_cuts_nor_restarts_nor_the_future_change_a_signal(
    seed: int, cuts: list[int], kind: type[Strategy]
) -> None:
    whole = batch("EURUSD", seed, 400)
    expected = fresh(kind).run_all(TickRun.of(whole))
    edges = [0, *sorted(cuts), 400]
    found: list[TradeSignal] = []
    cut_only, restarting, kept = fresh(kind), fresh(kind), dict[str, object]()
    again: list[TradeSignal] = []
    for begin, stop in itertools.pairwise(edges):
        part = TickRun.of(cut(whole, begin, stop))
        found += cut_only.run_all(part)
        again += restarting.run_all(part)
        restarting = restarted(restarting, kept)
    assert found == expected
    assert again == expected
    for stop in sorted(cuts)[:3]:
        seen = fresh(kind).run_all(TickRun.of(cut(whole, 0, stop)))
        assert seen == expected[: len(seen)]
        assert all(one.event_time_ms >= whole.ticks["time_msc"][stop - 1]
                   for one in expected[len(seen) :])  # fmt: skip


def test_the_walk_stops_behind_the_tick_that_signals_and_at_the_stop() -> None:
    run = TickRun.of(batch("EURUSD", 5, 3_000))
    instances, at, found = fresh(), 0, []
    while at < len(run):
        before = at
        at, signals = instances.run(run, at, min(len(run), at + 17))
        assert before < at <= before + 17
        assert all(one.event_time_ms == run.time_ms[at - 1] for one in signals)
        assert all(one.bid == run.bid[at - 1] for one in signals)
        found += signals
    assert found == fresh().run_all(TickRun.of(batch("EURUSD", 5, 3_000)))
    assert len(found) > 100


class Raises(Strategy):
    no_stop = True

    def setup(self) -> None:
        self.count = 0

    def on_tick(self, tick: Tick) -> Signal | None:
        self.count += 1
        if tick.bid > 2:
            raise ZeroDivisionError("of its own")
        return self.target("long") if self.count % 4 == 0 else None


def test_a_strategy_that_raises_halts_in_front_of_the_entry_with_a_dead_letter(
    tmp_path: Path,
) -> None:
    log = MemoryLog()
    log.open_namespace("demo", 1)
    claim = log.claim(Slot("demo", "source", 0), "me", alive_within_s=0)
    bad = batch("EURUSD", 1, 6)
    bad.ticks["bid"][3] = 3.0
    log.append(claim, [encode(one) for one in (batch("EURUSD", 2, 10), bad)])
    group = GroupSpec("strategy.tried", f"{__name__}:Raises").group()
    assert isinstance(group, Group)
    [spec] = group.specs(log)
    log.tasks.open_group("demo", group.name, 1)
    taken = log.tasks.acquire(spec.slot, "me", seen="")
    assert taken is not None
    run = TaskRun(log, group, spec, *taken)
    while run.step().entries:
        pass
    outputs = log.read(dict.fromkeys(spec.slot.streams(), (0, 0)))  # type: ignore[arg-type]  # any pair compares
    signals = [decode(one) for one in outputs[spec.slot.stream(Lane.NORMAL)]]
    [letter] = [decode(one) for one in outputs[spec.slot.stream(Lane.CRITICAL)]]
    assert [one.number for one in signals if isinstance(one, TradeSignal)] == [1, 2]
    assert {one.strategy for one in signals if isinstance(one, TradeSignal)} == {"tried"}
    assert isinstance(letter, HandlerFailed)
    assert letter.halted
    assert "on_tick failed at the tick of EURUSD" in letter.error
    assert "of its own" in letter.error


class KeepsAFile(Strategy):
    no_stop = True

    def on_tick(self, tick: Tick) -> None:
        self.held = open


def test_an_attribute_that_cannot_be_stored_is_named() -> None:
    instances = fresh(KeepsAFile)
    instances.run_all(TickRun.of(batch("EURUSD", 1, 2)))
    with pytest.raises(NotStorable, match=r"KeepsAFile\.held holds a builtin_function"):
        instances.remember()


BAD_FILES = {
    "syntax": ("def x(:\n", r"bad\.py:1: "),
    "raises": ("1 / 0\n", r"bad\.py:1: ZeroDivisionError"),
    "none": ("x = 1\n", "which class"),
    "type": (
        "from consumers.strategies import Strategy\nclass A(Strategy):\n    n: int = 'x'\n"
        "    def on_tick(self, tick): pass\n",
        r"bad\.py:2: A\.n = 'x' is no whole number",
    ),
    "timeframe": (
        "from consumers.strategies import Strategy\nclass A(Strategy):\n    timeframes = ('M7',)\n"
        "    def on_bar(self, bar): pass\n",
        "no timeframe 'M7'",
    ),
    "empty": (
        "from consumers.strategies import Strategy\nclass A(Strategy):\n    pass\n",
        "does nothing",
    ),
}


@pytest.mark.parametrize("name", sorted(BAD_FILES))
def test_a_bad_file_is_one_clear_line(name: str, tmp_path: Path) -> None:
    text, expected = BAD_FILES[name]
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(BadStrategy, match=expected) as caught:
        load_strategy(str(file))
    assert "\n" not in str(caught.value)


def test_parameters_are_read_by_type_and_unknown_ones_get_a_hint() -> None:
    loaded = load_strategy("ema_cross:EmaCross", {"fast": "5", "lots": "0.2", "risk_percent": ""})
    assert loaded.parameters == {"fast": 5, "lots": 0.2, "risk_percent": None}
    with pytest.raises(BadStrategy, match="did you mean fast"):
        load_strategy("ema_cross:EmaCross", {"fats": "5"})
    with pytest.raises(BadStrategy, match="whole number"):
        load_strategy("ema_cross:EmaCross", {"fast": "5.5"})


def test_a_strategy_of_the_settings_is_a_group_with_its_own_name() -> None:
    [spec] = group_specs("strategy", strategies=["quick=ema_cross:EmaCross"])
    group = spec.group()
    assert isinstance(group, Group)
    assert group.name == "strategy.quick"
    assert group.handler.casting.name == "quick"  # type: ignore[attr-defined]  # a StrategyHandler


def test_rows_without_prices_are_seen_by_nobody_and_crossed_ones_stay() -> None:
    bad = batch("EURUSD", 9, 12)
    bad.ticks["bid"][3] = 0.0
    bad.ticks["ask"][[3, 7]] = 0.0
    bad.ticks["bid"][9] = 2.0  # above its ask
    other = batch("GBPUSD", 1, 4)
    kept = [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]
    run = TickRun.of(bad, "here")
    assert run.time_ms.tolist() == bad.ticks["time_msc"][kept].tolist()
    assert run.unpriced == {"EURUSD": 2}
    both = TickRun.joined([bad, other], ["here", "there"])
    assert (len(both), both.place_of(9), both.place_of(10)) == (14, "here", "there")
    assert both.unpriced == TickRun.merged([bad, other]).unpriced == {"EURUSD": 2}
    nothing = cut(bad, 3, 4)
    assert fresh().run_all(TickRun.of(nothing)) == []


class Warming(Everything):
    warm_up = 3
    timeframes = ("M1",)


@pytest.mark.parametrize("kind", [Everything, Peeks, Raises, Warming])
def test_single_ticks_and_batches_lead_to_the_same_signals_and_state(kind: type[Strategy]) -> None:
    whole = batch("EURUSD", 21, 600)
    whole.ticks["bid"][[5, 77]] = 0.0
    expected = fresh(kind).run_all(TickRun.of(whole))
    assert len(expected) > 20
    for size in (1, 3, 4, 5, 40):
        live, through = fresh(kind), fresh(kind)
        found: list[TradeSignal] = []
        again: list[TradeSignal] = []
        for at in range(0, 600, size):
            one = cut(whole, at, min(at + size, 600))
            found += live.take(one)
            again += through.run_all(TickRun.of(one))
        assert found == again == expected, size
        assert live.remember() == through.remember(), size


def test_a_failure_of_a_single_tick_reads_as_that_of_a_batch() -> None:
    bad = batch("EURUSD", 1, 6)
    bad.ticks["bid"][3] = bad.ticks["ask"][3] = 3.0
    told = []
    for size in (1, 6):
        instances = fresh(Raises)
        before = 3 if size == 1 else 0
        for at in range(before):
            instances.take(cut(bad, at, at + 1))
        with pytest.raises(StrategyFailed) as caught:
            instances.take(cut(bad, before, before + size))
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert "of its own" in told[0]

"""No look-ahead: whatever a strategy is told, cutting its input changes nothing that was said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.backtest.broker import Amount, BrokerOptions
from consumers.backtest.broker.spec.writing import example_spec
from consumers.backtest.running import Plan, run_backtest
from consumers.backtest.sources.source import Portion
from consumers.backtest.sweep.cutting import CutSource, Said, difference
from consumers.strategies import (
    Account,
    Bar,
    Crossover,
    Ema,
    Fill,
    Signal,
    Strategy,
    Tick,
    TickRun,
)
from consumers.strategies.running.instances import Casting
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.operations import ClockTick
from tests.made_ticks import batch_of, random_walk

START_MS = 1_772_409_600_000  # Monday, 2 March 2026, 00:00 UTC
SYMBOL, OTHER = "EURUSD", "NZDUSD"
TICKS = 450
FACTS = example_spec((SYMBOL, OTHER))


class OnTick(Strategy):
    """Ticks, its own trades, and a stop and target that are reached."""

    risk_percent = 1.0

    def setup(self) -> None:
        self.cross = Crossover(Ema(8), Ema(30))
        self.trades: list[str] = []

    def on_tick(self, tick: Tick) -> Iterator[Signal]:
        if side := self.cross.update(tick.mid):
            yield self.target(
                side, stop_loss=tick.mid - side * 2e-4, take_profit=tick.mid + side * 3e-4,
                reason=f"{len(self.trades)} {self.position:g}",
            )  # fmt: skip

    def on_trade(self, trade: Fill) -> Iterator[Signal]:
        self.trades.append(trade.reason)
        if trade.reason == "stop_loss":
            yield self.target("flat", reason="stopped")


class OnBar(Strategy):
    no_stop = True
    timeframes = ("M1", "M5")
    lots = 0.1

    def setup(self) -> None:
        self.last = 0.0

    def on_bar(self, bar: Bar) -> Iterator[Signal]:
        before, self.last = self.last, bar.close
        if before and bar.timeframe == "M1":
            yield self.target("long" if bar.close > before else "short", reason=f"{bar.high:.5f}")


class OnTicks(Strategy):
    no_stop = True
    lots = 0.1

    def setup(self) -> None:
        self.fast, self.slow, self.side = Ema(8), Ema(30), 0

    def on_ticks(self, ticks: TickRun) -> Iterator[Signal]:
        sides = np.sign(self.fast.update_many(ticks.mid) - self.slow.update_many(ticks.mid))
        for at, side in enumerate(np.nan_to_num(sides).tolist()):
            if side and side != self.side:
                self.side = side
                yield self.target(side, at=at, reason=f"{ticks.bid[at]:.5f}")


class OnTimer(Strategy):
    """The clock, the account and what is held, over two symbols in one object."""

    symbols = (SYMBOL, OTHER)
    together = True
    no_stop = True
    lots = 0.1
    timer_s = 20.0

    def setup(self) -> None:
        self.prices: dict[str, float] = {}
        self.equity = 0.0

    def on_tick(self, tick: Tick) -> None:
        self.prices[tick.symbol] = tick.mid

    def on_account(self, account: Account) -> None:
        self.equity = account.equity

    def on_timer(self, time_ms: int) -> Iterator[Signal]:
        for symbol, price in sorted(self.prices.items()):
            side = 1 if int(price * 1e5) % 2 else -1
            yield self.target(side, symbol=symbol, reason=f"{self.equity:.2f}")


class Made:
    """Two symbols with different rates, merged by time in portions."""

    name, symbols = "made", (SYMBOL, OTHER)

    def __init__(self, seed: int, portion: int) -> None:
        self._rows = {
            SYMBOL: random_walk(TICKS, start_ms=START_MS, step_ms=700, seed=seed),
            OTHER: random_walk(TICKS // 3, start_ms=START_MS + 350, step_ms=2_100, seed=seed + 1),
        }
        self._portion = portion
        self.warnings: list[str] = []

    def facts(self) -> list[AnyEvent]:
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion | ClockTick]:
        for begin in range(0, TICKS, self._portion):
            parts = [
                batch_of(rows[begin // share : (begin + self._portion) // share], symbol)
                for (symbol, rows), share in zip(self._rows.items(), (1, 3), strict=True)
            ]
            yield Portion(tuple(parts), by_time=True)


def plan(kind: type[Strategy], seed: int = 1, portion: int = 150) -> Plan:
    casting = Casting(kind, "tried", (SYMBOL, OTHER), {}, FACTS.instruments)
    account = FACTS.account
    assert account is not None
    return Plan(
        casting, "tried", Made(seed, portion), account, FACTS.instruments,
        BrokerOptions(latency_ms=Amount(100, 900)), looks_ms=5_000,
    )  # fmt: skip


def said(made: Plan, ticks: int | None = None) -> list[Said]:
    found: list[Said] = []

    def told(tick: int, signal: TradeSignal) -> None:
        found.append(Said(tick, signal.event_time_ms, signal.model_dump_json()))

    source = made.source if ticks is None else CutSource(made.source, ticks)
    result = run_backtest(replace(made, source=source), signalled=told)
    assert not result.stopped, result.stopped
    return found


@settings(max_examples=5, deadline=None)
@given(
    kind=st.sampled_from([OnTick, OnBar, OnTicks, OnTimer]),
    seed=st.integers(0, 999),
    cut=st.integers(1, TICKS + TICKS // 3 - 1),
    portion=st.sampled_from([90, 150, TICKS]),
)
def test_cutting_the_input_behind_any_tick_changes_no_earlier_signal(
    kind: type[Strategy], seed: int, cut: int, portion: int
) -> None:
    whole = said(plan(kind, seed))
    assert len(whole) > 3
    again = said(plan(kind, seed, portion), cut)
    assert difference(whole, again, cut) == []


class NextOfTheArray(Strategy):
    no_stop = True

    def on_ticks(self, ticks: TickRun) -> Iterator[Signal]:
        for at in range(0, len(ticks) - 1, 41):
            yield self.target("long" if ticks.bid[at + 1] > ticks.bid[at] else "short", at=at)


class EndOfTheArray(Strategy):
    no_stop = True

    def on_ticks(self, ticks: TickRun) -> Iterator[Signal]:
        for at in range(0, len(ticks), 41):
            yield self.target("long" if ticks.bid[-1] > ticks.bid[at] else "short", at=at)


class BehindTheArray(Strategy):
    """Looks for what an array is a part of."""

    no_stop = True

    def on_ticks(self, ticks: TickRun) -> Iterator[Signal]:
        for at in range(len(ticks)):
            base: Any = ticks.bid
            while getattr(base, "base", None) is not None:
                base = base.base
            if at % 41 == 0:
                yield self.target("long" if base[-1] > ticks.bid[at] else "short", at=at)


@pytest.mark.parametrize("kind", [NextOfTheArray, EndOfTheArray, BehindTheArray])
def test_who_looks_ahead_in_an_array_is_stopped(kind: type[Strategy]) -> None:
    result = run_backtest(plan(kind))
    assert "on_ticks looks ahead: at the tick of" in result.stopped
    assert result.signals == ()


class OfTheCaller(Strategy):
    """Looks through the frames of whoever calls it for ticks to come."""

    no_stop = True
    lots = 0.1

    def setup(self) -> None:
        self.count = 0

    def on_tick(self, tick: Tick) -> Signal | None:
        self.count += 1
        if self.count % 41:
            return None
        frame, ahead = sys._getframe(1), 0.0
        while frame is not None and not ahead:
            run = frame.f_locals.get("run")
            ahead = float(run.bid[-1]) if isinstance(run, TickRun) else 0.0
            frame = frame.f_back  # type: ignore[assignment]  # None ends it
        return self.target("long" if ahead > tick.bid else "short")


def test_who_looks_ahead_some_other_way_is_found_by_a_cut() -> None:
    whole = said(plan(OfTheCaller))
    places = [one.tick + 1 for one in whole[:4]]
    lines = [line for at in places for line in difference(whole, said(plan(OfTheCaller), at), at)]
    assert lines
    assert "with the ticks behind tick" in lines[0]


def test_a_single_tick_is_no_window_into_the_array_it_was_cut_from() -> None:
    rows = random_walk(100, start_ms=START_MS, step_ms=1_000, seed=1)
    run = TickRun.of(batch_of(rows[3:4], SYMBOL))
    for name in ("bid", "ask", "last", "volume", "flags", "time_ms", "time_server_ms"):
        base = getattr(run, name)
        while base.base is not None:
            base = base.base
        assert len(base) == 1, name

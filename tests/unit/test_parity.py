"""What a strategy did live against a backtest of it: nothing differs where nothing happened, and
every difference finds its cause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from consumers.failures.request import Action, Request
from consumers.parity.comparing.causes import Cause
from consumers.parity.comparing.quotes import QuotesAt
from consumers.parity.finding import group_of, terminal_of
from consumers.parity.live import NoParity
from consumers.parity.result import ParityResult
from consumers.parity.running import ParityRequest, compared
from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from consumers.strategies import Signal, Strategy, Tick
from consumers.strategies.ema_cross import EmaCross
from consumers.strategies.running.handler import handler_of
from consumers.strategies.running.loading import load_strategy
from consumers.strategies.running.tick_run import TickRun
from events.codec import decode, encode
from events.decisions import TradeSignal
from events.log import SOURCE, Claim, Lane, Slot, partition_of
from events.market import Instrument
from events.memory_log import MemoryLog
from events.ticks import Mark
from events.trading import Account
from tests.golden import sample_model
from tests.made_ticks import batch_of, random_walk

START_MS = 1_772_409_600_000  # Monday, 2 March 2026, 00:00 UTC
PARTITIONS = 4
SYMBOLS = ("EURUSD", "GBPUSD", "AUDUSD")
NAME = "cross"


class Both(Strategy):
    """Over all symbols at once: the order of lanes matters."""

    together = True
    no_stop = True
    lots = 0.1

    def setup(self) -> None:
        self.count = 0

    def on_tick(self, tick: Tick) -> Signal | None:
        self.count += 1
        side = "long" if self.count // 50 % 2 else "short"
        return self.target(side, symbol=tick.symbol) if self.count % 50 == 0 else None


def instrument(symbol: str) -> Instrument:
    return Instrument(
        event_time_ms=START_MS, recv_time_ms=0, symbol=symbol, broker_symbol=symbol,
        currency_base=symbol[:3], currency_profit="USD", currency_margin=symbol[:3], digits=5,
        point=1e-5, tick_size=1e-5, contract_size=100_000.0, volume_min_lots=0.01,
        volume_max_lots=100.0, volume_step_lots=0.01,
    )  # fmt: skip


def account() -> Account:
    made = sample_model(Account)
    assert isinstance(made, Account)
    values = {"event_time_ms": START_MS, "currency": "USD", "balance": 10_000.0, "credit": 0.0,
              "leverage": 100, "margin_mode": 2, "login": 1}  # fmt: skip
    return made.model_copy(update=values)


class World:
    """A terminal's log, and a strategy that runs on it."""

    def __init__(self, code: str = "ema_cross:EmaCross", **parameters: Any) -> None:
        self.log = MemoryLog()
        self.log.open_namespace("demo", PARTITIONS)
        self.claims = [
            self.log.claim(Slot("demo", SOURCE, number), "me", alive_within_s=0)
            for number in range(PARTITIONS)
        ]
        self._append(0, account())
        for symbol in SYMBOLS:
            self._append(partition_of(symbol, PARTITIONS), instrument(symbol))
        self.start(code, **parameters)

    def start(self, code: str, **parameters: Any) -> None:
        """Run it from here on."""
        handler = handler_of(load_strategy(code, parameters), name=NAME)
        self.group = Group(f"strategy.{NAME}", handler, namespaces=("demo",))
        self.restart()

    def restart(self) -> None:
        """Another worker takes the tasks over."""
        specs = self.group.specs(self.log)
        self.log.tasks.open_group("demo", self.group.name, len(specs))
        self.runs: list[TaskRun] = []
        for spec in specs:
            seen = self.log.tasks.look([spec.slot])[0].token
            taken = self.log.tasks.acquire(spec.slot, "me", seen=seen)
            assert taken is not None
            self.runs.append(TaskRun(self.log, self.group, spec, *taken))

    def ticks(self, first: int, stop: int, *, every: int = 25, marks: Mark = Mark.NONE) -> None:
        """Some of the ticks of each symbol, a few per entry."""
        for seed, symbol in enumerate(SYMBOLS):
            rows = random_walk(6_000, start_ms=START_MS, step_ms=1_000, seed=seed)
            for begin in range(first, stop, every):
                batch = batch_of(rows[begin : min(stop, begin + every)], symbol)
                batch.marks = marks
                self._append(partition_of(symbol, PARTITIONS), batch)

    def pump(self) -> None:
        for run in self.runs:
            while (step := run.step()).entries:
                assert not step.halted

    def compared(self, **more: Any) -> ParityResult:
        return compared(self.log, ParityRequest("demo", self.group, **more))

    def signals(self) -> Iterator[TradeSignal]:
        for run in self.runs:
            stream = run.spec.slot.stream(Lane.NORMAL)
            for entry in self.log.between(stream, count_max=100_000):
                event = decode(entry)
                assert isinstance(event, TradeSignal)
                yield event

    def _append(self, partition: int, event: Any) -> None:
        claim: Claim = self.claims[partition]
        self.log.append(claim, [encode(event)])


SLOW: dict[str, Any] = {"fast": 30, "slow": 90}
FAST: dict[str, Any] = {"timeframes": ("M1",), "warm_up": 5}
RUN: dict[str, dict[str, Any]] = {
    "ema_cross": {"fast": 30, "slow": 90},
    "breakout": {"entry": 5, "leave": 3, **FAST},
    "mean_reversion": {"period": 15, "enter_score": 1.0, "rsi_edge": 49.0, **FAST},
    f"{__name__}:Both": {},
}


@pytest.mark.parametrize("code", RUN)
def test_a_strategy_and_a_backtest_of_it_say_the_same(code: str) -> None:
    world = World(code, **RUN[code])
    for first in range(0, 2_000, 500):
        world.ticks(first, first + 500)
        world.pump()
    found = world.compared()
    assert found.signals.live == len(list(world.signals())) > 5, code
    assert found.signals.matched == found.signals.live, found.as_json()
    assert found.signals_percent == 100
    assert not found.executed
    assert found.within(0)
    json.dumps(found.as_json(), allow_nan=False)


def test_the_order_in_which_lanes_were_read_is_kept() -> None:
    """Half the ticks of each symbol are appended, and read, ahead of the others of their time."""
    world = World(f"{__name__}:Both")
    world.ticks(0, 1_000)
    world.pump()
    world.ticks(1_000, 1_500)
    found = world.compared()
    assert found.signals_percent == 100
    assert found.changed_by_order is not None


def test_a_signal_that_the_code_does_not_give_is_unexplained_and_one_of_other_code_is_not() -> None:
    world = World(**SLOW)
    world.ticks(0, 2_000)
    world.pump()
    stated = next(world.signals())
    [run] = [one for one in world.runs if partition_of(stated.symbol, PARTITIONS)
             == one.spec.slot.partition]  # fmt: skip
    [entry, *_] = world.log.between(run.spec.slot.stream(Lane.NORMAL), count_max=1)
    forged = stated.model_copy(update={"stop_loss": 1.0})
    lane = world.log._streams[run.spec.slot.stream(Lane.NORMAL)]
    place = next(at for at, one in enumerate(lane.entries) if one.id == entry.id)
    lane.entries[place] = entry._replace(data=encode(forged).data)
    found = world.compared()
    [difference] = found.signals.differences
    assert (difference.kind, difference.cause) == ("different", Cause.UNEXPLAINED)
    assert difference.fields == (f"stop_loss: 1.0 / {stated.stop_loss}",)
    assert not found.within(0)
    assert found.within(50)
    assert found.unexplained_percent > 0


def test_other_parameters_are_the_cause_where_they_were_others() -> None:
    world = World(**SLOW)
    world.ticks(0, 2_000)
    world.pump()
    group, _ = group_of(
        world.log, "demo", NAME, code="ema_cross", parameters={"fast": "25", "slow": "90"}
    )
    found = compared(world.log, ParityRequest("demo", group))
    assert found.signals.differences
    assert set(found.causes()) == {Cause.VERSION}
    assert any("parameters or symbols were changed" in note for note in found.notes)


def test_ticks_that_came_late_are_seen_where_they_came() -> None:
    world = World(**SLOW)
    world.ticks(0, 1_000)
    world.ticks(1_200, 1_600)
    world.pump()
    world.ticks(1_000, 1_200, marks=Mark.LATE)
    world.ticks(1_600, 2_000)
    world.pump()
    found = world.compared()
    assert found.signals_percent == 100
    assert found.late_batches > 0


def test_a_span_leaves_out_what_lies_outside_of_it() -> None:
    from consumers.backtest.sources.source import Span

    world = World(**SLOW)
    world.ticks(0, 3_000)
    world.pump()
    span = Span(START_MS + 1_000_000, START_MS + 2_000_000)
    within = [one for one in world.signals() if span.from_ms <= one.event_time_ms < span.to_ms]  # type: ignore[operator]  # both are set
    found = world.compared(span=span)
    assert found.signals.live == found.signals.matched == len(within) > 0


def test_what_left_the_log_is_followed_from_the_oldest_snapshot() -> None:
    """With what the strategy remembered there; earlier signals are not compared, which is told."""
    world = World(**SLOW)
    world.ticks(0, 1_000)
    for run in world.runs:
        run._snapshots._every_s = 0.0
        run._snapshots._due_at = 0.0
    world.pump()
    before = len(list(world.signals()))
    for run in world.runs:
        run._snapshots._due_at = float("inf")
    for number in range(PARTITIONS):
        stream = Slot("demo", SOURCE, number).stream(Lane.NORMAL)
        world.log.retained.trim(stream, world.log.info(stream).last_id, ())
    world.ticks(1_000, 2_000)
    world.pump()
    found = world.compared()
    assert found.signals_percent == 100
    assert 0 < found.signals.live < len(list(world.signals()))
    assert found.signals.live == len(list(world.signals())) - before
    assert any("what it said before is not kept" in note for note in found.notes)
    assert "snapshot" in found.began


class Shy(EmaCross):
    """Cannot bear one price."""

    def on_tick(self, tick: Tick) -> Signal | None:
        if tick.bid == 9.0:
            raise ValueError("too high")
        return super().on_tick(tick)


def test_an_entry_that_an_operator_dropped_is_left_out_of_the_backtest() -> None:
    world = World(f"{__name__}:Shy", **SLOW)
    world.ticks(0, 1_000)
    world.pump()
    rows = random_walk(6_000, start_ms=START_MS, step_ms=1_000, seed=0)[1_000:1_005]
    rows["bid"] = 9.0
    partition = partition_of("EURUSD", PARTITIONS)
    world._append(partition, batch_of(rows, "EURUSD"))
    [run] = [one for one in world.runs if one.spec.slot.partition == partition]
    while not run.step().halted:
        pass
    stream = Slot("demo", SOURCE, partition).stream(Lane.NORMAL)
    [bad] = world.log.newest(stream)
    request = Request("1", Action.DROP, bad.place, "test", "a test", asked_ms=1)
    world.log.tasks.ask(run.spec.slot, request.id, request.to_bytes())
    world.restart()
    world.ticks(1_005, 2_000)
    world.pump()
    found = world.compared()
    assert found.signals_percent == 100
    assert found.signals.live > 5


def test_a_strategy_is_found_by_its_name() -> None:
    world = World(**SLOW)
    assert terminal_of(world.log, NAME, "") == "demo"
    with pytest.raises(NoParity, match="never ran; strategies that did: cross"):
        terminal_of(world.log, "other", "")
    with pytest.raises(NoParity, match="there is no terminal 'x'; there is: demo"):
        terminal_of(world.log, NAME, "x")
    with pytest.raises(NoParity, match="which code ran as"):
        group_of(world.log, "demo", NAME)
    world.ticks(0, 10)
    with pytest.raises(NoParity, match="never ran on demo"):
        world.compared()


def test_quotes_of_a_moment_are_the_newest_before_it_and_its_own() -> None:
    rows = random_walk(100, start_ms=START_MS, step_ms=1_000, seed=1)
    rows["time_msc"][51] = rows["time_msc"][50]
    asked = QuotesAt([("EURUSD", START_MS + 50_000), ("EURUSD", START_MS + 60_400)])
    late = rows[60:61].copy()
    for part in (rows[:55], rows[70:], rows[55:60], late):
        asked.pass_over(TickRun.of(batch_of(part, "EURUSD")))
    assert [one.bid for one in asked.at("EURUSD", START_MS + 50_000)] == rows["bid"][49:52].tolist()
    assert [one.bid for one in asked.at("EURUSD", START_MS + 60_400)] == [rows["bid"][60]]
    assert asked.at("EURUSD", START_MS + 1) == []

"""Strategies switched on and off while group `strategy` runs, on a real server."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from consumers.groups.enabled import enabled_specs
from consumers.replay.verification import verify_task
from consumers.runtime.group import Group
from consumers.strategies.cli import list_strategies
from consumers.strategies.enabling.cli import disable, enable, show
from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.loading import BadStrategy, load_strategy
from consumers.strategies.running.tick_run import TickRun
from events.codec import decode, encode
from events.decisions import TradeSignal
from events.executing import StrategyBegan
from events.log import EntryId, Lane, Slot, partition_of
from events.redis import RedisLog
from events.ticks import TickBatch
from tests.conftest import Seeds
from tests.integration.test_consume import Consumer, end
from tests.servers import wait_until
from tests.unit.test_strategies import batch
from tests.unit.test_strategies_enabled import facts, pieces

wait = partial(wait_until, timeout_s=60)
QUICK = """
from consumers.strategies import Crossover, Ema, Strategy


class Quick(Strategy):
    fast: int = 3
    no_stop = True

    def setup(self):
        self.step = self.point
        self.cross = Crossover(Ema(self.fast), Ema(9))

    def on_tick(self, tick):
        if side := self.cross.update(tick.mid):
            yield self.target(side, reason=f"{self.fast}")
"""
COMMANDS = {"enable": enable, "disable": disable, "list": list_strategies, "show": show}


@pytest.fixture
def consumer(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Consumer]:
    with closing(Consumer(tmp_path, redis_url, "")) as made:
        for name in ("REDIS_URL", "BRIDGE_STATE_DIR"):  # for commands in this process
            monkeypatch.setenv(name, made.environment[name])
        yield made


class Market:
    """Ticks of some symbols, appended a piece at a time."""

    def __init__(self, log: RedisLog, symbols: tuple[str, ...] = ("EURUSD",), *, seed: int = 11):
        self.log, self.symbols = log, symbols
        self.partitions = len(symbols)
        log.open_namespace("demo", self.partitions)
        slots = [Slot("demo", "source", number) for number in range(self.partitions)]
        self.claims = [log.claim(slot, "feed", alive_within_s=0.1) for slot in slots]
        each = [pieces(batch(s, seed + n, 4_000), 50) for n, s in enumerate(symbols)]
        self.parts = [part for row in zip(*each, strict=True) for part in row]
        for symbol in symbols:
            self._append(symbol, facts(symbol))
        self.go_on(10)

    def _append(self, symbol: str, event: Any) -> None:
        claim = self.claims[partition_of(symbol, self.partitions)]
        self.log.append(claim, [encode(event)])

    def go_on(self, count: int) -> None:
        for part in self.parts[:count]:
            self._append(part.symbol, part)
        del self.parts[:count]

    def told(self, name: str, lane: Lane) -> list[Any]:
        slots = [Slot("demo", f"strategy.{name}", n) for n in range(self.partitions)]
        return [
            decode(entry)
            for slot in slots
            for entry in self.log.between(slot.stream(lane), count_max=100_000)
        ]

    def signals(self, name: str) -> list[TradeSignal]:
        found = self.told(name, Lane.NORMAL)
        return [one for one in found if isinstance(one, TradeSignal)]

    def began(self, name: str) -> list[StrategyBegan]:
        return [one for one in self.told(name, Lane.HIGH) if isinstance(one, StrategyBegan)]


def commanded(name: str, *words: str) -> dict[str, Any]:
    done = CliRunner().invoke(COMMANDS[name], [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def running(consumer: Consumer, *words: str) -> Iterator[None]:
    child = consumer.start("consume", "--group", "strategy", "--plain", *words)
    try:
        yield
    finally:
        end(child, signal.SIGTERM)


def test_strategies_are_switched_on_and_off_while_the_group_runs(
    consumer: Consumer, redis_log: RedisLog, tmp_path: Path
) -> None:
    market, file, bad = Market(redis_log), tmp_path / "quick.py", tmp_path / "bad.py"
    file.write_text(QUICK)
    bad.write_text(QUICK)
    commanded("enable", str(bad), "--as", "bad")
    bad.write_text("def broken(:\n")
    with running(consumer):
        commanded("enable", str(file), "--symbol", "EURUSD", "--as", "one")
        wait(lambda: len(market.began("one")) == 1, what="it to begin")
        assert market.began("one")[0].entries_back > 0
        market.go_on(10)
        wait(lambda: len(market.signals("one")) > 3, what="its signals")
        assert {one.reason for one in market.signals("one")} == {"3"}

        commanded("enable", str(file), "--as", "one", "--set", "fast=5")
        wait(lambda: len(market.told("one", Lane.HIGH)) == 2, what="the other parameters")
        market.go_on(10)
        wait(lambda: market.signals("one")[-1].reason == "5", what="signals by them")

        wait(lambda: "strategy.bad stands still" in consumer.told(), what="the bad one")
        with pytest.raises(BadStrategy, match=r"bad\.py:1: "):
            commanded("enable", str(bad), "--as", "worse")
        listed = {one["name"]: one for one in commanded("list")["enabled"]}
        assert (listed["one"]["state"], listed["bad"]["state"]) == ("running", "failed")
        assert "was changed" in listed["bad"]["why"]
        assert listed["one"]["last_signal"]["reason"] == "5"

        bad.write_text(QUICK)
        wait(lambda: len(market.began("bad")) == 1, what="it to go on as it was enabled")
        assert commanded("disable", "one")["ended"] is True
        before, others = len(market.signals("one")), len(market.signals("bad"))
        market.go_on(20)
        wait(lambda: len(market.signals("bad")) > others, what="signals of the other one")
        assert len(market.signals("one")) == before
        assert "strategy.one.0" not in str(redis_log.tasks.readers("demo"))
        assert commanded("show", "one")["state"] == "off"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_killed_workers_lose_and_double_no_signal(
    workers: int, consumer: Consumer, redis_log: RedisLog, tmp_path: Path, seeds: Seeds
) -> None:
    symbols = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD")
    market, file = Market(redis_log, symbols), tmp_path / "quick.py"
    file.write_text(QUICK)
    commanded("enable", str(file), "--as", "one")
    seed = seeds.first
    chance = random.Random(seed)
    with running(consumer, "--workers", str(workers)):
        wait(lambda: len(market.began("one")) == market.partitions, what="every task to begin")
        kills = 0
        while market.parts:
            market.go_on(chance.randrange(1, 40))
            if chance.random() < 0.5:
                kills += _killed(redis_log, chance, market.partitions)
        assert kills > 2
        expected = _expected(market, file)
        wait(lambda: len(market.signals("one")) >= len(expected), what=f"all signals, seed {seed}")
    assert sorted(market.signals("one"), key=_order) == expected
    [spec] = enabled_specs(redis_log)
    group = spec.group()
    assert isinstance(group, Group)
    for task in group.specs(redis_log):
        assert verify_task(redis_log, group, task).good


def _killed(log: RedisLog, chance: random.Random, partitions: int) -> bool:
    """Kill a worker that holds a task, and wait until others have its tasks."""
    slots = [Slot("demo", "strategy.one", number) for number in range(partitions)]

    def holders() -> list[str]:
        return [one.holder for one in log.tasks.look(slots)]

    wait(lambda: all(holders()), what="every task to be held")
    chosen = chance.choice(holders())
    with suppress(ProcessLookupError):
        os.kill(int(chosen.partition("/")[0].rpartition(":")[2]), signal.SIGKILL)
    wait(lambda: chosen not in holders(), what=f"others to take over from {chosen}")
    return True


def _order(one: TradeSignal) -> tuple[str, int]:
    return one.symbol, one.number


def _expected(market: Market, file: Path) -> list[TradeSignal]:
    """What one object per symbol says that saw every entry behind its beginning."""
    known = {symbol: facts(symbol) for symbol in market.symbols}
    instances = Instances(Casting(load_strategy(str(file)).strategy, "one", (), {}, known))
    found: list[TradeSignal] = []
    for began in market.began("one"):
        number = int(began.task.rpartition(".")[2])
        stream = Slot("demo", "source", number).stream(Lane.NORMAL)
        begin = EntryId.parse(began.after[str(stream)]).next()
        for entry in market.log.between(stream, begin, count_max=100_000):
            event = decode(entry)
            if isinstance(event, TickBatch):
                instances.mute = entry.id <= EntryId.parse(began.since)
                found += instances.run_all(TickRun.of(event))
    return sorted(found, key=_order)

"""Strategies switched on and off while group `strategy` runs, on a real server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from events.codec import decode, encode
from events.decisions import TradeSignal
from events.executing import StrategyBegan
from events.log import Lane, Slot
from events.redis import RedisLog
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


@pytest.fixture
def consumer(tmp_path: Path, redis_url: str) -> Iterator[Consumer]:
    with closing(Consumer(tmp_path, redis_url, "")) as made:
        yield made


class Market:
    def __init__(self, log: RedisLog) -> None:
        self.log = log
        log.open_namespace("demo", 1)
        self.claim = log.claim(Slot("demo", "source", 0), "feed", alive_within_s=0.1)
        self.parts = pieces(batch("EURUSD", 11, 4_000), 50)
        log.append(self.claim, [encode(facts("EURUSD"))])
        self.go_on(10)

    def go_on(self, count: int) -> None:
        for part in self.parts[:count]:
            self.log.append(self.claim, [encode(part)])
        del self.parts[:count]

    def signals(self, name: str) -> list[TradeSignal]:
        stream = Slot("demo", f"strategy.{name}", 0).stream(Lane.NORMAL)
        found = [decode(entry) for entry in self.log.between(stream, count_max=10_000)]
        return [one for one in found if isinstance(one, TradeSignal)]

    def began(self, name: str) -> list[StrategyBegan]:
        stream = Slot("demo", f"strategy.{name}", 0).stream(Lane.HIGH)
        found = [decode(entry) for entry in self.log.between(stream, count_max=100)]
        return [one for one in found if isinstance(one, StrategyBegan)]


def commanded(consumer: Consumer, *words: str) -> dict[str, Any]:
    code, out, told = consumer.run("strategies", *words, "--json")
    assert code == 0, told
    found: dict[str, Any] = json.loads(out)
    return found


@contextmanager
def running(consumer: Consumer) -> Iterator[None]:
    child = consumer.start("consume", "--group", "strategy", "--plain")
    try:
        yield
    finally:
        end(child, signal.SIGTERM)


def test_strategies_are_switched_on_and_off_while_the_group_runs(
    consumer: Consumer,
    redis_log: RedisLog,
    tmp_path: Path,
) -> None:
    market, file = Market(redis_log), tmp_path / "quick.py"
    file.write_text(QUICK)
    with running(consumer):
        commanded(consumer, "enable", str(file), "--symbol", "EURUSD", "--as", "one")
        wait(lambda: len(market.began("one")) == 1, what="it to begin")
        assert market.began("one")[0].entries_back > 0
        market.go_on(10)
        wait(lambda: len(market.signals("one")) > 3, what="its signals")
        first = market.signals("one")
        assert {one.reason for one in first} == {"3"}

        commanded(consumer, "enable", str(file), "--as", "one", "--set", "fast=5")
        wait(lambda: market.log.tasks.peek(Slot("demo", "strategy.one", 0)).commits > 1
             and _upgraded(market), what="the other parameters")  # fmt: skip
        market.go_on(10)
        wait(lambda: any(one.reason == "5" for one in market.signals("one")), what="those signals")

        file.write_text("def broken(:\n")
        code, _, told = consumer.run("strategies", "enable", str(file), "--as", "two")
        assert code == 1
        assert "quick.py:1: " in told.splitlines()[-1]
        [listed] = commanded(consumer, "list")["enabled"]
        assert listed["state"] == "running"
        assert "was changed" in listed["why"]
        assert listed["last_signal"]["reason"] == "5"

        commanded(consumer, "enable", "ema_cross:EmaCross", "--as", "two")
        wait(lambda: len(market.began("two")) == 1, what="the other one")
        done = commanded(consumer, "disable", "one")
        assert done["ended"] is True
        before = len(market.signals("one"))
        market.go_on(20)
        wait(lambda: bool(market.signals("two")), what="signals of the other one")
        assert len(market.signals("one")) == before
        assert "strategy.one.0" not in str(redis_log.tasks.readers("demo"))


def _upgraded(market: Market) -> bool:
    stream = Slot("demo", "strategy.one", 0).stream(Lane.HIGH)
    found = market.log.between(stream, count_max=100)
    return any(entry.type.startswith("handler_upgraded.") for entry in found)


def test_a_strategy_whose_file_turned_bad_stands_still_and_others_go_on(
    consumer: Consumer,
    redis_log: RedisLog,
    tmp_path: Path,
) -> None:
    market, file = Market(redis_log), tmp_path / "quick.py"
    file.write_text(QUICK)
    commanded(consumer, "enable", str(file), "--as", "one")
    commanded(consumer, "enable", "ema_cross:EmaCross", "--as", "two")
    file.write_text("def broken(:\n")
    with running(consumer):
        wait(lambda: len(market.began("two")) == 1, what="the good one")
        wait(lambda: "strategy.one stands still" in consumer.told(), what="the bad one")
        assert not market.began("one")
        standing = commanded(consumer, "show", "one")
        assert standing["state"] == "failed"
        assert "was changed" in str(standing["why"])
        file.write_text(QUICK)
        wait(lambda: len(market.began("one")) == 1, what="it to go on as it was enabled")

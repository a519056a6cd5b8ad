"""Every bundled strategy over one recording: groups in processes that are killed while they run,
and a backtest of the same entries. The same signals, however many workers there are."""

from __future__ import annotations

import os
import random
import signal
from contextlib import closing, suppress
from pathlib import Path

import pytest

from consumers.backtest.broker import AccountSpec
from consumers.backtest.broker.spec.writing import example_spec
from consumers.backtest.running import Plan
from consumers.strategies.running.instances import Casting
from consumers.strategies.running.loading import load_strategy
from events.codec import AnyEvent, decode, encode
from events.decisions import TradeSignal
from events.log import SOURCE, Lane, Log, Slot
from events.redis import RedisLog
from events.trading import Account, Deal
from tests.conftest import Seeds
from tests.integration.test_consume import Consumer
from tests.made_ticks import random_walk
from tests.servers import wait_until
from tests.unit.backtest_trace import Interleaved, Trace, traced

START_MS = 1_772_409_600_000  # Monday, 2 March 2026, 00:00 UTC
TERMINAL = "demo"
FIRST, SECOND = "AUDUSD", "NZDUSD"
TICKETS = 1_000_000
"""Tickets of one strategy's account lie so far from those of the next."""
FILE = """
from consumers.strategies.breakout import Breakout
from consumers.strategies.crypto_momentum import CryptoMomentum
from consumers.strategies.ema_cross import EmaCross
from consumers.strategies.mean_reversion import MeanReversion
from consumers.strategies.pair import Pair


class Ema(EmaCross):
    symbols = ("AUDUSD",)
    fast, slow, stop_percent = 20, 60, 0.05


class Out(Breakout):
    symbols = ("AUDUSD",)
    timeframes, entry, leave, warm_up, stop_ranges = ("M1",), 6, 3, 7, 1.0


class Mean(MeanReversion):
    symbols = ("NZDUSD",)
    timeframes, period, warm_up, enter_score, rsi_edge, stop_ranges = ("M1",), 8, 8, 1.0, 45.0, 1.0


class Two(Pair):
    timeframes, period, warm_up, enter_score = ("M1",), 8, 8, 1.0
    correlation_min, stop_percent = -1.0, 0.05


class Coin(CryptoMomentum):
    symbols = ("AUDUSD",)
    timeframes, bars, warm_up, enter_score, adx_min, stop_ranges = ("M1",), 12, 20, 0.5, 5.0, 1.0
"""
NAMES = {"ema": "Ema", "out": "Out", "mean": "Mean", "two": "Two", "coin": "Coin"}


def backtests(file: Path, ticks: Interleaved) -> dict[str, Trace]:
    """A run of each strategy over the same ticks."""
    facts = example_spec((FIRST, SECOND)).instruments
    found = {}
    for name, kind in NAMES.items():
        code = f"{file}:{kind}"
        loaded = load_strategy(code)
        casting = Casting(loaded.strategy, name, loaded.symbols, {}, facts)
        account = AccountSpec("USD", 100, 10_000.0, 2)
        found[name] = traced(Plan(casting, code, ticks, account, facts))
    return found


def happenings(traces: dict[str, Trace]) -> list[tuple[int, AnyEvent]]:
    """What the accounts of all of them showed, behind how many ticks."""
    first = next(one for trace in traces.values() for one in trace.derived("")
                 if isinstance(one, Account))  # fmt: skip
    found: list[tuple[int, AnyEvent]] = [(0, first)]
    for place, trace in enumerate(traces.values()):
        for one in trace.happened:
            event = one.event
            if isinstance(event, Deal):
                base = (place + 1) * TICKETS
                moved = {name: getattr(event, name) + base for name in ("ticket", "order")}
                if event.position_id:
                    moved["position_id"] = event.position_id + base
                found.append((one.ticks, event.model_copy(update=moved)))
    return sorted(found, key=lambda one: one[0])


def workers_of(log: Log) -> list[int]:
    """Processes that hold a task of a strategy."""
    slots = [Slot(TERMINAL, f"strategy.{name}", 0) for name in NAMES]
    known = log.tasks.writers(TERMINAL)
    held = log.tasks.look([slot for slot in slots if slot.writer in known])
    return sorted(
        {int(one.holder.partition("/")[0].rpartition(":")[2]) for one in held if one.token}
    )


def kill(log: Log, chance: random.Random) -> None:
    """One that lives: who was killed just now holds its tasks until the lease ends."""

    def killed() -> bool:
        holders = workers_of(log)
        with suppress(ProcessLookupError):
            if holders:
                os.kill(chance.choice(holders), signal.SIGKILL)
                return True
        return False

    wait_until(killed, timeout_s=60, what="a worker to kill")


def signals_of(log: Log, name: str) -> list[TradeSignal]:
    stream = Slot(TERMINAL, f"strategy.{name}", 0).stream(Lane.NORMAL)
    found = [decode(entry) for entry in log.between(stream, count_max=100_000)]
    return [one for one in found if isinstance(one, TradeSignal)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_strategies_in_processes_that_are_killed_say_what_their_backtests_say(
    tmp_path: Path, redis_log: RedisLog, redis_url: str, workers: int, seeds: Seeds
) -> None:
    [seed] = seeds.take(1)
    chance = random.Random(f"{seed}/{workers}")
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    move = {"price": 0.65, "move": 6e-5, "start_ms": START_MS}
    ticks = Interleaved(
        {
            FIRST: random_walk(2_500, step_ms=3_000, seed=seed, **move),  # type: ignore[arg-type]  # numbers
            SECOND: random_walk(1_000, step_ms=7_500, seed=seed + 1, **move),  # type: ignore[arg-type]  # numbers
        }
    )
    traces = backtests(file, ticks)
    expected = {name: list(trace.result.signals) for name, trace in traces.items() if trace.result}
    assert all(len(signals) >= 4 for signals in expected.values()), expected
    redis_log.open_namespace(TERMINAL, 1)
    claim = redis_log.claim(Slot(TERMINAL, SOURCE, 0), "test", alive_within_s=0.0)
    for facts in example_spec((FIRST, SECOND)).instruments.values():
        redis_log.append(claim, [encode(facts)])
    with closing(Consumer(tmp_path, redis_url, "")) as consumer:
        consumer.environment["STRATEGIES"] = ",".join(f"{n}=mine.py:{c}" for n, c in NAMES.items())
        consumer.start(
            "consume", "--group", "strategy", "--workers", str(workers), "--from", "oldest",
            "--lease", "1", "--plain",
        )  # fmt: skip
        at, kills = 0, 0
        for stop, event in [*happenings(traces), (len(ticks), None)]:
            while at < stop:
                upto = min(stop, at + chance.randint(1, 12))
                for batch in ticks.batches(at, upto):
                    redis_log.append(claim, [encode(batch)])
                at = upto
                if at > len(ticks) * (kills + 1) // 6 and kills < 5:
                    kill(redis_log, chance)
                    kills += 1
            if event is not None:
                redis_log.append(claim, [encode(event)])

        def done() -> bool:
            return all(len(signals_of(redis_log, n)) >= len(s) for n, s in expected.items())

        with suppress(AssertionError):  # what is missing is told below
            wait_until(done, timeout_s=60)
    assert kills == 5
    for name, signals in expected.items():
        assert [*map(str, signals_of(redis_log, name))] == [*map(str, signals)], (name, seed)

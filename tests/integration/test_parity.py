"""Live on the simulated terminal, then a backtest over what was recorded: the same signals, however
many workers ran and died, and fills at the prices that the model knows."""

from __future__ import annotations

import json
import os
import random
import signal
from contextlib import closing
from pathlib import Path

import pytest

from consumers.execute import ExecuteHandler
from consumers.parity.result import ParityResult
from consumers.parity.running import ParityRequest, compared
from consumers.runtime.group import Group
from consumers.runtime.task import TaskRun
from consumers.strategies.running.handler import handler_of
from consumers.strategies.running.loading import load_strategy
from consumers.workers.beginning import Begin
from consumers.workers.taking import WorkerOptions, load
from events.codec import decode, decode_data
from events.executing import TargetState
from events.log import Lane, Log, Slot, partition_of
from events.memory_log import MemoryLog
from events.redis import open_log
from events.ticks import TickBatch
from tests.conftest import Seeds
from tests.integration.ordering import NAMESPACE, SYMBOL, sending, settings_in, terminal_of
from tests.integration.test_consume import Consumer
from tests.integration.test_producer import running, simulated
from tests.integration.test_producer import settings_in as producer_settings
from tests.servers import wait_until

TURNS = '''
from consumers.strategies import Strategy


class Turns(Strategy):
    """Long and short, one after the other."""

    every_ms: int = 2_000
    symbols = ("BTCUSD",)
    lots = 0.3

    def setup(self):
        self.count, self.last_ms = 0, 0

    def on_tick(self, tick):
        if tick.time_ms - self.last_ms < self.every_ms:
            return
        self.count, self.last_ms = self.count + 1, tick.time_ms
        side = 1 if self.count % 2 else -1
        yield self.target(side, stop_loss=tick.mid * (1 - side * 0.05), reason=f"{self.count}")
'''
DEALS = 5
FAST = {"account_idle_interval_s": 0.05, "account_interval_s": 0.05}


class Pumped:
    """A strategy that begins with what comes next, and group execute, over the log of a desk: an
    entry at a time, so that a signal is acted on before the next tick is looked at."""

    def __init__(self, log: Log, strategy: Group) -> None:
        self.log = log
        execute = Group("execute", ExecuteHandler, namespaces=(NAMESPACE,))
        self._runs: list[TaskRun] = []
        for group, begin in ((strategy, Begin.NEWEST), (execute, Begin.OLDEST)):
            specs = group.specs(log)
            log.tasks.open_group(NAMESPACE, group.name, len(specs))
            for spec in specs:
                taken = log.tasks.acquire(spec.slot, "test", seen="")
                assert taken is not None
                options = WorkerOptions("test", entries_max=1, begin=begin)
                run = load(log, group, spec, *taken, options, moved=lambda: None)
                assert isinstance(run, TaskRun)
                self._runs.append(run)

    def pump(self) -> None:
        """The strategy sees the next entry when nothing is under way any more."""
        *strategies, execute = self._runs
        for run in (*(strategies if self.quiet() else ()), execute):
            while True:
                step = run.step()
                assert not step.halted, step.halted
                if not step.entries or step.outputs:
                    break

    def quiet(self) -> bool:
        return all(one.state != "wanted" for one in self.targets())

    def targets(self) -> list[TargetState]:
        states = self.log.last_states(Slot(NAMESPACE, "execute", 0))
        found = [decode_data(type_, key, data) for (type_, key), data in states.items()]
        return [one for one in found if isinstance(one, TargetState)]


def test_fills_of_the_simulated_broker_are_those_of_the_model(tmp_path: Path) -> None:
    file = tmp_path / "turns.py"
    file.write_text(TURNS)
    log = MemoryLog()
    terminal = terminal_of(
        account={"margin_mode": 2, "balance": 100_000.0}, ticks={"rate": 4.0}, seed=11
    )
    strategy = Group(
        "strategy.turns", handler_of(load_strategy(f"{file}:Turns")), namespaces=(NAMESPACE,)
    )
    with sending(tmp_path, log, terminal=terminal, settings=settings_in(tmp_path, **FAST)) as desk:
        told_of = ("account.1", "book.1", "contracts.1", "instrument.1")
        wait_until(lambda: known(log, told_of), what="a look at the account")
        pumped = Pumped(log, strategy)

        def traded() -> bool:
            pumped.pump()
            return len(desk.deals()) >= DEALS and pumped.quiet()

        wait_until(traded, timeout_s=60, what="deals")
        seen = desk.now_ms()
        wait_until(lambda: last_tick_ms(log) > seen, what="a tick behind the last deal")
        pumped.pump()
    found = compared(log, ParityRequest(NAMESPACE, strategy))
    check(found)
    assert found.executed
    assert found.fills.live >= DEALS
    assert found.fills_percent == 100, found.as_json()
    assert all(0 <= ms < 20_000 for ms in found.fills.later_ms)


CROSSING = """
from consumers.strategies import Crossover, Ema, Strategy


class Crossing(Strategy):
    fast: int = 2
    slow: int = 5
    warm_up = 20

    def setup(self):
        self.cross = Crossover(Ema(self.fast), Ema(self.slow))

    def on_tick(self, tick):
        if side := self.cross.update(tick.mid):
            yield self.target(side, stop_loss=tick.mid * (1 - side * 0.05), reason="crossed")


class Beside(Crossing):
    together = True
    symbols = ("BTCUSD", "ETHUSD")

    def setup(self):
        self.crosses = {}
        for symbol in self.symbols:
            self.crosses[symbol] = Crossover(Ema(self.fast), Ema(self.slow))

    def on_tick(self, tick):
        if side := self.crosses[tick.symbol].update(tick.mid):
            stop = tick.mid * (1 - side * 0.05)
            yield self.target(side, symbol=tick.symbol, stop_loss=stop, reason="crossed")
"""
NAMES = ("crossing", "beside")


def workers_of(log: Log, names: tuple[str, ...]) -> list[int]:
    """Processes that hold a task of the strategies."""
    found = set()
    for name in names:
        group = f"strategy.{name}"
        count = log.tasks.writers("demo").get(group, 0)
        for held in log.tasks.look([Slot("demo", group, number) for number in range(count)]):
            if held.token:
                found.add(int(held.holder.partition("/")[0].rpartition(":")[2]))
    return sorted(found)


def signals_in(log: Log, name: str) -> int:
    group = f"strategy.{name}"
    count = log.tasks.writers("demo").get(group, 0)
    slots = [Slot("demo", group, number) for number in range(count)]
    return sum(log.info(slot.stream(Lane.NORMAL)).length for slot in slots)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("workers", "names", "kills"),
    [
        pytest.param(2, ("crossing",), 1, id="2-short"),
        pytest.param(1, NAMES, 15, id="1", marks=pytest.mark.slow),
        pytest.param(2, NAMES, 15, id="2", marks=pytest.mark.slow),
        pytest.param(4, NAMES, 25, id="4", marks=pytest.mark.slow),
    ],
)
def test_workers_that_die_leave_the_signals_of_a_backtest(
    tmp_path: Path, redis_url: str, workers: int, names: tuple[str, ...], kills: int, seeds: Seeds
) -> None:
    [seed] = seeds.take(1)
    chance = random.Random(f"{seed}/{workers}")
    (tmp_path / "mine.py").write_text(CROSSING)
    terminal = simulated(trader=None, ticks={"rate": 6.0}, seed=seed)
    with (
        closing(open_log(redis_url)) as log,
        closing(Consumer(tmp_path, redis_url, "")) as consumer,
        running(producer_settings(tmp_path), terminal, log),
    ):
        for name in names:
            consumer.start(
                "consume", "--handler", f"mine.py:{name.capitalize()}", "--workers", str(workers),
                "--lease", "1", "--plain",
            )  # fmt: skip
        for _ in range(kills):
            before = {name: signals_in(log, name) for name in names}
            wait_until(
                lambda: all(signals_in(log, name) > before[name] + 5 for name in names),  # noqa: B023 - called before the next turn
                timeout_s=60, what=f"signals of both, seed {seed}: {consumer.told()}",
            )  # fmt: skip
            os.kill(chance.choice(workers_of(log, names)), signal.SIGKILL)
        before = {name: signals_in(log, name) for name in names}
        wait_until(
            lambda: all(signals_in(log, name) > before[name] for name in names),
            timeout_s=60, what=f"signals after the last kill, seed {seed}: {consumer.told()}",
        )  # fmt: skip
        for name in names:
            code, out, told = consumer.run("parity", "--strategy", name, "--json")
            found = json.loads(out)
            assert code == 0, (seed, told, out)
            assert found["signals"]["matched"] == found["signals"]["live"] > 5 * kills
            assert found["signals"]["backtest"] == found["signals"]["live"]
            assert found["unexplained_percent"] == 0


def known(log: Log, types: tuple[str, ...]) -> bool:
    slots = [Slot(NAMESPACE, "source", number) for number in range(log.namespaces()[NAMESPACE])]
    return {type_ for slot in slots for type_, _ in log.last_states(slot)} >= set(types)


def last_tick_ms(log: Log) -> int:
    stream = Slot(NAMESPACE, "source", partition_of(SYMBOL, 4)).stream(Lane.NORMAL)
    entries = log.newest(stream, count_max=50)
    return max(
        (one.event_time_ms for entry in entries if isinstance(one := decode(entry), TickBatch)),
        default=0,
    )


def check(found: ParityResult) -> None:
    assert found.signals.live > 2
    assert found.signals_percent == 100, found.as_json()
    assert not found.signals.differences

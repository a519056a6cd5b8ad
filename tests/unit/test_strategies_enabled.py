"""Strategies that begin warm, and that are switched on and off while others run."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from consumers.backtest.cli import backtest
from consumers.cli import consume
from consumers.groups import GroupSpec, UnknownHandler
from consumers.groups.enabled import StrategiesWanted
from consumers.replay.verification import verify_task
from consumers.runtime.group import Group, TaskSpec
from consumers.runtime.task import TaskRun
from consumers.strategies import Crossover, Ema, Signal, Strategy, Tick
from consumers.strategies.cli import check
from consumers.strategies.enabling.cli import enable
from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.tick_run import TickRun
from consumers.workers.beginning import Begin
from consumers.workers.taking import WorkerOptions, load
from events.codec import decode, encode
from events.decisions import TradeSignal
from events.executing import StrategyBegan, TargetState
from events.log import Lane, Slot
from events.magic import magic_of, owner_of
from events.market import Instrument
from events.memory_log import MemoryLog
from events.ticks import TickBatch
from events.trading import Account, Book, Position
from tests.conftest import Seeds
from tests.unit.test_strategies import batch, cut

SLOT = Slot("demo", "strategy.tried", 0)


class Warm(Strategy):
    """Needs its point when it is set up, and averages that take a while."""

    symbols = ("EURUSD",)
    no_stop = True

    def setup(self) -> None:
        self.step = self.point
        self.cross = Crossover(Ema(5), Ema(20))

    def on_tick(self, tick: Tick) -> Iterator[Signal]:
        if side := self.cross.update(tick.mid):
            yield self.target(side, reason=f"{self.step:g}")


class WarmBars(Warm):
    warm_up = 3
    timeframes = ("M1",)

    def on_bar(self, bar: object) -> None:
        return None


class Together(Warm):
    together = True
    warm_up = 30

    def setup(self) -> None:
        self.step = self.instrument("EURUSD").point
        self.cross = Crossover(Ema(5), Ema(20))

    def on_tick(self, tick: Tick) -> Iterator[Signal]:
        if side := self.cross.update(tick.mid):
            yield self.target(side, symbol=tick.symbol, reason=f"{self.step:g}")


def pieces(whole: TickBatch, size: int) -> list[TickBatch]:
    count = len(whole.ticks)
    return [cut(whole, at, min(at + size, count)) for at in range(0, count, size)]


class Feed:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.log.open_namespace("demo", 1)
        self.claim = self.log.claim(Slot("demo", "source", 0), "me", alive_within_s=0)

    def append(self, *events: object) -> None:
        self.log.append(self.claim, [encode(one) for one in events])  # type: ignore[arg-type]

    def begun(self, name: str) -> tuple[Group, TaskSpec, TaskRun]:
        group = GroupSpec("strategy.tried", f"{__name__}:{name}").group()
        assert isinstance(group, Group)
        [spec] = group.specs(self.log)
        self.log.tasks.open_group("demo", group.name, 1)
        taken = self.log.tasks.acquire(spec.slot, "me", seen="")
        assert taken is not None
        options = WorkerOptions("me", begin=Begin.NEWEST)
        run = load(self.log, group, spec, *taken, options, moved=lambda: None)
        assert isinstance(run, TaskRun)
        return group, spec, run

    def told(self, lane: Lane) -> list[object]:
        return [decode(one) for one in self.log.between(SLOT.stream(lane), count_max=10_000)]


def drained(run: TaskRun) -> None:
    while run.step().entries:
        pass


def facts(symbol: str) -> Instrument:
    return Instrument(
        event_time_ms=1, recv_time_ms=1, symbol=symbol, broker_symbol=symbol, digits=5,
        point=0.00001, tick_size=0.00001, contract_size=100_000, volume_min_lots=0.01,
        volume_max_lots=100, volume_step_lots=0.01,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["Together", "Warm", "WarmBars"])
def test_a_strategy_reads_back_signals_nothing_of_that_and_a_replay_agrees(name: str) -> None:
    feed, whole = Feed(), batch("EURUSD", 7, 1_200)
    before, after = pieces(cut(whole, 0, 600), 10), pieces(cut(whole, 600, 1_200), 10)
    feed.append(facts("EURUSD"), *before[:30])
    feed.append(batch("GBPUSD", 3, 40), *before[30:])
    group, spec, run = feed.begun(name)
    [began] = [one for one in feed.told(Lane.HIGH) if isinstance(one, StrategyBegan)]
    assert 1 <= began.entries_back < 61
    drained(run)
    assert not feed.told(Lane.NORMAL)
    feed.append(*after)
    drained(run)
    signals = [one for one in feed.told(Lane.NORMAL) if isinstance(one, TradeSignal)]

    read_back = [one for one in before[-began.entries_back :]]
    if name == "Together" or name == "Warm":
        wanted = 30 if name == "Together" else 4 * 21
        assert sum(len(one.ticks) for one in read_back) >= wanted
    casting = Casting(globals()[name], "tried", ("EURUSD",), {}, {"EURUSD": facts("EURUSD")})
    instances = Instances(casting)
    instances.mute = True
    for one in read_back:
        instances.run_all(TickRun.of(one))
    instances.mute = False
    expected = [s for one in after for s in instances.run_all(TickRun.of(one))]
    mine = [one for one in signals if one.symbol == "EURUSD"]
    assert len(mine) > 5
    assert mine == expected
    assert mine[0].reason == "1e-05"

    again = verify_task(feed.log, group, spec)
    assert again.good, again
    assert again.equal == len(signals)
    assert again.began == "the beginning of the task"


def test_nothing_is_read_back_where_nothing_needs_it(tmp_path: Path) -> None:
    feed = Feed()
    feed.append(*pieces(batch("EURUSD", 1, 100), 10))
    group, spec, run = feed.begun("Plain")
    [began] = [one for one in feed.told(Lane.HIGH) if isinstance(one, StrategyBegan)]
    assert began.entries_back == 0
    drained(run)
    feed.append(batch("EURUSD", 2, 3))
    drained(run)
    assert [one.number for one in feed.told(Lane.NORMAL) if isinstance(one, TradeSignal)] == [1]
    assert verify_task(feed.log, group, spec).good


class Plain(Strategy):
    no_stop = True

    def setup(self) -> None:
        self.count = 0

    def on_tick(self, tick: Tick) -> Signal | None:
        self.count += 1
        return self.target("long") if self.count == 2 else None


GOOD = """
from consumers.strategies import Strategy
class A(Strategy):
    fast: int = 3
    def setup(self):
        self.periods = 10 // self.fast
    def on_tick(self, tick): pass
"""
BAD: dict[str, tuple[str, list[str], str]] = {
    "syntax": ("def x(:\n", [], r"bad\.py:1: .*: correct it"),
    "class": (GOOD, [":B"], r"it has no class B; strategies in it: A"),
    "type": (GOOD, ["", "--set", "fast=x"], r"bad\.py:3: A: fast='x' is no whole number"),
    "hint": (GOOD, ["", "--set", "fats=1"], r"did you mean fast\?"),
    "exits": ("raise SystemExit(3)\n", [], r"bad\.py:1: SystemExit: 3"),
    "form": (GOOD, ["", "--set", "fast"], r"--set 'fast': write (it as )?NAME=VALUE"),
}
COMMANDS: dict[str, tuple[click.Command, list[str], list[str]]] = {
    "backtest": (backtest, [], ["--source", "EURUSD=ticks.csv"]),
    "check": (check, [], []),
    "consume": (consume, ["--handler"], []),
    "enable": (enable, [], ["--terminal", "demo"]),
}


@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.parametrize("case", sorted(BAD))
def test_what_is_wrong_with_a_strategy_is_one_line_in_every_command(
    case: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, (suffix, *more), expected = (BAD[case][0], BAD[case][1] or [""], BAD[case][2])
    (tmp_path / "bad.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    command, before, after = COMMANDS[name]
    done = CliRunner().invoke(command, [*before, f"bad.py{suffix}", *more, *after])
    raised = done.exception
    told = str(raised) if not isinstance(raised, SystemExit) else done.output.splitlines()[-1]
    assert re.search(expected, told), done.output
    assert "\n" not in told
    assert done.exit_code in (1, 2)


def test_a_setup_that_fails_is_told_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(GOOD)
    for command in (check, enable):
        done = CliRunner().invoke(command, [str(file), "--set", "fast=0"])
        assert re.search(r"bad\.py:3: setup failed: ZeroDivisionError", str(done.exception))
    with pytest.raises(UnknownHandler, match=r"cannot be made .ZeroDivisionError"):
        GroupSpec("strategy.bad", str(file), {"fast": "0"}).try_out()


def test_a_check_on_a_file_tells_what_would_have_been_said(tmp_path: Path) -> None:
    ticks = Path(__file__).parents[1] / "data" / "EURUSD_20140504-20140507.csv.gz"
    words = ["--file", str(ticks), "--from", "2014-05-05", "--to", "2014-05-05T02:00", "--json"]
    done = CliRunner().invoke(check, ["ema_cross:EmaCross", *words])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["same_in_pieces"] is True
    assert told["signals"] > 10
    assert told["from_ms"] >= 1399248000000
    assert told["to_ms"] < 1399255200000
    file = tmp_path / "blind.py"
    file.write_text(GOOD)
    done = CliRunner().invoke(check, [str(file), *words])
    assert json.loads(done.output)["warnings"] == ["it never signalled"]
    done = CliRunner().invoke(check, ["ema_cross", "--file", str(ticks), "--symbol", "USDJPY"])
    assert "there is no tick of its symbols" in str(done.exception)


def cuts(chance: random.Random) -> bool:
    """Whether a batch ends behind this entry."""
    return chance.random() < 0.2


@pytest.mark.parametrize("name", ["Warm", "WarmBars"])
def test_owners_that_die_anywhere_lose_and_double_no_signal(name: str, seeds: Seeds) -> None:
    for seed in seeds.take(2):
        chance, feed = random.Random(seed), Feed()
        whole = pieces(batch("EURUSD", seed, 1_500), 15)
        feed.append(facts("EURUSD"), *whole[:40])
        group, spec, run = feed.begun(name)
        left = whole[40:]
        while left or run.step(urgent=partial(cuts, chance)).entries:
            feed.append(*left[:3])
            del left[:3]
            for _ in range(chance.randrange(3)):
                run.step(urgent=partial(cuts, chance))
            if chance.random() < 0.4:  # it dies here, and somebody else goes on
                [held] = feed.log.tasks.look([spec.slot])
                taken = feed.log.tasks.acquire(spec.slot, "other", seen=held.token)
                assert taken is not None
                many = chance.choice((1, 7, 100))
                run = TaskRun(feed.log, group, spec, *taken, entries_max=many)
        found = feed.told(Lane.NORMAL)
        facts_known = {"EURUSD": facts("EURUSD")}
        instances = Instances(Casting(globals()[name], "tried", ("EURUSD",), {}, facts_known))
        [began] = [one for one in feed.told(Lane.HIGH) if isinstance(one, StrategyBegan)]
        expected: list[object] = []
        for number, one in enumerate(whole[40 - began.entries_back :]):
            instances.mute = number < began.entries_back
            expected += instances.take(one)
        assert found == expected, f"seed {seed}"
        assert len(found) > 10
        verified = verify_task(feed.log, group, spec)
        assert verified.good, (seed, verified)


class Holds(Strategy):
    symbols = ("EURUSD",)
    no_stop = True

    def on_tick(self, tick: Tick) -> Signal:
        return self.target(
            "long", reason=f"{self.position:g} {self.position_of('EURUSD', 'hedge'):g}"
        )


@pytest.mark.parametrize(("margin_mode", "expected"), [(2, "0.3 -0.1"), (0, "0.3 -0.1")])
def test_what_it_holds_already_is_known_where_it_begins(margin_mode: int, expected: str) -> None:
    feed, common = Feed(), {"event_time_ms": 5, "recv_time_ms": 5, "login": 7}
    account = Account(
        **common, server="s", currency="EUR", trade_mode=0, margin_mode=margin_mode, leverage=30,
        balance=1, credit=0, profit=0, equity=1, margin=0, margin_free=1, margin_level_percent=0,
    )  # fmt: skip
    legs = {"": 0.3, "hedge": -0.1}
    positions = [
        Position(
            ticket=n, identifier=n, symbol="EURUSD", side=0 if lots > 0 else 1,
            volume_lots=abs(lots), price_open=1.1, magic=magic_of(owner_of("tried", "EURUSD", leg),
            number=n), time_ms=1, time_server_ms=1,
        )
        for n, (leg, lots) in enumerate(legs.items(), 1)
    ]  # fmt: skip
    if margin_mode == 0:  # one position, of all of them and a stranger
        positions = [positions[0].model_copy(update={"volume_lots": 0.5})]
    feed.append(facts("EURUSD"), account, Book(**common, positions=tuple(positions)))
    feed.log.tasks.open_group("demo", "execute", 1)
    claim = feed.log.claim(Slot("demo", "execute", 0), "me", alive_within_s=0)
    told = [
        TargetState(event_time_ms=5, login=7, strategy="tried", symbol="EURUSD", leg=leg,
                    state="reached", target="long" if lots > 0 else "short", held_lots=lots)
        for leg, lots in legs.items()
    ]  # fmt: skip
    feed.log.append(claim, [encode(one) for one in told])
    group, spec, run = feed.begun("Holds")
    feed.append(batch("EURUSD", 1, 1))
    drained(run)
    feed.append(batch("EURUSD", 2, 1))
    drained(run)
    signals = [one for one in feed.told(Lane.NORMAL) if isinstance(one, TradeSignal)]
    assert [one.reason for one in signals] == [expected] * 2
    assert verify_task(feed.log, group, spec).good


def test_what_the_settings_name_wrongly_stands_still_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def x(:\n")
    named = [f"{tmp_path}/bad.py:MyOwn", "quick=ema_cross:EmaCross", "quick=breakout", "nowhere:A"]
    specs = StrategiesWanted("strategy", named)(MemoryLog())
    assert [one.name for one in specs] == ["strategy.my-own", "strategy.quick", "strategy.a"]
    with pytest.raises(UnknownHandler, match=r"bad\.py:1: "):
        specs[0].group()
    assert specs[1].group().name == "strategy.quick"
    with pytest.raises(UnknownHandler, match="nowhere"):
        specs[2].group()

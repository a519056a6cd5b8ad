"""The examples that come along: each signals both ways, with stops, whatever happens in between."""

from __future__ import annotations

import ast
from collections import Counter
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest

from consumers.strategies import Fill, Strategy
from consumers.strategies.breakout import Breakout
from consumers.strategies.crypto_momentum import CryptoMomentum
from consumers.strategies.ema_cross import EmaCross
from consumers.strategies.mean_reversion import MeanReversion
from consumers.strategies.pair import Pair
from consumers.strategies.running.instances import Casting, Instances
from consumers.strategies.running.tick_run import TickRun
from events.decisions import TradeSignal
from events.tick_files import load_ticks
from events.ticks import TICK_DTYPE, OffsetSource, TickArray, TickBatch
from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal, TickOptions

ROOT = Path(__file__).parents[2]
LINES_MAX = 60


class Example(NamedTuple):
    strategy: type[Strategy]
    ticks: tuple[str, ...]
    parameters: dict[str, Any]
    """Shorter spans than the defaults, so that a few days have both directions."""


EXAMPLES = {
    "ema-cross": Example(EmaCross, ("EURUSD",), {"fast": 200, "slow": 800}),
    "breakout": Example(Breakout, ("EURUSD", "NZDUSD"), {"timeframes": ("M15",)}),
    "mean-reversion": Example(MeanReversion, ("EURUSD",), {"timeframes": ("M5",)}),
    "pair": Example(Pair, ("EURUSD", "NZDUSD"), {"symbols": ("EURUSD", "NZDUSD")}),
    "crypto-momentum": Example(CryptoMomentum, ("BTCUSD",), {"bars": 24, "warm_up": 25}),
}
each = pytest.mark.parametrize("example", EXAMPLES.values(), ids=list(EXAMPLES))


def batch(symbol: str, ticks: TickArray) -> TickBatch:
    return TickBatch(symbol, ticks, 0, OffsetSource.ASSUMED, 0, 0)


@cache
def recorded(symbols: tuple[str, ...]) -> TickRun:
    """Three days of real quotes; of BTCUSD twenty made-up ones, with few ticks."""
    if symbols == ("BTCUSD",):
        end = int(datetime(2026, 3, 20, tzinfo=UTC).timestamp() * 1000)
        terminal = SimulatedTerminal(
            SimulatedOptions(
                start_utc_ms=end, speed=0, clock="UTC", ticks=TickOptions(rate=0.003),
                symbols=symbols, selected=symbols,
            )
        )  # fmt: skip
        return TickRun.of(
            batch("BTCUSD", terminal.market.ticks("BTCUSD", end - 20 * 86_400_000, end))
        )
    files = (ROOT / "tests" / "data" / f"{symbol}_20140504-20140507.csv.gz" for symbol in symbols)
    return TickRun.merged(
        batch(symbol, load_ticks(file)) for symbol, file in zip(symbols, files, strict=True)
    )


def instances(example: Example) -> Instances:
    return Instances(
        Casting(example.strategy, "x", symbols=example.ticks, parameters=example.parameters)
    )


def played(example: Example, run: TickRun, cuts: list[int]) -> list[TradeSignal]:
    """Signals of a run that is cut into pieces, with a restart behind each."""
    found: list[TradeSignal] = []
    stored: dict[str, Any] = {}
    for low, high in zip([0, *cuts], [*cuts, len(run)], strict=True):
        strategy = instances(example)
        strategy.restore(msgpack.unpackb(msgpack.packb(stored)))
        found += strategy.run_all(run.part(low, high))
        stored |= strategy.remember()
    return found


@each
def test_each_signals_both_ways_with_a_stop_on_the_right_side(example: Example) -> None:
    signals = instances(example).run_all(recorded(example.ticks))
    targets = Counter(signal.target for signal in signals)
    assert targets["long"] >= 2 <= targets["short"]
    assert {signal.symbol for signal in signals} == set(example.ticks)
    for signal in signals:
        sizes = (signal.volume_lots, signal.risk_percent, signal.notional)
        assert sum(size is not None for size in sizes) == 1
        assert signal.reason
        assert signal.bid
        if signal.target == "flat":
            continue
        assert signal.stop_loss is not None
        away = (signal.bid - signal.stop_loss) / signal.bid
        assert 0 < (away if signal.target == "long" else -away) < 0.1


@each
def test_each_says_something_new_every_time(example: Example) -> None:
    signals = instances(example).run_all(recorded(example.ticks))
    for symbol in example.ticks:
        targets = [signal.target for signal in signals if signal.symbol == symbol]
        assert all(len(list(run)) == 1 for _, run in groupby(targets))
        assert targets[0] != "flat"


@each
def test_each_goes_on_after_restarts_as_if_there_were_none(example: Example) -> None:
    run = recorded(example.ticks)
    run = run.part(0, min(len(run), 60_000))
    cuts = sorted(np.random.default_rng(4).integers(0, len(run), 5).tolist())
    found, expected = played(example, run, cuts), played(example, run, [])
    assert expected
    assert found == expected


def test_rows_without_prices_move_no_average() -> None:
    example = EXAMPLES["ema-cross"]
    run = recorded(example.ticks).part(0, 20_000)
    rows = np.repeat(np.arange(20_000), np.where(np.arange(20_000) % 50, 1, 2))
    ticks = np.zeros(len(rows), TICK_DTYPE)
    ticks["time_msc"], ticks["bid"], ticks["ask"] = run.time_ms[rows], run.bid[rows], run.ask[rows]
    second = np.flatnonzero(np.arange(20_000) % 50 == 0) + np.arange(400) + 1
    ticks["bid"][second[::2]] = 0.0
    ticks["ask"][second[1::2]] = 0.0
    spoilt = TickRun.of(TickBatch(run.symbols[0], ticks, 0, OffsetSource.LIVE, 0, 0))
    expected = [(one.event_time_ms, one.target) for one in instances(example).run_all(run)]
    found = [(one.event_time_ms, one.target) for one in instances(example).run_all(spoilt)]
    assert expected
    assert found == expected


def fill(reason: str, *, symbol: str = "EURUSD") -> Fill:
    return Fill(symbol, "", 0, "sell", "out", 0.1, 1.0, -5.0, 0.0, reason, 7, 0.0)


@pytest.mark.parametrize("name", ["breakout", "mean-reversion", "crypto-momentum"])
def test_a_position_that_was_stopped_out_is_known_to_be_gone(name: str) -> None:
    strategy: Any = EXAMPLES[name].strategy()
    strategy.setup()
    strategy.side = 1
    strategy.on_trade(fill("expert"))
    assert strategy.side == 1  # our own order, as when it turns around
    strategy.on_trade(fill("stop_loss"))
    assert strategy.side == 0


def test_a_pair_ends_with_either_of_its_legs() -> None:
    example = EXAMPLES["pair"]
    strategy = instances(example)
    run, at, signals = recorded(example.ticks), 0, []
    while not signals:
        at, signals = strategy.run(run, at)
    pair: Any = strategy.strategies()[""]
    assert pair.side
    closed = list(pair.on_trade(fill("stop_loss", symbol="NZDUSD")))
    assert [(signal.symbol, signal.target) for signal in closed] == [
        ("EURUSD", "flat"), ("NZDUSD", "flat"),
    ]  # fmt: skip
    assert list(pair.on_trade(fill("manual"))) == []


@each
def test_each_is_a_small_file_that_names_its_source(example: Example) -> None:
    file = ROOT / (example.strategy.__module__.replace(".", "/") + ".py")
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES_MAX
    told = ast.get_docstring(ast.parse(text))
    assert told is not None
    assert "19" in told or "20" in told  # the year of what it follows

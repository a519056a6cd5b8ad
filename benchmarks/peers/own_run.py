"""The EMA cross of the comparison in this project's backtest; prints one JSON object.

python -m benchmarks.peers.own_run TICKS.npz --fast 500 --slow 2000 --mode on_tick
python -m benchmarks.peers.own_run BARS.npz --fast 20 --slow 80 --mode on_bar

Ticks are in memory and modules imported (by a run over the first ticks) before the clock starts, as
in the other tools; what is timed is the whole run: strategy, broker model, trades, equity curve and
data checks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from consumers.backtest.broker import AccountSpec, BrokerOptions, ticks_of_bars
from consumers.backtest.broker.options import SymbolCosts
from consumers.backtest.running import Plan, run_backtest
from consumers.backtest.sources.source import Portion
from consumers.strategies import Bar, Crossover, Ema, Signal, Signals, Strategy, Tick, TickRun
from consumers.strategies.running.instances import Casting
from events.candles import CandleBatch
from events.market import Instrument
from events.ticks import RATE_DTYPE, TICK_DTYPE, OffsetSource, TickArray, TickBatch

SYMBOL = "EURUSD"
PORTION_TICKS = 250_000
WARM_UP_TICKS = 10_000
DIGITS, POINT = 5, 1e-5
NETTING = 0


class EmaCross(Strategy):
    """Turns around at each crossing of two averages of the price between bid and ask."""

    no_stop = True
    fast: int = 500
    slow: int = 2_000
    seed: str = "first"

    def setup(self) -> None:
        first = "first" if self.seed == "first" else "sma"
        self.cross = Crossover(
            Ema(self.fast, seed=first), Ema(self.slow, seed=first)  # type: ignore[arg-type]  # one of both
        )  # fmt: skip


class OnTick(EmaCross):
    """Sees every tick in Python."""

    def on_tick(self, tick: Tick) -> Signal | None:
        if side := self.cross.update(tick.mid):
            return self.target(side)
        return None


class OnTicks(EmaCross):
    """Sees arrays of ticks."""

    def on_ticks(self, ticks: TickRun) -> Signals:
        crossed = self.cross.update_many(ticks.mid)
        return [self.target(int(crossed[at]), at=int(at)) for at in np.flatnonzero(crossed)]


class Looking(Strategy):
    """Looks at every price as an array, and says nothing: what the walk itself costs."""

    def on_ticks(self, ticks: TickRun) -> Signals:
        self.highest = float(ticks.bid.max())
        return None


class OnBar(EmaCross):
    """Sees closed M1 bars."""

    timeframes = ("M1",)

    def on_bar(self, bar: Bar) -> Signal | None:
        if side := self.cross.update(bar.close):
            return self.target(side)
        return None


MODES: dict[str, type[Strategy]] = {
    "on_tick": OnTick, "on_ticks": OnTicks, "looking": Looking, "on_bar": OnBar,
}  # fmt: skip


class Preloaded:
    """Ticks in memory, in portions."""

    name, symbols = "in memory", (SYMBOL,)

    def __init__(self, rows: TickArray) -> None:
        self._rows = rows
        self.warnings: list[str] = []

    def facts(self) -> list[Any]:
        """None."""
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion]:
        """See `Source.portions`."""
        for first in range(0, len(self._rows), PORTION_TICKS):
            yield Portion((batch_of(self._rows[first : first + PORTION_TICKS]),))


def batch_of(rows: TickArray) -> TickBatch:
    """Rows as a batch at UTC."""
    newest_ms = int(rows["time_msc"][-1])
    return TickBatch(SYMBOL, rows, 0, OffsetSource.ASSUMED, newest_ms, newest_ms)


def ticks_of(columns: Any) -> TickArray:
    """MT5 ticks of the columns time_ms, bid, ask."""
    rows = np.zeros(len(columns["time_ms"]), TICK_DTYPE)
    rows["time_msc"], rows["bid"], rows["ask"] = (
        columns["time_ms"], columns["bid"], columns["ask"],
    )  # fmt: skip
    rows["time"], rows["flags"] = rows["time_msc"] // 1000, 6
    return rows


def bar_ticks_of(columns: Any) -> TickArray:
    """Four ticks for each bar of the columns time_ms, open, high, low, close; no spread."""
    rows = np.zeros(len(columns["time_ms"]), RATE_DTYPE)
    rows["time"] = columns["time_ms"] // 1000
    for name in ("open", "high", "low", "close"):
        rows[name] = columns[name]
    newest_ms = int(columns["time_ms"][-1])
    candles = CandleBatch(SYMBOL, "M1", rows, 0, OffsetSource.ASSUMED, newest_ms, newest_ms)
    made = ticks_of_bars(candles, point=POINT, digits=DIGITS)
    return np.concatenate([batch.ticks for batch in made])


def facts() -> Instrument:
    """EURUSD without swap."""
    return Instrument(
        event_time_ms=0, recv_time_ms=0, symbol=SYMBOL, broker_symbol=SYMBOL,
        currency_base="EUR", currency_profit="USD", currency_margin="EUR", digits=DIGITS,
        point=POINT, tick_size=POINT, contract_size=100_000.0, volume_min_lots=0.01,
        volume_max_lots=100.0, volume_step_lots=0.01,
    )  # fmt: skip


def plan_of(rows: TickArray, options: argparse.Namespace) -> Plan:
    """A run: netting, no latency, no slippage, fixed volume, `options.commission` per order."""
    per_lot = options.commission / options.lots
    costs = {SYMBOL: SymbolCosts(commission_per_lot=per_lot)}
    parameters: dict[str, Any] = {}
    if options.mode != "looking":
        parameters = {"fast": options.fast, "slow": options.slow, "seed": options.seed}
    parameters["lots"] = options.lots
    known = {SYMBOL: facts()}
    casting = Casting(MODES[options.mode], "peers", (SYMBOL,), parameters, known)
    account = AccountSpec("USD", 100, options.balance, NETTING)
    broker = BrokerOptions(costs=costs, quote_age_max_s=options.quote_age_s)
    return Plan(casting, options.mode, Preloaded(rows), account, known, broker)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Options of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ticks")
    parser.add_argument("--mode", choices=sorted(MODES), default="on_tick")
    parser.add_argument("--fast", type=int, default=500)
    parser.add_argument("--slow", type=int, default=2_000)
    parser.add_argument("--seed", choices=("first", "sma"), default="first")
    parser.add_argument("--lots", type=float, default=0.1)
    parser.add_argument("--balance", type=float, default=100_000.0)
    parser.add_argument("--commission", type=float, default=0.0, help="USD per order")
    parser.add_argument("--quote-age-s", type=float, default=7 * 86_400.0)
    return parser.parse_args(given)


def measured(rows: TickArray, options: argparse.Namespace) -> dict[str, Any]:
    """One run and its time. A run that stopped early is an error."""
    plan = plan_of(rows, options)
    begun, cpu = time.perf_counter(), time.process_time()
    result = run_backtest(plan)
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    if result.stopped:
        raise RuntimeError(result.stopped)
    trades = [
        {
            "side": "sell" if one.side else "buy",
            "opened_ms": one.open_time_ms,
            "closed_ms": one.close_time_ms,
            "price_open": one.price_entry,
            "price_close": one.price_exit,
            "net": one.net_profit,
            "commission": one.commission,
        }
        for one in result.trades
        if one.close_time_ms
    ]
    return {
        "ticks": len(rows), "seconds": seconds, "cpu_s": cpu_s, "trades": trades,
        "signals": len(result.signals),
        "refused": [f"{one.state}: {one.reason}" for one in result.targets][:5],
    }  # fmt: skip


def main() -> None:
    """See the top of this file."""
    options = arguments()
    with np.load(options.ticks) as columns:
        rows = bar_ticks_of(columns) if "close" in columns else ticks_of(columns)
    measured(rows[:WARM_UP_TICKS], options)
    json.dump(measured(rows, options), sys.stdout)


if __name__ == "__main__":
    main()

"""Ticks per second of a backtest with the broker model: `on_tick` in Python, and `on_ticks`.

python -m benchmarks.backtest --ticks 2000000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from consumers.backtest.broker import AccountSpec
from consumers.backtest.broker.spec.writing import example_spec
from consumers.backtest.running import Plan, run_backtest
from consumers.backtest.sources.source import Portion
from consumers.strategies import Signals, Strategy, TickRun
from consumers.strategies.ema_cross import EmaCross
from consumers.strategies.running.instances import Casting
from events.ticks import TICK_DTYPE, OffsetSource, TickArray, TickBatch

SYMBOL = "EURUSD"
START_MS = 1_772_409_600_000
PORTION = 250_000


class Silent(Strategy):
    """Looks at whole arrays and says nothing: what the walk itself costs."""

    def on_ticks(self, ticks: TickRun) -> Signals:
        self.highest = float(ticks.bid.max())
        return None


class Preloaded:
    """Ticks in memory."""

    name, symbols = "made up", (SYMBOL,)

    def __init__(self, rows: TickArray) -> None:
        self._rows = rows
        self.warnings: list[str] = []

    def facts(self) -> list[Any]:
        return []

    def portions(self, *, clock: bool = False) -> Iterator[Portion]:
        for first in range(0, len(self._rows), PORTION):
            rows = self._rows[first : first + PORTION]
            last_ms = int(rows["time_msc"][-1])
            yield Portion((TickBatch(SYMBOL, rows, 0, OffsetSource.ASSUMED, last_ms, last_ms),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=2_000_000)
    count = parser.parse_args().ticks
    rng = np.random.default_rng(1)
    rows = np.zeros(count, TICK_DTYPE)
    rows["time_msc"] = START_MS + np.arange(count) * 500
    mid = 1.1 + np.cumsum(rng.normal(0, 1e-5, count))
    rows["bid"], rows["ask"], rows["flags"] = np.round(mid, 5), np.round(mid + 1e-4, 5), 6
    modes: tuple[tuple[str, type[Strategy], dict[str, Any]], ...] = (
        ("on_tick", EmaCross, {"fast": 5_000, "slow": 20_000}),
        ("on_ticks", Silent, {}),
    )
    facts = example_spec((SYMBOL,)).instruments
    for mode, strategy, parameters in modes:
        casting = Casting(strategy, mode, (SYMBOL,), parameters, facts)
        account = AccountSpec("USD", 100, 100_000.0, 2)
        result = run_backtest(Plan(casting, mode, Preloaded(rows), account, facts))
        trades = len(result.trades)
        print(f"{mode}: {result.ticks_per_s:,.0f} ticks/s, {trades} trades, {count:,} ticks")


if __name__ == "__main__":
    main()

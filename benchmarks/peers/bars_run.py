"""The EMA cross on M1 bars in backtesting.py, backtrader or vectorbt; prints one JSON object.

Run by `benchmarks.backtest_peers` with an interpreter that has the three; needs nothing of this
project. Reads a BARS.npz (time_ms, open, high, low, close). Only the run is timed: bars are loaded
and code is compiled before.

    python bars_run.py backtrader BARS.npz --fast 20 --slow 80 --lots 0.1
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

LOT_UNITS = 100_000
CASH = 100_000.0
COMPILE_BARS = 500


def side_after(first: float, second: float, before: int) -> int:
    return 1 if first > second else -1 if first < second else before


def row(
    side: str, times: tuple[int, int], prices: tuple[float, float], net: float
) -> dict[str, Any]:
    return {
        "side": side, "opened_ms": times[0], "closed_ms": times[1], "price_open": prices[0],
        "price_close": prices[1], "net": net,
    }  # fmt: skip


def in_ms(stamp: Any) -> int:
    return round(pd.Timestamp(stamp).timestamp() * 1000)


def ema(values: Any, period: int) -> Any:
    """Begins with its first input."""
    return pd.Series(np.asarray(values)).ewm(span=period, adjust=False).mean().to_numpy()


def backtesting_py(table: Any, fast: int, slow: int, units: int) -> tuple[float, list[Any]]:
    from backtesting import Backtest, Strategy

    class Cross(Strategy):
        def init(self) -> None:
            self.fast = self.I(ema, self.data.Close, fast)
            self.slow = self.I(ema, self.data.Close, slow)
            self.side = 0

        def next(self) -> None:
            if len(self.data) < slow:
                return
            before, side = self.side, side_after(self.fast[-1], self.slow[-1], self.side)
            self.side = side
            if before and side != before:
                (self.buy if side > 0 else self.sell)(size=units)

    tried = Backtest(table, Cross, cash=CASH, margin=0.01, exclusive_orders=True)
    begun = time.perf_counter()
    stats = tried.run()
    seconds = time.perf_counter() - begun
    return seconds, [
        row(
            "buy" if one.Size > 0 else "sell", (in_ms(one.EntryTime), in_ms(one.ExitTime)),
            (one.EntryPrice, one.ExitPrice), one.PnL,
        )
        for one in stats["_trades"].itertuples()
    ]  # fmt: skip


def backtrader(table: Any, fast: int, slow: int, units: int) -> tuple[float, list[Any]]:
    """Its average begins with a simple one."""
    import backtrader as bt

    found = []

    class Cross(bt.Strategy):
        def __init__(self) -> None:
            self.fast, self.slow = bt.ind.EMA(period=fast), bt.ind.EMA(period=slow)
            self.side = 0

        def next(self) -> None:
            before, side = self.side, side_after(self.fast[0], self.slow[0], self.side)
            self.side = side
            if before and side != before:
                self.order_target_size(target=side * units)

        def notify_trade(self, trade: Any) -> None:
            if trade.isclosed:
                size = units if trade.long else -units
                found.append(
                    row(
                        "buy" if trade.long else "sell",
                        (in_ms(bt.num2date(trade.dtopen)), in_ms(bt.num2date(trade.dtclose))),
                        (trade.price, trade.price + trade.pnl / size), trade.pnlcomm,
                    )
                )  # fmt: skip

    engine = bt.Cerebro(stdstats=False)
    engine.broker.setcash(CASH)
    engine.adddata(bt.feeds.PandasData(dataname=table))
    engine.addstrategy(Cross)
    begun = time.perf_counter()
    engine.run()
    return time.perf_counter() - begun, found


def vectorbt(table: Any, fast: int, slow: int, units: int) -> tuple[float, list[Any]]:
    import vectorbt as vbt

    def run(part: Any) -> Any:
        close = part["Close"].to_numpy()
        first, second = ema(close, fast), ema(close, slow)
        side = np.sign(first - second)
        side[: slow - 1] = 0
        known = pd.Series(side).replace(0, np.nan).ffill().fillna(0).to_numpy()
        turned = np.zeros(len(side))
        changed = (known[1:] != known[:-1]) & (known[:-1] != 0)
        turned[1:][changed] = known[1:][changed]
        asked = np.concatenate([[0.0], turned[:-1]])  # filled at the next bar's open
        return vbt.Portfolio.from_signals(
            part["Close"], entries=asked > 0, short_entries=asked < 0, price=part["Open"],
            exits=False, short_exits=False, size=float(units), init_cash=CASH,
            upon_opposite_entry="reverse", freq="1min",
        ).exit_trades.records  # fmt: skip

    run(table.iloc[:COMPILE_BARS])
    begun = time.perf_counter()
    records = run(table)
    seconds = time.perf_counter() - begun
    times = [in_ms(stamp) for stamp in table.index]
    return seconds, [
        row(
            "buy" if one.direction == 0 else "sell", (times[one.entry_idx], times[one.exit_idx]),
            (one.entry_price, one.exit_price), one.pnl,
        )
        for one in records.itertuples()
        if one.status == 1
    ]  # fmt: skip


TOOLS = {"backtesting": backtesting_py, "backtrader": backtrader, "vectorbt": vectorbt}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=sorted(TOOLS))
    parser.add_argument("bars")
    parser.add_argument("--fast", type=int, required=True)
    parser.add_argument("--slow", type=int, required=True)
    parser.add_argument("--lots", type=float, default=0.1)
    options = parser.parse_args()
    with np.load(options.bars) as columns:
        table = pd.DataFrame(
            {name.title(): columns[name] for name in ("open", "high", "low", "close")},
            index=pd.to_datetime(columns["time_ms"], unit="ms"),
        )
    table["Volume"] = 1.0
    units = round(options.lots * LOT_UNITS)
    seconds, trades = TOOLS[options.tool](table, options.fast, options.slow, units)
    json.dump(
        {
            "version": version(options.tool), "bars": len(table), "seconds": seconds,
            "trades": sorted(trades, key=lambda one: one["opened_ms"]),
        },
        sys.stdout, default=float,
    )  # fmt: skip


if __name__ == "__main__":
    main()

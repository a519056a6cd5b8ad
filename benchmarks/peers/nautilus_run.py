"""One EMA cross over quotes in NautilusTrader, as its own documentation writes strategies.

Run by `benchmarks.backtest_peers` with an interpreter that has `nautilus_trader`; needs nothing of
this project. Reads a TICKS.npz (time_ms, bid, ask) and prints one JSON object. Only
`BacktestEngine.run` is timed: making its ticks and loading them is not.

    python nautilus_run.py TICKS.npz --fast 500 --slow 2000 --lots 0.1 --commission 0.35
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from decimal import Decimal
from typing import Any

import nautilus_trader
import numpy as np
import pandas as pd
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.models import FixedFeeModel
from nautilus_trader.config import BacktestEngineConfig, LoggingConfig, StrategyConfig
from nautilus_trader.indicators import ExponentialMovingAverage
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide, PriceType
from nautilus_trader.model.identifiers import InstrumentId, Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.persistence.wranglers import QuoteTickDataWrangler
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

LOT_UNITS = 100_000


class EmaCrossConfig(StrategyConfig, frozen=True):
    instrument_id: InstrumentId
    fast: int
    slow: int
    units: Decimal


class EmaCross(Strategy):
    """Turns around at each crossing: one order closes, one opens."""

    def __init__(self, config: EmaCrossConfig) -> None:
        super().__init__(config)
        self.fast = ExponentialMovingAverage(config.fast, PriceType.MID)
        self.slow = ExponentialMovingAverage(config.slow, PriceType.MID)
        self.side = 0
        self.held = 0

    def on_start(self) -> None:
        identifier = self.config.instrument_id
        instrument = self.cache.instrument(identifier)
        self.quantity = instrument.make_qty(self.config.units)
        self.register_indicator_for_quote_ticks(identifier, self.fast)
        self.register_indicator_for_quote_ticks(identifier, self.slow)
        self.subscribe_quote_ticks(identifier)

    def on_quote_tick(self, tick: Any) -> None:
        slow = self.slow
        if not slow.initialized:
            return
        first, second = self.fast.value, slow.value
        side = 1 if first > second else -1 if first < second else self.side
        before = self.side
        if side == before:
            return
        self.side = side
        if before:
            self.turn(OrderSide.BUY if side > 0 else OrderSide.SELL)

    def turn(self, side: OrderSide) -> None:
        identifier = self.config.instrument_id
        for _ in range(2 if self.held else 1):
            self.submit_order(self.order_factory.market(identifier, side, self.quantity))
        self.held = 1


def engine_of(columns: Any, options: argparse.Namespace) -> BacktestEngine:
    engine = BacktestEngine(
        BacktestEngineConfig(
            logging=LoggingConfig(bypass_logging=True), run_analysis=False,
        )
    )  # fmt: skip
    venue = Venue("SIM")
    fees = FixedFeeModel(Money(options.commission, USD)) if options.commission else None
    engine.add_venue(
        venue, OmsType.NETTING, AccountType.MARGIN, [Money(options.balance, USD)],
        base_currency=USD, default_leverage=Decimal(100), fee_model=fees,
    )  # fmt: skip
    instrument = TestInstrumentProvider.default_fx_ccy("EUR/USD", venue)
    if not options.commission:
        described = instrument.to_dict(instrument)
        described |= {"maker_fee": "0", "taker_fee": "0"}
        instrument = type(instrument).from_dict(described)
    engine.add_instrument(instrument)
    table = pd.DataFrame(
        {"bid_price": columns["bid"], "ask_price": columns["ask"]},
        index=pd.to_datetime(columns["time_ms"], unit="ms", utc=True),
    )
    ticks = QuoteTickDataWrangler(instrument).process(table, default_volume=1e9)
    engine.add_data(ticks)
    units = Decimal(str(options.lots)) * LOT_UNITS
    engine.add_strategy(EmaCross(EmaCrossConfig(
        instrument_id=instrument.id, fast=options.fast, slow=options.slow, units=units,
    )))  # fmt: skip
    return engine


def trades_of(engine: BacktestEngine) -> list[dict[str, Any]]:
    """One row per closed position, oldest first."""
    closed = [*engine.cache.position_snapshots(), *engine.cache.positions_closed()]
    found = []
    for position in closed:
        if not position.is_closed:
            continue
        costs = sum(money.as_double() for money in position.commissions())
        found.append(
            {
                "side": "buy" if position.entry == OrderSide.BUY else "sell",
                "opened_ms": position.ts_opened // 1_000_000,
                "closed_ms": position.ts_closed // 1_000_000,
                "price_open": position.avg_px_open,
                "price_close": position.avg_px_close,
                "net": position.realized_pnl.as_double(),
                "commission": -costs,
            }
        )
    return sorted(found, key=lambda one: (one["opened_ms"], one["closed_ms"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ticks")
    parser.add_argument("--fast", type=int, required=True)
    parser.add_argument("--slow", type=int, required=True)
    parser.add_argument("--lots", type=float, default=0.1)
    parser.add_argument("--balance", type=float, default=100_000.0)
    parser.add_argument("--commission", type=float, default=0.0, help="USD per order")
    options = parser.parse_args()
    with np.load(options.ticks) as columns:
        engine = engine_of(columns, options)
        count = len(columns["time_ms"])
    begun, cpu = time.perf_counter(), time.process_time()
    engine.run()
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    result = {
        "version": nautilus_trader.__version__, "ticks": count, "seconds": seconds,
        "cpu_s": cpu_s, "trades": trades_of(engine),
    }  # fmt: skip
    json.dump(result, sys.stdout)
    engine.dispose()


if __name__ == "__main__":
    main()

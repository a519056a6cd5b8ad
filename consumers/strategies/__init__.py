"""Strategies: what a trader writes with, and bundled examples, each in a file of its own.

from consumers.strategies import Crossover, Ema, Strategy, Tick
"""

from consumers.bars import Bar
from consumers.indicators import (
    Adx,
    AdxValue,
    Atr,
    Bollinger,
    BollingerValue,
    CrossAbove,
    CrossBelow,
    Crossover,
    Donchian,
    DonchianValue,
    Ema,
    Indicator,
    Macd,
    MacdValue,
    RollingCorrelation,
    RollingStd,
    Rsi,
    Sma,
    Stochastic,
    StochasticValue,
    Vwap,
    Wilder,
    Wma,
    ZScore,
)
from consumers.strategies.authoring import (
    BadParameter,
    BadSignal,
    Fill,
    Lots,
    Notional,
    NotKnownYet,
    RiskPercent,
    Signal,
    Signals,
    Strategy,
    Tick,
)
from consumers.strategies.running.tick_run import TickRun
from events.market import Instrument
from events.trading import Account

__all__ = [
    "Account", "Adx", "AdxValue", "Atr", "BadParameter", "BadSignal", "Bar", "Bollinger",
    "BollingerValue", "CrossAbove", "CrossBelow", "Crossover", "Donchian", "DonchianValue", "Ema",
    "Fill", "Indicator", "Instrument", "Lots", "Macd", "MacdValue", "NotKnownYet", "Notional",
    "RiskPercent", "RollingCorrelation", "RollingStd", "Rsi", "Signal", "Signals", "Sma",
    "Stochastic", "StochasticValue", "Strategy", "Tick", "TickRun", "Vwap", "Wilder", "Wma",
    "ZScore",
]  # fmt: skip

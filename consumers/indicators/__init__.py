"""Indicators: one value at a time, or an array at once with exactly the same results."""

from consumers.indicators.averages import Ema, Sma, Wilder, Wma
from consumers.indicators.correlation import RollingCorrelation
from consumers.indicators.crossing import CrossAbove, CrossBelow, Crossover
from consumers.indicators.deviation import Bollinger, BollingerValue, RollingStd, ZScore
from consumers.indicators.extremes import Donchian, DonchianValue, Stochastic, StochasticValue
from consumers.indicators.indicator import Indicator, OneInput
from consumers.indicators.momentum import Macd, MacdValue, Rsi
from consumers.indicators.ranges import Adx, AdxValue, Atr
from consumers.indicators.vwap import Vwap

__all__ = [
    "Adx", "AdxValue", "Atr", "Bollinger", "BollingerValue", "CrossAbove", "CrossBelow",
    "Crossover", "Donchian", "DonchianValue", "Ema", "Indicator", "Macd", "MacdValue", "OneInput",
    "RollingCorrelation", "RollingStd", "Rsi", "Sma", "Stochastic", "StochasticValue", "Vwap",
    "Wilder", "Wma", "ZScore",
]  # fmt: skip

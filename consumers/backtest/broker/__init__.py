"""The broker of a backtest: fills, costs, margin and nights over recorded ticks or bars."""

from consumers.backtest.broker.model import BrokerModel
from consumers.backtest.broker.options import Amount, BadOption, BrokerOptions, SymbolCosts
from consumers.backtest.broker.prices.bars import runs_of_bars, ticks_of_bars
from consumers.backtest.broker.prices.hours import BadHours, WeeklyHours
from consumers.backtest.broker.spec.account import AccountSpec
from consumers.backtest.broker.symbols import NoConversion, conversions_of

__all__ = [
    "AccountSpec",
    "Amount",
    "BadHours",
    "BadOption",
    "BrokerModel",
    "BrokerOptions",
    "NoConversion",
    "SymbolCosts",
    "WeeklyHours",
    "conversions_of",
    "runs_of_bars",
    "ticks_of_bars",
]

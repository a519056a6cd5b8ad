"""The broker of a backtest: fills, costs, margin and nights over recorded ticks or bars."""

from consumers.backtest.broker.model import BrokerModel
from consumers.backtest.broker.options import Amount, BadOption, BrokerOptions, SymbolCosts
from consumers.backtest.broker.prices.bars import runs_of_bars, ticks_of_bars
from consumers.backtest.broker.prices.hours import BadHours, WeeklyHours
from consumers.backtest.broker.spec.account import AccountSpec
from consumers.backtest.broker.spec.facts import NoFacts, Spec, spec_of
from consumers.backtest.broker.spec.file import BadSpec, load_spec
from consumers.backtest.broker.spec.writing import example_spec, spec_text
from consumers.backtest.broker.symbols import NoConversion, conversions_of

__all__ = [
    "AccountSpec",
    "Amount",
    "BadHours",
    "BadOption",
    "BadSpec",
    "BrokerModel",
    "BrokerOptions",
    "NoConversion",
    "NoFacts",
    "Spec",
    "SymbolCosts",
    "WeeklyHours",
    "conversions_of",
    "example_spec",
    "load_spec",
    "runs_of_bars",
    "spec_of",
    "spec_text",
    "ticks_of_bars",
]

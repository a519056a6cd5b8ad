"""The arithmetic of a trading account: deals to positions, balance, margin, swap, stop-out.

Pure: no clock, no randomness, no I/O. The simulated broker and the backtest's broker both stand
on it, so that they cannot disagree.
"""

from events.accounting.contract import Contract, swap_nights
from events.accounting.conversion import MissingRate, Rates
from events.accounting.figures import (
    AccountFigures,
    Valuation,
    account_figures,
    floating_figures,
    stop_out_first,
)
from events.accounting.ledger import (
    BUY,
    SELL,
    TYPE_CREDIT,
    BookedDeal,
    Entry,
    Fill,
    Ledger,
    MarginMode,
    OpenPosition,
    RefusedFill,
)
from events.accounting.margin import Leg, symbol_margin

__all__ = [
    "BUY",
    "SELL",
    "TYPE_CREDIT",
    "AccountFigures",
    "BookedDeal",
    "Contract",
    "Entry",
    "Fill",
    "Ledger",
    "Leg",
    "MarginMode",
    "MissingRate",
    "OpenPosition",
    "Rates",
    "RefusedFill",
    "Valuation",
    "account_figures",
    "floating_figures",
    "stop_out_first",
    "swap_nights",
    "symbol_margin",
]

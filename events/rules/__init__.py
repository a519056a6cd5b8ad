"""Risk rules as data, what losses are measured from, and how limits are judged. Pure.

Used by the guard, by group risk, by what-if and by backtests, so that they cannot disagree.
"""

from events.rules.figures import FIGURES, Direction, Figure, Subject, Unit, figure_key
from events.rules.judging import (
    Floor,
    Standing,
    Verdict,
    floors,
    headroom,
    judge,
    needs,
    standings,
    unknown_for,
)
from events.rules.model import (
    Account,
    Action,
    Basis,
    Costs,
    DayReference,
    Goal,
    GuardRules,
    Limit,
    Lock,
    Moment,
    Reduce,
    Rules,
    Window,
)
from events.rules.reading import BalanceOperation, Reading
from events.rules.references import References, advance, balance_at, with_set
from events.rules.resets import TradingDay, reset_of_clock, trading_day

__all__ = [
    "FIGURES",
    "Account",
    "Action",
    "BalanceOperation",
    "Basis",
    "Costs",
    "DayReference",
    "Direction",
    "Figure",
    "Floor",
    "Goal",
    "GuardRules",
    "Limit",
    "Lock",
    "Moment",
    "Reading",
    "Reduce",
    "References",
    "Rules",
    "Standing",
    "Subject",
    "TradingDay",
    "Unit",
    "Verdict",
    "Window",
    "advance",
    "balance_at",
    "figure_key",
    "floors",
    "headroom",
    "judge",
    "needs",
    "reset_of_clock",
    "standings",
    "trading_day",
    "unknown_for",
    "with_set",
]

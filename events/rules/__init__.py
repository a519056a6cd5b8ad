"""Risk rules as data, what losses are measured from, and how limits are judged. Pure.

Used by the guard, by group risk, by what-if and by backtests, so that they cannot disagree.
"""

from events.rules.advancing import advance
from events.rules.figures import FIGURES, Direction, Figure, Subject, Unit, figure_key
from events.rules.files import PACKS, BadRules, load_rules, pack_names, rules_of_settings
from events.rules.goals import Progress, goal_value, progress
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
from events.rules.reading import BalanceOperation, Check, Reading, check_reading
from events.rules.references import References, balance_at, with_set
from events.rules.resets import TradingDay, reset_of_clock, trading_day
from events.rules.sizing import LotFacts, largest_lot, lot_facts
from events.rules.trips import Decision, Trips
from events.rules.watching import Look, Watched, figures_of, look
from events.rules.windows import Span, WindowNow, spans, windows_at

__all__ = [
    "FIGURES",
    "PACKS",
    "Account",
    "Action",
    "BadRules",
    "BalanceOperation",
    "Basis",
    "Check",
    "Costs",
    "DayReference",
    "Decision",
    "Direction",
    "Figure",
    "Floor",
    "Goal",
    "GuardRules",
    "Limit",
    "Lock",
    "Look",
    "LotFacts",
    "Moment",
    "Progress",
    "Reading",
    "Reduce",
    "References",
    "Rules",
    "Span",
    "Standing",
    "Subject",
    "TradingDay",
    "Trips",
    "Unit",
    "Verdict",
    "Watched",
    "Window",
    "WindowNow",
    "advance",
    "balance_at",
    "check_reading",
    "figure_key",
    "figures_of",
    "floors",
    "goal_value",
    "headroom",
    "judge",
    "largest_lot",
    "load_rules",
    "look",
    "lot_facts",
    "needs",
    "pack_names",
    "progress",
    "reset_of_clock",
    "rules_of_settings",
    "spans",
    "standings",
    "trading_day",
    "unknown_for",
    "windows_at",
    "with_set",
]

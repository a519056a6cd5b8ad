"""Every figure a limit may be set on: its unit, which way it gets bad, and who can know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Direction(StrEnum):
    """Which way a figure gets bad."""

    ABOVE = "above"
    BELOW = "below"


class Unit(StrEnum):
    """What a figure is counted in."""

    MONEY = "money"
    """Account currency."""
    PERCENT = "percent"
    LOTS = "lots"
    TIMES = "times"
    """A multiple of equity."""
    COUNT = "count"
    SECONDS = "s"
    POINTS = "points"


class Subject(StrEnum):
    """What a figure is about. Figures of symbols and currencies are named `FIGURE:SUBJECT`."""

    ACCOUNT = "account"
    SYMBOL = "symbol"
    CURRENCY = "currency"
    MAGIC = "magic"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `loss` figures are measured from a reference and make an equity floor."""

    name: str
    unit: Unit
    direction: Direction
    doc: str
    guard: bool = False
    """Whether the guard knows it from the terminal alone; else only group risk does."""
    loss: bool = False
    subject: Subject = Subject.ACCOUNT


def figure_key(figure: str, subject: str = "") -> str:
    """The name a figure has among others: `exposure_currency_net:USD`, `equity`."""
    return f"{figure}:{subject}" if subject else figure


_ABOVE, _BELOW = Direction.ABOVE, Direction.BELOW
_MONEY, _PERCENT, _LOTS = Unit.MONEY, Unit.PERCENT, Unit.LOTS
_SYMBOL, _CURRENCY = Subject.SYMBOL, Subject.CURRENCY

_ALL = (
    # --- losses, measured from a reference
    Figure("daily_loss", _MONEY, _ABOVE, "Reference of the day minus equity after closing.",
           guard=True, loss=True),
    Figure("drawdown_absolute", _MONEY, _ABOVE, "Initial balance minus equity after closing.",
           guard=True, loss=True),
    Figure("drawdown_peak", _MONEY, _ABOVE, "Highest equity minus equity after closing.",
           guard=True, loss=True),
    Figure("drawdown_trailing_balance", _MONEY, _ABOVE,
           "Highest balance minus equity after closing.", guard=True, loss=True),
    Figure("drawdown_trailing_highest", _MONEY, _ABOVE,
           "Highest balance or equity minus equity after closing.", guard=True, loss=True),
    Figure("drawdown_trailing_eod", _MONEY, _ABOVE,
           "Initial balance, or the best balance at a reset, minus equity after closing.",
           guard=True, loss=True),
    Figure("drawdown_trailing_intraday", _MONEY, _ABOVE,
           "Highest equity since the reset minus equity after closing.", guard=True, loss=True),
    # --- the account
    Figure("equity", _MONEY, _BELOW, "Balance, credit and floating profit; limits take it "
           "after closing.", guard=True),
    Figure("balance", _MONEY, _BELOW, "Money without open positions.", guard=True),
    Figure("credit", _MONEY, _BELOW, "Credit of the broker.", guard=True),
    Figure("floating", _MONEY, _BELOW, "Profit and swap of open positions.", guard=True),
    Figure("floating_loss", _MONEY, _ABOVE, "Loss of open positions; 0 in profit.", guard=True),
    Figure("margin", _MONEY, _ABOVE, "Margin in use.", guard=True),
    Figure("margin_free", _MONEY, _BELOW, "Equity minus margin.", guard=True),
    Figure("margin_level_percent", _PERCENT, _BELOW,
           "Equity as a share of margin; unknown without positions.", guard=True),
    Figure("stop_out_distance", _MONEY, _BELOW, "Equity left until the broker's stop-out."),
    Figure("cost_of_closing", _MONEY, _ABOVE, "Spread, uncharged commission and slippage of "
           "closing everything now."),
    Figure("positions_open", Unit.COUNT, _ABOVE, "Open positions.", guard=True),
    Figure("orders_open", Unit.COUNT, _ABOVE, "Pending orders.", guard=True),
    Figure("lots_open", _LOTS, _ABOVE, "Volume of all positions.", guard=True),
    Figure("position_lots_max", _LOTS, _ABOVE, "Volume of the largest position.", guard=True),
    Figure("position_loss_max", _MONEY, _ABOVE, "Loss of the position that loses most.",
           guard=True),
    # --- exposure
    Figure("exposure_gross", _MONEY, _ABOVE, "Sum of notionals."),
    Figure("exposure_net", _MONEY, _ABOVE, "Largest net exposure of a currency."),
    Figure("leverage_used", Unit.TIMES, _ABOVE, "Gross notional as a multiple of equity."),
    Figure("concentration_percent", _PERCENT, _ABOVE, "Share of the largest symbol in gross "
           "exposure."),
    Figure("risk_to_stop", _MONEY, _ABOVE, "Loss if every stop-loss is hit; positions without one "
           "count with a multiple of their range."),
    Figure("risk_to_stop_percent", _PERCENT, _ABOVE, "The same as a share of equity."),
    Figure("positions_without_stop", Unit.COUNT, _ABOVE, "Positions without a stop-loss.",
           guard=True),
    # --- value at risk
    *(
        Figure(f"{kind}{method}_{share}", _MONEY, _ABOVE, f"{text} at {share} %, {way}.")
        for kind, text in (("var", "Value at risk"), ("es", "Expected shortfall"))
        for method, way in (("", "parametric"), ("_historical", "historical"))
        for share in (95, 99)
    ),
    # --- trades and prices
    Figure("losses_in_a_row", Unit.COUNT, _ABOVE, "Closed trades that lost, since the last win."),
    Figure("realised_day", _MONEY, _BELOW, "Closed profit or loss of the day."),
    Figure("realised_week", _MONEY, _BELOW, "Closed profit or loss of the week."),
    Figure("realised_month", _MONEY, _BELOW, "Closed profit or loss of the month."),
    Figure("tick_age_s", Unit.SECONDS, _ABOVE, "Time since the last tick of the symbol held whose "
           "prices are stalest."),
    # --- goals
    Figure("profit", _MONEY, _ABOVE, "Balance minus initial balance and operations on it.",
           guard=True),
    Figure("profit_equity", _MONEY, _ABOVE, "Equity minus initial balance and operations on it.",
           guard=True),
    Figure("day_profit", _MONEY, _ABOVE, "Balance minus balance at the reset, without operations.",
           guard=True),
    Figure("best_day_share_percent", _PERCENT, _ABOVE, "Profit of the best day as a share of the "
           "total profit; unknown without one.", guard=True),
    Figure("trading_days", Unit.COUNT, _ABOVE, "Days on which a position was opened.", guard=True),
    # --- of one symbol or currency
    Figure("symbol_lots", _LOTS, _ABOVE, "Gross volume of a symbol.", guard=True, subject=_SYMBOL),
    Figure("symbol_lots_net", _LOTS, _ABOVE, "Net volume of a symbol.", guard=True,
           subject=_SYMBOL),
    Figure("symbol_loss", _MONEY, _ABOVE, "Loss of the open positions of a symbol.", guard=True,
           subject=_SYMBOL),
    Figure("symbol_exposure", _MONEY, _ABOVE, "Notional of a symbol.", subject=_SYMBOL),
    Figure("symbol_risk_to_stop", _MONEY, _ABOVE, "Loss if the stops of a symbol are hit.",
           subject=_SYMBOL),
    Figure("symbol_spread_points", Unit.POINTS, _ABOVE, "Spread of a symbol.", subject=_SYMBOL),
    Figure("symbol_tick_age_s", Unit.SECONDS, _ABOVE, "Time since the last tick of a symbol.",
           subject=_SYMBOL),
    Figure("magic_loss", _MONEY, _ABOVE, "Loss of the open positions of a magic number.",
           guard=True, subject=Subject.MAGIC),
    Figure("magic_lots", _LOTS, _ABOVE, "Volume of a magic number.", guard=True,
           subject=Subject.MAGIC),
    Figure("exposure_currency_gross", _MONEY, _ABOVE, "Gross exposure of a currency.",
           subject=_CURRENCY),
    Figure("exposure_currency_net", _MONEY, _ABOVE, "Net exposure of a currency, either way.",
           subject=_CURRENCY),
)  # fmt: skip

FIGURES: Mapping[str, Figure] = MappingProxyType({figure.name: figure for figure in _ALL})
"""Figure by name. `RiskMetrics.figures` uses these names."""

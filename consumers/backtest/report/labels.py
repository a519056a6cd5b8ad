"""Figures as people read them: their names in groups, their units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from consumers.backtest.report.figures import Figure

Unit = Literal["money", "percent", "count", "ratio", "days", "hours"]
UNKNOWN = "–"

GROUPS: Mapping[str, Mapping[str, tuple[str, Unit]]] = {
    "Result": {
        "net_profit": ("Net profit", "money"),
        "return_percent": ("Return", "percent"),
        "return_yearly_percent": ("Return a year", "percent"),
        "balance_final": ("Balance at the end", "money"),
        "equity_final": ("Equity at the end", "money"),
        "months": ("Months", "count"),
        "months_won": ("Months won", "count"),
        "month_best": ("Best month", "money"),
        "month_worst": ("Worst month", "money"),
    },
    "Risk": {
        "drawdown_max": ("Deepest drawdown", "money"),
        "drawdown_max_percent": ("Deepest drawdown", "percent"),
        "drawdown_longest_days": ("Longest drawdown", "days"),
        "volatility_yearly_percent": ("Volatility a year", "percent"),
        "sharpe": ("Sharpe ratio", "ratio"),
        "sortino": ("Sortino ratio", "ratio"),
        "calmar": ("Calmar ratio", "ratio"),
        "exposure_percent": ("Time in the market", "percent"),
        "exposure_gross_percent": ("Gross exposure, mean", "percent"),
        "exposure_gross_max_percent": ("Gross exposure, highest", "percent"),
    },
    "Trades": {
        "trades": ("Closed trades", "count"),
        "trades_open": ("Open at the end", "count"),
        "win_rate_percent": ("Win rate", "percent"),
        "profit_factor": ("Profit factor", "ratio"),
        "trade_mean": ("Expectancy (mean of a trade)", "money"),
        "payoff_ratio": ("Mean win by mean loss", "ratio"),
        "profit_gross": ("Sum of wins", "money"),
        "loss_gross": ("Sum of losses", "money"),
        "win_mean": ("Mean win", "money"),
        "loss_mean": ("Mean loss", "money"),
        "trade_best": ("Best trade", "money"),
        "trade_worst": ("Worst trade", "money"),
        "wins_in_a_row_max": ("Most wins in a row", "count"),
        "losses_in_a_row_max": ("Most losses in a row", "count"),
        "trade_hours_mean": ("Mean time held", "hours"),
    },
    "Costs": {
        "cost_commission": ("Commission", "money"),
        "cost_swap": ("Swap", "money"),
        "cost_fee": ("Fees", "money"),
        "cost_spread": ("Spread", "money"),
        "cost_slippage": ("Slippage", "money"),
        "cost_total": ("All costs", "money"),
    },
}
_LABELS = {name: told for group in GROUPS.values() for name, told in group.items()}


def label_of(name: str) -> str:
    """A figure's name for people; its own where there is none."""
    return _LABELS[name][0] if name in _LABELS else name.replace("_", " ")


def shown(name: str, value: Figure) -> str:
    """A figure with its unit."""
    if value is None:
        return UNKNOWN
    unit = _LABELS[name][1] if name in _LABELS else "ratio"
    if unit == "count":
        return f"{value:,}"
    text = f"{value + 0.0:,.2f}"
    return {"percent": f"{text} %", "days": f"{text} d", "hours": f"{text} h"}.get(unit, text)

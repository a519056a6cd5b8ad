"""Figures of a result. Pure: they follow from the result alone.

Returns are those of equity from one midnight of the broker's clock to the next. Sharpe ratio:
Sharpe, "The Sharpe Ratio", Journal of Portfolio Management 21 (1994), with a risk-free rate of 0.
Sortino ratio: Sortino and Price, "Performance Measurement in a Downside Risk Framework", Journal
of Investing 3 (1994), target 0. Calmar ratio: Young, "Calmar Ratio: A Smoother Tool", Futures 20
(1991), over the whole span. Where something cannot be known it is None: never 0, never infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from consumers.backtest.report.days import (
    DAY_MS,
    daily_returns,
    days_of_a_year,
    months,
    trades_at_weekends,
)
from consumers.backtest.report.exposure import exposure_percent, gross_exposure_percent
from consumers.backtest.result import BacktestResult, EquityCurve
from events.trading import Trade

Figure = float | int | None
YEAR_MS = 365.25 * DAY_MS
NOISE = 1e-12
"""A deviation of daily returns below that is rounding, not risk."""

Floats = npt.NDArray[np.float64]


def figures(result: BacktestResult) -> dict[str, Figure]:
    """Name -> value; None: it cannot be known (too few days or trades)."""
    initial, final = result.balance_initial, result.equity_final
    drawdown, drawdown_percent = max_drawdown(result.equity, initial)
    yearly = yearly_return_percent(initial, final, result.to_ms - result.from_ms)
    found: dict[str, Figure] = {
        "net_profit": final - initial,
        "return_percent": (final / initial - 1) * 100 if initial > 0 else None,
        "return_yearly_percent": yearly,
        "balance_final": result.balance_final,
        "equity_final": final,
        "drawdown_max": drawdown,
        "drawdown_max_percent": drawdown_percent,
        "drawdown_longest_days": longest_drawdown_ms(result) / DAY_MS,
        "volatility_yearly_percent": None,
        "sharpe": None,
        "sortino": None,
        "calmar": yearly / drawdown_percent if yearly is not None and drawdown_percent else None,
    }
    found |= _ratios(result)
    found |= trade_figures(result.closed_trades)
    found["trades_open"] = len(result.trades) - len(result.closed_trades)
    found["exposure_percent"] = exposure_percent(result)
    gross = gross_exposure_percent(result)
    found["exposure_gross_percent"], found["exposure_gross_max_percent"] = gross
    found |= _month_figures(result)
    for name in ("commission", "swap", "fee", "spread", "slippage", "total"):
        found[f"cost_{name}"] = float(getattr(result.costs, name))
    return {name: _finite(value) for name, value in found.items()}


def conventions(result: BacktestResult) -> list[str]:
    """How the figures are meant, a line each."""
    days = days_of_a_year(result)
    week = "every day" if trades_at_weekends(result) else "Monday to Friday"
    clock = "the broker's clock" if any(offset for _, offset in result.offsets) else "UTC"
    return [
        f"returns are those of equity from midnight to midnight of {clock}, {week}; a year has "
        f"{days} of them; the risk-free rate is 0",
        "Sharpe: mean by standard deviation (n - 1) of daily returns; Sortino: by the root of the "
        "mean square of the negative ones; Calmar: yearly return by the deepest drawdown",
        "drawdown: from the highest equity so far to the lowest after it, seen at every tick; its "
        "length: how long equity stayed below a former peak",
        "profit factor, win rate and means are those of closed trades, net of commission, swap and "
        "fee; spread and slippage are told apart, and are inside the prices already",
        "gross exposure: what all open positions are worth, long and short added up, in percent of "
        "the initial balance",
    ]


def max_drawdown(curve: EquityCurve, initial: float) -> tuple[float, float]:
    """The deepest fall of equity from its highest before, in money and in percent of that peak."""
    if not len(curve):
        return 0.0, 0.0
    # Within an interval the low may lie before the end: it is held against the peak before it.
    peaks = np.maximum.accumulate(np.concatenate([[initial], curve.equity]))[:-1]
    falls = peaks - curve.equity_min
    shares = np.divide(falls, peaks, out=np.zeros_like(falls), where=peaks > 0)
    return max(0.0, float(falls.max())), max(0.0, float(shares.max()) * 100)


def drawdown_series(curve: EquityCurve, initial: float) -> Floats:
    """Percent below the highest equity so far, at each row (0 or negative)."""
    if not len(curve):
        return np.zeros(0)
    peaks = np.maximum.accumulate(np.concatenate([[initial], curve.equity]))[1:]
    series: Floats = np.divide(
        curve.equity - peaks, peaks, out=np.zeros_like(peaks), where=peaks > 0
    )
    return series * 100


def longest_drawdown_ms(result: BacktestResult) -> int:
    """The longest time that equity stayed below a former peak; to the end, where it never came
    back."""
    longest, begun, peak = 0, -1, result.balance_initial
    curve = result.equity
    for time_ms, equity in zip(curve.time_ms.tolist(), curve.equity.tolist(), strict=True):
        if equity < peak:
            begun = time_ms if begun < 0 else begun
            longest = max(longest, time_ms - begun)
        else:
            longest = max(longest, time_ms - begun if begun >= 0 else 0)
            begun, peak = -1, equity
    return max(longest, result.to_ms - begun) if begun >= 0 else longest


def yearly_return_percent(initial: float, final: float, span_ms: int) -> float | None:
    """The constant yearly return that leads from one to the other; None below a day."""
    if span_ms < DAY_MS or initial <= 0 or final <= 0:
        return None
    exponent = YEAR_MS / span_ms * math.log(final / initial)
    return math.expm1(exponent) * 100 if exponent < 100 else None


def trade_figures(trades: Sequence[Trade]) -> dict[str, Figure]:
    """Of closed trades, by their net result."""
    nets = np.array([trade.net_profit for trade in trades], np.float64)
    wins, losses = nets[nets > 0], nets[nets < 0]
    lasted_ms = [trade.close_time_ms - trade.open_time_ms for trade in trades]
    return {
        "trades": len(nets),
        "wins": len(wins),
        "losses": len(losses),
        "win_rate_percent": len(wins) / len(nets) * 100 if len(nets) else None,
        "profit_gross": float(wins.sum()),
        "loss_gross": float(losses.sum()),
        "profit_factor": float(wins.sum() / -losses.sum()) if len(losses) else None,
        "trade_mean": float(nets.mean()) if len(nets) else None,
        "win_mean": float(wins.mean()) if len(wins) else None,
        "loss_mean": float(losses.mean()) if len(losses) else None,
        "payoff_ratio": float(wins.mean() / -losses.mean()) if len(wins) and len(losses) else None,
        "trade_best": float(nets.max()) if len(nets) else None,
        "trade_worst": float(nets.min()) if len(nets) else None,
        "losses_in_a_row_max": _longest(nets < 0),
        "wins_in_a_row_max": _longest(nets > 0),
        "trade_hours_mean": float(np.mean(lasted_ms)) / 3_600_000 if lasted_ms else None,
    }


def _ratios(result: BacktestResult) -> Mapping[str, Figure]:
    returns = daily_returns(result)
    if len(returns) < 2:
        return {}
    scale = math.sqrt(days_of_a_year(result))
    mean, deviation = float(returns.mean()), float(returns.std(ddof=1))
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return {
        "sharpe": mean / deviation * scale if deviation > NOISE else None,
        "sortino": mean / downside * scale if downside > NOISE else None,
        "volatility_yearly_percent": deviation * scale * 100,
    }


def _month_figures(result: BacktestResult) -> Mapping[str, Figure]:
    nets = [month.net_profit for month in months(result)]
    return {
        "month_best": max(nets, default=None),
        "month_worst": min(nets, default=None),
        "months": len(nets),
        "months_won": sum(net > 0 for net in nets),
    }


def _longest(flags: npt.NDArray[np.bool_]) -> int:
    longest = run = 0
    for flag in flags.tolist():
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def _finite(value: Figure) -> Figure:
    return None if value is None or not math.isfinite(value) else value

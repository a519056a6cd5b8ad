"""Figures of a result. Pure: they follow from the result alone.

Returns are those of whole days (UTC) of equity. Sharpe ratio: Sharpe, "The Sharpe Ratio", Journal
of Portfolio Management 21 (1994), with a risk-free rate of 0. Sortino ratio: Sortino and Price,
"Performance Measurement in a Downside Risk Framework", Journal of Investing 3 (1994), target 0.
Calmar ratio: Young, "Calmar Ratio: A Smoother Tool", Futures 20 (1991), over the whole span.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from consumers.backtest.result import BacktestResult, EquityCurve
from events.trading import Trade

Figure = float | int | None
DAY_MS = 86_400_000
YEAR_MS = 365.25 * DAY_MS
TRADING_DAYS, CALENDAR_DAYS = 252, 365
"""Days of a year of markets that close at weekends, and of those that never do."""
_SATURDAY, _SUNDAY = 2, 3  # days since the epoch, modulo 7

Floats = npt.NDArray[np.float64]


def figures(result: BacktestResult) -> dict[str, Figure]:
    """Name -> value; None: it cannot be known (too few days or trades)."""
    initial, final = result.balance_initial, result.equity_final
    drawdown, drawdown_percent = max_drawdown(result.equity, initial)
    yearly = yearly_return_percent(initial, final, result.to_ms - result.from_ms)
    found: dict[str, Figure] = {
        "net_profit": final - initial,
        "return_percent": (final / initial - 1) * 100 if initial else None,
        "return_yearly_percent": yearly,
        "balance_final": result.balance_final,
        "equity_final": final,
        "drawdown_max": drawdown,
        "drawdown_max_percent": drawdown_percent,
        "sharpe": None,
        "sortino": None,
        "calmar": yearly / drawdown_percent if yearly is not None and drawdown_percent else None,
    }
    found |= _ratios(result)
    found |= trade_figures(result.closed_trades)
    found["exposure_percent"] = exposure_percent(result)
    found["trades_open"] = len(result.trades) - len(result.closed_trades)
    for name in ("commission", "swap", "fee", "spread", "slippage", "total"):
        found[f"cost_{name}"] = float(getattr(result.costs, name))
    return {name: _finite(value) for name, value in found.items()}


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


def yearly_return_percent(initial: float, final: float, span_ms: int) -> float | None:
    """The constant yearly return that leads from one to the other; None below a day."""
    if span_ms < DAY_MS or initial <= 0 or final <= 0:
        return None
    exponent = YEAR_MS / span_ms * math.log(final / initial)
    return math.expm1(exponent) * 100 if exponent < 100 else None


def daily_equity(result: BacktestResult) -> tuple[npt.NDArray[np.int64], Floats]:
    """(UTC day since the epoch, equity at its end) of every day that markets were open."""
    first, last = result.from_ms // DAY_MS, result.to_ms // DAY_MS
    days = np.arange(first, last + 1, dtype=np.int64)
    if not _trades_at_weekends(result):
        days = days[~np.isin(days % 7, (_SATURDAY, _SUNDAY))]
    at = np.searchsorted(result.equity.time_ms, (days + 1) * DAY_MS, side="left") - 1
    known = np.concatenate([[result.balance_initial], result.equity.equity])
    return days, known[at + 1]


def daily_returns(result: BacktestResult) -> Floats:
    """Returns of each day as shares; the first day is held against the initial balance."""
    _, equity = daily_equity(result)
    before = np.concatenate([[result.balance_initial], equity[:-1]])
    returns: Floats = np.divide(
        equity - before, before, out=np.zeros_like(equity), where=before > 0
    )
    return returns


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
        "trade_best": float(nets.max()) if len(nets) else None,
        "trade_worst": float(nets.min()) if len(nets) else None,
        "losses_in_a_row_max": _longest(nets < 0),
        "wins_in_a_row_max": _longest(nets > 0),
        "trade_hours_mean": float(np.mean(lasted_ms)) / 3_600_000 if lasted_ms else None,
    }


def exposure_percent(result: BacktestResult) -> float | None:
    """Share of the span in which something was open."""
    span_ms = result.to_ms - result.from_ms
    if span_ms <= 0:
        return None
    spans = sorted(
        (trade.open_time_ms, trade.close_time_ms or result.to_ms) for trade in result.trades
    )
    open_ms, reached = 0, result.from_ms
    for begin, end in spans:
        begin = max(begin, reached)
        if end > begin:
            open_ms += end - begin
            reached = end
    return open_ms / span_ms * 100


def _ratios(result: BacktestResult) -> Mapping[str, Figure]:
    returns = daily_returns(result)
    if len(returns) < 2:
        return {}
    scale = math.sqrt(CALENDAR_DAYS if _trades_at_weekends(result) else TRADING_DAYS)
    mean, deviation = float(returns.mean()), float(returns.std(ddof=1))
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return {
        "sharpe": mean / deviation * scale if deviation > 0 else None,
        "sortino": mean / downside * scale if downside > 0 else None,
        "volatility_yearly_percent": deviation * scale * 100,
    }


def _trades_at_weekends(result: BacktestResult) -> bool:
    """Whether there are prices on Saturdays, as of crypto currencies."""
    return any(
        bool(((bars.time_ms // DAY_MS) % 7 == _SATURDAY).any()) for bars in result.bars.values()
    )


def _longest(flags: npt.NDArray[np.bool_]) -> int:
    longest = run = 0
    for flag in flags.tolist():
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def _finite(value: Figure) -> Figure:
    return None if value is None or not math.isfinite(value) else value

"""Value at risk and expected shortfall of what is held, over one day.

Returns are those of hourly closes; a day is 24 of them. Parametric: normal returns, scaled by the
square root of time: z * sqrt(w' S w) * sqrt(24), expected shortfall pdf(z) / (1 - level) * sigma
(J.P. Morgan, RiskMetrics Technical Document, 1996; McNeil, Frey, Embrechts, Quantitative Risk
Management, example 2.14). Historical: what today's positions would have made in each of the
past 24-hour windows (overlapping); the loss at the quantile, and the mean of losses from there on.
Windows across weekends and holidays understate: the hours without a market are not in them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DAY_STEPS = 24
"""Hourly closes in a day."""
PARAMETRIC_MIN = 120
"""Fewer returns than this say nothing about a covariance."""
HISTORICAL_MIN = 500
"""Fewer windows than this hold too few bad days."""
LEVELS = (0.95, 0.99)
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Series:
    """Closes of one symbol, oldest first, at the broker's times."""

    time_s: npt.NDArray[np.int64]
    close: Floats


@dataclass(frozen=True)
class Returns:
    """Closes of several symbols at the times all of them have, as returns."""

    symbols: tuple[str, ...]
    hourly: Floats
    """Shape (n, symbols)."""
    daily: Floats
    """Shape (n - 23, symbols): of overlapping windows."""
    covariance: Floats = field(repr=False)
    """Of hourly returns, sample (n - 1)."""


def returns_of(series: Mapping[str, Series]) -> Returns | None:
    """Returns at common times; None when there are too few."""
    symbols = tuple(sorted(series))
    if not symbols:
        return None
    times = series[symbols[0]].time_s
    for symbol in symbols[1:]:
        times = np.intersect1d(times, series[symbol].time_s, assume_unique=True)
    if len(times) <= PARAMETRIC_MIN:
        return None
    columns = []
    for symbol in symbols:
        one = series[symbol]
        columns.append(one.close[np.searchsorted(one.time_s, times)])
    closes = np.column_stack(columns)
    if not (np.isfinite(closes).all() and (closes > 0).all()):
        return None
    hourly = closes[1:] / closes[:-1] - 1
    daily = closes[DAY_STEPS:] / closes[:-DAY_STEPS] - 1
    covariance = np.atleast_2d(np.cov(hourly, rowvar=False, ddof=1))
    return Returns(symbols, hourly, daily, covariance)


def daily_deviation(series: Series) -> float | None:
    """Standard deviation of a day's return: that of an hour times sqrt(24); None: too few."""
    if len(series.close) <= PARAMETRIC_MIN:
        return None
    hourly = series.close[1:] / series.close[:-1] - 1
    return float(np.std(hourly, ddof=1)) * math.sqrt(DAY_STEPS)


def weights(returns: Returns, net_by_symbol: Mapping[str, float]) -> Floats:
    """Net exposures in account currency, in the order of the returns."""
    return np.array([net_by_symbol.get(symbol, 0.0) for symbol in returns.symbols])


def parametric(returns: Returns, held: Floats, level: float) -> tuple[float, float]:
    """(value at risk, expected shortfall) of a day, account currency."""
    deviation = math.sqrt(max(0.0, float(held @ returns.covariance @ held)) * DAY_STEPS)
    z = _NORMAL.inv_cdf(level)
    return z * deviation, _NORMAL.pdf(z) / (1 - level) * deviation


def historical(returns: Returns, held: Floats, level: float) -> tuple[float, float] | None:
    """(value at risk, expected shortfall) of a day, account currency, never below 0; None: too
    few windows. The quantile is interpolated between losses (Hyndman and Fan, type 7)."""
    if len(returns.daily) < HISTORICAL_MIN:
        return None
    losses = -(returns.daily @ held)
    at_risk = float(np.quantile(losses, level))
    beyond = losses[losses >= at_risk]
    return max(0.0, at_risk), max(0.0, float(beyond.mean()))


def value_at_risk(
    returns: Returns | None, net_by_symbol: Mapping[str, float]
) -> dict[str, float | None]:
    """All of them by their names in `events.rules.FIGURES`; None: unknown. Nothing held is no
    risk."""
    names = [
        f"{kind}{way}_{round(level * 100)}"
        for kind in ("var", "es")
        for way in ("", "_historical")
        for level in LEVELS
    ]
    if not any(net_by_symbol.values()):
        return dict.fromkeys(names, 0.0)
    if returns is None or not set(net_by_symbol) <= set(returns.symbols):
        return dict.fromkeys(names)
    held, found = weights(returns, net_by_symbol), dict[str, float | None]()
    for level in LEVELS:
        share = round(level * 100)
        found[f"var_{share}"], found[f"es_{share}"] = parametric(returns, held, level)
        past = historical(returns, held, level)
        found[f"var_historical_{share}"] = None if past is None else past[0]
        found[f"es_historical_{share}"] = None if past is None else past[1]
    return found

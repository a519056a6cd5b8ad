"""Equity at the end of each of the broker's days, and what follows from it: returns and months.

A day ends at midnight of the broker's clock, as swaps and most firms' rules have it. Days on which
markets are closed are left out: Saturdays and Sundays, unless there are prices on Saturdays.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt

from consumers.backtest.result import BacktestResult

DAY_MS = 86_400_000
TRADING_DAYS, CALENDAR_DAYS = 252, 365
"""Days of a year of markets that close at weekends, and of those that never do."""
_SATURDAY, _SUNDAY = 2, 3  # days since the epoch, modulo 7

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Month:
    """One month of the broker's calendar. Money in account currency."""

    year: int
    month: int
    net_profit: float
    return_percent: float | None
    """Of equity at its beginning; None where that was nothing."""
    trades: int
    """Closed in it."""


def server_ms(result: BacktestResult, time_ms: Ints) -> Ints:
    """UTC times as the broker's clock showed them; UTC where the clock is not known."""
    if not result.offsets:
        return time_ms
    since = np.array([one[0] for one in result.offsets], np.int64)
    offsets_ms = np.array([one[1] * 1000 for one in result.offsets], np.int64)
    at = np.maximum(np.searchsorted(since, time_ms, side="right") - 1, 0)
    shown: Ints = time_ms + offsets_ms[at]
    return shown


def daily_equity(result: BacktestResult) -> tuple[Ints, Floats]:
    """(day since the epoch by the broker's clock, equity at its end) of every trading day."""
    edges = np.array([result.from_ms, result.to_ms], np.int64)
    first, last = (server_ms(result, edges) // DAY_MS).tolist()
    days = np.arange(first, last + 1, dtype=np.int64)
    if not trades_at_weekends(result):
        days = days[~np.isin(days % 7, (_SATURDAY, _SUNDAY))]
    times = np.maximum.accumulate(server_ms(result, result.equity.time_ms))
    at = np.searchsorted(times, (days + 1) * DAY_MS, side="left") - 1
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


def days_of_a_year(result: BacktestResult) -> int:
    """By which daily figures become yearly ones."""
    return CALENDAR_DAYS if trades_at_weekends(result) else TRADING_DAYS


def trades_at_weekends(result: BacktestResult) -> bool:
    """Whether there are prices on Saturdays, as of crypto currencies."""
    return any(
        bool(((server_ms(result, bars.time_ms) // DAY_MS) % 7 == _SATURDAY).any())
        for bars in result.bars.values()
    )


def months(result: BacktestResult) -> list[Month]:
    """Every month of the span, oldest first."""
    edges = np.array([result.from_ms, result.to_ms], np.int64)
    begin, end = (_date(day) for day in (server_ms(result, edges) // DAY_MS).tolist())
    times = np.maximum.accumulate(server_ms(result, result.equity.time_ms))
    known = np.concatenate([[result.balance_initial], result.equity.equity])
    closes = np.array([one.close_time_ms for one in result.closed_trades], np.int64)
    closed = np.sort(server_ms(result, closes))
    found, before, counted = [], result.balance_initial, 0
    year, month = begin.year, begin.month
    while (year, month) <= (end.year, end.month):
        following = (year + month // 12, month % 12 + 1)
        until_ms = int(datetime(*following, 1, tzinfo=UTC).timestamp()) * 1000
        after = float(known[np.searchsorted(times, until_ms, side="left")])
        stop = int(np.searchsorted(closed, until_ms, side="left"))
        share = (after / before - 1) * 100 if before > 0 else None
        found.append(Month(year, month, after - before, share, stop - counted))
        before, counted = after, stop
        year, month = following
    return found


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * 86_400, UTC).date()

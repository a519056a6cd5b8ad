"""How much of the time, and how much of the money, was in the market."""

from __future__ import annotations

import numpy as np

from consumers.backtest.result import BacktestResult


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


def gross_exposure_percent(result: BacktestResult) -> tuple[float | None, float | None]:
    """(mean over the span, highest) of what all open positions were worth, long and short added
    up, in percent of the initial balance.

    A trade counts with its largest volume at the price of its first deal, from its opening to its
    end. None where no value of deals is known.
    """
    span_ms, initial = result.to_ms - result.from_ms, result.balance_initial
    if span_ms <= 0 or initial <= 0 or not result.deal_values:
        return None, None
    per_lot = {
        deal.ticket: value / deal.volume_lots
        for deal, value in zip(result.deals, result.deal_values, strict=True)
        if deal.volume_lots > 0
    }
    steps: list[tuple[int, float]] = []
    for trade in result.trades:
        worth = trade.volume_lots * per_lot.get(trade.deals[0] if trade.deals else 0, 0.0)
        steps.append((trade.open_time_ms, worth))
        steps.append((trade.close_time_ms or result.to_ms, -worth))
    if not steps:
        return 0.0, 0.0
    # What ends at a moment ends before something else begins at it: a reversal is not both.
    steps.sort()
    times = np.array([time_ms for time_ms, _ in steps] + [result.to_ms], np.float64)
    held = np.cumsum([worth for _, worth in steps])
    mean = float((held * np.diff(times)).sum()) / span_ms
    return mean / initial * 100, max(0.0, float(held.max())) / initial * 100

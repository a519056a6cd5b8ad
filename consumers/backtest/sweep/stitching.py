"""Results of runs that follow each other as the result of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from consumers.backtest.chart import ChartRecorder
from consumers.backtest.result import BacktestResult, Costs, EquityCurve, PriceBars
from consumers.backtest.sources.source import Portion, Span
from consumers.backtest.sweep.shared_ticks import SharedTicks
from consumers.strategies.running.tick_run import TickRun

_JOINED = ("signals", "deals", "targets", "risk", "deal_values", "offsets")
CHOSEN = "chosen for each window"
NOTE = (
    "windows are runs of their own: what is open at the end of one is valued there, and the next "
    "begins with that equity and nothing open"
)


def stitched(
    results: Sequence[BacktestResult], shared_ticks: SharedTicks, *, chosen: Iterable[str]
) -> BacktestResult:
    """Results in the order of time, each of which began with the equity of the one before, as one.

    `shared_ticks`: those of all of them, for the chart. `chosen`: parameters that each has its
    own of.
    """
    first, last = results[0], results[-1]
    joined: dict[str, Any] = {
        name: tuple(one for result in results for one in getattr(result, name)) for name in _JOINED
    }
    trades = [
        trade
        for result in results
        for trade in (result.trades if result is last else result.closed_trades)
    ]
    left = sum(len(one.trades) - len(one.closed_trades) for one in results[:-1])
    warnings = [line for one in results for line in one.warnings]
    if left:
        warnings.append(
            f"{left} trades were open at the end of a window: equity has them, the trades have not"
        )
    return replace(
        first,
        parameters={**first.parameters, **dict.fromkeys(chosen, CHOSEN)},
        to_ms=last.to_ms,
        trades=tuple(trades),
        ticks=sum(one.ticks for one in results),
        seconds=sum(one.seconds for one in results),
        equity=_curve([one.equity for one in results]),
        costs=_costs(one.costs for one in results),
        bars=bars_of(shared_ticks.part(Span(first.from_ms))),
        assumptions=(*first.assumptions, NOTE),
        warnings=tuple(dict.fromkeys(warnings)),
        stopped=next((one.stopped for one in results if one.stopped), ""),
        **joined,
    )


def bars_of(shared_ticks: SharedTicks) -> dict[str, PriceBars]:
    """The chart of every symbol there is."""
    charts: dict[str, ChartRecorder] = {}
    for portion in shared_ticks.portions():
        if not isinstance(portion, Portion):
            continue
        run = TickRun.joined(portion.batches)
        for symbol in run.symbols:
            rows = run.indexes_of(symbol)
            chosen = slice(None) if rows is None else rows
            charts.setdefault(symbol, ChartRecorder()).add(run.time_ms[chosen], run.bid[chosen])
    return {symbol: chart.bars() for symbol, chart in charts.items()}


def _curve(curves: Sequence[EquityCurve]) -> EquityCurve:
    names = ("time_ms", "balance", "equity", "equity_min", "positions")
    return EquityCurve(*(np.concatenate([getattr(one, name) for one in curves]) for name in names))


def _costs(costs: Iterable[Costs]) -> Costs:
    listed = list(costs)
    names = ("commission", "swap", "fee", "spread", "slippage")
    return Costs(*(round(sum(getattr(one, name) for one in listed), 2) for name in names))

"""The charts of a report, as plotly figures. Needs the extra `report`.

Times are UTC. Text of users goes through `_text`: plotly reads tags in labels.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from consumers.backtest.report.figures import drawdown_series
from consumers.backtest.report.thinning import fewer_bars, rows_kept, trades_kept
from consumers.backtest.result import BacktestResult, Costs
from events.trading import Trade

CURVE_ROWS_MAX = 4_000
BARS_MAX = 800
MARKED_TRADES_MAX = 500
TURNS_MAX = 100
CROWDED_TRADES = 80
"""With more of them marks are drawn smaller."""
BLUE, GREEN, RED, GREY, AMBER = "#3b82c4", "#1f9d6b", "#d6493f", "#8b93a1", "#c98a1b"
"""Seen on white and on black alike."""

Ints = npt.NDArray[np.int64]


def equity_chart(result: BacktestResult, *, turns_ms: Sequence[int] = ()) -> go.Figure:
    """Equity and balance above, drawdown below. `turns_ms`: moments that are marked by a line."""
    curve = result.equity
    kept = rows_kept(curve.equity, CURVE_ROWS_MAX)
    times = moments(np.concatenate([[result.from_ms], curve.time_ms[kept]]))
    first = [result.balance_initial]
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.04
    )
    # Between two rows the account stood still: lines are steps.
    figure.add_scatter(
        x=times, y=_rounded(np.concatenate([first, curve.balance[kept]])), name="balance",
        line={"color": GREY, "width": 1, "shape": "hv"}, row=1, col=1,
    )  # fmt: skip
    figure.add_scatter(
        x=times, y=_rounded(np.concatenate([first, curve.equity[kept]])), name="equity",
        line={"color": BLUE, "width": 1.6, "shape": "hv"}, row=1, col=1,
    )  # fmt: skip
    falls = drawdown_series(curve, result.balance_initial)[kept]
    figure.add_scatter(
        x=times, y=_rounded(np.concatenate([[0.0], falls]), 3), name="drawdown", fill="tozeroy",
        line={"color": RED, "width": 1, "shape": "hv"}, showlegend=False, row=2, col=1,
    )  # fmt: skip
    figure.update_yaxes(title_text=_text(result.currency), tickformat=",.2~f", row=1, col=1)
    figure.update_yaxes(title_text="drawdown %", row=2, col=1)
    for turn in moments(np.array(turns_ms[:TURNS_MAX], np.int64)):
        figure.add_vline(turn, line={"color": GREY, "width": 1, "dash": "dot"})
    return _dressed(figure)


def price_chart(result: BacktestResult, symbol: str) -> go.Figure:
    """Bars of a symbol with entries and exits; a line joins those of one trade."""
    bars = fewer_bars(result.bars[symbol], BARS_MAX)
    figure = go.Figure()
    figure.add_candlestick(
        x=moments(bars.time_ms), open=bars.open, high=bars.high, low=bars.low, close=bars.close,
        name=_text(symbol), increasing_line_color=GREEN, decreasing_line_color=RED, line_width=1,
        opacity=0.55, showlegend=False,
    )  # fmt: skip
    trades = trades_kept(trades_of(result, symbol), MARKED_TRADES_MAX)
    if trades:
        size = 6 if len(trades) > CROWDED_TRADES else 10
        _add_lines(figure, trades)
        # A reversal leaves and enters at one point: the triangle lies inside the circle.
        _add_exits(figure, [one for one in trades if one.close_time_ms], size=size + 3)
        _add_entries(figure, [one for one in trades if one.side == 0], size=size)
        _add_entries(figure, [one for one in trades if one.side], size=size)
    figure.update_xaxes(rangeslider_visible=False)
    figure.update_yaxes(title_text=_text(symbol), tickformat="")
    return _dressed(figure)


def costs_chart(costs: Costs) -> go.Figure:
    """What each kind of cost took; a gain lies left of zero."""
    names = ("slippage", "spread", "fee", "swap", "commission")
    values = [getattr(costs, name) for name in names]
    figure = go.Figure()
    figure.add_bar(
        x=values, y=names, orientation="h", marker_color=[RED if v > 0 else GREEN for v in values],
        text=[f"{value:,.2f}" for value in values], textposition="auto", showlegend=False,
    )  # fmt: skip
    return _dressed(figure, hovermode="closest")


def nets_chart(trades: Sequence[Trade]) -> go.Figure:
    """How many closed trades won or lost how much."""
    nets = np.array([trade.net_profit for trade in trades], np.float64)
    counts, edges = np.histogram(nets, bins=min(40, max(5, round(len(nets) ** 0.5) * 2)))
    middles = (edges[1:] + edges[:-1]) / 2
    figure = go.Figure()
    figure.add_bar(
        x=_rounded(middles), y=counts.tolist(), width=float(edges[1] - edges[0]) * 0.95,
        marker_color=[GREEN if middle > 0 else RED for middle in middles.tolist()],
        showlegend=False, hovertemplate="about %{x}: %{y} trades<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title_text="net of a trade")
    return _dressed(figure, hovermode="closest")


def heat_map(
    names: tuple[str, str], columns: Sequence[str], rows: Sequence[str],
    values: Sequence[Sequence[float | None]], told: str, *, low_is_good: bool = False,
) -> go.Figure:  # fmt: skip
    """A figure (`told`) over two parameters: `values[row][column]`; None: unknown or failed."""
    figure = go.Figure()
    figure.add_heatmap(
        x=[_text(one) for one in columns], y=[_text(one) for one in rows],
        z=[list(row) for row in values], colorscale="RdYlGn_r" if low_is_good else "RdYlGn",
        colorbar={"title": _text(told)},
        texttemplate="%{z:.4~g}" if len(columns) * len(rows) <= 400 else None, hoverongaps=False,
        hovertemplate=(
            f"{_text(names[0])} %{{x}}, {_text(names[1])} %{{y}}: %{{z}}<extra></extra>"
        ),
    )  # fmt: skip
    figure.update_xaxes(title_text=_text(names[0]), type="category")
    figure.update_yaxes(title_text=_text(names[1]), type="category")
    return _dressed(figure, hovermode="closest")


def trades_of(result: BacktestResult, symbol: str) -> list[Trade]:
    """Those of one symbol, in the order they were opened."""
    return [trade for trade in result.trades if trade.symbol == symbol]


def moments(times_ms: Ints) -> list[str]:
    """Times as plotly reads them, to the second."""
    seconds = np.asarray(times_ms, np.int64).astype("datetime64[ms]").astype("datetime64[s]")
    told: list[str] = seconds.astype(str).tolist()
    return told


def _add_lines(figure: go.Figure, trades: Sequence[Trade]) -> None:
    times: list[str | None] = []
    prices: list[float | None] = []
    for trade in trades:
        if trade.close_time_ms:
            begin, end = moments(np.array([trade.open_time_ms, trade.close_time_ms]))
            times += [begin, end, None]
            prices += [trade.price_entry, trade.price_exit, None]
    figure.add_scatter(
        x=times, y=prices, mode="lines", name="trade", hoverinfo="skip", showlegend=False,
        line={"color": GREY, "width": 1, "dash": "dot"},
    )  # fmt: skip


def _add_entries(figure: go.Figure, trades: Sequence[Trade], *, size: int) -> None:
    """Of trades of one side."""
    if not trades:
        return
    short = bool(trades[0].side)
    name, marker = ("sell", "triangle-down") if short else ("buy", "triangle-up")
    figure.add_scatter(
        x=moments(np.array([one.open_time_ms for one in trades])),
        y=[one.price_entry for one in trades], mode="markers", name=name,
        marker={"symbol": marker, "size": size, "color": AMBER if short else BLUE},
        text=[f"{name} {one.volume_lots:g} at {one.price_entry:.10g}" for one in trades],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _add_exits(figure: go.Figure, trades: Sequence[Trade], *, size: int) -> None:
    for name, color, chosen in (
        ("exit, won", GREEN, [one for one in trades if one.net_profit > 0]),
        ("exit, lost", RED, [one for one in trades if one.net_profit <= 0]),
    ):
        if not chosen:
            continue
        told = [
            f"{_text(one.closed_by or 'closed')} at {one.price_exit:.10g}: {one.net_profit:+,.2f}"
            for one in chosen
        ]
        figure.add_scatter(
            x=moments(np.array([one.close_time_ms for one in chosen])),
            y=[one.price_exit for one in chosen], mode="markers", name=name,
            marker={"symbol": "circle-open", "size": size, "color": color, "line": {"width": 2}},
            text=told,
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip


def _dressed(figure: go.Figure, *, hovermode: str = "x unified") -> go.Figure:
    """What all charts share. Colours of text and grid are the page's."""
    figure.update_layout(
        template="none", hovermode=hovermode, autosize=True,
        margin={"l": 64, "r": 16, "t": 30, "b": 40},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
    )  # fmt: skip
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def _rounded(values: Any, digits: int = 2) -> list[float]:
    rounded: list[float] = np.round(np.asarray(values, np.float64), digits).tolist()
    return rounded


def _text(text: str) -> str:
    return html.escape(text, quote=False)

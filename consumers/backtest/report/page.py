"""A report as one HTML file: charts, tables and their script inside, nothing from outside.

The page forbids itself every connection and every script but its own two, by a policy that names
their checksums; text of users is escaped. Needs the extra `report`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from consumers.backtest.report import charts, groups, tables
from consumers.backtest.report.figures import Figure, conventions, figures
from consumers.backtest.report.labels import GROUPS, label_of, shown
from consumers.backtest.report.tables import Cell
from consumers.backtest.result import BacktestResult
from events.views.moments import utc_text

PRICE_CHARTS_MAX = 10
SYMBOLS_IN_TITLE_MAX = 4
PARAMETER_TEXT_MAX = 500
CARDS = (
    "net_profit", "return_percent", "drawdown_max_percent", "sharpe", "profit_factor", "trades",
    "win_rate_percent", "exposure_percent",
)  # fmt: skip
TONED = ("net_profit", "return_percent", "sharpe")
TO_THE_MINUTE = len("2026-11-23 14:05")


@dataclass(frozen=True, slots=True)
class SweepSection:
    """Combinations of parameters that were tried, as a table and, of two parameters, a map."""

    head: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    map: go.Figure | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WalkSection:
    """The windows of a walk-forward run. `wide`: numbers of the columns that may be long."""

    head: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    wide: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    turns_ms: tuple[int, ...] = ()
    """Where a window ends and the next one begins."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its data as JSON that may stand inside a page."""

    name: str
    title: str
    json: Markup
    notes: tuple[str, ...] = field(default=())


def write_report(path: Path, result: BacktestResult, **sections: Any) -> None:
    """`report_html` into a file, whole or not at all. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(report_html(result, **sections), encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def report_html(
    result: BacktestResult,
    *,
    sweep: SweepSection | None = None,
    walk: WalkSection | None = None,
    made: str = "",
) -> str:
    """The whole page. `result` is what equity, trades and figures are of: the best of a sweep,
    the stitched one of a walk-forward run. `made` tells by what and when, at its end."""
    template = files("consumers.backtest.report") / "template"
    parts = {name: (template / name).read_text(encoding="utf-8") for name in _PARTS}
    environment = Environment(
        autoescape=True, loader=DictLoader(parts), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    plotly, script = get_plotlyjs(), parts["page.js"]
    return environment.get_template("page.html").render(
        policy=_policy(plotly, script),
        css=_inside(parts["page.css"]),
        plotly=_inside(plotly),
        script=_inside(script),
        made=made,
        **_head(result),
        **_charts(result, walk.turns_ms if walk is not None else ()),
        **_tables(result),
        **_sections(sweep, walk),
    )


_PARTS = ("page.html", "page.css", "page.js")


def _policy(*scripts: str) -> str:
    """The page's content security policy."""
    sums = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in sums)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _inside(text: str) -> Markup:
    """Script or style of our own, and plotly's, which end no element early."""
    if "</script" in text.lower() or "</style" in text.lower():
        raise ValueError("a part of the page would end its element")
    return Markup(text)  # noqa: S704 - files of this package and of plotly, none of a user


def _head(result: BacktestResult) -> dict[str, Any]:
    found = figures(result)
    count, listed = len(result.symbols), ", ".join(result.symbols)
    many = count > SYMBOLS_IN_TITLE_MAX
    begin, end = (utc_text(ms)[:TO_THE_MINUTE] for ms in (result.from_ms, result.to_ms))
    return {
        "title": f"{result.strategy} on {f'{count} symbols' if many else listed}",
        "subtitle": f"{result.code}, {result.source}{f', {listed}' if many else ''}",
        "span": (
            f"{begin} to {end} UTC, {result.ticks:,} ticks in {result.seconds:.1f} s, "
            f"{result.balance_initial:,.2f} {result.currency} to begin with"
        ),
        "currency": result.currency,
        "cards": [_card(name, found) for name in CARDS],
        "groups": [
            {
                "name": title,
                "figures": [
                    {"label": label_of(name), "text": shown(name, found[name])} for name in names
                ],
            }
            for title, names in GROUPS.items()
        ],
        "warnings": result.warnings,
        "stopped": result.stopped,
        "assumptions": result.assumptions,
        "conventions": conventions(result),
        "parameters": [
            (name, str(value)[:PARAMETER_TEXT_MAX]) for name, value in result.parameters.items()
        ],
    }


def _card(name: str, found: dict[str, Figure]) -> dict[str, str]:
    value = found[name]
    tone = ""
    if name in TONED and value:
        tone = "good" if value > 0 else "bad"
    return {"label": label_of(name), "text": shown(name, value), "tone": tone}


def _charts(result: BacktestResult, turns_ms: Sequence[int]) -> dict[str, Any]:
    drawn = [symbol for symbol in result.symbols if symbol in result.bars][:PRICE_CHARTS_MAX]
    left = len(result.symbols) - len(drawn)
    closed = result.closed_trades
    return {
        "equity": _chart(
            "equity", "Equity and drawdown", charts.equity_chart(result, turns_ms=turns_ms)
        ),
        "prices": [_price(result, symbol, number) for number, symbol in enumerate(drawn)],
        "prices_note": f"{left} more symbols are not drawn." if left > 0 else "",
        "costs": _chart("costs", "Costs by kind", charts.costs_chart(result.costs)),
        "nets": _chart("nets", "Trades by net result", charts.nets_chart(closed))
        if closed
        else None,
    }


def _price(result: BacktestResult, symbol: str, number: int) -> Chart:
    notes = []
    count = len(charts.trades_of(result, symbol))
    if count > charts.MARKED_TRADES_MAX:
        notes.append(f"{charts.MARKED_TRADES_MAX} of {count:,} trades are marked, spread evenly.")
    notes.append("Bars of the bid, times are UTC. Drag to zoom, double-click to see all.")
    return _chart(
        f"price-{number}", f"{symbol}: entries and exits",
        charts.price_chart(result, symbol), tuple(notes),
    )  # fmt: skip


def _chart(name: str, title: str, figure: go.Figure, notes: tuple[str, ...] = ()) -> Chart:
    told = json.loads(figure.to_json())
    text = json.dumps({"data": told["data"], "layout": told["layout"]}, separators=(",", ":"))
    for sign in "<>&":  # JSON stays JSON, and ends no element
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Chart(name, title, Markup(text), notes)  # noqa: S704 - no sign of a tag is left


def _tables(result: BacktestResult) -> dict[str, Any]:
    closed = result.closed_trades
    splits = [
        {"name": name, "groups": found}
        for name, found in (
            ("By symbol", groups.by_symbol(closed)),
            ("By side", groups.by_side(closed)),
            ("By how they ended", groups.by_end(closed)),
        )
        if found
    ]
    left = len(result.targets) - tables.TARGETS_MAX
    return {
        "years": tables.years(result),
        "month_names": tables.MONTH_NAMES,
        "splits": splits,
        "trade_head": tables.TRADE_HEAD,
        "trades": tables.trade_rows(result.trades),
        "trades_note": tables.trades_note(len(result.trades)),
        "targets": tables.target_rows(result),
        "targets_note": f"... and {left:,} more." if left > 0 else "",
        "risk": tables.risk_lines(result.risk),
    }


def _sections(sweep: SweepSection | None, walk: WalkSection | None) -> dict[str, Any]:
    return {
        "sweep": {
            "head": sweep.head,
            "rows": sweep.rows,
            "notes": sweep.notes,
            "chart": _chart("map", "Figure by two parameters", sweep.map)
            if sweep.map is not None
            else None,
        }
        if sweep is not None
        else None,
        "walk": walk,
        "equity_of": " of all windows that were traded"
        if walk is not None
        else " of the best combination"
        if sweep is not None
        else "",
    }

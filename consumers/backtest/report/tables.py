"""The tables of a report: rows of cells, bounded, as text and with what they are sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.backtest.report.days import Month, months
from consumers.backtest.result import BacktestResult
from events.decisions import Command, LimitBreach
from events.event import Event
from events.trading import Trade
from events.views.moments import utc_text

TRADES_MAX = 2_000
TARGETS_MAX = 200
RISK_MAX = 200
TRADE_HEAD = (
    "opened, UTC", "closed, UTC", "symbol", "side", "lots", "entry", "exit", "net", "profit",
    "commission", "swap", "fee", "hours", "ended by",
)  # fmt: skip
MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TO_THE_SECOND = len("2026-11-23 14:05:07")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what it shows, and what it is sorted by where that is something else."""

    text: str
    value: float | int | None = None
    tone: str = ""
    """good, bad, wrap (it may be long) or nothing."""


@dataclass(frozen=True, slots=True)
class MonthCell:
    """One month in the table of months; `value` is its return in percent."""

    text: str
    value: float | None
    told: str


@dataclass(frozen=True, slots=True)
class Year:
    """One line of the table of months: twelve cells, the return and net of what there was."""

    name: str
    months: tuple[MonthCell, ...]
    text: str
    value: float | None
    net: float
    net_text: str


@dataclass(frozen=True, slots=True)
class Said:
    """Something that was refused, or that a risk rule asked for."""

    time: str
    kind: str
    told: str


def trade_rows(trades: Sequence[Trade]) -> list[list[Cell]]:
    """The first TRADES_MAX of them."""
    return [_trade_row(trade) for trade in trades[:TRADES_MAX]]


def trades_note(count: int) -> str:
    """What the list of trades leaves out."""
    if not count:
        return "There was no trade."
    if count <= TRADES_MAX:
        return f"All {count:,} trades. A column is sorted by a click on its name."
    return (
        f"The first {TRADES_MAX:,} of {count:,} trades; the result in JSON (--save) has them all."
    )


def years(result: BacktestResult) -> list[Year]:
    """The table of months, oldest year first."""
    found: dict[int, dict[int, Month]] = {}
    for month in months(result):
        found.setdefault(month.year, {})[month.month] = month
    return [_year(number, one) for number, one in found.items()]


def risk_lines(events: Sequence[Event]) -> list[Said]:
    """What risk rules said and asked for; the first RISK_MAX."""
    lines = []
    for event in events[:RISK_MAX]:
        told = ""
        if isinstance(event, LimitBreach):
            told = f"{event.limit}: {event.level} ({event.action}) {event.detail}"
        elif isinstance(event, Command):
            told = f"{event.verb} {event.arguments.get('reason', '')}"
        lines.append(Said(_moment(event.event_time_ms), event.TYPE, told.strip()))
    return lines


def target_rows(result: BacktestResult) -> list[dict[str, str]]:
    """Targets that were refused, retired or expired; the first TARGETS_MAX."""
    return [
        {
            "state": one.state, "symbol": one.symbol, "target": one.target,
            "time": _moment(one.event_time_ms), "reason": one.reason,
        }
        for one in result.targets[:TARGETS_MAX]
    ]  # fmt: skip


def _trade_row(trade: Trade) -> list[Cell]:
    net, closed = trade.net_profit, trade.close_time_ms
    hours = (closed - trade.open_time_ms) / 3_600_000 if closed else None
    money = [trade.profit, trade.commission, trade.swap, trade.fee]
    return [
        Cell(_moment(trade.open_time_ms), trade.open_time_ms),
        Cell(_moment(closed) if closed else "open", closed),
        Cell(trade.symbol),
        Cell("sell" if trade.side else "buy"),
        Cell(f"{trade.volume_lots:g}"),
        Cell(f"{trade.price_entry:.10g}"),
        Cell(f"{trade.price_exit:.10g}" if trade.price_exit else "", trade.price_exit),
        Cell(f"{net:,.2f}", net, "good" if net > 0 else "bad" if net < 0 else ""),
        *(Cell(f"{amount + 0.0:,.2f}", amount) for amount in money),
        Cell("" if hours is None else f"{hours:,.2f}", -1.0 if hours is None else hours),
        Cell(trade.closed_by),
    ]


def _year(number: int, found: dict[int, Month]) -> Year:
    cells, product, net = [], 1.0, 0.0
    known = True
    for month in range(1, 13):
        one = found.get(month)
        if one is None:
            cells.append(MonthCell("", None, ""))
            continue
        share = one.return_percent
        net += one.net_profit
        known = known and share is not None
        product *= 1 + (share or 0.0) / 100
        told = f"{one.net_profit:,.2f}, {one.trades} trades closed"
        cells.append(MonthCell("" if share is None else f"{share + 0.0:.2f}", share, told))
    share = (product - 1) * 100 if known else None
    text = "" if share is None else f"{share + 0.0:.2f}"
    return Year(str(number), tuple(cells), text, share, net, f"{net + 0.0:,.2f}")


def _moment(time_ms: int) -> str:
    return utc_text(time_ms)[:TO_THE_SECOND]

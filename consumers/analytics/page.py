"""Analytics as tables with bars for a terminal window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from consumers.analytics.adding import AccountRows, Row
from consumers.analytics.recorded import Levels
from events.views.moments import UNKNOWN
from events.views.tables import BAD, DIM, GOOD

ROWS_MAX = 200
"""Rows of a table; JSON has all of them."""
BAR_CHARS = 6
"""To each side of the middle."""
WIDE_COLUMNS = 110
"""In narrower windows the columns of NOT_NARROW are left out; JSON has everything."""
NOT_NARROW = frozenset({"lots", "pt/deal", "half spreads"})
LEGEND = (
    "net includes costs (commission, swap, fee); slippage and half spreads are parts of the"
    " profit, + is worse; pt/deal: mean slippage in points; spread: mean in points"
)
ONE_SYMBOL = "; - over several symbols (--symbol shows one)"


class Bar:
    """A value between -largest and +largest, to the left or right of the middle."""

    def __init__(self, value: float, largest: float) -> None:
        share = abs(value) / largest if largest > 0 else 0.0
        self._chars = min(BAR_CHARS, round(share * BAR_CHARS)) if share else 0
        if value and not self._chars:
            self._chars = 1  # something is there
        self._loss = value < 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bar = ("#" if options.ascii_only else "█") * self._chars
        if self._loss:
            shown, style = bar.rjust(BAR_CHARS) + " " * BAR_CHARS, BAD
        else:
            shown, style = " " * BAR_CHARS + bar.ljust(BAR_CHARS), GOOD
        yield Text(shown, style=style, justify="left")  # the column's would move it

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(2 * BAR_CHARS, 2 * BAR_CHARS)


def analytics_page(
    found: Sequence[tuple[Levels, Sequence[AccountRows]]],
    *,
    title: str,
    currencies: Mapping[tuple[str, int | None], str],
    width: int = WIDE_COLUMNS,
) -> RenderableType:
    """Every account of every terminal. `title` heads the first column; `currencies` by terminal
    and login, as far as they are known; `width` of the window in characters."""
    left_out = NOT_NARROW if width < WIDE_COLUMNS else frozenset[str]()
    parts: list[RenderableType] = []
    several = False
    for levels, accounts in found:
        for account in accounts:
            money = currencies.get((levels.terminal, account.login), "")
            parts.append(_head(levels.terminal, account, money))
            if account.rows:
                parts.append(_table(account, title, left_out))
                several = several or any(len(row.stood) > 1 for row in account.rows)
        if levels.cut:
            parts.append(Text(levels.cut, style=BAD))
    parts.append(Text(LEGEND + (ONE_SYMBOL if several else ""), style=DIM))
    return Group(*parts)


def _head(terminal: str, account: AccountRows, currency: str) -> Text:
    if account.login is None:
        return Text.assemble((terminal, "bold"), "  no trade was closed in this span")
    total = account.total
    return Text.assemble(
        (terminal, "bold"),
        f"  account {account.login}, {total.sums['trades']:.0f} trades, "
        f"{_percent(total.won_percent)} won, net {_money(total.sums['net_profit'])} {currency}",
    )


def _table(account: AccountRows, title: str, left_out: Set[str]) -> Table:
    table = Table(box=None, header_style=DIM, padding=(0, 1, 0, 0))
    table.add_column(title, no_wrap=True)
    for name in _figures(account.total, ""):
        if name not in left_out:
            table.add_column(name, justify="right", no_wrap=True)
    largest = max((abs(row.sums["net_profit"]) for row in account.rows), default=0.0)
    for row in account.rows[:ROWS_MAX]:
        bar = Bar(row.sums["net_profit"], largest)
        table.add_row(row.name, *_kept(_figures(row, bar), left_out))
    if len(account.rows) > ROWS_MAX:
        table.add_row(f"… {len(account.rows) - ROWS_MAX} more")
    if len(account.rows) > 1 and account.login is not None:
        table.add_row(Text("total", style="bold"), *_kept(_figures(account.total, ""), left_out))
    return table


def _kept(figures: Mapping[str, RenderableType], left_out: Set[str]) -> list[RenderableType]:
    return [shown for name, shown in figures.items() if name not in left_out]


def _figures(row: Row, bar: RenderableType) -> dict[str, RenderableType]:
    """By the head of their column."""
    sums, traded = row.sums, bool(row.sums["trades"])
    spreads = list(row.spreads().values())
    points = row.points_per_deal
    return {
        "trades": f"{sums['trades']:.0f}" if traded else UNKNOWN,
        "won": _percent(row.won_percent),
        "lots": f"{sums['lots']:.10g}" if traded else UNKNOWN,
        "net": _money(sums["net_profit"]) if traded else UNKNOWN,
        "": bar,
        "costs": _money(row.charged) if traded else UNKNOWN,
        "slippage": _money(sums["slippage"]) if sums["slippage_deals"] else UNKNOWN,
        "pt/deal": UNKNOWN if points is None else f"{points:+.1f}",
        "half spreads": _money(sums["spread_cost"]) if sums["spread_deals"] else UNKNOWN,
        "spread": f"{spreads[0]:.1f}" if len(spreads) == 1 else UNKNOWN,
    }


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f} %"


def _money(amount: float) -> str:
    return f"{round(amount, 2) + 0.0:+,.2f}"

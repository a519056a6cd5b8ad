"""Analytics as tables with bars for a terminal window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
BAR_CHARS = 10
"""To each side of the middle."""
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
            yield Text(bar.rjust(BAR_CHARS) + " " * BAR_CHARS, style=BAD)
        else:
            yield Text(" " * BAR_CHARS + bar.ljust(BAR_CHARS), style=GOOD)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(2 * BAR_CHARS, 2 * BAR_CHARS)


def analytics_page(
    found: Sequence[tuple[Levels, Sequence[AccountRows]]],
    *,
    title: str,
    currencies: Mapping[tuple[str, int | None], str],
) -> RenderableType:
    """Every account of every terminal. `title` heads the first column; `currencies` by terminal
    and login, as far as they are known."""
    parts: list[RenderableType] = []
    several = False
    for levels, accounts in found:
        for account in accounts:
            money = currencies.get((levels.terminal, account.login), "")
            parts.append(_head(levels.terminal, account, money))
            if account.rows:
                parts.append(_table(account, title))
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


def _table(account: AccountRows, title: str) -> Table:
    table = Table(box=None, header_style=DIM, padding=(0, 1))
    table.add_column(title, no_wrap=True)
    for name in ("trades", "won", "lots", "net", "", "costs", "slippage", "pt/deal",
                 "half spreads", "spread"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    largest = max((abs(row.sums["net_profit"]) for row in account.rows), default=0.0)
    for row in account.rows[:ROWS_MAX]:
        table.add_row(row.name, *_figures(row, Bar(row.sums["net_profit"], largest)))
    if len(account.rows) > ROWS_MAX:
        table.add_row(f"… {len(account.rows) - ROWS_MAX} more")
    if len(account.rows) > 1 and account.login is not None:
        table.add_row(Text("total", style="bold"), *_figures(account.total, ""))
    return table


def _figures(row: Row, bar: RenderableType) -> list[RenderableType]:
    sums, traded = row.sums, bool(row.sums["trades"])
    spreads = list(row.spreads().values())
    return [
        f"{sums['trades']:.0f}" if traded else UNKNOWN,
        _percent(row.won_percent),
        f"{sums['lots']:.10g}" if traded else UNKNOWN,
        _money(sums["net_profit"]) if traded else UNKNOWN,
        bar,
        _money(row.charged) if traded else UNKNOWN,
        _money(sums["slippage"]) if sums["slippage_deals"] else UNKNOWN,
        UNKNOWN if row.points_per_deal is None else f"{row.points_per_deal:+.1f}",
        _money(sums["spread_cost"]) if sums["spread_deals"] else UNKNOWN,
        f"{spreads[0]:.1f}" if len(spreads) == 1 else UNKNOWN,
    ]


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f} %"


def _money(amount: float) -> str:
    return f"{round(amount, 2) + 0.0:+,.2f}"

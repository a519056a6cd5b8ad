"""Open positions and trades as tables for a terminal window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from consumers.trades.holdings import AccountHoldings
from consumers.trades.recorded import Found
from consumers.trades.strategies import strategy_of
from events.trading import TradeUpdate
from events.views.moments import UNKNOWN, ago_text, utc_text
from events.views.tables import BAD, DIM

ROWS_MAX = 200
"""Rows of a table; JSON has all of them."""
TO_THE_SECOND = len("2026-11-23 14:05:07")
_LEFT = frozenset({"position", "symbol", "side", "strategy", "opened (UTC)", "closed (UTC)", "by"})


def holdings_page(accounts: Sequence[AccountHoldings], *, now_ms: int) -> RenderableType:
    """Every account with its open positions."""
    parts: list[RenderableType] = []
    for one in accounts:
        parts.append(_head(one, now_ms=now_ms))
        if one.halted:
            parts.append(Text(one.halted, style=BAD))
        if one.holdings:
            parts.append(_holdings(one, now_ms=now_ms))
    return Group(*parts) if parts else Text("the log holds no terminal yet")


def trades_page(found: Sequence[Found]) -> RenderableType:
    """Trades of every terminal with their sum."""
    parts: list[RenderableType] = []
    for one in found:
        closed = [update for update in one.updates if update.state == "closed"]
        won = sum(update.trade.net_profit > 0 for update in closed)
        text = f"  {len(closed)} closed, {won} won, net {one.net_profit:+,.2f}"
        parts.append(Text.assemble((one.terminal, "bold"), text))
        if one.updates:
            parts.append(_trades(one.updates, one.names))
        if one.cut:
            parts.append(Text(one.cut, style=BAD))
    return Group(*parts)


def _head(one: AccountHoldings, *, now_ms: int) -> Text:
    account = one.account
    if account is None or one.book_ms is None:
        return Text.assemble((one.terminal, "bold"), ("  no look at the account yet", DIM))
    digits, money = account.currency_digits, account.currency
    return Text.assemble(
        (one.terminal, "bold"),
        f"  account {account.login}, equity {account.equity:,.{digits}f} {money}, "
        f"balance {account.balance:,.{digits}f}, {len(one.holdings)} positions, "
        f"floating {one.floating:+,.{digits}f}",
        (f"  (book {ago_text(one.book_ms, now_ms)}, marks {ago_text(one.marked_ms, now_ms)})"
         if one.holdings else "", DIM),
    )  # fmt: skip


def _holdings(one: AccountHoldings, *, now_ms: int) -> Table:
    table = _table(
        "position", "symbol", "side", "lots", "opened at", "now", "profit", "swap", "stop",
        "target", "strategy", "opened (UTC)", "age",
    )  # fmt: skip
    for held in one.holdings[:ROWS_MAX]:
        table.add_row(
            str(held.ticket), held.symbol, held.side, f"{held.lots:g}", _price(held.price_open),
            _price(held.price_now), _money(held.profit), _money(held.swap),
            _price(held.stop_loss), _price(held.take_profit), held.strategy,
            utc_text(held.opened_ms)[:TO_THE_SECOND],
            ago_text(held.opened_ms, now_ms).removesuffix(" ago"),
        )  # fmt: skip
    return _cut(table, len(one.holdings))


def _trades(updates: Sequence[TradeUpdate], names: Mapping[str, str]) -> Table:
    table = _table(
        "position", "symbol", "side", "lots", "entry", "exit", "profit", "costs", "net",
        "strategy", "opened (UTC)", "closed (UTC)", "by",
    )  # fmt: skip
    for update in updates[-ROWS_MAX:]:
        trade = update.trade
        leg = f".{trade.leg}" if trade.leg else ""
        table.add_row(
            f"{trade.position_id}{leg}", trade.symbol, "sell" if trade.side else "buy",
            f"{trade.volume_lots:g}", _price(trade.price_entry or None),
            _price(trade.price_exit or None), _money(trade.profit),
            _money(trade.commission + trade.swap + trade.fee), _money(trade.net_profit),
            strategy_of(trade.magic, trade.comment, names),
            utc_text(trade.open_time_ms or None)[:TO_THE_SECOND],
            utc_text(trade.close_time_ms or None)[:TO_THE_SECOND],
            _ended(update),
        )  # fmt: skip
    return _cut(table, len(updates))


def _ended(update: TradeUpdate) -> Text:
    """Who closed it, and what is not certain of it."""
    trade = update.trade
    told = trade.closed_by or f"{update.state}, {trade.volume_open_lots:g} lots"
    odd = update.doubt or ("" if trade.entry_known else "opened before our history")
    return Text.assemble(told.replace("_", " "), (f" ({odd})" if odd else "", BAD))


def _table(*names: str) -> Table:
    table = Table(box=None, header_style=DIM, padding=(0, 1))
    for name in names:
        table.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=True)
    return table


def _cut(table: Table, rows: int) -> Table:
    if rows > ROWS_MAX:
        table.add_row(f"… {rows - ROWS_MAX} more")
    return table


def _price(price: float | None) -> str:
    return UNKNOWN if price is None else f"{price:.10g}"


def _money(amount: float | None) -> str:
    return UNKNOWN if amount is None else f"{amount:+,.2f}"

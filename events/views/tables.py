"""Tables of the bridge's state for a terminal window."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.operations import ProducerState
from events.origin import LIVE
from events.views.guard import guard_lines
from events.views.moments import (
    UNKNOWN,
    ago_text,
    clock_face,
    local_text,
    offset_text,
    server_text,
    three_times,
    utc_text,
)
from events.views.state import NamespaceState

SYMBOL_ROWS_MAX = 40
POSITION_ROWS_MAX = 20
TO_THE_MINUTE = len("2026-11-23 14:05")
PIPE_COLUMNS = 160
"""Where there is no window to fit into."""
GOOD, BAD, DIM = "green", "bold red", "dim"


def page() -> Console:
    """Where a command prints its tables: as wide as the window, wide enough for all in a pipe.

    Texts are shown as they are: in `{demo:watch:0}` there is no clock face, in `[news]` no style.
    """
    console = Console(markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(markup=False, emoji=False, width=PIPE_COLUMNS)
    return console


def status_view(namespaces: Sequence[NamespaceState], *, now_ms: int) -> RenderableType:
    """Everything `bridgectl status` shows."""
    if not namespaces:
        return Text("the log holds no terminal yet: start one with `bridgectl up`")
    parts: list[RenderableType] = []
    for namespace in namespaces:
        # The lists that grow come last: in a small window their ends are what is cut off.
        parts += [summary(namespace, now_ms=now_ms), lanes(namespace)]
        parts.append(symbols(namespace.producer, now_ms=now_ms))
        if namespace.book is not None and namespace.book.positions:
            parts.append(positions(namespace))
    return Group(*parts)


def summary(namespace: NamespaceState, *, now_ms: int) -> Table:
    """Terminal, account, clock, work and last error in a few lines."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.title = None
    up = namespace.up
    where = f"{up.kind}, account {up.login} at {up.server}" if up is not None else ""
    connection = namespace.connection
    table.add_row(
        namespace.name,
        Text.assemble((connection, GOOD if connection == "up" else BAD), f"  {where}"),
    )
    if namespace.origin != LIVE:
        table.add_row("origin", f"{namespace.origin}: the past, on which nothing acts")
    _add_account(table, namespace)
    for title, text, style in guard_lines(namespace):
        table.add_row(title, Text(text, style=style))
    _add_clock(table, namespace, now_ms=now_ms)
    producer = namespace.producer
    if producer is not None:
        table.add_row("work", _work(producer))
        if producer.last_error:
            when = ago_text(producer.last_error_ms, now_ms)
            table.add_row("last error", Text(f"{producer.last_error} ({when})", style="red"))
    if namespace.down is not None and connection not in ("up", "no producer"):
        table.add_row("terminal", Text(f"{namespace.down.reason}: {namespace.down.detail}", BAD))
    stored = namespace.stored
    if stored is not None:
        table.add_row(
            "database",
            f"{stored.ticks:,} ticks stored, {stored.entries_behind:,} entries behind",
        )
        for reason in stored.halted:
            table.add_row("halted", Text(reason, style=BAD))
    holders = sorted({holder for holder in namespace.holders if holder})
    table.add_row("held by", "; ".join(holders) or UNKNOWN)
    for line in namespace.unreadable:
        table.add_row("unreadable", Text(line, style=BAD))
    return table


def _add_account(table: Table, namespace: NamespaceState) -> None:
    account = namespace.account
    if account is None:
        return
    digits, money = account.currency_digits, account.currency
    open_count = len(namespace.book.positions) if namespace.book is not None else 0
    table.add_row(
        "account",
        f"equity {account.equity:,.{digits}f} {money}, balance {account.balance:,.{digits}f}, "
        f"floating {account.profit:+,.{digits}f}, margin {account.margin:,.{digits}f}, "
        f"{open_count} positions",
    )


def _add_clock(table: Table, namespace: NamespaceState, *, now_ms: int) -> None:
    producer, clock = namespace.producer, namespace.clock
    source = producer if producer is not None else clock
    if source is None:
        return
    rule = source.rule or "no rule yet"
    table.add_row(
        "clock",
        f"{offset_text(source.offset_s)} by {rule} ({source.offset_source.name.lower()})",
    )
    table.add_row("now", three_times(now_ms, source.offset_s))


def _work(producer: ProducerState) -> str:
    waiting = sum(producer.queue_length.values())
    text = (
        f"{producer.ticks_appended:,} ticks ({producer.ticks_per_s:,.1f}/s), "
        f"{producer.entries_appended:,} entries, {waiting} calls waiting, "
        f"{producer.call_timeouts} timeouts, {producer.host_restarts} host restarts, "
        f"{producer.gaps_healed} gaps healed"
    )
    if producer.spool_rows:
        text += f", {producer.spool_rows} rows spooled"
    return text if producer.log_available else f"{text}, LOG AWAY"


def symbols(producer: ProducerState | None, *, now_ms: int) -> RenderableType:
    """Last prices with their three times."""
    if producer is None or not producer.symbols:
        return Text("no prices yet", style=DIM)
    table = Table(box=None, header_style=DIM, padding=(0, 1))
    for name, justify in (
        ("symbol", "left"), ("bid", "right"), ("ask", "right"), ("server", "left"),
        ("UTC", "left"), ("local", "left"), ("age", "right"), ("ticks", "right"), ("", "left"),
    ):  # fmt: skip
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    for one in producer.symbols[:SYMBOL_ROWS_MAX]:
        table.add_row(
            one.symbol,
            f"{one.bid:.10g}",
            f"{one.ask:.10g}",
            clock_face(server_text(one.last_tick_ms, producer.offset_s)),
            clock_face(utc_text(one.last_tick_ms)),
            clock_face(local_text(one.last_tick_ms)),
            ago_text(one.last_tick_ms, now_ms),
            f"{one.ticks:,}",
            Text(
                one.last_error or ("" if one.state == "live" else one.state),
                style="red" if one.last_error else DIM,
            ),
        )
    left = len(producer.symbols) - SYMBOL_ROWS_MAX
    if left > 0:
        table.add_row(f"… {left} more")
    return table


def positions(namespace: NamespaceState) -> Table:
    """The open book."""
    assert namespace.book is not None, "shown only where there is a book"
    book = namespace.book
    table = Table(box=None, header_style=DIM, padding=(0, 1))
    for name in ("position", "symbol", "side", "lots", "price", "stop", "target", "opened (UTC)"):
        table.add_column(name, no_wrap=True)
    for one in book.positions[:POSITION_ROWS_MAX]:
        table.add_row(
            str(one.ticket),
            one.symbol,
            "sell" if one.side else "buy",
            f"{one.volume_lots:g}",
            f"{one.price_open:.10g}",
            f"{one.stop_loss:.10g}" if one.stop_loss else UNKNOWN,
            f"{one.take_profit:.10g}" if one.take_profit else UNKNOWN,
            utc_text(one.time_ms)[:TO_THE_MINUTE],
        )
    left = len(book.positions) - POSITION_ROWS_MAX
    if left > 0:
        table.add_row(f"… {left} more")
    return table


def lanes(namespace: NamespaceState) -> Table:
    """Entries by lane, and how far each group is behind."""
    table = Table(box=None, header_style=DIM, padding=(0, 2))
    groups = list(namespace.lag_by_group())
    on_disk = any(lane.spilled for lane in namespace.lanes)
    columns = ["lane", "entries", "kept", *(["on disk"] if on_disk else [])]
    for name in (*columns, *(f"{group} behind" for group in groups)):
        table.add_column(name, justify="left" if name == "lane" else "right")
    added = namespace.entries_by_lane()
    for label, entries in added.items():
        kept = sum(lane.length for lane in namespace.lanes if lane.lane == label)
        spilled = sum(lane.spilled for lane in namespace.lanes if lane.lane == label)
        behind = [f"{namespace.lag(group, label):,}" for group in groups]
        table.add_row(
            label, f"{entries:,}", f"{kept:,}", *([f"{spilled:,}"] if on_disk else []), *behind
        )
    return table

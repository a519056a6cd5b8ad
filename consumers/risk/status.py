"""What `risk status` and `risk headroom` show, out of the last states of the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Group as Together
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from events.codec import BadEvent, UnknownEvent, decode_data
from events.decisions import RiskMetrics, RulesSet
from events.event import Event
from events.guarding import FlattenEnded, GuardState, LatchChanged
from events.log import ACCOUNT_PARTITION, SOURCE, Log, Slot
from events.trading import Account
from events.views.moments import ago_text, utc_text
from events.views.tables import BAD, GOOD

RISK = "risk"
OLD_S = 15.0
"""Figures older than this are said to be old: the account is told at least every 5 s."""


@dataclass(frozen=True, slots=True)
class AccountRisk:
    """What is known of one account. None: never told."""

    namespace: str
    login: int
    account: Account | None = None
    metrics: RiskMetrics | None = None
    guard: GuardState | None = None
    latch: LatchChanged | None = None
    flatten: FlattenEnded | None = None
    rules: RulesSet | None = None

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"terminal": self.namespace, "login": self.login}
        for name in ("metrics", "guard", "latch", "flatten", "rules"):
            event: Event | None = getattr(self, name)
            shown[name] = None if event is None else event.model_dump(mode="json")
        return shown


_NAMES: dict[type[Event], str] = {
    Account: "account", RiskMetrics: "metrics", GuardState: "guard", LatchChanged: "latch",
    FlattenEnded: "flatten", RulesSet: "rules",
}  # fmt: skip


def accounts(log: Log, names: tuple[str, ...] = ()) -> list[AccountRisk]:
    """Every account of these terminals (all: none named). Raises LogUnavailable."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for namespace in sorted(log.namespaces()):
        if names and namespace not in names:
            continue
        for writer in (SOURCE, RISK):
            states = log.last_states(Slot(namespace, writer, ACCOUNT_PARTITION))
            for (type_, key), data in states.items():
                event = _read(type_, key, data)
                if event is not None:
                    login = int(getattr(event, "login"))  # noqa: B009 - all of _NAMES have one
                    found.setdefault((namespace, login), {})[_NAMES[type(event)]] = event
    return [
        AccountRisk(namespace, login, **events)
        for (namespace, login), events in sorted(found.items())
        if {"account", "metrics"} & events.keys()
    ]


def _read(type_: str, key: str, data: bytes) -> Any:
    if type_.rpartition(".")[0] not in {kind.TYPE for kind in _NAMES}:
        return None
    try:
        return decode_data(type_, key, data)
    except (UnknownEvent, BadEvent):  # a newer program's: another version shows it
        return None


def whole_page(one: AccountRisk, *, now_ms: int) -> RenderableType:
    """Everything of one account."""
    parts: list[RenderableType] = [_head(one, now_ms)]
    if one.metrics is None:
        parts.append(Text("no figures yet: run `bridgectl consume --group risk`", style=BAD))
        return Together(*parts)
    metrics = one.metrics
    parts += [_money(metrics), limits_page(metrics)]
    if metrics.by_symbol:
        parts.append(_symbols(metrics))
    if metrics.exposure_by_currency:
        parts.append(_currencies(metrics))
    if metrics.unknown:
        parts.append(Text(f"unknown: {', '.join(metrics.unknown)}", style=BAD))
        if {"initial_balance", "high_water"} & set(metrics.unknown) or any(
            name.startswith(("day_", "best_", "high_")) for name in metrics.unknown
        ):
            parts.append(Text(f"state it: bridgectl risk reference set --terminal {one.namespace} "
                              "--initial ... --high-water ... --day ... --reason ..."))  # fmt: skip
    return Together(*parts)


def _head(one: AccountRisk, now_ms: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row(f"{one.namespace}", f"account {one.login}")
    if one.metrics is not None:
        at = one.metrics.event_time_ms
        old = now_ms - at > OLD_S * 1000
        table.add_row("figures", Text(ago_text(at, now_ms), style=BAD if old else GOOD))
    rules = one.rules
    named = f"{rules.rules.get('name') or rules.source or 'unnamed'}" if rules else "none"
    table.add_row("rules", named if rules and rules.rules else Text("none: nothing is limited"))
    table.add_row("guard", _guard(one.guard, now_ms))
    table.add_row("latch", _latch(one.latch))
    if one.flatten is not None:
        good = one.flatten.state == "FLAT"
        when = utc_text(one.flatten.event_time_ms)
        text = f"{one.flatten.state} at {when} UTC ({one.flatten.reason})"
        table.add_row("last flatten", Text(text, style=GOOD if good else BAD))
    if one.guard is not None:
        left = one.guard.dead_man_s
        shown = "not set" if left is None else f"acts in {left:.0f} s without a sign"
        table.add_row("dead-man", Text(shown, style=BAD if left is not None and left <= 0 else ""))
    return table


def _guard(state: GuardState | None, now_ms: int) -> Text:
    if state is None:
        return Text("none has reported: nothing stops this account", style=BAD)
    text = f"{state.state}, {ago_text(state.event_time_ms, now_ms)}"
    if state.reason:
        text += f": {state.reason}"
    if state.blocked_until_ms is not None:
        text += f" (until {utc_text(state.blocked_until_ms)} UTC)"
    if state.hard_floor is not None:
        text += f"; flattens by itself at {state.hard_floor:,.2f}"
    return Text(text, style=GOOD if state.state == "watching" else BAD)


def _latch(latch: LatchChanged | None) -> Text:
    if latch is None or not latch.latched:
        return Text("not set", style=GOOD)
    until = "until a human resumes" if latch.until_ms is None else f"to {utc_text(latch.until_ms)}"
    return Text(f"SET by {latch.by}, {until}: {latch.reason}", style=BAD)


def _money(metrics: RiskMetrics) -> Table:
    table = Table(title="Figures", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in metrics.figures.items():
        if ":" not in name:  # those of symbols and currencies have tables of their own
            table.add_row(name, "unknown" if value is None else f"{value:,.2f}")
    return table


def limits_page(metrics: RiskMetrics) -> Table:
    """Headroom and lock of every limit."""
    table = Table(title="Limits", title_justify="left")
    for name in ("limit", "left until it acts", "locked until"):
        table.add_column(name, justify="right" if name.startswith("left") else "left")
    for limit, left in metrics.headroom.items():
        text = "unknown" if left is None else f"{left:,.2f}"
        style = BAD if left is None or left <= 0 else ""
        table.add_row(limit, Text(text, style=style), metrics.locks.get(limit, ""))
    return table


def lots_page(metrics: RiskMetrics, symbols: tuple[str, ...] = ()) -> Table:
    """The largest volume of each symbol that could be opened now."""
    table = Table(title="Largest lot now", title_justify="left")
    table.add_column("symbol")
    table.add_column("lots", justify="right")
    for symbol, lots in sorted(metrics.largest_lot.items()):
        if not symbols or symbol in symbols:
            table.add_row(symbol, f"{lots:g}")
    return table


def _symbols(metrics: RiskMetrics) -> Table:
    columns = ("lots", "lots_net", "exposure", "floating", "risk_to_stop", "cost_of_closing",
               "spread_points", "tick_age_s")  # fmt: skip
    table = Table(title="Held", title_justify="left")
    table.add_column("symbol")
    for name in columns:
        table.add_column(name, justify="right")
    for symbol, parts in metrics.by_symbol.items():
        shown = ("-" if name not in parts else f"{parts[name]:,.2f}" for name in columns)
        table.add_row(symbol, *shown)
    return table


def _currencies(metrics: RiskMetrics) -> Table:
    table = Table(title="Exposure by currency, in account currency", title_justify="left")
    for name in ("currency", "net", "gross"):
        table.add_column(name, justify="left" if name == "currency" else "right")
    for currency, net in metrics.exposure_by_currency.items():
        gross = metrics.exposure_gross_by_currency.get(currency, abs(net))
        table.add_row(currency, f"{net:,.2f}", f"{gross:,.2f}")
    return table

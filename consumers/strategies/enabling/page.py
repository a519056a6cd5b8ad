"""What people see of enabled strategies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from consumers.strategies.enabling.sets import told_parameters
from consumers.strategies.enabling.standing import Standing
from events.decisions import TradeSignal
from events.views.moments import UNKNOWN, ago_text, utc_text
from events.views.tables import BAD, DIM, GOOD

STYLES = {"running": GOOD, "halted": BAD, "failed": BAD, "waiting": "yellow", "off": DIM}


def table(found: Sequence[Standing], *, now_ms: int) -> Table:
    """One line per strategy and terminal."""
    shown = Table(box=None, header_style=DIM, padding=(0, 1))
    for name in ("name", "terminal", "state", "symbols", "parameters", "behind", "failures",
                 "last signal", "owner"):  # fmt: skip
        right = name in ("behind", "failures")
        shown.add_column(name, justify="right" if right else "left", no_wrap=name == "name")
    for one in found:
        told = one.enabled.told
        shown.add_row(
            told.name,
            one.enabled.namespace,
            Text(one.state, style=STYLES[one.state]),
            ", ".join(told.symbols) or "all",
            told_parameters(told.parameters) or UNKNOWN,
            f"{one.lag:,}",
            f"{one.failures:,}",
            UNKNOWN if one.last is None else _signal(one.last, now_ms),
            ", ".join(owner.partition("/")[0] for owner in one.owners) or UNKNOWN,
        )
    return shown


def reasons(found: Sequence[Standing]) -> Text:
    """Why some do not run, a line each."""
    return Text("\n".join(f"{one.enabled.told.name}: {one.why}" for one in found if one.why))


def detail(one: Standing, *, now_ms: int) -> RenderableType:
    """Everything of one."""
    told = one.enabled.told
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    grid.add_row(told.name, Text(one.state, style=STYLES[one.state]))
    for name, text in (
        ("why", one.why),
        ("terminal", one.enabled.namespace),
        ("code", told.code),
        ("file's checksum", told.checksum),
        ("symbols", ", ".join(told.symbols) or "every symbol that has ticks"),
        ("parameters", told_parameters(told.parameters)),
        ("set", f"{utc_text(told.event_time_ms)} UTC by {told.set_by}"),
        ("owner", ", ".join(one.owners)),
        ("behind", f"{one.lag:,} entries"),
        ("failures", f"{one.failures:,}" + (": bridgectl dlq list" if one.failures else "")),
    ):
        if text:
            grid.add_row(name, text)
    for began in one.began:
        back = f", {began.entries_back:,} entries read back" if began.entries_back else ""
        grid.add_row(f"{began.task} began", f"behind {began.since}{back}, version {began.version}")
    signals = Text("\n".join(f"{_signal(s, now_ms)}  {s.reason}" for s in one.signals))
    return Group(grid, signals)


def _signal(signal: TradeSignal, now_ms: int) -> str:
    ago = ago_text(signal.event_time_ms, now_ms)
    return f"{signal.target} {signal.symbol} {signal.leg}".rstrip() + f", {ago}"

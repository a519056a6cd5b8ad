"""A comparison for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from rich.table import Table

from consumers.parity.comparing.causes import Cause
from consumers.parity.result import ParityResult
from events.views.moments import utc_text

DIFFERENCES_SHOWN = 10


def told(result: ParityResult) -> Iterator[str | Table]:
    """Lines and tables, top to bottom."""
    yield (
        f"{result.strategy} on {result.namespace}, {result.span}: {result.ticks:,} ticks, followed "
        f"from {result.began}"
    )
    yield _shares(result)
    if not result.executed:
        yield "no order of it was sent in live: there are no fills to compare"
    yield from _fill_figures(result)
    causes = result.causes()
    if causes:
        table = Table("cause of a difference", "count")
        for cause in Cause:
            if causes[cause]:
                table.add_row(str(cause), str(causes[cause]))
        yield table
        yield from _differences(result)
    if result.changed_by_order:
        yield (
            f"{result.changed_by_order} signals come out otherwise when ids alone order the lanes, "
            "as in a backtest without the journal"
        )
    if result.late_batches:
        yield f"{result.late_batches} batches of ticks came late or were pulled after a gap"
    yield from (f"note: {note}" for note in result.notes)


def _shares(result: ParityResult) -> Table:
    table = Table("", "live", "backtest", "matched", "share")
    signals, fills = result.signals, result.fills
    table.add_row(
        "signals", str(signals.live), str(signals.modelled), str(signals.matched),
        _percent(result.signals_percent),
    )  # fmt: skip
    if result.executed:
        table.add_row(
            "fills", str(fills.live), str(fills.modelled), str(fills.matched),
            _percent(result.fills_percent),
        )  # fmt: skip
    table.add_row("unexplained", "", "", "", _percent(result.unexplained_percent))
    return table


def _fill_figures(result: ParityResult) -> Iterator[str]:
    fills = result.fills
    if not fills.later_ms:
        return
    yield (
        f"fills came {statistics.median(fills.later_ms):.0f} ms (median) after their signals or "
        f"levels; prices were worse by {statistics.mean(fills.by_latency_points):+.2f} points for "
        f"that, and by {statistics.mean(fills.by_slippage_points):+.2f} points against the quotes "
        "of their moments (means)"
    )
    yield f"charged {-fills.charged:.2f} live, {-fills.charged_modelled:.2f} in the model"


def _differences(result: ParityResult) -> Iterator[str]:
    lines = [
        f"{utc_text(one.event.event_time_ms)} {one.event.symbol} signal {one.event.target} "
        f"{one.kind}: {one.cause} ({one.detail}) {'; '.join(one.fields)}".rstrip()
        for one in result.signals.differences[:DIFFERENCES_SHOWN]
    ]
    lines += [
        f"{utc_text(one.key.signal_ms)} {one.key.symbol} fill {one.key.kind} {one.kind}: "
        f"{one.cause} ({one.detail})"
        for one in result.fills.differences[:DIFFERENCES_SHOWN]
    ]
    yield from lines
    left = len(result.signals.differences) + len(result.fills.differences) - len(lines)
    if left > 0:
        yield f"... and {left} more: see them all with --json"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f} %"

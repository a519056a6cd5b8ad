"""What came of a comparison."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from consumers.backtest.sources.source import Span
from consumers.parity.comparing.causes import Cause
from consumers.parity.comparing.fills import FillDifference, FillParity
from consumers.parity.comparing.signals import SignalDifference, SignalParity
from events.views.moments import utc_text

SHOWN_MAX = 1_000
"""Differences in the JSON, of signals and of fills; the counts are of all."""


@dataclass(slots=True)
class ParityResult:
    """Of one strategy on one terminal."""

    strategy: str
    namespace: str
    span: Span
    version: str
    """Of the code that the backtest ran."""
    versions_live: tuple[str, ...]
    """Of the code that ran live at last."""
    ticks: int
    began: str
    """Where the strategy was followed from."""
    notes: list[str]
    assumptions: list[str]
    signals: SignalParity = field(default_factory=SignalParity)
    fills: FillParity = field(default_factory=FillParity)
    executed: bool = True
    """Whether anything was acted on live; without that there are no fills to compare."""
    changed_by_order: int | None = None
    """Signals that come out otherwise when ids alone order the lanes; None: they do."""
    late_batches: int = 0
    """Batches of ticks that came late or were pulled after a gap."""

    @property
    def signals_percent(self) -> float | None:
        """Share of signals that are the same; None: there are none."""
        return _percent(self.signals.matched, self.signals.compared)

    @property
    def fills_percent(self) -> float | None:
        return _percent(self.fills.matched, self.fills.compared)

    @property
    def unexplained_percent(self) -> float:
        """Share of all that was compared that differs for no cause that was found."""
        all_ = self.signals.compared + self.fills.compared
        return 100 * self.causes()[Cause.UNEXPLAINED] / all_ if all_ else 0.0

    def causes(self) -> Counter[Cause]:
        """How many differences each cause has."""
        both: list[SignalDifference | FillDifference] = [
            *self.signals.differences, *self.fills.differences,
        ]  # fmt: skip
        return Counter(one.cause for one in both)

    def within(self, tolerance_percent: float) -> bool:
        """Whether neither signals nor fills differ by more."""
        shares = (self.signals_percent, self.fills_percent)
        return all(share is None or 100 - share <= tolerance_percent + 1e-9 for share in shares)

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        fills = self.fills
        return {
            "strategy": self.strategy,
            "terminal": self.namespace,
            "from": None if self.span.from_ms is None else utc_text(self.span.from_ms),
            "to": None if self.span.to_ms is None else utc_text(self.span.to_ms),
            "version": self.version,
            "versions_live": list(self.versions_live),
            "began": self.began,
            "ticks": self.ticks,
            "signals": {
                "live": self.signals.live, "backtest": self.signals.modelled,
                "matched": self.signals.matched, "matched_percent": self.signals_percent,
                "changed_by_order_of_lanes": self.changed_by_order,
            },
            "fills": {
                "executed": self.executed, "live": fills.live, "backtest": fills.modelled,
                "matched": fills.matched, "matched_percent": self.fills_percent,
                "later_ms": _spread(fills.later_ms),
                "worse_by_latency_points": _spread(fills.by_latency_points),
                "worse_by_slippage_points": _spread(fills.by_slippage_points),
                "charged": fills.charged, "charged_backtest": fills.charged_modelled,
            },
            "causes": {str(cause): self.causes()[cause] for cause in Cause},
            "unexplained_percent": self.unexplained_percent,
            "late_batches": self.late_batches,
            "signal_differences": [_signal(one) for one in self.signals.differences[:SHOWN_MAX]],
            "fill_differences": [_fill(one) for one in fills.differences[:SHOWN_MAX]],
            "notes": self.notes,
            "assumptions": self.assumptions,
        }  # fmt: skip


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Least, median and most; None: there are none."""
    if not values:
        return None
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def _signal(one: SignalDifference) -> dict[str, Any]:
    return {
        "kind": one.kind, "symbol": one.event.symbol, "leg": one.event.leg,
        "time": utc_text(one.event.event_time_ms), "target": one.event.target,
        "fields": list(one.fields), "cause": str(one.cause), "detail": one.detail,
        "place": one.live.place if one.live is not None else "",
    }  # fmt: skip


def _fill(one: FillDifference) -> dict[str, Any]:
    def told(deal: Any) -> dict[str, Any] | None:
        if deal is None:
            return None
        return {
            "ticket": str(deal.ticket), "time": utc_text(deal.event_time_ms), "side": deal.type,
            "lots": deal.volume_lots, "price": deal.price,
        }  # fmt: skip

    return {
        "kind": one.kind, "symbol": one.key.symbol, "leg": one.key.leg, "what": one.key.kind,
        "signal_time": utc_text(one.key.signal_ms), "live": told(one.live),
        "backtest": told(one.modelled), "cause": str(one.cause), "detail": one.detail,
    }  # fmt: skip

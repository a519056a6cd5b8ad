"""The event that tells what an account stands at."""

from __future__ import annotations

import math
from collections.abc import Mapping

from consumers.risk.figures.whole import Figures
from events.decisions import RiskMetrics
from events.rules import Look, References, Rules, headroom, unknown_for
from events.rules.resets import utc_text
from events.trading import Account

DIGITS = 6
"""Figures are told with so many decimals: what lies behind is noise of the arithmetic."""


def metrics_of(
    seen: Account,
    found: Look,
    figures: Figures,
    named: Mapping[str, float | None],
    rules: Rules,
    *,
    now_ms: int,
    lots: Mapping[str, float],
) -> RiskMetrics:
    """Every figure, headroom, locks, and what is unknown."""
    references = found.watched.references
    peak = references.high_water
    after = seen.equity
    return RiskMetrics(
        event_time_ms=now_ms,
        login=seen.login,
        equity=seen.equity,
        balance=seen.balance,
        floating=seen.profit,
        credit=seen.credit,
        margin=seen.margin,
        margin_free=seen.margin_free,
        margin_level_percent=named.get("margin_level_percent"),
        drawdown_percent=max(0.0, (peak - after) / peak * 100) if peak > 0 else 0.0,
        daily_loss=max(0.0, named.get("daily_loss") or 0.0),
        exposure_by_currency=_rounded(figures.exposure.net_by_currency),
        exposure_gross_by_currency=_rounded(figures.exposure.gross_by_currency),
        leverage_used=round(named.get("leverage_used") or 0.0, DIGITS),
        positions_open=int(named.get("positions_open") or 0),
        lots_open=round(named.get("lots_open") or 0.0, DIGITS),
        cost_of_closing=round(figures.cost.total, DIGITS),
        figures={name: _number(value) for name, value in sorted(named.items())},
        by_symbol={name: _rounded(parts) for name, parts in figures.by_symbol.items()},
        headroom={k: _number(v) for k, v in headroom(rules, references, named).items()},
        largest_lot=dict(lots),
        references=references_told(references, rules),
        unknown=_unknown(found, figures, rules),
        locks={
            limit: "manual" if until_ms is None else utc_text(until_ms)
            for limit, until_ms in sorted(found.watched.trips.locks().items())
        },
    )


def references_told(references: References, rules: Rules) -> dict[str, float | str | None]:
    """What losses are measured from, for people, and for who has to begin anew from an archive."""
    if not references.since_ms:
        return {}
    return {
        "initial_balance": _number(references.initial_balance),
        "operations": _number(references.operations),
        "high_water": _number(references.high_water),
        "best_reset_balance": _number(references.best_reset_balance),
        "day": references.day,
        "day_reference": _number(references.day_reference(rules.account)),
        "day_peak": _number(references.day_peak),
        "since_ms": float(references.since_ms),
        "high_balance": _number(references.high_balance),
        "day_balance": _number(references.day_balance),
        "day_equity": _number(references.day_equity),
        "day_peak_balance": _number(references.day_peak_balance),
        "best_day": _number(references.best_day),
        "days_traded": float(references.days_traded),
        "gap_s": float(rules.account.gap_s),
        "reset": utc_text(references.day_until_ms),
        "zone": rules.account.reset_zone,
        "unknown": ", ".join(references.unknown) or None,
    }


def _unknown(found: Look, figures: Figures, rules: Rules) -> tuple[str, ...]:
    names = list(unknown_for(rules, found.watched.references))
    names += [one.key for one in found.standings if one.level == "unknown"]
    names += [f"symbol:{symbol}" for symbol in figures.missing]
    return tuple(dict.fromkeys(names))


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, DIGITS) + 0.0


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, DIGITS) + 0.0 for name, value in values.items()}

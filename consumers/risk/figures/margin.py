"""Margin: what is free, its level, and how far the broker's stop-out is."""

from __future__ import annotations

MODE_PERCENT, MODE_MONEY = 0, 1
"""MT5's ACCOUNT_STOPOUT_MODE."""


def margin_level_percent(equity: float, margin: float) -> float | None:
    """Equity / margin * 100; None without margin in use, where MT5 shows 0, which means "no
    positions", not "bankrupt" (MQL5 reference, ACCOUNT_MARGIN_LEVEL)."""
    return equity / margin * 100 if margin > 0 else None


def margin_free(equity: float, margin: float) -> float:
    """Equity - margin."""
    return equity - margin


def stop_out_distance(equity: float, margin: float, *, mode: int, level: float) -> float | None:
    """What equity may lose until the broker closes positions: down to `level` percent of the
    margin, or down to `level` in money. None without margin in use."""
    if margin <= 0:
        return None
    return equity - (level if mode == MODE_MONEY else margin * level / 100)

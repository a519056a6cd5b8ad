"""The figures a guard knows from the terminal alone, by their names in `events.rules.FIGURES`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from events.rules import figure_key
from producers.guard.watch.looking import Look

SHORT = 1
"""POSITION_TYPE_SELL."""


def figures_of(look: Look, *, cost_of_closing: float = 0.0) -> dict[str, float | None]:
    """Account currency and lots; None where the terminal does not say."""
    account = look.account
    if account is None:
        return {}
    floating = account.equity - account.balance - account.credit
    found: dict[str, float | None] = {
        "equity": _finite(account.equity),
        "balance": _finite(account.balance),
        "credit": _finite(account.credit),
        "floating": _finite(floating),
        "floating_loss": _finite(max(0.0, -floating)),
        "margin": _finite(account.margin),
        "margin_free": _finite(account.equity - account.margin),
        # 0.0 is what MT5 shows without positions: unknown, not bankrupt.
        "margin_level_percent": (
            _finite(account.equity / account.margin * 100) if account.margin > 0 else None
        ),
        "cost_of_closing": cost_of_closing,
    }
    if look.orders is not None:
        found["orders_open"] = float(len(look.orders))
    if look.positions is not None:
        found |= _of_positions(look.positions)
    return found


def _of_positions(positions: Sequence[Any]) -> Mapping[str, float]:
    found: dict[str, float] = {
        "positions_open": float(len(positions)),
        "lots_open": float(sum(row.volume for row in positions)),
        "position_lots_max": float(max((row.volume for row in positions), default=0.0)),
        "position_loss_max": max((-(row.profit + row.swap) for row in positions), default=0.0),
        "positions_without_stop": float(sum(not row.sl for row in positions)),
    }
    found["position_loss_max"] = max(0.0, found["position_loss_max"])
    gross: defaultdict[str, float] = defaultdict(float)
    net: defaultdict[str, float] = defaultdict(float)
    result: defaultdict[str, float] = defaultdict(float)
    for row in positions:
        gross[figure_key("symbol_lots", row.symbol)] += row.volume
        gross[figure_key("magic_lots", str(row.magic))] += row.volume
        net[row.symbol] += -row.volume if row.type == SHORT else row.volume
        result[figure_key("symbol_loss", row.symbol)] += row.profit + row.swap
        result[figure_key("magic_loss", str(row.magic))] += row.profit + row.swap
    found |= gross
    found |= {figure_key("symbol_lots_net", symbol): abs(lots) for symbol, lots in net.items()}
    found |= {key: max(0.0, -money) for key, money in result.items()}
    return found


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

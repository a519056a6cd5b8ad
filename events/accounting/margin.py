"""Margin of all positions of one symbol, hedges included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from events.accounting.contract import Contract


@dataclass(frozen=True, slots=True)
class Leg:
    """One open position: side 0 buy, 1 sell; rate turns margin currency into account currency."""

    side: int
    volume_lots: float
    price_open: Any
    rate: Any


def symbol_margin(contract: Contract, legs: Sequence[Leg], *, leverage: int, hedging: bool) -> Any:
    """Margin in account currency.

    On hedging accounts the uncovered volume pays in full, at the volume-weighted opening price
    of its side, and the covered volume by `margin_hedged`; with `margin_hedged_use_leg` the
    larger leg alone pays (MetaTrader 5 help, "Margin calculation: retail forex, hedging").
    """
    if not hedging:
        return sum(
            contract.margin(leg.volume_lots, leg.price_open, leverage) * leg.rate for leg in legs
        )
    buys = _side(legs, 0)
    sells = _side(legs, 1)
    if buys is None or sells is None:
        only = buys or sells
        return _margin(contract, only, leverage) if only else 0.0
    larger, smaller = (buys, sells) if buys.volume_lots >= sells.volume_lots else (sells, buys)
    if contract.margin_hedged_use_leg:
        return max(_margin(contract, buys, leverage), _margin(contract, sells, leverage))
    covered = smaller.volume_lots
    free = Leg(larger.side, larger.volume_lots - covered, larger.price_open, larger.rate)
    price = (larger.price_open + smaller.price_open) / 2
    hedged = contract.margin(covered, price, leverage, hedged=True) * larger.rate
    return _margin(contract, free, leverage) + hedged


def _side(legs: Sequence[Leg], side: int) -> Leg | None:
    """All legs of one side as one, at the weighted price."""
    own = [leg for leg in legs if leg.side == side]
    volume = sum(leg.volume_lots for leg in own)
    if not volume:
        return None
    price = sum(leg.volume_lots * leg.price_open for leg in own) / volume
    return Leg(side, volume, price, own[0].rate)


def _margin(contract: Contract, leg: Leg, leverage: int) -> Any:
    return contract.margin(leg.volume_lots, leg.price_open, leverage) * leg.rate

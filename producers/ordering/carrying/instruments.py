"""What a request must know of a symbol, and whether an order fits it. Pure, but for the reading."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from producers.guard.flatten.instruments import Instrument, instrument_of
from producers.terminals import constants as mt5

LOTS_DUST = 1e-8


@dataclass(frozen=True, slots=True)
class Tradable:
    """One symbol as the broker offers it now. `rules`: volumes, filling modes."""

    rules: Instrument
    point: float
    stops_level: int
    """Points between the price and a stop, a target or a pending order, at least."""
    trade_mode: int
    expiration_bits: int
    selected: bool

    def price(self, price: float) -> float:
        """Rounded to the tick size, then to the digits (MQL5 reference, SYMBOL_TRADE_TICK_SIZE)."""
        tick = self.rules.tick_size or self.point
        if tick <= 0 or not math.isfinite(price):
            return price
        step = Decimal(repr(tick))
        ticks = (Decimal(repr(price)) / step).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
        return round(float(ticks * step), self.rules.digits)

    @property
    def gap(self) -> float:
        """The stops level as a price."""
        return self.stops_level * self.point

    @property
    def takes_expiry(self) -> bool:
        """Whether a pending order may carry a time at which it ends."""
        return bool(self.expiration_bits & mt5.SYMBOL_EXPIRATION_SPECIFIED)


def tradable_of(info: Any) -> Tradable:
    """From a SymbolInfo."""
    return Tradable(
        rules=instrument_of(info),
        point=float(info.point),
        stops_level=int(info.trade_stops_level),
        trade_mode=int(info.trade_mode),
        expiration_bits=int(info.expiration_mode),
        selected=bool(info.select),
    )


def bad_volume(symbol: Tradable, volume_lots: float, *, closes: bool) -> str:
    """Why a volume cannot be traded; "" when it can. What is closed may be any rest."""
    rules = symbol.rules
    if not math.isfinite(volume_lots) or volume_lots <= 0:
        return f"a volume of {volume_lots:g} lots is none"
    if rules.volume_max and volume_lots > rules.volume_max + LOTS_DUST:
        return f"{volume_lots:g} lots: {rules.name} takes at most {rules.volume_max:g} at once"
    if closes:
        return ""
    if volume_lots < rules.volume_min - LOTS_DUST:
        return f"{volume_lots:g} lots: {rules.name} takes at least {rules.volume_min:g}"
    if rules.volume_step:
        steps = volume_lots / rules.volume_step
        if abs(steps - round(steps)) > 1e-6:
            return f"{volume_lots:g} lots: {rules.name} trades in steps of {rules.volume_step:g}"
    return ""


def bad_direction(symbol: Tradable, side: int) -> str:
    """Why nothing may be opened on a side (0 buy, 1 sell); "" when it may."""
    refused = {
        mt5.SYMBOL_TRADE_MODE_DISABLED: "trading is disabled",
        mt5.SYMBOL_TRADE_MODE_CLOSEONLY: "only closing is allowed",
    }.get(symbol.trade_mode, "")
    if symbol.trade_mode == mt5.SYMBOL_TRADE_MODE_LONGONLY and side:
        refused = "only long positions are allowed"
    if symbol.trade_mode == mt5.SYMBOL_TRADE_MODE_SHORTONLY and not side:
        refused = "only short positions are allowed"
    return f"{symbol.rules.name}: {refused}" if refused else ""


def bad_stops(
    symbol: Tradable, side: int, reference: float, *, stop_loss: float, take_profit: float
) -> str:
    """Why stop and target cannot stand around a price; 0 is none of them. `reference`: where the
    position would close now (bid for a long one), or the price of a pending order."""
    sign = -1 if side else 1
    least = max(symbol.gap, symbol.point / 2) - 1e-12
    if stop_loss and (reference - stop_loss) * sign < least:
        return _too_near("stop-loss", stop_loss, "above" if side else "below", reference, symbol)
    if take_profit and (take_profit - reference) * sign < least:
        return _too_near(
            "take-profit", take_profit, "below" if side else "above", reference, symbol
        )
    return ""


def _too_near(name: str, level: float, where: str, reference: float, symbol: Tradable) -> str:
    return (
        f"the {name} {level:g} must lie {where} {reference:g} by at least {symbol.stops_level} "
        "points"
    )

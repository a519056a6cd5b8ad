"""What one lot of an instrument is worth: profit, margin and swap of a volume.

Formulas: MQL5 reference, "Symbol properties" (ENUM_SYMBOL_CALC_MODE, ENUM_SYMBOL_SWAP_MODE).
Prices may be floats or numpy arrays; amounts are in the currency each docstring names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from events.market import Instrument

DAYS_OF_YEAR = 360  # of interest swaps
FACE_PERCENT = 100


class CalcMode(IntEnum):
    """How margin and profit are computed."""

    FOREX = 0
    FUTURES = 1
    CFD = 2
    CFD_INDEX = 3
    CFD_LEVERAGE = 4
    FOREX_NO_LEVERAGE = 5
    EXCHANGE_STOCKS = 32
    EXCHANGE_FUTURES = 33
    EXCHANGE_OPTIONS = 34
    EXCHANGE_OPTIONS_MARGIN = 36
    EXCHANGE_BONDS = 37
    EXCHANGE_STOCKS_MOEX = 38
    EXCHANGE_BONDS_MOEX = 39
    COLLATERAL = 64


_LEVERAGED = {CalcMode.FOREX, CalcMode.CFD_LEVERAGE}
_FUTURES = {
    CalcMode.FUTURES,
    CalcMode.EXCHANGE_FUTURES,
    CalcMode.EXCHANGE_OPTIONS,
    CalcMode.EXCHANGE_OPTIONS_MARGIN,
}
_BONDS = {CalcMode.EXCHANGE_BONDS, CalcMode.EXCHANGE_BONDS_MOEX}
_NO_PRICE = {CalcMode.FOREX, CalcMode.FOREX_NO_LEVERAGE}


class SwapMode(IntEnum):
    """What the swap figures of a symbol mean."""

    DISABLED = 0
    POINTS = 1
    CURRENCY_BASE = 2
    CURRENCY_MARGIN = 3
    CURRENCY_DEPOSIT = 4
    INTEREST_CURRENT = 5
    INTEREST_OPEN = 6
    REOPEN_CURRENT = 7
    REOPEN_BID = 8


@dataclass(frozen=True, slots=True)
class Contract:
    """The facts of a symbol that arithmetic needs. Sizes per lot, prices in `currency_profit`."""

    symbol: str
    calc_mode: int
    contract_size: float
    point: float
    tick_size: float
    currency_base: str
    currency_profit: str
    currency_margin: str
    tick_value: float = 0.0
    margin_initial: float = 0.0
    margin_hedged: float = 0.0
    margin_hedged_use_leg: bool = False
    face_value: float = 0.0
    swap_mode: int = SwapMode.DISABLED
    swap_long: float = 0.0
    swap_short: float = 0.0
    swap_rollover_weekday: int = 3
    """0 Sunday ... 6 Saturday (MT5's SYMBOL_SWAP_ROLLOVER3DAYS)."""

    @classmethod
    def of(cls, instrument: Instrument) -> Contract:
        """The contract of an instrument seen at a terminal. Its tick value is in account
        currency, so futures profits come out in account currency too."""
        return cls(
            symbol=instrument.symbol,
            calc_mode=instrument.calc_mode,
            contract_size=instrument.contract_size,
            point=instrument.point,
            tick_size=instrument.tick_size,
            currency_base=instrument.currency_base,
            currency_profit=instrument.currency_profit,
            currency_margin=instrument.currency_margin
            or margin_currency(
                instrument.calc_mode, instrument.currency_base, instrument.currency_profit
            ),
            tick_value=instrument.tick_value,
            margin_initial=instrument.margin_initial,
            margin_hedged=instrument.margin_hedged,
            margin_hedged_use_leg=instrument.margin_hedged_use_leg,
            swap_mode=instrument.swap_mode,
            swap_long=instrument.swap_long,
            swap_short=instrument.swap_short,
            swap_rollover_weekday=instrument.swap_rollover_weekday,
        )

    def profit(self, side: int, volume_lots: Any, price_open: Any, price_close: Any) -> Any:
        """Profit of a price change in `currency_profit`; side 0 buy, 1 sell."""
        move = (price_close - price_open) if side == 0 else (price_open - price_close)
        if self.calc_mode in _FUTURES and self.tick_value and self.tick_size:
            return move / self.tick_size * self.tick_value * volume_lots
        if self.calc_mode in _BONDS:
            return move * self.face_value / FACE_PERCENT * self.contract_size * volume_lots
        if self.calc_mode == CalcMode.COLLATERAL:
            return move * 0.0
        return move * self.contract_size * volume_lots

    def margin(self, volume_lots: float, price: Any, leverage: int, *, hedged: bool = False) -> Any:
        """Margin of a volume in `currency_margin`, other positions disregarded.

        With `hedged` the volume is the covered one of a hedge, charged by `margin_hedged`.
        """
        if self.calc_mode == CalcMode.COLLATERAL:
            return price * 0.0
        if self.margin_initial or self.calc_mode in _FUTURES:
            per_lot: Any = self.margin_hedged if hedged else self.margin_initial
        else:
            size = self.margin_hedged if hedged else self.contract_size
            per_lot = size if self.calc_mode in _NO_PRICE else size * price
            if self.calc_mode in _BONDS:
                per_lot = per_lot * self.face_value / FACE_PERCENT
        divisor = leverage if self.calc_mode in _LEVERAGED else 1
        return per_lot * volume_lots / divisor

    def swap(
        self, side: int, volume_lots: float, *, price_now: float, price_open: float
    ) -> tuple[float, str]:
        """Swap of one night as (amount, currency); "" means the deposit currency.

        The modes that reopen the position at a moved price book no money: amount 0.
        """
        rate = self.swap_long if side == 0 else self.swap_short
        mode = self.swap_mode
        if mode == SwapMode.POINTS:
            return rate * self.point * self.contract_size * volume_lots, self.currency_profit
        if mode == SwapMode.CURRENCY_BASE:
            return rate * volume_lots, self.currency_base
        if mode == SwapMode.CURRENCY_MARGIN:
            return rate * volume_lots, self.currency_margin
        if mode == SwapMode.CURRENCY_DEPOSIT:
            return rate * volume_lots, ""
        if mode in (SwapMode.INTEREST_CURRENT, SwapMode.INTEREST_OPEN):
            price = price_now if mode == SwapMode.INTEREST_CURRENT else price_open
            yearly = rate / 100 * price * self.contract_size * volume_lots
            return yearly / DAYS_OF_YEAR, self.currency_profit
        return 0.0, ""

    def reopened(self, side: int, price: float, nights: int) -> float:
        """Where a position is opened again by the swap modes that move its price instead of
        booking money: a positive swap is a better price."""
        points = (self.swap_long if side == 0 else self.swap_short) * nights
        moved = price - points * self.point if side == 0 else price + points * self.point
        step = self.tick_size or self.point
        return round(round(moved / step) * step, 10)


def margin_currency(calc_mode: int, currency_base: str, currency_profit: str) -> str:
    """The currency margin is computed in where the symbol names none: the base currency where
    the volume alone decides, else that of the price."""
    return currency_base if calc_mode in _NO_PRICE else currency_profit


def swap_nights(ending_weekday: int, rollover_weekday: int) -> int:
    """How many nights are charged at the midnight that ends a day: three on the rollover day,
    none on Saturday and Sunday, else one. Weekdays 0 Sunday ... 6 Saturday."""
    if ending_weekday == rollover_weekday:
        return 3
    return 0 if ending_weekday in (0, 6) else 1

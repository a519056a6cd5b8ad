"""The figures of an account at one moment, and who goes first in a stop-out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

STOP_OUT_PERCENT = 0
STOP_OUT_MONEY = 1


@dataclass(frozen=True, slots=True)
class Valuation:
    """One open position at current prices; money in account currency."""

    identifier: int
    profit: float
    swap: float


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """Money in account currency. `profit` is floating profit with swap; `margin_level_percent`
    is 0 when no margin is in use, which means "no positions", not "bankrupt"."""

    balance: float
    credit: float
    profit: float
    margin: float
    equity: float
    margin_free: float
    margin_level_percent: float

    def stopped_out(self, *, mode: int, level: float) -> bool:
        """Whether the stop-out level is reached: margin level in percent, or (MONEY) equity."""
        if self.margin <= 0:
            return False
        if mode == STOP_OUT_MONEY:
            return self.equity <= level
        return self.margin_level_percent <= level


def account_figures(
    *,
    balance: float,
    credit: float,
    margin: float,
    valuations: Iterable[Valuation],
    digits: int,
) -> AccountFigures:
    """Figures rounded to the currency's digits, so that equity = balance + credit + profit."""
    floating = sum((item.profit + item.swap for item in valuations), 0.0)
    return floating_figures(
        balance=balance, credit=credit, margin=margin, floating=floating, digits=digits
    )


def floating_figures(
    *, balance: float, credit: float, margin: float, floating: float, digits: int
) -> AccountFigures:
    """`account_figures` of a floating profit (swap included) that is summed up already."""
    profit = round(float(floating), digits)  # nothing summed up is the integer 0
    margin = round(float(margin), digits)
    equity = round(balance + credit + profit, digits)
    level = round(equity / margin * 100, 2) if margin > 0 else 0.0
    return AccountFigures(
        balance=balance,
        credit=credit,
        profit=profit,
        margin=margin,
        equity=equity,
        margin_free=round(equity - margin, digits),
        margin_level_percent=level,
    )


def stop_out_first(valuations: Iterable[Valuation]) -> int | None:
    """Identifier of the position a stop-out closes first: the biggest loser."""
    worst = min(valuations, key=lambda item: (item.profit + item.swap, item.identifier),
                default=None)  # fmt: skip
    return None if worst is None else worst.identifier

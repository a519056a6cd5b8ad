"""One look at an account, as whoever reads it hands it to the rules."""

from __future__ import annotations

import math
from dataclasses import dataclass

EQUITY_TOLERANCE = 0.01
"""Equity = balance + credit + floating within this (account currency): each is rounded."""


@dataclass(frozen=True, slots=True)
class BalanceOperation:
    """A deposit, withdrawal or other change of the balance that is no trade."""

    ticket: int
    time_ms: int
    amount: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at the account gave; times UTC, money in account currency.

    `equity` None: the call failed. `positions` None: unknown, which is not 0.
    """

    time_ms: int
    login: int
    equity: float | None
    balance: float | None
    credit: float = 0.0
    floating: float | None = None
    """Profit with swap as the account tells it."""
    margin: float | None = None
    positions: int | None = None
    cost_of_closing: float = 0.0
    operations: tuple[BalanceOperation, ...] = ()
    """Those that became known since the last reading; telling one twice does no harm."""
    realised: float = 0.0
    """What trades booked since the last reading, where their deals are known."""
    opened: int = 0
    """Positions opened since the last reading."""
    reset_balance: float | None = None
    """Balance at the last reset plus deposits and withdrawals since, where it was reconstructed
    from deals (`balance_at`)."""
    connected: bool = True
    synchronised: bool = True
    suspect: bool = False
    """It contradicts itself (`check_reading`): it raises no peak."""

    @property
    def usable(self) -> bool:
        """Whether equity and balance are numbers that an account can have."""
        if self.equity is None or self.balance is None or not self.connected:
            return False
        if not self.synchronised or not (
            math.isfinite(self.equity) and math.isfinite(self.balance)
        ):
            return False
        return bool(self.equity or self.balance)

    @property
    def after_closing(self) -> float | None:
        """Equity that would be left after closing everything now; None: unknown."""
        return None if self.equity is None else self.equity - self.cost_of_closing

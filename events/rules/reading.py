"""One look at an account, and whether it can be believed: sources held against each other. Pure.

*Unusable* readings say nothing at all: no number, zero everywhere, another account, out of date,
the terminal still synchronising. *Suspect* ones contradict themselves; they still count against
a hard limit, and against a soft one after a longer time, but they never clear anything and never
raise a peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from events.rules.model import GuardRules

EQUITY_TOLERANCE = 0.01
"""Equity = balance + credit + floating within this (account currency): each is rounded."""
IDENTITY_TOLERANCE = 0.05
"""Account currency: balance, credit and floating profit are rounded each; equity is too."""
IDENTITY_SHARE = 1e-5
"""Of equity, for accounts whose currency has large numbers."""


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
    deals_pending: bool = False
    """Older deals are still being asked for: what moved the balance may be among them."""
    connected: bool = True
    synchronised: bool = True
    suspect: bool = False
    """It contradicts itself (`check_reading`): it raises no peak."""

    @property
    def usable(self) -> bool:
        """Whether the terminal was connected and synchronised, and equity and balance are numbers
        that an account can have."""
        known = self.equity is not None and self.balance is not None
        return known and self.connected and self.synchronised and not _no_number(self)

    @property
    def after_closing(self) -> float | None:
        """Equity that would be left after closing everything now; None: unknown."""
        return None if self.equity is None else self.equity - self.cost_of_closing


@dataclass(frozen=True, slots=True)
class Check:
    """What was found about one reading."""

    reading: Reading
    """With `suspect` set where it contradicts itself."""
    unusable: str = ""
    """Why it says nothing; empty: it can be used."""
    suspicions: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        return not self.unusable

    @property
    def trusted(self) -> bool:
        return self.usable and not self.suspicions


def check_reading(
    reading: Reading,
    *,
    guard: GuardRules,
    login: int,
    now_ms: int,
    previous: Reading | None = None,
) -> Check:
    """Hold a reading against itself and against the last one that was trusted.

    `login` is the account that is meant; `now_ms` the same clock as the reading's time.
    """
    unusable = _unusable(reading, guard=guard, login=login, now_ms=now_ms)
    if unusable:
        return Check(reading, unusable)
    suspicions = tuple(_suspicions(reading, previous))
    return Check(replace(reading, suspect=bool(suspicions)), "", suspicions)


def _unusable(reading: Reading, *, guard: GuardRules, login: int, now_ms: int) -> str:
    if reading.login != login:
        return f"account {reading.login} is logged in, not {login}"
    if not reading.connected:
        return "the terminal is not connected"
    if not reading.synchronised:
        return "the terminal is synchronising"
    if reading.equity is None or reading.balance is None:
        return "the account could not be read"
    if now_ms - reading.time_ms > guard.stale_s * 1000:
        return f"the reading is {(now_ms - reading.time_ms) / 1000:.1f} s old"
    return _no_number(reading)


def _no_number(reading: Reading) -> str:
    parts = (reading.equity, reading.balance, reading.credit, reading.floating, reading.margin)
    if not all(math.isfinite(part) for part in parts if part is not None):
        return "a figure is no number"
    if not reading.equity and (not reading.balance or identity_error(reading)):
        return "equity reads 0"
    return ""


def contradictions_in(reading: Reading) -> list[str]:
    """What does not fit within one reading; in words."""
    found = []
    if identity_error(reading):
        found.append("equity is not balance + credit + floating")
    if reading.positions is None:
        found.append("positions could not be read")
    elif reading.positions == 0 and (reading.margin or reading.floating):
        found.append("no positions, but margin or floating profit")
    return found


def _suspicions(reading: Reading, previous: Reading | None) -> list[str]:
    found = contradictions_in(reading)
    if reading.positions and reading.margin == 0 and previous is not None and previous.margin:
        found.append("positions without margin")
    if _vanished(reading, previous):
        found.append("positions vanished without a change of the balance")
    return found


def identity_error(reading: Reading) -> float:
    """How far equity is from balance + credit + floating beyond what rounding explains; 0: it
    fits, or floating is not known."""
    if reading.floating is None or reading.equity is None or reading.balance is None:
        return 0.0
    error = reading.equity - (reading.balance + reading.credit + reading.floating)
    allowed = max(IDENTITY_TOLERANCE, abs(reading.equity) * IDENTITY_SHARE)
    return error if abs(error) > allowed else 0.0


def _vanished(reading: Reading, previous: Reading | None) -> bool:
    """Whether positions are gone though nothing was booked: a list read while it was empty."""
    if previous is None or not previous.positions or reading.positions != 0:
        return False
    return reading.balance == previous.balance

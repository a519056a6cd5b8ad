"""Whether the deals explain every change of an account's balance."""

from __future__ import annotations

from typing import TypedDict

from events.trading import Account, BalanceUnexplained, Deal

CREDIT = 3
"""MT5's DEAL_TYPE_CREDIT: it changes the credit, not the balance."""
LATE_MS = 10_000
"""A deal may be listed so long after the balance it changed, or before it."""


class Expected(TypedDict):
    """What the balance should be; money in account currency."""

    since_ms: int
    """The first look at the account (UTC): its balance holds every deal of before."""
    balance: float
    digits: int
    total: float
    """What was told as unexplained so far."""
    odd: float
    """Difference seen at the last look, and since when."""
    odd_since_ms: int


def first(seen: Account) -> Expected:
    return Expected(
        since_ms=seen.event_time_ms, balance=seen.balance, digits=seen.currency_digits,
        total=0.0, odd=0.0, odd_since_ms=0,
    )  # fmt: skip


def book(expected: Expected, deal: Deal) -> None:
    """Let a deal change the balance that is expected."""
    if deal.type != CREDIT and deal.event_time_ms > expected["since_ms"]:
        amount = deal.profit + deal.commission + deal.swap + deal.fee
        expected["balance"] = round(expected["balance"] + amount, 8)


def compare(expected: Expected, seen: Account) -> BalanceUnexplained | None:
    """What no deal explained for LATE_MS; it is told once and then counts as known."""
    odd = round(seen.balance - expected["balance"], seen.currency_digits)
    if odd == 0 or odd != expected["odd"]:
        expected["odd"], expected["odd_since_ms"] = odd, seen.recv_time_ms
        return None
    if seen.recv_time_ms - expected["odd_since_ms"] < LATE_MS:
        return None
    expected["balance"] = seen.balance
    expected["total"] = round(expected["total"] + odd, seen.currency_digits)
    expected["odd"] = 0.0
    return BalanceUnexplained(
        event_time_ms=seen.event_time_ms, recv_time_ms=seen.recv_time_ms, offset_s=seen.offset_s,
        offset_source=seen.offset_source, login=seen.login, amount=odd, balance=seen.balance,
        total=expected["total"], since_ms=expected["odd_since_ms"],
    )  # fmt: skip

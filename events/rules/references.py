"""What losses are measured from, and how deposits, withdrawals and people's statements shift it.

Pure. Readings move it on in `advancing.py`. Deposits and
withdrawals shift every reference by their amount, so that they count neither as profit nor as
loss. What cannot be known (peaks and resets while nobody looked) is named in `unknown`; in its
place stands a bound that makes floors highest: the highest of what was seen on both sides of
the gap.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from events.decisions import ReferenceSet
from events.rules.model import Account, DayReference
from events.rules.reading import EQUITY_TOLERANCE, BalanceOperation, Reading

HOLD_MS = 10_000
"""A jump of the balance that looks like a deposit waits so long for its deal before it counts."""
HOLD_PENDING_MS = 600_000
"""The same while older deals are still being asked for, after a long outage."""
TICKETS_MAX = 64
"""Operations remembered, so that one told twice shifts once."""

INITIAL, HIGH_WATER, HIGH_BALANCE, BEST_RESET = (
    "initial_balance", "high_water", "high_balance", "best_reset_balance",
)  # fmt: skip
DAY_BALANCE, DAY_EQUITY, DAY_PEAK = "day_balance", "day_equity", "day_peak"


class References(BaseModel):
    """What is known of one account. Money in account currency, times UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    since_ms: int = 0
    """First reading."""
    time_ms: int = 0
    """Newest reading."""
    initial_balance: float = 0.0
    """As it was given; percentages are taken of it."""
    operations: float = 0.0
    """Sum of deposits and withdrawals since then."""
    high_water: float = 0.0
    """Highest equity."""
    high_balance: float = 0.0
    best_reset_balance: float = 0.0
    """Best balance at a reset, at least the initial one."""
    day: str = ""
    """Date on which the day that runs began, in the firm's zone."""
    day_start_ms: int = 0
    day_until_ms: int = 0
    day_balance: float = 0.0
    """Balance at the reset, shifted by later operations; so are the next three."""
    day_equity: float = 0.0
    day_peak: float = 0.0
    """Highest equity since the reset."""
    day_peak_balance: float = 0.0
    day_set: float | None = None
    """What a human stated as reference of this day."""
    balance: float = 0.0
    """Newest that trades and operations explain."""
    floating: float = 0.0
    """Equity less balance then."""
    balance_read: float = 0.0
    equity: float = 0.0
    """Newest, as read; so is the one above."""
    positions: int | None = None
    days_traded: int = 0
    traded_today: bool = False
    best_day: float = 0.0
    """Profit of the best day that ended."""
    held_since_ms: int | None = None
    """Since when the balance shows a jump that looks like an operation nobody told of."""
    stated: tuple[float | None, float | None] = (None, None)
    """Initial balance and high water as the rules said them last."""
    reset: str = ""
    """When the day begins, as the rules said it last."""
    waiting: tuple[tuple[int, float], ...] = ()
    """Operations (ticket, amount) that the balance does not show yet."""
    tickets: Annotated[tuple[int, ...], Field(max_length=TICKETS_MAX)] = ()
    unknown: tuple[str, ...] = ()
    """Names of references with a worst case in their place."""

    @property
    def absolute(self) -> float:
        """What absolute drawdown and total profit are measured from."""
        return self.initial_balance + self.operations

    def day_reference(self, account: Account) -> float:
        """What the loss of the day is measured from under these rules."""
        if account.day_reference == DayReference.PEAK_EQUITY:
            return max(self.day_peak, self.day_set or self.day_peak)
        if account.day_reference == DayReference.PEAK_BALANCE_EQUITY:
            highest = max(self.day_peak, self.day_peak_balance)
            return max(highest, self.day_set or highest)
        if self.day_set is not None:
            return self.day_set
        if account.day_reference == DayReference.BALANCE:
            return self.day_balance
        if account.day_reference == DayReference.EQUITY:
            return self.day_equity
        return max(self.day_balance, self.day_equity)


def with_set(references: References, stated: ReferenceSet) -> References:
    """With what a human stated, which is known from here on. What is no sum of money states
    nothing: no loss could be measured from it, and no limit would act."""
    stated = stated.model_copy(
        update={
            name: None
            for name in ("initial_balance", "high_water", "day_reference")
            if not _is_money(getattr(stated, name))
        }
    )
    update: dict[str, object] = {}
    known: set[str] = set()
    if stated.initial_balance is not None:
        update |= {"initial_balance": stated.initial_balance, "operations": 0.0}
        known.add(INITIAL)
    if stated.high_water is not None:
        peak = max(stated.high_water, references.equity)
        update |= {
            "high_water": peak,
            "high_balance": max(stated.high_water, references.balance),
            "best_reset_balance": max(
                stated.high_water, stated.initial_balance or references.initial_balance
            ),
        }
        known |= {HIGH_WATER, HIGH_BALANCE, BEST_RESET}
    if stated.day_reference is not None:
        update["day_set"] = stated.day_reference
        if DAY_BALANCE in references.unknown:
            update[DAY_BALANCE] = stated.day_reference
        known |= {DAY_BALANCE, DAY_EQUITY, DAY_PEAK}
    update["unknown"] = tuple(name for name in references.unknown if name not in known)
    return _with_kept(references.model_copy(update=update), stated)


def _with_kept(references: References, stated: ReferenceSet) -> References:
    """With what was known before these references began; ones that are older know it themselves.
    A peak that was seen since stays, and what is only a bound stays unknown."""
    if not stated.kept or stated.kept_ms is None or references.since_ms <= stated.kept_ms:
        return references
    update: dict[str, object] = {}
    # On the day they began, peaks of the day are what was seen; the others may be what rules say.
    first_day = references.day_start_ms <= references.since_ms
    for name, value in stated.kept.items():
        if name not in _KEPT or not math.isfinite(value):
            continue
        moved = value + references.operations if name in _SHIFTED else value
        if name in _PEAKS:
            moved = max(moved, getattr(references, _PEAKS[name] if first_day else name))
        update[name] = int(moved) if name == "days_traded" else moved
    known = update.keys() - {*stated.kept_unknown}
    update["unknown"] = tuple(
        sorted({*references.unknown} - known | {*stated.kept_unknown} & {*_KEPT})
    )
    return references.model_copy(update=update)


def _is_money(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def balance_at(balance_now: float, deals: tuple[tuple[int, float], ...], at_ms: int) -> float:
    """Balance at a moment: the balance now less what later deals changed.

    `deals` are (UTC time, amount), an amount being profit, swap, commission and fee together; all
    from `at_ms` on must be among them. With the trades alone the result is shifted by later
    deposits and withdrawals, which is what `Reading.reset_balance` wants.
    """
    return balance_now - sum(amount for time_ms, amount in deals if time_ms >= at_ms)


def with_told(known: References, operations: tuple[BalanceOperation, ...]) -> References:
    """With operations nobody told of before, waiting for the balance to show them."""
    new = {one.ticket: one.amount for one in operations if one.ticket not in known.tickets}
    if not new:
        return known
    tickets = (*known.tickets, *new)[-TICKETS_MAX:]
    return known.model_copy(update={"waiting": (*known.waiting, *new.items()), "tickets": tickets})


def settle(known: References, reading: Reading) -> tuple[References, float, bool]:
    """Bring operations and the balance together: references, the balance before this reading
    with the operations it shows, and whether peaks may rise.

    A deal and the balance it changed are seen at different moments. Shifting before the balance
    shows a deposit, or raising a peak before its deal is known, would show a loss of its size.
    """
    assert reading.balance is not None
    jump = reading.balance - known.balance
    amount = sum(value for _, value in known.waiting)
    seen = known.balance_read if known.held_since_ms is not None else known.balance
    before = known.balance + amount if seen == known.balance else seen
    hold_ms = HOLD_PENDING_MS if reading.deals_pending else HOLD_MS
    late = known.held_since_ms is not None and reading.time_ms - known.held_since_ms >= hold_ms
    rests = (jump - amount, jump - amount - reading.realised)
    explained = any(not _like_an_operation(known, reading, rest) for rest in rests)
    if late or (explained and (jump or not known.waiting)):
        return _settled(_shifted(known, amount), reading), before, True
    since = reading.time_ms if known.held_since_ms is None else known.held_since_ms
    return known.model_copy(update={"held_since_ms": since}), seen, False


def _like_an_operation(known: References, reading: Reading, jump: float) -> bool:
    """Whether a jump of the balance moved the equity with it, as no closed trade does: what a
    close adds to the balance it takes from the floating profit."""
    assert reading.equity is not None
    assert reading.balance is not None
    if abs(jump) < EQUITY_TOLERANCE:
        return False
    floating_moved = (reading.equity - reading.balance) - known.floating
    return abs(floating_moved) < abs(jump) / 2


def _settled(known: References, reading: Reading) -> References:
    assert reading.equity is not None
    assert reading.balance is not None
    return known.model_copy(
        update={
            "balance": reading.balance,
            "floating": reading.equity - reading.balance,
            "waiting": (),
            "held_since_ms": None,
        }
    )


_SHIFTED = (
    "operations", HIGH_WATER, HIGH_BALANCE, BEST_RESET, DAY_BALANCE, DAY_EQUITY, DAY_PEAK,
    "day_peak_balance",
)  # fmt: skip

_PEAKS = {
    HIGH_WATER: DAY_PEAK, HIGH_BALANCE: "day_peak_balance", DAY_PEAK: DAY_PEAK,
    "day_peak_balance": "day_peak_balance",
}  # fmt: skip
_KEPT = (INITIAL, *_SHIFTED, "best_day", "days_traded")


def _shifted(known: References, amount: float) -> References:
    update: dict[str, float] = {name: getattr(known, name) + amount for name in _SHIFTED}
    if known.day_set is not None:
        update["day_set"] = known.day_set + amount
    return known.model_copy(update=update)


def with_unknown(known: References, *names: str) -> References:
    return known.model_copy(update={"unknown": tuple(sorted({*known.unknown, *names}))})

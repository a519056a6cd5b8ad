"""How what losses are measured from moves with every reading: peaks, days, gaps, rules. Pure."""

from __future__ import annotations

from events.decisions import ReferenceSet
from events.rules.model import Account, Rules
from events.rules.reading import EQUITY_TOLERANCE, Reading, contradictions_in
from events.rules.references import (
    BEST_RESET,
    DAY_BALANCE,
    DAY_EQUITY,
    DAY_PEAK,
    HIGH_BALANCE,
    HIGH_WATER,
    INITIAL,
    TICKETS_MAX,
    References,
    settle,
    with_set,
    with_told,
    with_unknown,
)
from events.rules.resets import TradingDay, trading_day


def first(rules: Rules, reading: Reading) -> References:
    """What is known at the first reading of an account; the rest is unknown, with its bound."""
    assert reading.equity is not None
    assert reading.balance is not None
    account = rules.account
    highest = max(reading.equity, reading.balance)
    initial = account.initial_balance
    base = initial if initial is not None else highest
    peak = account.high_water if account.high_water is not None else max(base, highest)
    day = _day(rules, reading.time_ms)
    flat = reading.positions == 0 and reading.reset_balance == reading.balance
    unknown = [] if flat else [DAY_EQUITY, DAY_PEAK]  # nothing traded: equity stood still too
    unknown += [INITIAL] if initial is None else []
    unknown += [HIGH_WATER, HIGH_BALANCE, BEST_RESET] if account.high_water is None else []
    unknown += [DAY_BALANCE] if reading.reset_balance is None else []
    at_reset = reading.reset_balance if reading.reset_balance is not None else highest
    return References(
        since_ms=reading.time_ms,
        time_ms=reading.time_ms,
        initial_balance=base,
        high_water=max(peak, reading.equity),
        high_balance=max(peak, reading.balance),
        best_reset_balance=max(peak, at_reset),
        day=day.name,
        day_start_ms=day.start_ms,
        day_until_ms=day.until_ms,
        day_balance=at_reset,
        day_equity=highest,
        day_peak=highest,
        day_peak_balance=highest,
        balance=reading.balance,
        floating=reading.equity - reading.balance,
        balance_read=reading.balance,
        equity=reading.equity,
        positions=reading.positions,
        days_traded=1 if reading.opened else 0,
        traded_today=bool(reading.opened),
        stated=(account.initial_balance, account.high_water),
        reset=_reset(account),
        tickets=tuple(one.ticket for one in reading.operations)[-TICKETS_MAX:],
        unknown=tuple(sorted(unknown)),
    )


def advance(references: References | None, reading: Reading, rules: Rules) -> References:
    """What is known after one more reading. Unusable and out-of-date readings change nothing."""
    if not reading.usable or reading.equity is None or reading.balance is None:
        return references if references is not None else References()
    if references is None or references.since_ms == 0:
        return first(rules, reading)
    known = with_told(references, reading.operations)
    if reading.time_ms < references.time_ms:
        return known
    known = _under(known, reading, rules)
    known, before, settled = settle(known, reading)
    known = _over_the_gap(known, reading, rules, before=before)
    known = _with_reset_balance(known, reading)
    if settled and not _suspect(references, reading):
        known = _raise_peaks(known, reading)
    traded = known.traded_today or bool(reading.opened)
    return known.model_copy(
        update={
            "time_ms": reading.time_ms,
            "balance_read": reading.balance,
            "equity": reading.equity,
            "positions": reading.positions,
            "days_traded": known.days_traded + (traded and not known.traded_today),
            "traded_today": traded,
        }
    )


def _suspect(known: References, reading: Reading) -> bool:
    """Whether it must raise no peak: it contradicts itself, or shows an account without positions
    that had some, and nothing was booked."""
    vanished = reading.positions == 0 and bool(known.positions)
    unbooked = reading.balance == known.balance_read
    return reading.suspect or bool(contradictions_in(reading)) or (vanished and unbooked)


def _reset(account: Account) -> str:
    return f"{account.reset_time} {account.reset_zone}"


def _under(known: References, reading: Reading, rules: Rules) -> References:
    """Under rules that may be others than those before: what they state anew is known."""
    account = rules.account
    stated = (account.initial_balance, account.high_water)
    if stated != known.stated:
        initial, peak = (new if new != old else None
                         for new, old in zip(stated, known.stated, strict=True))  # fmt: skip
        if peak is not None and HIGH_WATER not in known.unknown:
            peak = max(peak, known.high_water)
        told = ReferenceSet(
            event_time_ms=reading.time_ms, login=reading.login, set_by="rules",
            initial_balance=initial, high_water=peak,
        )  # fmt: skip
        known = with_set(known, told).model_copy(update={"stated": stated})
    if _reset(account) != known.reset:
        known = _other_day(known, reading, rules)
    return known


def _other_day(known: References, reading: Reading, rules: Rules) -> References:
    """The day as other rules cut it: nobody measured at its reset."""
    day, highest = _day(rules, reading.time_ms), max(known.balance, known.equity, known.day_peak)
    known = known.model_copy(
        update={
            "reset": _reset(rules.account),
            "day": day.name,
            "day_start_ms": day.start_ms,
            "day_until_ms": day.until_ms,
            DAY_EQUITY: max(highest, known.day_equity),
            DAY_PEAK: max(highest, known.day_equity),
            DAY_BALANCE: max(highest, known.day_balance),
        }
    )
    if known.day_set is not None or day.start_ms >= known.time_ms:
        return known
    return with_unknown(known, DAY_BALANCE, DAY_EQUITY, DAY_PEAK)


def _day(rules: Rules, now_ms: int) -> TradingDay:
    account = rules.account
    return trading_day(now_ms, reset_time=account.reset_time, reset_zone=account.reset_zone)


def _over_the_gap(
    known: References, reading: Reading, rules: Rules, *, before: float
) -> References:
    """Across the time since the last reading: resets that passed, peaks nobody saw."""
    assert reading.balance is not None
    gap = reading.time_ms - known.time_ms > rules.account.gap_s * 1000
    same = abs(before - reading.balance) < EQUITY_TOLERANCE
    blind = gap and not (same and known.positions == 0 and reading.positions == 0)
    if blind:
        known = with_unknown(known, HIGH_WATER, HIGH_BALANCE, DAY_PEAK)
    if reading.time_ms < known.day_until_ms:
        return known
    certain = same or not gap or reading.reset_balance is not None
    known = _new_day(known, reading, rules, before=before)
    known = known if certain else with_unknown(known, DAY_BALANCE, BEST_RESET)
    return with_unknown(known, DAY_EQUITY, DAY_PEAK) if blind else known


def _new_day(known: References, reading: Reading, rules: Rules, *, before: float) -> References:
    """The day that runs now. Where readings before and after the reset differ, the higher one
    counts: floors are then never too low."""
    assert reading.equity is not None
    assert reading.balance is not None
    day = _day(rules, reading.time_ms)
    highest = max(before, reading.balance)
    at_reset = highest if reading.reset_balance is None else reading.reset_balance
    equity = max(before + known.equity - known.balance_read, reading.equity)
    profit = at_reset - known.day_balance
    day_only = (DAY_BALANCE, DAY_EQUITY, DAY_PEAK)
    return known.model_copy(
        update={
            "day": day.name,
            "day_start_ms": day.start_ms,
            "day_until_ms": day.until_ms,
            DAY_BALANCE: at_reset,
            DAY_EQUITY: equity,
            DAY_PEAK: equity,
            "day_peak_balance": highest,
            "day_set": None,
            BEST_RESET: max(known.best_reset_balance, at_reset),
            "best_day": max(known.best_day, profit),
            "traded_today": False,
            "unknown": tuple(name for name in known.unknown if name not in day_only),
        }
    )


def _with_reset_balance(known: References, reading: Reading) -> References:
    """With the balance at the reset, where it was reconstructed after all."""
    if DAY_BALANCE not in known.unknown or reading.reset_balance is None:
        return known
    return known.model_copy(
        update={
            DAY_BALANCE: reading.reset_balance,
            "unknown": tuple(name for name in known.unknown if name != DAY_BALANCE),
        }
    )


def _raise_peaks(known: References, reading: Reading) -> References:
    assert reading.equity is not None
    assert reading.balance is not None
    return known.model_copy(
        update={
            HIGH_WATER: max(known.high_water, reading.equity),
            HIGH_BALANCE: max(known.high_balance, reading.balance),
            DAY_PEAK: max(known.day_peak, reading.equity),
            "day_peak_balance": max(known.day_peak_balance, reading.balance),
        }
    )

"""What closed trades brought, out of deals: per day, week and month, losses in a row, commission.

Deposits, withdrawals, credit and bonuses are no profit. Charges, interest, dividends and taxes
are: they are earned or paid. What is remembered is plain data, for a task's state.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from events.rules import BalanceOperation, Rules, TradingDay, trading_day
from events.rules.resets import instant_ms
from events.trading import OPERATION_TYPES, Deal

TRADE_TYPES = frozenset({0, 1})
IN, OUT, IN_OUT, OUT_BY = 0, 1, 2, 3
MINUTE_MS = 60_000
KEPT_MINUTES = 40 * 24 * 60
"""How far back sums reach: a month and some days."""
PRUNE_EVERY = 256
"""Old minutes are looked for when so many more were added."""
TICKETS_MAX = 1_000
POSITIONS_MAX = 2_000
"""Positions whose close nobody saw are forgotten, oldest first."""
CLOSED_MAX = 1_000
"""Newest closes of positions: a deal of the past may still belong before them."""
LOTS_EPSILON = 1e-9
CREDIT = 3
"""MT5's DEAL_TYPE_CREDIT: the one operation that leaves the balance alone."""
CENT = 0.005


def new_ledger() -> dict[str, Any]:
    """Minute -> amount, tickets known, open positions -> [lots, net], commission by symbol, newest
    closes [time, ticket, position, lots, net] in their order in time."""
    return {"minutes": {}, "tickets": [], "open": {}, "charged": {}, "closed": []}


def new_counts() -> dict[str, Any]:
    """What changes with deals and is looked at often. `waiting` is for the next reading."""
    return {
        "deals": 0, "losses_in_a_row": 0, "oldest_ms": None, "first_seen_ms": None, "sum": 0.0,
        "waiting": {"operations": [], "opened": 0, "realised": 0.0},
    }  # fmt: skip


def book_deal(
    ledger: dict[str, Any], counts: dict[str, Any], deal: Deal, *, since_ms: int = 0
) -> bool:
    """Take a deal into account, once; False when its ticket was there already. Deals of before
    `since_ms` were in the account when it was looked at first."""
    tickets: list[int] = ledger["tickets"]
    if deal.ticket in tickets:
        return False
    tickets.append(deal.ticket)
    del tickets[:-TICKETS_MAX]
    counts["deals"] += 1
    oldest = counts["oldest_ms"]
    counts["oldest_ms"] = deal.event_time_ms if oldest is None else min(oldest, deal.event_time_ms)
    waiting = counts["waiting"]
    amount = deal.profit + deal.swap + deal.commission + deal.fee
    counts["sum"] += 0.0 if deal.type == CREDIT else amount
    if deal.type in OPERATION_TYPES:
        waiting["operations"].append([deal.ticket, deal.event_time_ms, amount])
        return True
    told_late = deal.event_time_ms < since_ms
    waiting["realised"] += 0.0 if told_late else amount
    _add_minute(ledger["minutes"], deal.event_time_ms, amount)
    if deal.type in TRADE_TYPES:
        waiting["opened"] += deal.entry in (IN, IN_OUT) and not told_late
        _charge(ledger["charged"], deal)
        _follow(ledger, deal, amount)
        counts["losses_in_a_row"] = _losses_in_a_row(ledger["closed"])
    return True


def _add_minute(minutes: dict[int, float], time_ms: int, amount: float) -> None:
    minute = time_ms // MINUTE_MS
    new = minute not in minutes
    minutes[minute] = minutes.get(minute, 0.0) + amount
    if new and len(minutes) % PRUNE_EVERY == 0:
        oldest = max(minutes) - KEPT_MINUTES
        for old in [one for one in minutes if one < oldest]:
            del minutes[old]


def _charge(charged: dict[str, list[float]], deal: Deal) -> None:
    """Lots and what they were charged, of opening and of closing deals."""
    sums = charged.setdefault(deal.symbol, [0.0, 0.0, 0.0, 0.0])
    if deal.entry == OUT_BY:  # neither spread nor commission: it says nothing of a closing order
        return
    at = 0 if deal.entry == IN else 2
    sums[at] += deal.volume_lots
    sums[at + 1] -= deal.commission + deal.fee


def _follow(ledger: dict[str, Any], deal: Deal, amount: float) -> None:
    """Volume and net result of each position, until it is closed: then it won or lost."""
    positions: dict[str, list[float]] = ledger["open"]
    closed: list[list[Any]] = ledger.setdefault("closed", [])
    key = str(deal.position_id)
    if deal.entry == IN:
        held = positions.setdefault(key, [0.0, 0.0])
        held[0] += deal.volume_lots
        held[1] += amount
        if closed and deal.event_time_ms <= closed[-1][0]:
            _open_late(positions, closed, key, deal.event_time_ms)
        while len(positions) > POSITIONS_MAX:
            del positions[next(iter(positions))]
        return
    held = positions.get(key, [deal.volume_lots, 0.0])  # opened before anybody looked
    left = held[0] - deal.volume_lots
    net = held[1] + amount
    if left > LOTS_EPSILON:
        positions[key] = [left, net]
        return
    positions.pop(key, None)
    insort(closed, [deal.event_time_ms, deal.ticket, key, deal.volume_lots, net])
    del closed[:-CLOSED_MAX]
    if deal.entry == IN_OUT and left < -LOTS_EPSILON:  # turned: the rest is open the other way
        positions[key] = [-left, 0.0]


def _open_late(
    positions: dict[str, list[float]], closed: list[list[Any]], key: str, opened_ms: int
) -> None:
    """An opening that is told after closes of its position: they closed what it opened."""
    later = [one for one in closed if one[2] == key and one[0] >= opened_ms]
    if not later:
        return
    closed[:] = [one for one in closed if one not in later]
    lots, net = positions.pop(key)
    left, net = lots - sum(one[3] for one in later), net + sum(one[4] for one in later)
    if left > LOTS_EPSILON:
        positions[key] = [left, net]
    else:
        last = later[-1]
        insort(closed, [last[0], last[1], key, sum(one[3] for one in later), net])


def _losses_in_a_row(closed: list[list[Any]]) -> int:
    count = 0
    for one in reversed(closed):
        if one[4] >= 0:
            break
        count += 1
    return count


def commission_per_lot(charged: dict[str, list[float]], symbol: str) -> float:
    """What closing a lot is charged, in account currency, from past deals: of closing deals of
    the symbol; else closing is taken to cost what opening did; else the mean of all symbols."""
    opened_lots, opened, closed_lots, closed = charged.get(symbol, (0.0, 0.0, 0.0, 0.0))
    if closed_lots > 0:
        return max(0.0, closed / closed_lots)
    if opened_lots > 0:
        return max(0.0, opened / opened_lots)
    lots = sum(one[0] + one[2] for one in charged.values())
    return max(0.0, sum(one[1] + one[3] for one in charged.values()) / lots) if lots > 0 else 0.0


def since(minutes: dict[int, float], start_ms: int) -> float:
    """Sum from a moment on, which is a full minute (as resets are)."""
    first = start_ms // MINUTE_MS
    return sum((amount for minute, amount in minutes.items() if minute >= first), 0.0)


def day_of(rules: Rules, now_ms: int) -> TradingDay:
    """The firm's day that runs."""
    account = rules.account
    return trading_day(now_ms, reset_time=account.reset_time, reset_zone=account.reset_zone)


def periods(rules: Rules, now_ms: int) -> dict[str, int]:
    """When the day, the week (Monday) and the month that run began, at the firm's reset."""
    account, day = rules.account, day_of(rules, now_ms)
    today = date.fromisoformat(day.name)
    monday = today - timedelta(days=today.weekday())

    def at(when: date) -> int:
        return instant_ms(when, account.reset_time, account.reset_zone)

    return {"day": day.start_ms, "week": at(monday), "month": at(today.replace(day=1))}


def realised(minutes: dict[int, float], rules: Rules, now_ms: int) -> dict[str, float]:
    """`realised_day`, `realised_week` and `realised_month`, account currency."""
    return {
        f"realised_{name}": round(since(minutes, start), 8)
        for name, start in periods(rules, now_ms).items()
    }


def knows_all_since(counts: dict[str, Any], start_ms: int, balance: float) -> bool:
    """Whether every deal from a moment on was seen: something was seen before it, a deal older
    than it was caught up with, or all deals together are the balance, from the first on."""
    seen, oldest = counts["first_seen_ms"], counts["oldest_ms"]
    if (seen is not None and seen < start_ms) or (oldest is not None and oldest < start_ms):
        return True
    return oldest is not None and abs(counts["sum"] - balance) < CENT


def operations_of(rows: Iterable[list[Any]]) -> tuple[BalanceOperation, ...]:
    """Operations as a reading tells them."""
    return tuple(BalanceOperation(int(row[0]), int(row[1]), float(row[2])) for row in rows)

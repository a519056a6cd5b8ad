"""Closed trades sorted into groups: by symbol, by side, by how they ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from events.trading import Trade


@dataclass(frozen=True, slots=True)
class Group:
    """Trades that have something in common. Money in account currency."""

    name: str
    trades: int
    wins: int
    net_profit: float
    costs: float
    """Commission, swap and fee; positive is what was paid."""

    @property
    def win_rate_percent(self) -> float:
        return self.wins / self.trades * 100

    @property
    def mean(self) -> float:
        return self.net_profit / self.trades


def by_symbol(trades: Iterable[Trade]) -> list[Group]:
    """The symbol with most trades first."""
    return _grouped(trades, lambda trade: trade.symbol)


def by_side(trades: Iterable[Trade]) -> list[Group]:
    """Long and short, as far as there are any."""
    return _grouped(trades, lambda trade: "short" if trade.side else "long")


def by_end(trades: Iterable[Trade]) -> list[Group]:
    """How they were closed: stop_loss, take_profit, expert, ..."""
    return _grouped(trades, lambda trade: trade.closed_by or "unknown")


def _grouped(trades: Iterable[Trade], name_of: Callable[[Trade], str]) -> list[Group]:
    found: dict[str, list[Trade]] = {}
    for trade in trades:
        found.setdefault(name_of(trade), []).append(trade)
    groups = [
        Group(
            name,
            len(members),
            sum(one.net_profit > 0 for one in members),
            sum(one.net_profit for one in members),
            -sum(one.commission + one.swap + one.fee for one in members) + 0.0,
        )
        for name, members in found.items()
    ]
    return sorted(groups, key=lambda group: (-group.trades, group.name))

"""Levels of hours added up by hour of the day, weekday, month, symbol or strategy. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from consumers.analytics.hours import SUMS, Sums
from consumers.analytics.recorded import Level, Levels
from events.analytics import SpreadHour

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
BY_TIME = ("hour", "weekday", "month")
BY = ("hour", "weekday", "symbol", "strategy", "month")


@dataclass(slots=True)
class Row:
    """What belongs to one name. Money in account currency, signs as in Analytics."""

    name: str
    order: int = 0
    """Rows of times stand in this order."""
    sums: Sums = field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))
    stood: dict[str, list[float]] = field(default_factory=dict)
    """Spreads: symbol -> [points times seconds, seconds]."""

    def add(self, other: Row) -> None:
        for name, value in other.sums.items():
            self.sums[name] += value
        for symbol, (weighted, seconds) in other.stood.items():
            self.add_spread(symbol, weighted, seconds)

    def add_spread(self, symbol: str, weighted: float, seconds: float) -> None:
        kept = self.stood.setdefault(symbol, [0.0, 0.0])
        kept[0] += weighted
        kept[1] += seconds

    @property
    def won_percent(self) -> float | None:
        return self.sums["won"] / self.sums["trades"] * 100 if self.sums["trades"] else None

    @property
    def charged(self) -> float:
        """Commission, swap and fee; negative when they were paid."""
        return self.sums["commission"] + self.sums["swap"] + self.sums["fee"]

    @property
    def points_per_deal(self) -> float | None:
        """Mean slippage of the deals of which it is known."""
        deals = self.sums["slippage_deals"]
        return self.sums["slippage_points"] / deals if deals else None

    def spreads(self) -> dict[str, float]:
        """Mean in points by symbol, weighted by time."""
        return {
            symbol: weighted / seconds
            for symbol, (weighted, seconds) in sorted(self.stood.items())
            if seconds
        }

    def as_json(self) -> dict[str, Any]:
        counts = ("trades", "won", "slippage_deals", "spread_deals")
        return {
            "name": self.name,
            **{
                name: int(value) if name in counts else round(value, 8) + 0.0
                for name, value in self.sums.items()
            },
            "points_per_deal": self.points_per_deal,
            "spread_points": self.spreads(),
        }


@dataclass(frozen=True, slots=True)
class AccountRows:
    """One account's rows and what they come to; `login` is None where nothing was closed and
    only spreads are known."""

    login: int | None
    rows: tuple[Row, ...]
    total: Row


def added(levels: Levels, by: str, zone: ZoneInfo) -> list[AccountRows]:
    """Rows of every account. `by` is one of BY; times are those of `zone`, of the beginning of
    each hour. Spreads belong to a terminal, so each account has them; a strategy has none."""
    naming = _naming(by, zone)
    spreads = () if by == "strategy" else levels.spreads
    logins = sorted({one.login for one in levels.trading})
    found = []
    for login in logins or (None,):
        rows: dict[str, Row] = {}
        for one in levels.trading:
            if one.login == login:
                row = _row(rows, naming(one))
                for name in SUMS:
                    row.sums[name] += getattr(one, name)
        for hour in spreads:
            _add_spread(_row(rows, naming(hour)), hour)
        found.append(AccountRows(login, tuple(_sorted(rows.values(), by)), _total(rows.values())))
    return found


def _row(rows: dict[str, Row], called: tuple[int, str]) -> Row:
    order, name = called
    return rows.setdefault(name, Row(name, order))


def _add_spread(row: Row, hour: SpreadHour) -> None:
    if hour.point:
        row.add_spread(hour.symbol, hour.mean / hour.point * hour.seconds, hour.seconds)


def _total(rows: Iterable[Row]) -> Row:
    total = Row("total")
    for row in rows:
        total.add(row)
    return total


def _sorted(rows: Iterable[Row], by: str) -> list[Row]:
    if by in BY_TIME:
        return sorted(rows, key=lambda row: row.order)
    return sorted(rows, key=lambda row: (-row.sums["net_profit"], row.name))


def _naming(by: str, zone: ZoneInfo) -> Callable[[Level], tuple[int, str]]:
    """Level -> place among the rows, and name of its row."""
    if by not in BY_TIME:
        return lambda one: (0, str(getattr(one, by)))

    def named(one: Level) -> tuple[int, str]:
        moment = datetime.fromtimestamp(one.hour_ms / 1000, UTC).astimezone(zone)
        if by == "hour":
            return moment.hour, f"{moment.hour:02d}:00"
        if by == "weekday":
            return moment.weekday(), WEEKDAYS[moment.weekday()]
        return moment.year * 12 + moment.month, f"{moment:%Y-%m}"

    return named

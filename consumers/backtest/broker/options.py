"""How the broker of a backtest behaves where facts do not tell: delay, slippage, fills."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from random import Random
from typing import Literal

from consumers.backtest.broker.prices.hours import WeeklyHours

_NUMBER = r"(\d+(?:\.\d+)?)"
_FIXED = re.compile(rf"{_NUMBER}(?:ms|pt)?")
_BETWEEN = re.compile(rf"{_NUMBER}-{_NUMBER}(?:ms|pt)?")
_SKEWED = re.compile(rf"{_NUMBER}/{_NUMBER}(?:ms|pt)?")
_P95 = 1.6448536269514722
"""The standard normal distribution lies below this in 95 of 100 cases."""


class BadOption(ValueError):
    """An option that means nothing. Names what is allowed."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number that is the same each time, or drawn anew for each order.

    `low` == `high`: always that. `skewed`: log-normal with `low` as its median and `high` as its
    95th percentile; else anything between them is as likely.
    """

    low: float = 0.0
    high: float = 0.0
    skewed: bool = False

    @classmethod
    def parse(cls, text: str, *, what: str) -> Amount:
        """`50` always, `20-80` between, `50/200` log-normal by median and 95th percentile.
        Raises BadOption."""
        stripped = text.replace(" ", "")
        if match := _FIXED.fullmatch(stripped):
            return cls(float(match[1]), float(match[1]))
        for pattern, skewed in ((_BETWEEN, False), (_SKEWED, True)):
            match = pattern.fullmatch(stripped)
            if match and float(match[1]) <= float(match[2]) and (float(match[1]) or not skewed):
                return cls(float(match[1]), float(match[2]), skewed)
        raise BadOption(
            f"{what} {text!r}: write 50 (always), 20-80 (between), or 50/200 (median and 95th "
            "percentile)"
        )

    def draw(self, random: Random) -> float:
        """One amount; never below 0."""
        if self.high <= self.low:
            return self.low
        if not self.skewed:
            return random.uniform(self.low, self.high)
        return self.low * math.exp(random.gauss(0.0, 1.0) * math.log(self.high / self.low) / _P95)

    def told(self, unit: str) -> str:
        """For people."""
        if self.high <= self.low:
            return f"{self.low:g} {unit}"
        if self.skewed:
            return f"median {self.low:g}, 95 % below {self.high:g} {unit} (log-normal, seeded)"
        return f"{self.low:g} to {self.high:g} {unit} (even, seeded)"

    def __bool__(self) -> bool:
        return self.high > 0 or self.low > 0


@dataclass(frozen=True, slots=True)
class SymbolCosts:
    """What a deal in one symbol costs, in account currency; positive is paid."""

    commission_per_lot: float = 0.0
    """For one lot and side."""
    commission_on: Literal["both", "in", "out"] = "both"
    fee_per_deal: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.commission_per_lot or self.fee_per_deal)


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Everything about the broker that is neither account nor instrument."""

    latency_ms: Amount = Amount()
    """From the decision until a request is at the broker."""
    slippage_points: Amount = Amount()
    """How much worse than the price market orders, stop orders and stop-losses are filled."""
    liquidity_lots: float | None = None
    """What one order gets at once; None: all it wants."""
    closed_market: Literal["refuse", "park"] = "refuse"
    """refuse: with return code 10018. park: a market order waits for the market to open."""
    quote_age_max_s: float = 3600.0
    """A symbol without a tick for longer counts as closed."""
    costs: Mapping[str, SymbolCosts] = field(default_factory=dict)
    """By symbol; what is missing costs nothing."""
    hours: Mapping[str, WeeklyHours] = field(default_factory=dict)
    """By symbol; a symbol without is open whenever it has ticks."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Fixed prices of pairs that convert money, for pairs without ticks."""

    def __post_init__(self) -> None:
        if self.closed_market not in ("refuse", "park"):
            raise BadOption(f"closed_market {self.closed_market!r}: write refuse or park")
        if self.liquidity_lots is not None and not self.liquidity_lots > 0:
            raise BadOption(f"liquidity_lots {self.liquidity_lots}: it must be above 0")
        if not self.quote_age_max_s > 0:
            raise BadOption(f"quote_age_max_s {self.quote_age_max_s}: it must be above 0")
        for symbol, rate in self.rates.items():
            if not (math.isfinite(rate) and rate > 0):
                raise BadOption(f"rate of {symbol} {rate}: it must be above 0")

    def merged(self, **given: object) -> BrokerOptions:
        """With other values where they are given (not None)."""
        changed = {name: value for name, value in given.items() if value is not None}
        kept = {one.name: getattr(self, one.name) for one in fields(self)}
        return BrokerOptions(**{**kept, **changed})

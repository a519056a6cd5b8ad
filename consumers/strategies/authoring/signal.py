"""What a strategy says: the position it wants, how large, entered how, and until when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NoReturn

Side = Literal["long", "short", "flat"]
SIDES: dict[object, Side] = {
    "long": "long", "short": "short", "flat": "flat", 1: "long", -1: "short", 0: "flat",
}  # fmt: skip
"""Words and signs that name a target."""
REASON_CHARS_MAX = 500


class BadSignal(ValueError):
    """A strategy said something that is no target. The message names the field and the cure."""


@dataclass(frozen=True, slots=True)
class Lots:
    """A size by volume."""

    lots: float


@dataclass(frozen=True, slots=True)
class RiskPercent:
    """A size by what is lost when the stop-loss is reached, in percent of equity."""

    percent: float


@dataclass(frozen=True, slots=True)
class Notional:
    """A size by value, in account currency."""

    amount: float


Size = Lots | RiskPercent | Notional


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A target, not an order: the position that is wanted in (strategy, symbol, leg).

    Made by `Strategy.target`. It holds until the next signal of its symbol and leg.
    """

    target: Side
    symbol: str
    leg: str = ""
    volume_lots: float | None = None
    risk_percent: float | None = None
    notional: float | None = None
    price_limit: float | None = None
    price_stop: float | None = None
    stop_loss: float | None = None
    take_profit: float | None = None
    valid_for_s: float | None = None
    price_deviation_points_max: int | None = None
    reason: str = ""
    at: int | None = None
    """Index of the tick it was decided on, in the array that `on_ticks` was given."""

    def __post_init__(self) -> None:
        """Raises BadSignal."""
        _check(self)


_POSITIVE = (
    "volume_lots", "risk_percent", "notional", "price_limit", "price_stop", "stop_loss",
    "take_profit", "valid_for_s",
)  # fmt: skip


def side_of(target: object) -> Side:
    """`long`, `short`, `flat`, or a number's sign. Raises BadSignal."""
    try:
        found = SIDES.get(target)
    except TypeError:
        found = None
    if found is None:
        raise BadSignal(f"target {target!r}: say long, short or flat (or +1, -1, 0)")
    return found


def _check(signal: Signal) -> None:
    if not signal.symbol:
        raise BadSignal("a strategy over several symbols names one: self.target(..., symbol=...)")
    for name in _POSITIVE:
        value = getattr(signal, name)
        if value is not None and not _is_positive(value):
            _refuse(name, value, "a number above 0")
    deviation = signal.price_deviation_points_max
    if deviation is not None and (not isinstance(deviation, int) or deviation < 0):
        _refuse("deviation_points", deviation, "a whole number of points")
    sizes = [signal.volume_lots, signal.risk_percent, signal.notional]
    if sum(size is not None for size in sizes) > 1:
        raise BadSignal("more than one size: give lots, risk_percent or notional")
    if signal.price_limit is not None and signal.price_stop is not None:
        raise BadSignal("limit and stop together: an entry waits for one of them")
    if signal.target != "flat":
        _check_entry(signal)


def _check_entry(signal: Signal) -> None:
    stop, take = signal.stop_loss, signal.take_profit
    if signal.risk_percent is not None and stop is None:
        raise BadSignal("risk_percent needs a stop_loss: it is what is lost when that is reached")
    if stop is not None and take is not None and (take > stop) != (signal.target == "long"):
        raise BadSignal(
            f"{signal.target} with stop_loss {stop:g} and take_profit {take:g}: they lie on the "
            "wrong sides"
        )


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _refuse(name: str, value: object, wanted: str) -> NoReturn:
    raise BadSignal(f"{name}={value!r}: it takes {wanted}")

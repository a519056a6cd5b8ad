"""What a backtest brought: signals, deals, trades, the equity curve and what was assumed.

Money is in `currency` (the account's), times are UTC in ms. Figures are computed from this alone
(`consumers.backtest.report`), so that a result can be stored and looked at anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from events.codec import EVENT_TYPES
from events.decisions import TradeSignal
from events.event import Event
from events.executing import TargetState
from events.trading import Deal, Trade

FORMAT = "mt5-bridge backtest"
VERSION = 1
ABSENT_ONCE = frozenset({"deal_values", "offsets"})
"""What results that were saved earlier lack."""
RESULT_BYTES_MAX = 1 << 30
"""A larger file is no result of ours."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class BadResult(ValueError):
    """A file that holds no result of a backtest. The message names file and reason."""


@dataclass(frozen=True, slots=True, eq=False)
class EquityCurve:
    """Columns of equal length, one row per interval in which something changed; between two rows
    the account stood still. The interval is a minute, longer when a run has too many of them."""

    time_ms: Ints
    """UTC, end of what the row tells of."""
    balance: Floats
    equity: Floats
    """At `time_ms`."""
    equity_min: Floats
    """The lowest since the row before."""
    positions: Ints
    """Open at `time_ms`."""

    def __len__(self) -> int:
        return len(self.time_ms)


@dataclass(frozen=True, slots=True, eq=False)
class PriceBars:
    """Prices of one symbol for a chart: bars of the bid, oldest first, of `seconds` each."""

    seconds: int
    time_ms: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats

    def __len__(self) -> int:
        return len(self.time_ms)


@dataclass(frozen=True, slots=True)
class Costs:
    """What trading cost, in account currency; a cost is positive, what was earned negative."""

    commission: float = 0.0
    swap: float = 0.0
    fee: float = 0.0
    spread: float = 0.0
    """Half the spread of every fill: what trading at the mid would have saved."""
    slippage: float = 0.0
    """From the price of the signal (or the stop that was reached) to that of the fill."""

    @property
    def total(self) -> float:
        return self.commission + self.swap + self.fee + self.spread + self.slippage


@dataclass(frozen=True, slots=True, eq=False)
class BacktestResult:
    """One run of one strategy."""

    strategy: str
    code: str
    """`module:Class`, as it was asked for."""
    parameters: Mapping[str, Any]
    symbols: tuple[str, ...]
    from_ms: int
    """Time of the first tick."""
    to_ms: int
    """Time of the last tick."""
    source: str
    ticks: int
    seconds: float
    """How long the run took, on a monotonic clock."""
    currency: str
    balance_initial: float
    assumptions: tuple[str, ...]
    """What the broker model takes for granted, a line each."""
    warnings: tuple[str, ...]
    """What may be wrong with ticks and account, a line each."""
    signals: tuple[TradeSignal, ...]
    trades: tuple[Trade, ...]
    """In the order they were opened; those still open at the end have `close_time_ms` 0."""
    deals: tuple[Deal, ...]
    equity: EquityCurve
    costs: Costs = field(default_factory=Costs)
    targets: tuple[TargetState, ...] = ()
    """What was refused, retired or expired, and why (bounded, the oldest are kept)."""
    risk: tuple[Event, ...] = ()
    """What risk rules said and asked for: limit_breach and command events."""
    bars: Mapping[str, PriceBars] = field(default_factory=dict)
    """By symbol."""
    stopped: str = ""
    """Why the run ended before its ticks did, or empty."""
    deal_values: tuple[float, ...] = ()
    """What each deal traded was worth in account currency; 0 of operations on the balance."""
    offsets: tuple[tuple[int, int], ...] = ()
    """(from that UTC ms, the broker's clock is so many seconds ahead of UTC), oldest first."""

    @property
    def ticks_per_s(self) -> float:
        return self.ticks / self.seconds if self.seconds > 0 else 0.0

    @property
    def closed_trades(self) -> tuple[Trade, ...]:
        return tuple(trade for trade in self.trades if trade.close_time_ms)

    @property
    def equity_final(self) -> float:
        return float(self.equity.equity[-1]) if len(self.equity) else self.balance_initial

    @property
    def balance_final(self) -> float:
        return float(self.equity.balance[-1]) if len(self.equity) else self.balance_initial

    def to_json(self) -> str:
        """One JSON document, read back by `from_json`."""
        told: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for one in fields(self):
            told[one.name] = _plain(getattr(self, one.name))
        return json.dumps(told)

    @classmethod
    def from_json(cls, text: str | bytes) -> BacktestResult:
        """Raises BadResult."""
        try:
            told = json.loads(text)
        except ValueError as error:
            raise BadResult(f"this is no JSON ({error})") from error
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            raise BadResult("this is no result of `bridgectl backtest --json`")
        if told.get("version") != VERSION:
            raise BadResult(f"version {told.get('version')} of results is not known: upgrade")
        try:
            return _read(told)
        except (KeyError, TypeError, ValueError) as error:
            raise BadResult(f"a part of it is missing or damaged ({error})") from error

    def save(self, path: Path) -> None:
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> BacktestResult:
        """Raises BadResult, naming the file."""
        try:
            if path.stat().st_size > RESULT_BYTES_MAX:
                raise BadResult(f"larger than {RESULT_BYTES_MAX} bytes")
            return cls.from_json(path.read_bytes())
        except OSError as error:
            raise BadResult(f"{path}: cannot be read: {error.strerror or error}") from error
        except BadResult as error:
            raise BadResult(f"{path}: {error}") from error


def _plain(value: Any) -> Any:
    """Events, columns and dataclasses as JSON has them."""
    if isinstance(value, Event):
        return {"event_type": value.TYPE, **value.model_dump(mode="json")}
    if isinstance(value, Trade):
        return value.model_dump(mode="json")
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, EquityCurve | PriceBars | Costs):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


def _read(told: dict[str, Any]) -> BacktestResult:
    absent = ABSENT_ONCE - told.keys()
    known = {one.name: told[one.name] for one in fields(BacktestResult) if one.name not in absent}
    for name in ("symbols", "assumptions", "warnings", "deal_values"):
        known[name] = tuple(known.get(name, ()))
    known["offsets"] = tuple((int(one[0]), int(one[1])) for one in known.get("offsets", ()))
    for name in ("signals", "deals", "targets", "risk"):
        known[name] = tuple(_event(one) for one in known[name])
    known["trades"] = tuple(Trade.model_validate(one) for one in known["trades"])
    known["equity"] = EquityCurve(**_columns(known["equity"], ints=("time_ms", "positions")))
    known["costs"] = Costs(**known["costs"])
    known["bars"] = {
        symbol: PriceBars(**_columns(bars, ints=("time_ms",)))
        for symbol, bars in known["bars"].items()
    }
    return BacktestResult(**known)


def _event(told: dict[str, Any]) -> Event:
    return EVENT_TYPES[told["event_type"]].model_validate(told)


def _columns(told: dict[str, Any], *, ints: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: np.array(column, np.int64 if name in ints else np.float64)
        if isinstance(column, list)
        else column
        for name, column in told.items()
    }

"""Events that consumers derive and people command."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from events.event import Event
from events.log import Lane


class RiskMetrics(Event):
    """Risk figures of an account at one moment. Money in account currency, shares in percent."""

    TYPE: ClassVar[str] = "risk_metrics"
    LANE: ClassVar[Lane] = Lane.HIGH
    KEEP_LAST: ClassVar[bool] = True

    login: int
    equity: float
    balance: float
    floating: float
    margin_free: float
    margin_level_percent: float | None
    """None without open positions."""
    drawdown_percent: float = 0.0
    daily_loss: float = 0.0
    exposure_by_currency: dict[str, float] = Field(default_factory=dict)
    leverage_used: float = 0.0
    positions_open: int = 0

    @property
    def key(self) -> str:
        return str(self.login)


class TradeSignal(Event):
    """A target, not an order: the position a strategy wants in (strategy, symbol, leg)."""

    TYPE: ClassVar[str] = "trade_signal"

    strategy: str
    symbol: str
    leg: str = ""
    target: Literal["long", "short", "flat"]
    volume_lots: float | None = None
    risk_percent: float | None = None
    price_limit: float | None = None
    stop_loss: float | None = None
    take_profit: float | None = None
    valid_until_ms: int | None = None
    price_deviation_points_max: int | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        return (
            f"{self.strategy}/{self.symbol}/{self.leg}"
            if self.leg
            else (f"{self.strategy}/{self.symbol}")
        )


class Command(Event):
    """What an operator or a program asks for; carried out once per `command_id`."""

    TYPE: ClassVar[str] = "command"
    LANE: ClassVar[Lane] = Lane.CRITICAL

    command_id: str
    verb: Literal["halt", "flatten", "resume", "backfill"]
    issued_by: str
    expires_ms: int | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.command_id


class LimitBreach(Event):
    """A limit was reached. Names the figures it was decided on."""

    TYPE: ClassVar[str] = "limit_breach"
    LANE: ClassVar[Lane] = Lane.CRITICAL

    login: int
    limit: str
    level: Literal["warn", "act"]
    action: Literal["alert", "block", "reduce", "flatten"]
    figures: dict[str, float]

    @property
    def key(self) -> str:
        return f"{self.login}/{self.limit}"

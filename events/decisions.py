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
    """Net exposure per currency, in account currency; long is positive."""
    leverage_used: float = 0.0
    """Gross notional as a multiple of equity."""
    positions_open: int = 0
    credit: float = 0.0
    margin: float = 0.0
    lots_open: float = 0.0
    cost_of_closing: float = 0.0
    """Spread, uncharged commission and slippage of closing everything now."""
    figures: dict[str, float | None] = Field(default_factory=dict)
    """Every figure by its name (see docs/RISK.md); None: cannot be known now."""
    by_symbol: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Symbol -> lots, net lots, exposure, floating, risk to the stop, spread."""
    exposure_gross_by_currency: dict[str, float] = Field(default_factory=dict)
    headroom: dict[str, float | None] = Field(default_factory=dict)
    """Limit -> account currency (or the limit's unit) left until it acts."""
    largest_lot: dict[str, float] = Field(default_factory=dict)
    """Symbol -> the largest volume that could be opened now without reaching a limit."""
    references: dict[str, float | str | None] = Field(default_factory=dict)
    """What drawdown and daily loss are measured from, and what of it is unknown."""
    unknown: tuple[str, ...] = ()
    """References and figures that are unknown, with a worst case in their place."""
    locks: dict[str, str] = Field(default_factory=dict)
    """Limit -> until when it holds: `manual`, or a UTC time."""

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
    notional: float | None = None
    """Size by value, in account currency. Exactly one of `volume_lots`, `risk_percent` (of equity,
    lost when the stop is reached) and `notional` sizes a target; none of them: the smallest lot."""
    price_limit: float | None = None
    """Enter by a limit order at this price; None: at market, or by `price_stop`."""
    price_stop: float | None = None
    """Enter by a stop order at this price."""
    stop_loss: float | None = None
    take_profit: float | None = None
    no_stop: bool = False
    """The strategy declares that it trades without a stop-loss; else an entry is refused."""
    valid_until_ms: int | None = None
    """After this time (UTC) the target opens nothing any more; what is open stays."""
    price_deviation_points_max: int | None = None
    bid: float | None = None
    ask: float | None = None
    """Prices it was decided at, so that slippage can be told; None: decided without a tick."""
    number: int = 0
    """The how-manieth of its strategy and symbol: 1 for the first."""
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
    verb: Literal["halt", "flatten", "resume", "backfill", "block", "reduce"]
    """halt: no new trades. flatten: halt, cancel pending orders, close. reduce: close a part
    (`arguments` say which). block: no new trades until `arguments["until_ms"]`. resume: a human
    ends a halt."""
    issued_by: str
    expires_ms: int | None = None
    """After this time a resume is refused, and a flatten blocks and pages instead of closing."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """`reason`; `magic` or `symbol` for a part of the account; `breach` names the limit and
    `breach_id` the breach it follows from."""
    login: int | None = None
    """The account it is meant for; a guard of another account refuses it."""

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
    threshold: float = 0.0
    value: float | None = None
    """The figure that reached it; None: unknown for longer than the rules bear."""
    lock: Literal["none", "until_reset", "manual"] = "none"
    locked_until_ms: int | None = None
    """When the lock ends by itself (UTC); None: never by itself."""
    entries: tuple[str, ...] = ()
    """Places of the entries it was decided on, oldest first."""
    delay_ms: int = 0
    """From the first entry that showed the breach to the decision."""
    detail: str = ""
    breach_id: str = ""
    """What followed from it names it so."""

    @property
    def key(self) -> str:
        return f"{self.login}/{self.limit}"


class ReferenceSet(Event):
    """A human states what the bridge cannot know: what losses are measured from."""

    TYPE: ClassVar[str] = "reference_set"
    LANE: ClassVar[Lane] = Lane.CRITICAL

    login: int
    set_by: str
    reason: str = ""
    initial_balance: float | None = None
    high_water: float | None = None
    day_reference: float | None = None
    """Of the day that runs now."""
    kept: dict[str, float] = Field(default_factory=dict)
    """References (by name) as group risk had told them at `kept_ms`, shifted by deposits and
    withdrawals since then, less those that the references of now know: for who began anew after
    that."""
    kept_ms: int | None = None
    kept_unknown: tuple[str, ...] = ()
    """Those of them that are no more than a bound."""
    set_id: str = ""
    """Each is posted once; without it only one per account could be."""

    @property
    def key(self) -> str:
        return f"{self.login}/{self.set_id}" if self.set_id else str(self.login)


class RulesSet(Event):
    """The risk rules that hold from here on, so that a replay follows the same ones."""

    TYPE: ClassVar[str] = "rules"
    LANE: ClassVar[Lane] = Lane.HIGH
    KEEP_LAST: ClassVar[bool] = True

    login: int
    rules: dict[str, Any]
    """As `events.rules.Rules` writes itself; empty: no rules."""
    source: str = ""
    """File or settings they came from."""
    checksum: str = ""

    @property
    def key(self) -> str:
        return str(self.login)

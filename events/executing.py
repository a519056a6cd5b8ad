"""Events between a target and what the broker made of it: switches, intents, answers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from events.event import Event, Ticket
from events.log import Lane


class StrategySet(Event):
    """An operator enables or disables a strategy; the newest one per name holds."""

    TYPE: ClassVar[str] = "strategy_set"
    LANE: ClassVar[Lane] = Lane.CRITICAL
    KEEP_LAST: ClassVar[bool] = True

    name: str
    """The group is called `strategy.NAME`."""
    code: str
    """`module:Class` or `path/to/file.py:Class`."""
    enabled: bool
    symbols: tuple[str, ...] = ()
    """Empty: those the strategy names, or every symbol there is."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    set_by: str
    set_id: str
    checksum: str = ""
    """Of the file it was enabled with, so that a changed file is noticed."""

    @property
    def key(self) -> str:
        return self.name


class StrategyBegan(Event):
    """A task of a strategy began: with which code and parameters, and from where it reads.

    A backtest of the same code over the same entries, with what was said up to `since` left out,
    gives the same signals.
    """

    TYPE: ClassVar[str] = "strategy_began"
    LANE: ClassVar[Lane] = Lane.HIGH
    KEEP_LAST: ClassVar[bool] = True

    strategy: str
    task: str
    """`GROUP.TASK`."""
    version: str
    """Of code, parameters and symbols together, as commits carry it."""
    code: str
    checksum: str
    """Of the file the code came from."""
    symbols: tuple[str, ...] = ()
    """Empty: every one that has ticks."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Those that were given."""
    after: dict[str, str] = Field(default_factory=dict)
    """Stream -> id of the entry behind which reading began."""
    since: str = ""
    """Id of the newest entry that was there: nothing is signalled on it, or on any before it."""
    entries_back: int = 0
    """Entries that were read back to warm up."""

    @property
    def key(self) -> str:
        return self.task


class ExecutionSet(Event):
    """An operator switches the acting on signals on or off, per account."""

    TYPE: ClassVar[str] = "execution_set"
    LANE: ClassVar[Lane] = Lane.CRITICAL
    KEEP_LAST: ClassVar[bool] = True

    login: int
    mode: Literal["off", "paper", "live"]
    """paper: only where the terminal is a simulated one. live: orders go to a real terminal."""
    strategies: tuple[str, ...] = ()
    """Empty: all that signal."""
    volume_lots_max: float | None = None
    """Largest volume of one order."""
    orders_per_minute_max: int = 30
    set_by: str
    set_id: str

    @property
    def key(self) -> str:
        return str(self.login)


class OrderIntent(Event):
    """What group `execute` wants done at the broker; carried out at most once per `intent_id`."""

    TYPE: ClassVar[str] = "order_intent"
    LANE: ClassVar[Lane] = Lane.HIGH

    intent_id: Ticket
    """Unique in the account, and the same whenever it is derived again: its magic."""
    login: int
    strategy: str
    symbol: str
    leg: str = ""
    verb: Literal["open", "close", "modify", "cancel"]
    side: int = 0
    """Of the order: 0 buy, 1 sell. A close names it too: of a long position it is 1."""
    volume_lots: float = 0.0
    """Of a close: 0 is all of it."""
    price_limit: float | None = None
    price_stop: float | None = None
    stop_loss: float | None = None
    """Of a modify: the whole wish, so None removes it; the same holds for `take_profit`."""
    take_profit: float | None = None
    deviation_points: int | None = None
    """How much worse than `price_seen` a price may be; None: the market's, whatever it is."""
    valid_until_ms: int | None = None
    """It is not sent after this time (UTC)."""
    expires_ms: int | None = None
    """A pending order stands until then (UTC); None: until it is cancelled."""
    price_seen: float = 0.0
    """What it was decided at: the ask of a buy, the bid of a sell. `deviation_points` count from
    here; 0: no price was known, and they count from the price when it is first sent."""
    magic: Ticket = 0
    """Goes into the request: tells whose position it is, for ever."""
    comment: str = ""
    """Goes into the request; brokers rewrite it, so it only helps."""
    position: Ticket = 0
    """Ticket of the position to close or change; 0 on accounts that net."""
    order: Ticket = 0
    """Ticket of the pending order to change or cancel."""
    mode: Literal["paper", "live"] = "paper"
    signal: str = ""
    """Place of the signal it follows from."""
    reason: str = ""

    @property
    def key(self) -> str:
        return str(self.intent_id)


class OrderAnswer(Event):
    """What became of an intent. The last one of an intent is final unless it says `unknown`."""

    TYPE: ClassVar[str] = "order_answer"
    LANE: ClassVar[Lane] = Lane.HIGH

    intent_id: Ticket
    login: int
    strategy: str = ""
    symbol: str = ""
    leg: str = ""
    state: Literal["sent", "placed", "done", "partial", "refused", "expired", "unknown"]
    """sent: it left for the broker. placed: a pending order stands. refused: by the broker, the
    latch, a limit or the sender; `detail` says why. unknown: the answer was lost and the account
    does not tell yet; nothing more is sent for it until it does."""
    retcode: int = 0
    order: Ticket = 0
    deal: Ticket = 0
    position: Ticket = 0
    volume_lots: float = 0.0
    """Filled so far."""
    price: float = 0.0
    """Mean of what was filled."""
    attempts: int = 0
    reconciled: bool = False
    """The account was read to find out, because the answer was lost."""
    sent_ms: int = 0
    answered_ms: int = 0
    detail: str = ""

    @property
    def key(self) -> str:
        return str(self.intent_id)


class TargetState(Event):
    """How a target stands; `retired` ones open nothing until a new signal."""

    TYPE: ClassVar[str] = "target"
    LANE: ClassVar[Lane] = Lane.HIGH
    KEEP_LAST: ClassVar[bool] = True

    login: int
    strategy: str
    symbol: str
    leg: str = ""
    state: Literal["wanted", "reached", "retired", "refused", "expired", "unknown"]
    target: Literal["long", "short", "flat"]
    volume_lots: float = 0.0
    """Wanted."""
    held_lots: float = 0.0
    """What the strategy owns of it; negative when short."""
    reason: str = ""
    """Of a retired one: stop_loss, take_profit, stop_out, manual, flatten, other, unknown. Of a
    refused one: why."""
    signal: str = ""

    @property
    def key(self) -> str:
        return f"{self.login}/{self.strategy}/{self.symbol}/{self.leg}"

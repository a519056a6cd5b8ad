"""The rules of one account as data: what is measured from where, which limits act, and when.

JSON-able both ways: `Rules.model_dump(mode="json")` is what a `RulesSet` event carries, and
`Rules.model_validate` reads it again.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from events.rules.figures import FIGURES, Figure, Subject, figure_key

LIMITS_MAX = 64
WINDOWS_MAX = 64
TIMES_MAX = 5_000
"""Moments of all calendars together."""
WARN_SHARE, ACT_SHARE = 0.8, 0.9
"""Of a budget, where a limit names no levels: firms measure tick by tick, we at every poll."""

Money = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
WallTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Name = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[^\s/|\x00-\x1f][^/|\x00-\x1f]*$")
]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DayReference(StrEnum):
    """What the loss of a day is measured from."""

    BALANCE = "balance"
    """The balance at the reset."""
    EQUITY = "equity"
    """The equity at the reset."""
    MAX_BALANCE_EQUITY = "max_balance_equity"
    """The higher of both at the reset."""
    PEAK_EQUITY = "peak_equity"
    """The highest equity since the reset."""
    PEAK_BALANCE_EQUITY = "peak_balance_equity"
    """The highest balance or equity since the reset."""


class Basis(StrEnum):
    """What a budget in percent is a percentage of."""

    INITIAL_BALANCE = "initial_balance"
    REFERENCE = "reference"
    """What the loss is measured from."""
    RESET_BALANCE = "reset_balance"
    """The balance at the last reset, whatever the day's reference is."""
    BALANCE = "balance"
    EQUITY = "equity"
    MONEY = "money"
    """No percentage: levels are in account currency."""


class Action(StrEnum):
    """What a limit does when it acts."""

    ALERT = "alert"
    BLOCK = "block"
    REDUCE = "reduce"
    FLATTEN = "flatten"


class Lock(StrEnum):
    """When what a limit did ends."""

    NONE = "none"
    UNTIL_RESET = "until_reset"
    MANUAL = "manual"


class Account(_Table):
    """What losses are measured from. Unknown values are asked for, never guessed."""

    initial_balance: Positive | None = None
    high_water: Positive | None = None
    """Highest equity before the bridge began to watch."""
    reset_time: WallTime = "00:00"
    reset_zone: Annotated[str, Field(max_length=64)] = "UTC"
    day_reference: DayReference = DayReference.BALANCE
    gap_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """A longer time without a reading is one in which peaks and resets may have been missed."""


class Reduce(_Table):
    """Which positions are made smaller, and by how much."""

    which: Literal["largest_loss", "largest_exposure", "newest", "oldest", "all"] = "largest_loss"
    percent: Annotated[float | None, Field(gt=0, le=100)] = None
    """Of the volume of each position chosen; None: close one after the other until the figure is
    back at its warn level."""
    positions_max: Annotated[int | None, Field(ge=1, le=1000)] = None
    """How many are touched at once; None: with `percent` all of them, else as many as needed."""


class Limit(_Table):
    """One limit on one figure.

    Of a loss figure, `limit` is the budget (in percent of `of`, or money), and `warn` and `act`
    are parts of it in the same unit; where they are missing, 80 % and 90 % of it hold. `buffer`
    (money) or `buffer_percent` (of the budget) say the same as `act` by the distance to the
    floor. Of other figures `act` is the level itself.
    """

    name: Name
    figure: str
    limit: Positive | None = None
    of: Basis | None = None
    """None: initial balance for losses and profits, else no percentage."""
    warn: Money | None = None
    act: Money | None = None
    buffer: NotNegative | None = None
    buffer_percent: Annotated[float | None, Field(ge=0, lt=100)] = None
    action: Action = Action.ALERT
    lock: Lock = Lock.NONE
    scope: Literal["account", "magic", "symbol"] = "account"
    """What a flatten or reduce is about."""
    symbol: Annotated[str, Field(max_length=32)] = ""
    """Of figures of symbols: which one; `*` means each."""
    currency: Annotated[str, Field(max_length=32)] = ""
    magic: Annotated[int | None, Field(ge=0, lt=2**64)] = None
    hard: bool = False
    """Hard: one immediate re-read, no confirmation, no window defers it."""
    confirm_s: Annotated[float | None, Field(ge=0, le=600)] = None
    """How long a soft limit must be reached before it acts; None: as `guard.confirm_s`."""
    floor_max: Literal["initial_balance"] | None = None
    """A trailing floor rises no higher than this."""
    reduce: Reduce | None = None

    @property
    def subject(self) -> str:
        """The symbol, currency or magic number its figure is about; empty: the account."""
        kind = self.definition.subject
        if kind == Subject.SYMBOL:
            return self.symbol
        if kind == Subject.CURRENCY:
            return self.currency
        return str(self.magic) if kind == Subject.MAGIC and self.magic is not None else ""

    @property
    def key(self) -> str:
        """Name of its figure among others."""
        return figure_key(self.figure, self.subject)

    @property
    def definition(self) -> Figure:
        return FIGURES[self.figure]

    @property
    def basis(self) -> Basis:
        """What its levels are percentages of; MONEY: they are plain numbers."""
        if self.of is not None:
            return self.of
        return Basis.INITIAL_BALANCE if self.definition.loss else Basis.MONEY


class Goal(_Table):
    """What is to be reached; nothing acts on it."""

    name: Name
    figure: str
    at_least: Money | None = None
    at_most: Money | None = None
    of: Basis | None = None


class Moment(_Table):
    """One entry of a calendar: UTC, and the currencies or symbols it concerns (none: all)."""

    at_ms: int
    name: Annotated[str, Field(max_length=128)] = ""
    concerns: tuple[str, ...] = ()


def _in_order(times: tuple[Moment, ...]) -> tuple[Moment, ...]:
    return tuple(sorted(times, key=lambda one: one.at_ms))


class Window(_Table):
    """Times at which trading is restricted: weekly, or around the moments of a calendar."""

    name: Name
    zone: Annotated[str, Field(max_length=64)] = "UTC"
    days: tuple[Weekday, ...] = ()
    """Weekly: the days on which it begins."""
    begin: WallTime | None = None
    until: WallTime | None = None
    """Weekly: when it ends; earlier than `begin` means the next day, or `until_day`."""
    until_day: Weekday | None = None
    file: Annotated[str, Field(max_length=512)] = ""
    """A calendar beside the rule file (CSV or TOML); its moments are put into `times`."""
    times: Annotated[
        tuple[Moment, ...], Field(max_length=TIMES_MAX), AfterValidator(_in_order)
    ] = ()
    before_minutes: Annotated[float, Field(ge=0, le=10_080)] = 0.0
    after_minutes: Annotated[float, Field(ge=0, le=10_080)] = 0.0
    symbols: tuple[str, ...] = ()
    """Empty: every symbol."""
    block: bool = True
    """No new trades while it lasts."""
    flatten_before_minutes: Annotated[float | None, Field(ge=0, le=10_080)] = None
    """Close so long before it begins; None: positions stay."""
    defer: bool = False
    """Soft limits wait for its end."""


class GuardRules(_Table):
    """How the guard behaves. Times in seconds."""

    confirm_s: Annotated[float, Field(ge=0, le=600)] = 1.0
    """A soft limit must be reached for so long, in every usable reading, before it acts."""
    suspect_s: Annotated[float, Field(ge=0, le=600)] = 3.0
    """The same where readings contradict themselves."""
    stale_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    """A reading older than this is not used."""
    unknown_equity_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Equity unknown for so long with positions open: block and page."""
    others_after_latch: Literal["close", "alert"] = "close"
    """What happens to positions that others open after the latch."""
    recloses_per_minute_max: Annotated[int, Field(ge=1, le=600)] = 10
    dead_man_s: Annotated[float | None, Field(gt=0, le=86_400)] = None
    """Without a sign of the log for so long: no new trades."""
    dead_man_flattens: bool = False
    """Whether positions are closed then too."""
    heartbeat_s: Annotated[float | None, Field(gt=0, le=86_400)] = None
    """Without a heartbeat of the user's own for so long: as above."""
    deviation_points: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Price deviation that a closing order accepts."""


class Costs(_Table):
    """What closing costs beyond the spread."""

    slippage_points: NotNegative = 0.0
    commission_per_lot: NotNegative | None = None
    """Account currency, of a closing deal; None: what past deals of the symbol were charged."""


class Rules(_Table):
    """Everything that holds for one account."""

    name: Annotated[str, Field(max_length=64)] = ""
    extends: Annotated[str, Field(max_length=64)] = ""
    """The pack it is made from."""
    currency: Annotated[str, Field(max_length=8)] = ""
    account: Account = Account()
    limits: Annotated[tuple[Limit, ...], Field(max_length=LIMITS_MAX)] = ()
    goals: Annotated[tuple[Goal, ...], Field(max_length=LIMITS_MAX)] = ()
    windows: Annotated[tuple[Window, ...], Field(max_length=WINDOWS_MAX)] = ()
    guard: GuardRules = GuardRules()
    costs: Costs = Costs()

    def limit(self, name: str) -> Limit:
        """The limit called so. Raises KeyError."""
        for one in self.limits:
            if one.name == name:
                return one
        raise KeyError(name)

    @property
    def checksum(self) -> str:
        """Of their content, for `RulesSet`."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

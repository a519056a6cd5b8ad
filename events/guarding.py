"""Events of the guard, who stops an account: its state, its latch, and each step of a flatten."""

from __future__ import annotations

from typing import ClassVar, Literal

from events.event import Event, Part, Ticket
from events.log import Lane


class _GuardEvent(Event):
    LANE: ClassVar[Lane] = Lane.CRITICAL

    login: int
    terminal: str

    @property
    def key(self) -> str:
        return str(self.login)


class GuardState(_GuardEvent):
    """How a guard is; appended when it changed, and every few seconds."""

    TYPE: ClassVar[str] = "guard_state"
    KEEP_LAST: ClassVar[bool] = True

    state: Literal["watching", "blocked", "halted", "flattening", "blind", "stopped"]
    """blocked: no new trades until `blocked_until_ms`. halted: latched. blind: the account cannot
    be read."""
    latched: bool = False
    latch_id: str = ""
    reason: str = ""
    by: str = ""
    blocked_until_ms: int | None = None
    blocked_only: tuple[str, ...] = ()
    """Symbols and currencies that are blocked while the rest of the account is not; empty unless
    `state` leaves the account free."""
    positions: int | None = None
    """None: unknown."""
    equity: float | None = None
    hard_floor: float | None = None
    """Equity at which it flattens by itself; None: no hard limit, or its reference is unknown."""
    log_silent_s: float | None = None
    """Since when the log does not answer; None: it does."""
    dead_man_s: float | None = None
    """Seconds left until the dead-man switch acts; None: it is not set."""


class LatchChanged(_GuardEvent):
    """The latch of an account was set or cleared. While it is set nothing may be opened."""

    TYPE: ClassVar[str] = "latch"
    KEEP_LAST: ClassVar[bool] = True

    latched: bool
    latch_id: str
    reason: str
    by: str
    command_id: str = ""
    lock: Literal["none", "until_reset", "manual"] = "manual"
    until_ms: int | None = None
    breach_id: str = ""
    """The breach for which the guard itself latched."""


class FlattenStep(_GuardEvent):
    """One step of a flatten: a request and what became of it."""

    TYPE: ClassVar[str] = "flatten_step"

    flatten_id: str
    number: int
    """Counts the steps of a flatten from 1."""
    step: Literal["snapshot", "cancel", "close", "close_by", "reduce", "sweep", "wait", "page"]
    ticket: Ticket = 0
    symbol: str = ""
    volume_lots: float = 0.0
    retcode: int | None = None
    """None: no answer, or no request."""
    outcome: str = ""
    """done, partial, retry, parked, refused, unknown, gone, clear, remaining."""
    detail: str = ""
    took_ms: float = 0.0
    command_id: str = ""
    """What asked for the flatten; empty: the guard itself."""
    latch_id: str = ""
    """The latch it goes with."""


class TicketOutcome(Part):
    """What became of one position or pending order in a flatten."""

    ticket: Ticket
    symbol: str
    outcome: Literal["closed", "cancelled", "parked", "refused", "unknown"]
    retcode: int | None = None
    volume_lots: float = 0.0
    price_seen: float = 0.0
    """When the flatten began."""
    price_closed: float = 0.0
    detail: str = ""


class FlattenEnded(_GuardEvent):
    """How a flatten stands at its end; another sweep may correct it."""

    TYPE: ClassVar[str] = "flatten_ended"
    KEEP_LAST: ClassVar[bool] = True

    flatten_id: str
    state: Literal["FLAT", "FLAT_EXCEPT", "UNKNOWN"]
    scope: str = "account"
    """account, magic=N or symbol=NAME."""
    reason: str = ""
    by: str = ""
    outcomes: tuple[TicketOutcome, ...] = ()
    positions: int | None = None
    """Still open in its scope; None: unknown."""
    orders: int | None = None
    requests: int = 0
    breach_to_flat_ms: float | None = None
    """From what set it off to the last close confirmed; None: not flat."""
    verified_ms: float | None = None
    """From what set it off to the end of the verifying sweeps."""
    command_id: str = ""
    """What asked for it; empty: the guard itself."""
    latch_id: str = ""
    """The latch it goes with."""
    took_over: tuple[str, ...] = ()
    """Ids of commands whose flattens it took over before they had ended."""

"""Faults of a terminal on demand: planned in the options, or injected while it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field

from producers.terminals.structs import TradeRequest

FaultKind = Literal[
    "hang", "slow", "error", "system_error", "none", "empty", "partial",
    "ipc_lost", "incompatible", "exit",
    "disconnect", "hole", "corrected", "tick_ahead", "tick_behind",
    "account_switched", "empty_account", "wrong_password",
    "algo_off", "api_off", "investor", "expert_off",
    "deselected", "symbol_removed", "clock_change", "host_clock_jump",
    "retcode", "false_answer", "bare_answer", "lost_answer", "late_answer", "exit_after",
    "never_sent",
    "liquidity", "market_closed", "trade_mode", "comment_rewritten", "late_history", "stale_book",
    "price_jump", "foreign_position", "foreign_order", "foreign_close", "balance",
]  # fmt: skip
"""
Calls (`methods`, `symbols` and `calls_max` choose which):
    hang           the call never returns
    slow           the call takes `seconds` of real time
    error          None (False) with last error `code`
    system_error   the call raises SystemError
    none, empty    None with -1; an empty answer without an error
    partial        only the first half of the rows
The link to the terminal:
    ipc_lost       -10001 once, then -10004 until initialize()
    incompatible   initialize() fails with -5 (terminal was updated)
    exit           the process of the terminal's host ends at once
The link of the terminal to its broker, and its ticks:
    disconnect     no ticks, a frozen account and 10031; what was missed appears `seconds` after
                   the reconnect, and the account is empty for as long
    hole           ticks of the span never appear
    corrected      `share` of the ticks of the last `seconds` before it disappear
    tick_ahead     symbol_info_tick is `seconds` ahead of copy_ticks_*
    tick_behind    symbol_info_tick is `seconds` behind
The account:
    account_switched   a human logs in to `login`
    empty_account      positions and orders are () although there are some
    wrong_password     initialize() and login() fail with -6
    algo_off, api_off  the Algo Trading button; the option for external Python
    investor, expert_off   account_info.trade_allowed, .trade_expert are False
Requests (`symbols`, `actions`, `closes` and `calls_max` choose which, `share` how many of them;
`codes` is a script, one for each):
    retcode            order_send answers `code` and does nothing (a 0 in `codes` lets one pass)
    false_answer       order_send does its work and answers `code`, naming no deal
    bare_answer        order_send does its work and answers 10009 with deal and order 0
    lost_answer        order_send does its work and gives None with -10002 (or one of `codes`)
    late_answer        order_send does its work, and answers `seconds` of real time later
    exit_after         order_send does its work, and the host's process ends without an answer
    never_sent         order_send gives None with -10001 and does nothing
What the broker does to requests and to what is seen of them:
    liquidity          an order gets `lots` at once; what it does with the rest is its filling
    market_closed      `symbols` do not trade, whatever the hour
    trade_mode         SYMBOL_TRADE_MODE is `code` (0 disabled, 1 long, 2 short, 3 close only)
    comment_rewritten  deals carry `text` for a comment
    late_history       deals and done orders appear in the history `seconds` later
    stale_book         positions and orders are those of the last look, for up to `seconds`
Happenings at the broker. They count `at_s` from the opening of the account, happen once, and stay
in its memory where it has one:
    price_jump         prices of `symbols` are off by `percent` and `points`, reached over
                       `seconds` (0: a gap), for `for_s`
    foreign_position   somebody else opens `count` positions of `lots` on `side` (0 buy, 1 sell)
    foreign_order      ... places `count` limit orders, `points` away from the price
    foreign_close      ... closes every position of `symbols`
    balance            `amount` of account currency as a deal of type `code` (2 balance, 3 credit,
                       15 dividend, ...; -1 is 2)
Names and clocks:
    deselected, symbol_removed   a human removes `symbols` from Market Watch; the broker does
    clock_change       from now on the broker's clock is off its rule by `seconds`
    host_clock_jump    the host's own clock is off by `seconds`
"""


AT_THE_BROKER = frozenset(
    {"price_jump", "foreign_position", "foreign_order", "foreign_close", "balance"}
)
"""Kinds that are no faults of a terminal: they happen to the account."""


class Fault(BaseModel):
    """One fault. Times are virtual; `at_s` counts from the start of the terminal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    at_s: float = 0.0
    for_s: float | None = None
    """None: until cleared (or once, for things that happen at a moment)."""
    calls_max: int | None = Field(None, ge=1)
    methods: tuple[str, ...] = ()
    """Empty: every method."""
    symbols: tuple[str, ...] = ()
    """Empty: every symbol."""
    code: int = -1
    seconds: float = 0.0
    share: float = Field(1.0, ge=0, le=1)
    login: int = 0
    codes: tuple[int, ...] = Field((), max_length=10_000)
    """One code for each call that is hit; they stand for `code` and `calls_max`."""
    actions: tuple[int, ...] = ()
    """TRADE_ACTION_ numbers of the requests that are meant; empty: all."""
    closes: bool | None = None
    """Only requests that close a position (True), only others (False); None: both."""
    lots: float = Field(0.1, ge=0)
    side: int = Field(0, ge=0, le=1)
    count: int = Field(1, ge=1, le=1000)
    amount: float = 0.0
    percent: float = Field(0.0, gt=-100)
    points: float = 0.0
    text: str = ""

    @property
    def hits_max(self) -> int | None:
        """How many calls it hits; None: every one."""
        return len(self.codes) if self.codes else self.calls_max


@dataclass(slots=True)
class FaultSpan:
    """A fault in its span of virtual time (UTC ms); `until_ms` None is open."""

    fault: Fault
    from_ms: int
    until_ms: int | None
    calls_left: int | None
    begun: bool = False
    asked: int = 0

    def covers(self, utc_ms: int) -> bool:
        ended = self.until_ms is not None and utc_ms >= self.until_ms
        return self.from_ms <= utc_ms and not ended and self.calls_left != 0

    def asks_for(self, request: TradeRequest | None) -> bool:
        """Whether a request is one of those that are meant."""
        fault = self.fault
        if request is None:
            return True
        wanted = not fault.actions or request.action in fault.actions
        return wanted and fault.closes in (None, bool(request.position))

    def drawn(self) -> bool:
        """Whether this call is of the share that is hit; the same calls in every run."""
        if self.fault.share >= 1:
            return True
        self.asked += 1
        draw = crc32(f"{self.fault.kind} {self.from_ms} {self.asked}".encode()) / (1 << 32)
        return draw < self.fault.share

    def hit(self) -> Fault:
        """Count one call. Gives the fault as it hits this one."""
        fault, left = self.fault, self.calls_left
        if left is not None:
            self.calls_left = left - 1
            if fault.codes:
                return fault.model_copy(update={"code": fault.codes[len(fault.codes) - left]})
        return fault

    def concerns(self, method: str, symbol: str) -> bool:
        fault = self.fault
        by_method = not fault.methods or method in fault.methods
        return by_method and (not fault.symbols or not symbol or symbol in fault.symbols)


class FaultBoard:
    """All faults of one terminal, planned and injected."""

    def __init__(self, planned: tuple[Fault, ...], start_utc_ms: int) -> None:
        self._lock = threading.Lock()
        self._spans: list[FaultSpan] = []
        self._released = threading.Event()
        for fault in planned:
            if fault.kind in AT_THE_BROKER:
                continue
            self._add(fault, start_utc_ms + int(fault.at_s * 1000))

    def inject(self, fault: Fault, utc_ms: int) -> None:
        """Let a fault begin now (`at_s` is not used)."""
        with self._lock:
            self._add(fault, utc_ms)

    def clear(self, kind: str, utc_ms: int) -> None:
        """End every open fault of a kind; hanging calls return."""
        with self._lock:
            for span in self._spans:
                if span.fault.kind == kind and (span.until_ms is None or span.until_ms > utc_ms):
                    span.until_ms = max(utc_ms, span.from_ms)
        if kind == "hang":
            self._released.set()
            self._released = threading.Event()

    def active(self, kind: str, utc_ms: int, *, symbol: str = "") -> Fault | None:
        """The fault of a kind that holds at a moment, without using it up."""
        for span in self.spans(kind):
            if span.covers(utc_ms) and span.concerns("", symbol):
                return span.fault
        return None

    def take(
        self,
        kind: str,
        utc_ms: int,
        *,
        method: str,
        symbol: str = "",
        request: TradeRequest | None = None,
    ) -> Fault | None:
        """The fault that hits this call; counts the call."""
        with self._lock:
            for span in self._spans:
                if span.fault.kind != kind or not span.covers(utc_ms):
                    continue
                if span.concerns(method, symbol) and span.asks_for(request) and span.drawn():
                    return span.hit()
        return None

    def begun(self, kinds: frozenset[str], utc_ms: int) -> list[FaultSpan]:
        """Faults of these kinds that began since the last question, oldest first."""
        with self._lock:
            fresh = [
                span
                for span in self._spans
                if span.fault.kind in kinds and not span.begun and span.from_ms <= utc_ms
            ]
            for span in fresh:
                span.begun = True
        return sorted(fresh, key=lambda span: span.from_ms)

    def spans(self, *kinds: str) -> list[FaultSpan]:
        """Every span of some kinds, past and future too."""
        with self._lock:
            return [span for span in self._spans if span.fault.kind in kinds]

    def hang(self) -> None:
        """Block until hang faults are cleared; a host process is killed out of this."""
        self._released.wait()

    def _add(self, fault: Fault, from_ms: int) -> None:
        until = None if fault.for_s is None else from_ms + int(fault.for_s * 1000)
        self._spans.append(FaultSpan(fault, from_ms, until, fault.hits_max))

"""Faults of a terminal on demand: planned in the options, or injected while it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FaultKind = Literal[
    "hang", "slow", "error", "system_error", "none", "empty", "partial",
    "ipc_lost", "incompatible", "exit",
    "disconnect", "hole", "corrected", "tick_ahead", "tick_behind",
    "account_switched", "empty_account", "wrong_password",
    "algo_off", "api_off", "investor", "expert_off",
    "deselected", "symbol_removed", "clock_change", "host_clock_jump",
    "retcode", "lost_answer", "never_sent",
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
    retcode            order_send answers `code` and does nothing
    lost_answer        order_send does its work and gives None with -10002
    never_sent         order_send gives None with -10001 and does nothing
Names and clocks:
    deselected, symbol_removed   a human removes `symbols` from Market Watch; the broker does
    clock_change       from now on the broker's clock is off its rule by `seconds`
    host_clock_jump    the host's own clock is off by `seconds`
"""


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


@dataclass(slots=True)
class FaultSpan:
    """A fault in its span of virtual time (UTC ms); `until_ms` None is open."""

    fault: Fault
    from_ms: int
    until_ms: int | None
    calls_left: int | None
    begun: bool = False

    def covers(self, utc_ms: int) -> bool:
        ended = self.until_ms is not None and utc_ms >= self.until_ms
        return self.from_ms <= utc_ms and not ended and self.calls_left != 0

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

    def take(self, kind: str, utc_ms: int, *, method: str, symbol: str = "") -> Fault | None:
        """The fault that hits this call; counts the call."""
        with self._lock:
            for span in self._spans:
                if span.fault.kind != kind or not span.covers(utc_ms):
                    continue
                if span.concerns(method, symbol):
                    if span.calls_left is not None:
                        span.calls_left -= 1
                    return span.fault
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
        self._spans.append(FaultSpan(fault, from_ms, until, fault.calls_max))

"""Whether an intent may be sent now: what the operator switched on, what this machine allows.

Everything here is judged again right before an order leaves, not only when it was taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from events.executing import ExecutionSet, OrderIntent
from producers.ordering.options import OrderingOptions
from producers.terminals.spec import TRADE_MODES

MINUTE_MS = 60_000
REDUCING = frozenset({"close", "cancel"})
"""What only makes less of something is refused by no size, no rate and no list of strategies."""
LATE_MS = 1_000
"""An answer that an order is late names no smaller delay."""


class OrderRate:
    """How many requests went out within the last minute (sliding). Times in ms."""

    def __init__(self, sent_ms: Iterable[int] = ()) -> None:
        self._sent = deque(sent_ms)

    def count(self, now_ms: int) -> int:
        """Requests of the last minute. A clock that was put back frees nothing."""
        while self._sent and self._sent[0] <= now_ms - MINUTE_MS:
            self._sent.popleft()
        return len(self._sent)

    def sent(self, now_ms: int) -> None:
        """One goes out now."""
        self._sent.append(now_ms)


class Permits:
    """What holds for one account. `switch` is the operators' newest word, None: none was heard."""

    def __init__(self, options: OrderingOptions, rate: OrderRate) -> None:
        self._options, self.rate = options, rate
        self.switch: ExecutionSet | None = None
        self.origin_refusal = ""
        """Why this namespace may not lead to orders at all."""

    def refusal(self, intent: OrderIntent, *, login: int) -> str:
        """Why an intent may not be sent at all; "" when it may."""
        return (
            self.origin_refusal
            or _of_machine(self._options, intent)
            or self._of_switch(intent, login)
        )

    def too_much(self, intent: OrderIntent, *, now_ms: int) -> str:
        """Which of the operator's limits an intent that opens or changes something would pass."""
        switch = self.switch
        if switch is None or intent.verb in REDUCING:
            return ""
        if switch.strategies and intent.strategy not in switch.strategies:
            return f"strategy {intent.strategy} is not switched on for execution"
        most = switch.volume_lots_max
        if intent.verb == "open" and most is not None and intent.volume_lots > most + 1e-9:
            return f"{intent.volume_lots:g} lots: the switch allows at most {most:g} in one order"
        allowed = switch.orders_per_minute_max
        if self.rate.count(now_ms) >= allowed:
            return f"the switch allows at most {allowed} requests in a minute"
        return ""

    def _of_switch(self, intent: OrderIntent, login: int) -> str:
        if intent.login != login:
            return f"the intent is for account {intent.login}, the terminal has {login}"
        switch = self.switch
        name = self._options.terminal
        if switch is None or switch.mode == "off":
            return f"execution is off (bridgectl execution on --terminal {name})"
        if intent.mode != switch.mode:
            return f"the intent is for {intent.mode}, execution is switched to {switch.mode}"
        return ""


def _of_machine(options: OrderingOptions, intent: OrderIntent) -> str:
    """What the settings of this machine and the kind of its terminal forbid."""
    name = options.terminal
    if options.permission == "off":
        return (
            f'EXECUTION is off for terminal {name}: set execution = "paper" or "live" in '
            "terminals.toml (EXECUTION in .env) on the machine of its producer"
        )
    if intent.mode == "paper":
        kind = options.kind
        return (
            "" if options.virtual else f"paper orders go to simulated terminals, {name} is {kind}"
        )
    if options.permission != "live":
        return f'live orders need execution = "live" for terminal {name} in the settings'
    lacking = [
        what
        for what, named in (
            ("login", options.login), ("server", options.server),
            ("trade_mode", options.trade_mode is not None),
        )
        if not named
    ]  # fmt: skip
    if lacking:
        return f"live orders need {', '.join(lacking)} of terminal {name} in the settings"
    return ""


def wrong_account(options: OrderingOptions, account: Any, *, login: int) -> str:
    """Why the account that the terminal shows now is not the one; "" when it is. `login`: the
    one that is traded since the start."""
    wrong = []
    if account.login != login or options.login not in (None, account.login):
        wrong.append(f"login {account.login} instead of {options.login or login}")
    if options.server and account.server.casefold() != options.server.casefold():
        wrong.append(f"server {account.server} instead of {options.server}")
    if options.trade_mode not in (None, account.trade_mode):
        found = account.trade_mode
        name = TRADE_MODES[found] if 0 <= found < len(TRADE_MODES) else str(found)
        wrong.append(f"a {name} account instead of {TRADE_MODES[options.trade_mode or 0]}")
    return f"the terminal is on another account: {', '.join(wrong)}" if wrong else ""


def expired(intent: OrderIntent, *, now_ms: int, age_max_s: float) -> str:
    """Why an intent is too old to be sent (UTC by the terminal's clock); "" when it is not."""
    if intent.valid_until_ms is not None:
        late_ms = now_ms - intent.valid_until_ms
        return f"it was valid until {_ago(late_ms)} ago" if late_ms >= 0 else ""
    age_ms = now_ms - intent.event_time_ms
    return f"it is {_ago(age_ms)} old" if age_ms > age_max_s * 1000 else ""


def _ago(ms: int) -> str:
    return f"{ms / 1000:.1f} s" if ms >= LATE_MS else f"{ms} ms"

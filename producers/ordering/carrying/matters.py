"""One intent on its way: what was sent for it, what came back, and what is waited for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from events.executing import OrderAnswer, OrderIntent
from producers.ordering.carrying.answers import Result
from producers.ordering.carrying.finding import Finding, Sent
from producers.ordering.carrying.requests import is_pending

WATCH_WAITS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Between looks at an account for what became of an order."""


class Phase(Enum):
    """Where a matter stands."""

    FLYING = "flying"
    """With the terminal: its answer is waited for."""
    AGAIN = "again"
    """Certainly not carried out: it is tried again at `due`."""
    WATCHED = "watched"
    """It may have arrived, or is known to have: the account is looked at at `due`."""


@dataclass(slots=True)
class Matter:
    """Times ending in `_s` are monotonic seconds; `sent_ms` is UTC by the terminal's clock."""

    intent: OrderIntent
    place: str
    """Of the intent's entry in the log."""
    symbol: str
    """The broker's name."""
    phase: Phase = Phase.AGAIN
    due_s: float = 0.0
    request: dict[str, Any] = field(default_factory=dict)
    reference: float | None = None
    """The price that its deviation counts from."""
    before_lots: float | None = None
    sent_ms: int = 0
    server_ms: int | None = None
    attempts: int = 0
    tries: Counter[int] = field(default_factory=Counter)
    """How often each answer came."""
    order: int = 0
    position: int = 0
    """Expected: of an open the position it would make, of a close the one it ends."""
    result: Result | None = None
    """The last answer."""
    accepted: bool = False
    """The broker said that it took it."""
    lost: bool = False
    """Its outcome is unknown, and that was told."""
    lost_at_s: float = 0.0
    quiet_at_s: float | None = None
    """Since which look nothing of it is to be seen."""
    looks: int = 0
    rest_cancelled: bool = False
    alerted: bool = False
    why: str = ""
    """Why the last look told nothing."""

    @property
    def pending(self) -> bool:
        return is_pending(self.intent)

    def count(self, result: Result) -> int:
        """Note an answer; how often it came, from 1."""
        code = result.error[0] if result.retcode is None else result.retcode
        self.tries[code] += 1
        return self.tries[code]

    def watch(self, now_s: float) -> None:
        """Look at the account from now on."""
        self.phase, self.due_s, self.looks = Phase.WATCHED, now_s, 0
        self.lost_at_s, self.quiet_at_s = now_s, None

    def look_later(self, now_s: float) -> None:
        """The next look comes a little later than the last one."""
        self.due_s = now_s + WATCH_WAITS_S[min(self.looks, len(WATCH_WAITS_S) - 1)]
        self.looks += 1

    def sent(self) -> Sent:
        """What may be found of it."""
        return Sent(
            self.intent, self.symbol, self.request, self.order, self.before_lots, self.server_ms
        )

    def answer(self, state: str, *, now_ms: int, detail: str = "", **more: Any) -> OrderAnswer:
        """What is told of it."""
        intent, result = self.intent, self.result
        fields: dict[str, Any] = {
            "event_time_ms": now_ms, "intent_id": intent.intent_id, "login": intent.login,
            "strategy": intent.strategy, "symbol": intent.symbol, "leg": intent.leg,
            "state": state, "order": self.order, "position": self.position,
            "attempts": self.attempts, "sent_ms": self.sent_ms, "detail": detail[:500],
            "retcode": 0 if result is None else result.retcode or 0,
        }  # fmt: skip
        return OrderAnswer.model_validate(fields | more)

    def answer_found(self, state: str, found: Finding, *, now_ms: int) -> OrderAnswer:
        """What the account showed of it."""
        return self.answer(
            state, now_ms=now_ms, detail=found.detail, reconciled=self.lost,
            volume_lots=found.volume_lots, price=found.price, deal=found.deal,
            order=found.order or self.order, position=found.position or self.position,
            answered_ms=now_ms,
        )  # fmt: skip

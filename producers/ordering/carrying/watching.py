"""Looking at an account until it tells what became of an order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from events.alerts import Alert
from events.executing import OrderAnswer
from producers.ordering.carrying.finding import Finding, Found, find
from producers.ordering.carrying.instruments import LOTS_DUST
from producers.ordering.carrying.matters import Matter
from producers.ordering.carrying.reading import AccountReads, Seen, Unreadable, history_span
from producers.ordering.options import OrderingOptions

ALERT_S = 30.0
"""An outcome that is unknown for so long is told to a human."""
ACCEPTED_TIMES = 3
"""What the broker said it took is waited for so much longer."""
_STATES = {Found.FILLED: "done", Found.PART: "partial", Found.PLACED: "placed",
           Found.ENDED: "refused"}  # fmt: skip
NEVER_ARRIVED = "never arrived: the account shows nothing of it"


class WatchSurroundings(Protocol):
    """What the producer around a sender knows."""

    def now_ms(self) -> int:
        """UTC by the terminal's clock."""
        ...

    def offset_s(self) -> int | None:
        """Server - UTC now; None while nobody knows."""
        ...

    def alert(self, alert: Alert) -> None:
        """Tell a human."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from a look: the final answer, or the end of an order's rest, or nothing."""

    answer: OrderAnswer | None = None
    cancel: bool = False


class Watching:
    """Judges looks at one account. Used by one thread."""

    def __init__(
        self,
        options: OrderingOptions,
        login: int,
        *,
        reads: AccountReads,
        around: WatchSurroundings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options, self._login = options, login
        self._reads, self._around, self._monotonic = reads, around, monotonic

    def look(self, matter: Matter) -> Step:
        """One look for one order; it says itself when the next one is due."""
        now_s = self._monotonic()
        self._alert(matter, now_s)
        try:
            found = find(matter.sent(), self._seen(matter))
        except Unreadable as error:
            matter.quiet_at_s = None
            matter.look_later(now_s)
            matter.why = str(error)
            return Step()
        matter.why = found.detail
        step = self._judge(matter, found, now_s)
        matter.look_later(now_s)
        return step

    def _seen(self, matter: Matter) -> Seen:
        """Raises Unreadable."""
        since_s, until_s = history_span(
            matter.sent_ms, self._around.now_ms(), self._around.offset_s()
        )
        order = matter.intent.order if matter.intent.verb == "cancel" else matter.order
        return self._reads.seen(
            login=self._login, since_server_s=since_s, until_server_s=until_s, order=order
        )

    def _judge(self, matter: Matter, found: Finding, now_s: float) -> Step:
        if found.found in (Found.NOTHING, Found.DOUBTFUL):
            return self._nothing(matter, found, now_s)
        matter.quiet_at_s = None
        matter.order = matter.order or found.order
        state = _STATES.get(found.found)
        if state is None:
            return self._working(matter, found, now_s)
        answer = matter.answer_found(state, found, now_ms=self._around.now_ms())
        return Step(answer)

    def _working(self, matter: Matter, found: Finding, now_s: float) -> Step:
        """It arrived and is not finished: its rest is cancelled when that takes too long, and a
        history that stays silent is not waited for for ever."""
        waited_s = now_s - matter.lost_at_s
        if waited_s < self._options.patience_s:
            return Step()
        if not matter.rest_cancelled and matter.order and matter.intent.verb in ("open", "close"):
            matter.rest_cancelled = True
            return Step(cancel=True)
        if found.volume_lots > 0 and waited_s >= 2 * self._options.patience_s:
            whole = found.volume_lots >= matter.intent.volume_lots - LOTS_DUST
            state = "done" if whole else "partial"
            return Step(matter.answer_found(state, found, now_ms=self._around.now_ms()))
        return Step()

    def _nothing(self, matter: Matter, found: Finding, now_s: float) -> Step:
        if found.found is Found.DOUBTFUL:
            matter.quiet_at_s = None
            return Step()
        if matter.quiet_at_s is None:
            matter.quiet_at_s = now_s
        quiet_s = self._options.quiet_s * (ACCEPTED_TIMES if matter.accepted else 1)
        agreed = now_s - matter.quiet_at_s >= self._options.apart_s
        if not agreed or now_s - matter.lost_at_s < quiet_s:
            return Step()
        now_ms = self._around.now_ms()
        return Step(
            matter.answer(
                "refused", now_ms=now_ms, detail=NEVER_ARRIVED, reconciled=True, answered_ms=now_ms
            )
        )

    def _alert(self, matter: Matter, now_s: float) -> None:
        if matter.alerted or now_s - matter.lost_at_s < ALERT_S:
            return
        matter.alerted = True
        intent = matter.intent
        self._around.alert(
            Alert(
                event_time_ms=self._around.now_ms(),
                severity="critical",
                topic="execution",
                subject=self._options.terminal,
                text=f"what became of intent {intent.intent_id} ({intent.verb} {intent.symbol} of "
                f"{intent.strategy}) is unknown for {ALERT_S:g} s: {matter.why}",
                cure="look at the terminal; nothing more is sent for it until the account tells",
            )
        )

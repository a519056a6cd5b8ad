"""Group `alerts`: what `watch` found, delivered to one target.

Each target is a group of its own, `alerts.TARGET`, so that one that is down or hangs holds up no
other. Entries are handed out one batch at a time and acknowledged when the target took them: an
alert is told at least once, however long the target is down; where the answer was lost, or the
process died before it could acknowledge, it is told twice.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import ClassVar

from consumers.runtime.handler import Inputs
from consumers.sinks import Batch, Refused, Sink
from events.alerts import Alert
from events.log import Entry, Lane, Slot
from events.notify import Message, Result, Target, deliver, targets_of
from events.notify.message import SEVERITIES
from events.settings import load

WATCH = "watch"
BATCH_S_MAX = 10.0
"""A batch that takes longer is given back, and goes on where it was."""
GATHERED_FROM = 6
LATE_MS = 60_000
"""So many late alerts are told in one message, where people read them."""
DELIVERED_MAX = 10_000

_delivered: OrderedDict[tuple[str, str], None] = OrderedDict()
"""(target, place) of what this process delivered: a batch that is given again after an error of
its last entry does not tell the first ones again."""


class NotDelivered(Exception):
    """The target does not take alerts now. The text holds no secret."""


class AlertDelivery(Sink):
    """`target` names one of the targets in the settings."""

    inputs: ClassVar[Inputs] = Inputs(writers=(WATCH,), lanes=(Lane.HIGH,))
    tasks: ClassVar[int | None] = 1
    live_only: ClassVar[bool] = True
    types: ClassVar[frozenset[str]] = frozenset({"alert"})
    given_max: ClassVar[int] = 1_000
    """The bridge may be started again many times while a target is down."""
    target: ClassVar[str] = ""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wall, self._monotonic, self._sleep = wall, monotonic, sleep
        self._next_at = monotonic()
        self._place: Target | None = None
        self._timeout_s, self._least = 0.0, 0

    def open(self, task: Slot) -> None:
        """Raises BadTarget, BadSettings."""
        settings = load()
        (self._place,) = targets_of(settings, [self.target])
        self._timeout_s = settings.alert_timeout_s
        self._least = SEVERITIES.index(settings.alert_min_severity)

    def close(self) -> None:
        self._place = None

    def write(self, batch: Batch) -> None:
        """Raises NotDelivered; Refused for what the target will never take."""
        deadline = self._monotonic() + BATCH_S_MAX
        left = [
            (entry, alert)
            for entry, alert in zip(batch.entries, batch.events, strict=True)
            if isinstance(alert, Alert) and self._wants(entry, alert)
        ]
        for part in self._parts(left):
            if self._monotonic() >= deadline:
                raise NotDelivered(f"{self.target} takes alerts slowly")
            self._tell(part, batch.task.namespace)

    def _wants(self, entry: Entry, alert: Alert) -> bool:
        told = (self.target, entry.place) in _delivered
        return not told and SEVERITIES.index(alert.severity) >= self._least

    def _parts(self, left: Sequence[tuple[Entry, Alert]]) -> list[list[tuple[Entry, Alert]]]:
        """One by one, or what is late together."""
        assert self._place is not None
        if not self._place.gathers or len(left) < GATHERED_FROM:
            return [[one] for one in left]
        now_ms = self._wall() * 1000
        late = [one for one in left if now_ms - one[1].event_time_ms >= LATE_MS]
        if len(late) < GATHERED_FROM:
            return [[one] for one in left]
        return [late, *([one] for one in left if one not in late)]

    def _tell(self, part: Sequence[tuple[Entry, Alert]], namespace: str) -> None:
        assert self._place is not None
        newest = part[-1][0]
        message = Message(
            [alert for _, alert in part], namespace, newest.place, int(self._wall() * 1000)
        )
        self._sleep(max(0.0, self._next_at - self._monotonic()))
        (outcome,) = deliver(message, [self._place], self._timeout_s)
        self._next_at = self._monotonic() + self._place.pause_s
        if outcome.result is Result.REFUSED and len(part) > 1:  # one of them will not do
            for one in part:
                self._tell([one], namespace)
            return
        if outcome.result is Result.REFUSED:
            raise Refused(newest, outcome.detail)
        if not outcome.delivered:
            raise NotDelivered(f"{outcome.target}: {outcome.detail}")
        for entry, _ in part:
            _delivered[self.target, entry.place] = None
        while len(_delivered) > DELIVERED_MAX:
            _delivered.popitem(last=False)

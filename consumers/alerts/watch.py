"""Group `watch`: from all that is said in a namespace to what a human should know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from consumers.alerts.conditions import QUIET_S, Conditions, Finding, Severity
from consumers.alerts.groups import Groups
from consumers.alerts.guards import Guards
from consumers.alerts.prices import Prices
from consumers.alerts.terminals import Terminals
from consumers.runtime.handler import EVERY_WRITER, Handler, Inputs, Order
from events.alerts import Alert
from events.candles import CandleBatch
from events.codec import AnyEvent
from events.decisions import LimitBreach, RulesSet
from events.guarding import FlattenEnded, GuardState, LatchChanged
from events.log import Lane
from events.market import Quotes
from events.operations import (
    ClockChanged,
    GapHealed,
    HandlerFailed,
    OperatorAnswered,
    ProducerState,
    Silence,
    TerminalDown,
    TerminalUp,
)
from events.trading import Book

RECORDED = "recorded"
RELAYED, RELAYED_MAX = "relayed", 256
"""How bad it was that others told of: who was told of it is told when it is over."""
TOLD_BY_EVENTS = frozenset({"latch", "blind", "dead_man", "limit_breach", "wrong_account"})
"""Topics of the guard's own alerts, for times when the log is away. Events tell of them, too, and
say when they are over."""
NOT_FLAT = ("FLAT_EXCEPT", "UNKNOWN")
"""What a guard's alert about `FlattenEnded` begins with."""
NOW = "now_ms"


class WatchHandler(Handler):
    """Yields `Alert`s. Time is that of the events: what a producer or a guard says every few
    seconds, and what a watchdog posts when they say nothing."""

    order: ClassVar[Order] = Order.PRIORITY
    inputs: ClassVar[Inputs] = Inputs(
        writers=(EVERY_WRITER,), lanes=(Lane.CRITICAL, Lane.HIGH, Lane.LOW)
    )
    tasks: ClassVar[int | None] = 1
    types: ClassVar[frozenset[str]] = frozenset(
        {
            "terminal_up", "terminal_down", "producer_state", "silence", "clock_changed",
            "gap_healed", "guard_state", "latch", "flatten_ended", "limit_breach",
            "handler_failed", "operator_answered", "book", "quotes", "candles", "rules", "alert",
        }
    )  # fmt: skip
    halts_on: ClassVar[frozenset[str]] = frozenset()
    live_only: ClassVar[bool] = True

    def setup(self) -> None:
        self._conditions = Conditions(self.state)
        self._prices = Prices(self.state, self._conditions)
        self._terminals = Terminals(self.state, self._conditions, self._prices)
        self._guards = Guards(self.state, self._conditions)
        self._groups = Groups(self.state, self._conditions)
        self._told: dict[type, Callable[[Any, int], Iterator[Alert]]] = {
            TerminalUp: self._terminals.up,
            TerminalDown: self._terminals.down,
            ClockChanged: self._terminals.clock_changed,
            GapHealed: self._terminals.gap,
            LimitBreach: self._guards.breach,
            LatchChanged: self._guards.latch,
            FlattenEnded: self._guards.ended,
            HandlerFailed: self._groups.failed,
            OperatorAnswered: self._groups.answered,
            Alert: self._relayed,
        }

    def handle(self, event: AnyEvent) -> Iterator[Alert]:
        told = self._told.get(type(event))
        if told is not None:
            yield from told(event, self._now(event))
        elif isinstance(event, ProducerState | GuardState | Silence):
            yield from self._timer(event)
        elif isinstance(event, Book):
            self._prices.hold(event)
        elif isinstance(event, Quotes):
            self._prices.quoted(event)
        elif isinstance(event, CandleBatch):
            self._prices.candles(event)
        elif isinstance(event, RulesSet):
            self._prices.rules(event)

    def _timer(self, event: ProducerState | GuardState | Silence) -> Iterator[Alert]:
        """Events that come whether anything happens or not: time passes with them."""
        now_ms = self.state[NOW] = event.event_time_ms
        if isinstance(event, GuardState):
            yield from self._guards.state(event, now_ms)
        elif isinstance(event, Silence):
            of = self._terminals if event.of == "producer" else self._groups
            yield from of.silence(event, now_ms)
        elif event.kind != RECORDED:  # what is played has no market now
            yield from self._terminals.look(event)
            yield from self._guards.look(now_ms)
        yield from self._conditions.pass_time(now_ms)

    def _now(self, event: AnyEvent) -> int:
        """An event may tell of earlier; time does not go back for it."""
        now: int = max(self.state.get(NOW, 0), event.event_time_ms)
        return now

    def _relayed(self, alert: Alert, now_ms: int) -> Iterator[Alert]:
        """What others found worth telling, such as the guard: told as our own is."""
        if alert.topic in TOLD_BY_EVENTS or alert.text.startswith(NOT_FLAT):
            return
        relayed: dict[str, Severity] = self.state.setdefault(RELAYED, {})
        if alert.resolved:
            severity = relayed.pop(alert.key, alert.severity)
            self._conditions.drop(alert.topic, alert.subject)
            yield alert.model_copy(update={"severity": severity})
            return
        if len(relayed) < RELAYED_MAX:
            relayed[alert.key] = alert.severity
        finding = Finding(
            alert.topic, alert.subject, alert.severity, alert.text, cure=alert.cure,
            entries=alert.entries,
        )  # fmt: skip
        yield from self._conditions.happened(finding, now_ms, quiet_s=QUIET_S)

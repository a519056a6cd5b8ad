"""A strategy that is in and out all the time, to measure how long its orders take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from consumers.runtime.handler import Handler
from events.codec import AnyEvent
from events.decisions import TradeSignal
from events.ticks import TickBatch

SYMBOL = "BTCUSD"
EVERY_MS = 500
STRATEGY = "bench"


class TickSignaller(Handler):
    """Long at one tick, flat at one half a second later, and so on."""

    types: ClassVar[frozenset[str]] = frozenset({"ticks"})

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        """One signal per batch at most."""
        if not isinstance(event, TickBatch) or event.symbol != SYMBOL:
            return
        at_ms = event.recv_time_ms
        if at_ms < self.state.get("next_ms", 0):
            return
        number = self.state.get("number", 0) + 1
        self.state["number"], self.state["next_ms"] = number, at_ms + EVERY_MS
        last = event.ticks[-1]
        yield TradeSignal(
            event_time_ms=event.event_time_ms,
            strategy=STRATEGY,
            symbol=event.symbol,
            target="long" if number % 2 else "flat",
            volume_lots=0.01,
            no_stop=True,
            bid=float(last["bid"]),
            ask=float(last["ask"]),
            number=number,
        )

"""The trade server of a simulated account: what happens at the broker as virtual time goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from events.broker.nightly import midnight
from events.broker.server import DAY_MS
from events.broker.server import TradeServer as Server
from events.broker.terms import NO_CONDITIONS, Conditions
from events.broker.valuation import Valuer
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.course.prices import happen_until
from producers.terminals.simulated.broker.valuation import MarketQuotes
from producers.terminals.simulated.market.generated import Market
from producers.terminals.simulated.options import AccountOptions
from producers.terminals.simulated.server_clock import ServerClock

STEP_MAX_MS = 3_600_000


class Actor(Protocol):
    """Somebody else who acts on the account at times of his own. `revision` changes when his
    `state` does."""

    revision: int

    def next_utc_ms(self) -> int:
        """When he acts next."""
        ...

    def act(self, server: TradeServer) -> None:
        """Let him do what he does at that time (`server.now_ms`)."""
        ...

    def state(self) -> Any:
        """All that decides what he will do, as plain values."""
        ...

    def restore(self, state: Any) -> None:
        """Go on from a `state()`."""
        ...


class TradeServer(Server):
    """A trade server that goes on by itself: prices of a market, nights, people. `now_ms` is how
    far it has come (UTC)."""

    account: AccountOptions
    clock: ServerClock

    def __init__(
        self,
        account: AccountOptions,
        valuer: Valuer,
        market: Market,
        clock: ServerClock,
        *,
        quotes: MarketQuotes,
        start_utc_ms: int,
        execution_ms: float = 0.0,
        conditions: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__(
            account, valuer, clock, hours=market, start_utc_ms=start_utc_ms,
            execution_ms=execution_ms, conditions=conditions,
        )  # fmt: skip
        self.market = market
        self.quotes = quotes
        self.actors: dict[str, Actor] = {}
        self.valued_by: tuple[int, list[str]] = (-1, [])
        """Revision of the ledger, and the symbols by whose prices it is valued."""
        self.stop_out_again_ms = 0
        """Before that no stop-out is tried: every market was closed when it was due."""

    def process(self, until_utc_ms: int) -> None:
        """Let everything happen up to a moment, in order of time, however far apart the calls."""
        while self.now_ms <= until_utc_ms:
            due, happen = self._next_event()
            if self.now_ms == until_utc_ms < due:
                return
            target = min(max(due, self.now_ms), until_utc_ms, self.now_ms + STEP_MAX_MS)
            if target > self.now_ms:
                happen_until(self, target)
            self.now_ms = target
            if due <= target:
                happen()

    def _next_event(self) -> tuple[int, Callable[[], None]]:
        """The next thing due by the clock, not by prices: (when, what)."""
        events: list[tuple[int, Callable[[], None]]] = [(self._next_midnight(), self._midnight)]
        if self.executions:
            events.append((min(self.executions)[0], self.execute_due))
        for actor in self.actors.values():
            events.append((actor.next_utc_ms(), lambda actor=actor: actor.act(self)))  # type: ignore[misc]  # a default binds the loop's actor
        expiring = min(
            (order for order in self.orders.values() if order.expires_s),
            key=lambda order: order.expires_s,
            default=None,
        )
        if expiring is not None:
            when = expiring.expires_s * 1000 - self.clock.offset_s(self.now_ms) * 1000
            events.append((when, lambda: self.drop(expiring, mt5.ORDER_STATE_EXPIRED)))
        return min(events, key=lambda event: event[0])

    def _next_midnight(self) -> int:
        return (self.swapped_day + 1) * DAY_MS - self.clock.offset_s(self.now_ms) * 1000

    def _midnight(self) -> None:
        ended = self.swapped_day
        self.swapped_day += 1
        midnight(self, ended)

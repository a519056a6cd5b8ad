"""An account at a desk: tells group risk what happens to it, one event after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from consumers.risk import RiskHandler
from consumers.runtime.state import State
from events.codec import AnyEvent, encode
from events.decisions import Command, LimitBreach, ReferenceSet, RiskMetrics, RulesSet
from events.log import SOURCE, Entry, EntryId, Slot
from events.market import Closes, Contracts, Instrument, Quote, Quotes
from events.marks import MARK_DTYPE, Marks
from events.rules import Rules
from events.trading import Account, Book, Deal, Position

LOGIN = 7
SECOND_MS, HOUR_MS, DAY_MS = 1_000, 3_600_000, 86_400_000
START_MS = 1_768_471_200_000
"""2026-01-15 10:00:00 UTC."""


def instrument(symbol: str = "EURUSD", **more: Any) -> Instrument:
    fields = {
        "event_time_ms": 0, "recv_time_ms": 0, "symbol": symbol, "broker_symbol": symbol,
        "currency_base": symbol[:3], "currency_profit": symbol[3:6], "digits": 5,
        "point": 1e-5, "tick_size": 1e-5, "contract_size": 100_000.0, "volume_min_lots": 0.01,
        "volume_max_lots": 100.0, "volume_step_lots": 0.01,
    }  # fmt: skip
    return Instrument(**{**fields, **more})


def deal(ticket: int, at_ms: int, **more: Any) -> Deal:
    fields = {
        "event_time_ms": at_ms, "recv_time_ms": at_ms, "login": LOGIN, "ticket": ticket,
        "order": ticket, "position_id": 1, "symbol": "EURUSD", "type": 0, "entry": 0, "reason": 0,
        "volume_lots": 1.0, "price": 1.1, "profit": 0.0, "commission": 0.0, "swap": 0.0,
        "fee": 0.0, "time_server_ms": at_ms,
    }  # fmt: skip
    return Deal(**{**fields, **more})


def operation(ticket: int, at_ms: int, amount: float) -> Deal:
    return deal(ticket, at_ms, type=2, symbol="", position_id=0, volume_lots=0.0, profit=amount)


def position(ticket: int = 1, **more: Any) -> Position:
    fields = {
        "ticket": ticket, "identifier": ticket, "symbol": "EURUSD", "side": 0, "volume_lots": 1.0,
        "price_open": 1.1, "time_ms": START_MS, "time_server_ms": START_MS,
    }  # fmt: skip
    return Position(**{**fields, **more})


@dataclass
class Desk:
    """`now_ms` passes with what is told; `balance` and `floating` make the equity."""

    rules: Rules | None = None
    now_ms: int = START_MS
    balance: float = 10_000.0
    floating: float = 0.0
    positions: tuple[Position, ...] = ()
    state: State = field(default_factory=State)
    entries: int = 0
    said: list[AnyEvent] = field(default_factory=list)
    """Everything derived so far."""

    def __post_init__(self) -> None:
        self.restart()
        if self.rules is not None:
            self.follow(self.rules)

    def restart(self) -> None:
        """The task again, with nothing but what it had stored."""
        changed, removed = self.state.changes()
        self.state.settle(changed, removed)
        self.risk = RiskHandler()
        self.risk.state = self.state = State(self.state.stored)
        self.risk.setup()

    def tell(self, event: AnyEvent) -> list[AnyEvent]:
        """What follows from an event."""
        self.entries += 1
        new = encode(event)
        stream = Slot("demo", SOURCE, 0).stream(new.lane)
        self.risk.entry = Entry(stream, EntryId(1, self.entries), new.type, new.key, new.data)
        derived = list(self.risk.handle(event))
        self.said += derived
        return derived

    def follow(self, rules: Rules) -> None:
        self.tell(RulesSet(event_time_ms=self.now_ms, login=LOGIN,
                           rules=rules.model_dump(mode="json")))  # fmt: skip

    def state_references(self, **more: Any) -> list[AnyEvent]:
        return self.tell(ReferenceSet(event_time_ms=self.now_ms, login=LOGIN, set_by="me", **more))

    def facts(self) -> dict[str, Any]:
        return {"event_time_ms": self.now_ms, "recv_time_ms": self.now_ms, "login": LOGIN}

    def hold(self, *positions: Position) -> None:
        self.positions = positions
        self.tell(Book(**self.facts(), positions=positions))

    def mark(self, *rows: tuple[int, float, float, float]) -> list[AnyEvent]:
        """(ticket, price, profit, swap) of each."""
        marks = Marks(LOGIN, np.array([*rows], MARK_DTYPE), self.now_ms, self.now_ms)
        return self.tell(marks)

    def quote(self, **prices: tuple[float, float]) -> None:
        quotes = tuple(
            Quote(symbol=symbol, bid=bid, ask=ask, time_ms=self.now_ms, time_server_ms=self.now_ms)
            for symbol, (bid, ask) in prices.items()
        )
        self.tell(Quotes(**self.facts(), quotes=quotes))

    def contracts(self, *instruments: Instrument) -> None:
        self.tell(Contracts(**self.facts(), instruments=instruments))

    def closes(self, symbol: str, prices: Any) -> None:
        times = tuple(range(0, 3600 * len(prices), 3600))
        self.tell(Closes(**self.facts(), symbol=symbol, timeframe="H1", time_server_s=times,
                         close=tuple(float(price) for price in prices)))  # fmt: skip

    def look(
        self, equity_seen: float | None = None, *, after_ms: int = 250, **more: Any
    ) -> RiskMetrics:
        """The account a moment later; the figures that follow."""
        if equity_seen is not None:
            self.floating = equity_seen - self.balance
        derived = self.read(after_ms=after_ms, **more)
        [metrics] = [event for event in derived if isinstance(event, RiskMetrics)]
        return metrics

    def read(self, *, after_ms: int = 250, **more: Any) -> list[AnyEvent]:
        """The account a moment later, whatever it says."""
        self.now_ms += after_ms
        full = self.balance + self.floating
        held = bool(self.positions)
        fields = {
            **self.facts(), "server": "demo", "currency": "USD", "trade_mode": 0,
            "margin_mode": 2, "leverage": 100, "balance": self.balance, "credit": 0.0,
            "profit": self.floating, "equity": full, "margin": 1_000.0 if held else 0.0,
            "margin_free": full - (1_000.0 if held else 0.0),
            "margin_level_percent": full / 10 if held else 0.0, **more,
        }  # fmt: skip
        return self.tell(Account(**fields))

    def breaches(self, level: str | None = None) -> list[LimitBreach]:
        found = [event for event in self.said if isinstance(event, LimitBreach)]
        return [event for event in found if level in (None, event.level)]

    def commands(self, verb: str | None = None) -> list[Command]:
        found = [event for event in self.said if isinstance(event, Command)]
        return [event for event in found if verb in (None, event.verb)]

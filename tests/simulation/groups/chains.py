"""Handlers that forget nothing: what they derive chains over everything of a key before it.

An entry that is lost, doubled or swapped changes every output of its key from there on, so that
comparing outputs compares the whole history.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar

import numpy as np

from consumers.runtime.handler import Handler, Inputs, Order
from events.codec import AnyEvent, encode
from events.decisions import Command, LimitBreach, RiskMetrics, TradeSignal
from events.log import Lane, NewEntry
from events.operations import GapHealed
from events.ticks import TICK_DTYPE, OffsetSource, TickBatch

KEYS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD")
POISON = "poison"
ALL_LANES = Inputs(lanes=(Lane.CRITICAL, Lane.HIGH, Lane.NORMAL, Lane.LOW))


class Poisonous(Exception):
    """What a handler raises for an entry that it cannot bear."""


class Chain(Handler):
    """One chain per symbol; outputs in three lanes, state that comes and goes."""

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        symbol, number, reason = told_by(event)
        count, chain = self.state.get(symbol, [0, ""])
        chain = blake2b(f"{chain}{number}{reason}".encode(), digest_size=8).hexdigest()
        self.state[symbol] = [count + 1, chain]
        yield TradeSignal(
            event_time_ms=number, strategy="chain", symbol=symbol, target="flat",
            reason=f"{count + 1}:{chain}",
        )  # fmt: skip
        if reason == POISON:  # after it wrote and derived: nothing of that may stay
            raise Poisonous(f"cannot bear {number}")
        yield from self._more(symbol, number, count)

    def _more(self, symbol: str, number: int, count: int) -> Iterator[AnyEvent]:
        if count % 3 == 0:
            self.state[f"{symbol}:third"] = number
        elif count % 3 == 1:
            self.state.pop(f"{symbol}:third", None)
        if number % 7 == 0:
            yield LimitBreach(
                event_time_ms=number, login=1, limit=symbol, level="warn", action="alert",
                figures={"count": count},
            )  # fmt: skip
        if number % 5 == 0:
            yield RiskMetrics(
                event_time_ms=number, login=count % 3, equity=number, balance=count, floating=0.0,
                margin_free=0.0, margin_level_percent=None,
            )  # fmt: skip


class ChainByPriority(Chain):
    """The same, critical and high lanes first."""

    order: ClassVar[Order] = Order.PRIORITY
    inputs: ClassVar[Inputs] = ALL_LANES


class ChainOfAll(Chain):
    """The same in one task over all partitions: ids do not order those."""

    tasks: ClassVar[int | None] = 1


class Fainting(Chain):
    """Stands still within a batch, as SIGSTOP makes it, once per file and place named."""

    faint_file: str = ""
    faint_every: int = 500

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        yield from super().handle(event)
        number = told_by(event)[1]
        if self.faint_file and number % self.faint_every == self.faint_every - 1:
            try:
                Path(f"{self.faint_file}.{number}").touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGSTOP)


def told_by(event: AnyEvent) -> tuple[str, int, str]:
    """Symbol, number and reason of an event that a feed made."""
    if isinstance(event, GapHealed):
        return event.symbol, event.from_ms, event.reason
    if isinstance(event, TradeSignal):
        return event.symbol, event.event_time_ms, event.reason
    if isinstance(event, Command):
        return str(event.arguments["symbol"]), event.event_time_ms, event.issued_by
    if isinstance(event, TickBatch):
        digest = blake2b(event.ticks.tobytes(), digest_size=8).hexdigest()
        return event.symbol, event.event_time_ms, digest
    raise TypeError(f"no feed makes {type(event).__name__}")


def some_entry(
    chance: random.Random, number: int, *, symbols: tuple[str, ...] = KEYS, poison: float = 0.0
) -> NewEntry:
    """Entry `number` of a feed, in any lane a source has."""
    symbol = chance.choice(symbols)
    reason = POISON if chance.random() < poison else ""
    lane = chance.choices((Lane.CRITICAL, Lane.HIGH, Lane.NORMAL), (1, 3, 6))[0]
    if poison and chance.random() < poison / 2:
        return NewEntry(lane, "later.7", symbol, b"{}")
    if lane is Lane.CRITICAL:
        command = Command(
            event_time_ms=number, command_id=str(number), verb="halt",
            issued_by=reason, arguments={"symbol": symbol},
        )  # fmt: skip
        return encode(command)
    if lane is Lane.HIGH:
        gap = GapHealed(
            event_time_ms=number, symbol=symbol, reason=reason, from_ms=number, until_ms=number,
            ticks=0,
        )  # fmt: skip
        return encode(gap)
    return encode(
        TradeSignal(event_time_ms=number, strategy="feed", symbol=symbol, target="flat",
                    reason=reason)
    )  # fmt: skip


def some_ticks(symbol: str, number: int, count: int) -> NewEntry:
    """Batch `number` of a feed: `count` ticks that no other batch has."""
    records = np.zeros(count, TICK_DTYPE)
    records["time_msc"] = number
    records["bid"] = np.arange(count) + number
    records["ask"] = records["bid"] + 1.0
    return encode(TickBatch(symbol, records, 0, OffsetSource.UNKNOWN, number, number))

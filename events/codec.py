"""Event <-> entry: names, versions, upcasters.

An entry's type is `name.version`. JSON events of an older version pass through upcasters, one
step at a time; entries are never rewritten. Packed events (ticks, candles, marks) carry their
own layout and are decoded per version.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from events.alerts import Alert
from events.analytics import Analytics, SpreadHour
from events.candles import CandleBatch
from events.decisions import (
    Command,
    LimitBreach,
    ReferenceSet,
    RiskMetrics,
    RulesSet,
    TradeSignal,
)
from events.event import Event
from events.executing import (
    ExecutionSet,
    OrderAnswer,
    OrderIntent,
    StrategyBegan,
    StrategySet,
    TargetState,
)
from events.guarding import FlattenEnded, FlattenStep, GuardState, LatchChanged
from events.log import Entry, Lane, NewEntry
from events.market import Closes, Contracts, Instrument, Quotes
from events.marks import Marks
from events.operations import (
    ClockChanged,
    ClockTick,
    GapHealed,
    HandlerFailed,
    HandlerUpgraded,
    OperatorAnswered,
    ProducerState,
    Silence,
    TerminalDown,
    TerminalUp,
)
from events.ticks import TickBatch
from events.trading import (
    Account,
    BalanceUnexplained,
    Book,
    Deal,
    OrderDone,
    Orders,
    TradeUpdate,
)

AnyEvent = Event | TickBatch | CandleBatch | Marks
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

EVENT_TYPES: dict[str, type[Event]] = {
    kind.TYPE: kind
    for kind in (
        Account, Alert, Analytics, BalanceUnexplained, Book, ClockChanged, ClockTick, Closes,
        Command, Contracts, Deal, ExecutionSet, FlattenEnded, FlattenStep, GapHealed, GuardState,
        HandlerFailed, HandlerUpgraded, Instrument, LatchChanged, LimitBreach, OperatorAnswered,
        OrderAnswer, OrderDone, OrderIntent, Orders, ProducerState, Quotes, ReferenceSet,
        RiskMetrics, RulesSet, Silence, SpreadHour, StrategyBegan, StrategySet, TargetState,
        TerminalDown, TerminalUp, TradeSignal, TradeUpdate,
    )
}  # fmt: skip

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(name, version) -> function from that version's fields to the next version's."""

TICKS, TICKS_HISTORY, CANDLES, MARKS = "ticks", "ticks_history", "candles", "marks"
PACKED_VERSIONS = {TICKS: 1, TICKS_HISTORY: 1, CANDLES: 1, MARKS: 1}
TYPES_REMEMBERED_MAX = 256


class UnknownEvent(ValueError):
    """An entry of a type or version that this code does not know."""


class BadEvent(ValueError):
    """An entry whose data do not fit its type."""


def encode(event: AnyEvent, *, cause: str = "", history: bool = False) -> NewEntry:
    """An event as a new entry in its lane. `history` puts ticks older than a symbol's feed
    into the low lane, as a type of their own."""
    if isinstance(event, TickBatch):
        name = TICKS_HISTORY if history else TICKS
        lane = Lane.LOW if history else Lane.NORMAL
        return NewEntry(lane, f"{name}.1", event.symbol, event.to_bytes(), cause)
    if isinstance(event, CandleBatch):
        key = f"{event.symbol}:{event.timeframe}"
        return NewEntry(Lane.LOW, f"{CANDLES}.1", key, event.to_bytes(), cause)
    if isinstance(event, Marks):
        data = event.to_bytes()
        return NewEntry(Lane.HIGH, f"{MARKS}.1", str(event.login), data, cause, last=data)
    data = event.model_dump_json().encode()
    last = data if event.KEEP_LAST else None
    return NewEntry(event.LANE, f"{event.TYPE}.{event.VERSION}", event.key, data, cause, last)


def decode(entry: Entry) -> AnyEvent:
    """The event of an entry. Raises UnknownEvent or BadEvent, naming the entry."""
    try:
        return _reader(entry.type)(entry.key, entry.data)
    except (ValueError, KeyError, TypeError) as error:
        raise _described(error, entry.type, entry.place) from error


def decode_data(type_: str, key: str, data: bytes, *, place: str = "") -> AnyEvent:
    """`decode` for bytes that lie elsewhere (spool, archive, last-state cache)."""
    try:
        return _reader(type_)(key, data)
    except (ValueError, KeyError, TypeError) as error:
        raise _described(error, type_, place) from error


def _described(error: Exception, type_: str, place: str) -> UnknownEvent | BadEvent:
    if isinstance(error, UnknownEvent):
        return UnknownEvent(f"{place}: {error}")
    return BadEvent(f"{place}: {type_} cannot be read: {error}")


@lru_cache(TYPES_REMEMBERED_MAX)
def _reader(type_: str) -> Callable[[str, bytes], AnyEvent]:
    """What reads the data of a type. Raises UnknownEvent."""
    name, version = split_type(type_)
    if name not in PACKED_VERSIONS:
        return partial(_read_json, name, version)
    if version != PACKED_VERSIONS[name]:
        raise UnknownEvent(f"{type_} is newer than this program: upgrade it")
    return _PACKED_READERS[name]


@lru_cache(TYPES_REMEMBERED_MAX)
def split_type(type_: str) -> tuple[str, int]:
    """`ticks.1` -> ("ticks", 1). Raises UnknownEvent."""
    name, dot, version = type_.rpartition(".")
    if not (dot and name and version.isdecimal()):
        raise UnknownEvent(f"{type_!r} is no event type (expected name.version)")
    return name, int(version)


def _read_candles(key: str, data: bytes) -> CandleBatch:
    symbol, _, timeframe = key.rpartition(":")
    return CandleBatch.from_bytes(symbol, timeframe, data)


def _read_marks(_key: str, data: bytes) -> Marks:
    return Marks.from_bytes(data)


def _read_json(name: str, version: int, _key: str, data: bytes) -> Event:
    kind = EVENT_TYPES.get(name)
    if kind is None or version > kind.VERSION or version < 1:
        raise UnknownEvent(f"{name}.{version} is not known to this program: upgrade it")
    if version == kind.VERSION:
        return kind.model_validate_json(data)
    fields: dict[str, Any] = json.loads(data)
    for step in range(version, kind.VERSION):
        upcaster = UPCASTERS.get((name, step))
        fields = upcaster(fields) if upcaster else fields
    return kind.model_validate(fields)


_PACKED_READERS: dict[str, Callable[[str, bytes], AnyEvent]] = {
    TICKS: TickBatch.from_bytes,
    TICKS_HISTORY: TickBatch.from_bytes,
    CANDLES: _read_candles,
    MARKS: _read_marks,
}

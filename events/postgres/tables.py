"""The tables that entries become rows of: columns, types, and the rows of JSON events.

The SQL of these tables is `migrations/0001_initial.sql`; a test compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from events.event import Event
from events.log import Entry, Stream
from events.market import Instrument
from events.postgres.binary_copy import TIME_MAX_MS, TIME_MIN_MS, PackedTable
from events.trading import Account, Book, Deal, Order, OrderDone, Orders

Row = tuple[Any, ...]

_PLACE = {"entry_ms": "bigint", "entry_seq": "bigint"}
_HEADER = {"event_ms": "bigint", "recv_ms": "bigint"}

TICKS = PackedTable(
    "raw.ticks",
    {
        "time": "timestamptz", "time_msc": "bigint", "bid": "double precision",
        "ask": "double precision", "last": "double precision", "volume": "bigint",
        "volume_real": "double precision", **_PLACE, "recv_ms": "bigint", "idx": "integer",
        "feed_id": "integer", "flags": "integer", "batch_bits": "smallint",
    },
)  # fmt: skip
CANDLES = PackedTable(
    "raw.candles",
    {
        "time": "timestamptz", "time_s": "bigint", "open": "double precision",
        "high": "double precision", "low": "double precision", "close": "double precision",
        "tick_volume": "bigint", "real_volume": "bigint", **_PLACE, **_HEADER, "idx": "integer",
        "symbol_id": "integer", "stream_id": "integer", "timeframe_s": "integer",
        "spread": "integer", "offset_s": "integer", "offset_source": "smallint",
    },
)  # fmt: skip
MARKS = PackedTable(
    "raw.marks",
    {
        "time": "timestamptz", "login": "bigint", "ticket": "bigint",
        "price_current": "double precision", "profit": "double precision",
        "swap": "double precision", **_PLACE, **_HEADER, "idx": "integer",
        "stream_id": "integer", "offset_s": "integer", "offset_source": "smallint",
    },
)  # fmt: skip

_ROW_START = {"time": "timestamptz", "entry_ms": "int8", "entry_seq": "int8", "stream_id": "int4"}

ROW_TABLES: dict[str, dict[str, str]] = {
    "raw.events": _ROW_START
    | {"type": "text", "key": "text", "cause": "text", "body": "text", "original": "bytea"},
    "raw.exact_entries": _ROW_START
    | {"type": "text", "key": "text", "cause": "text", "data": "bytea"},
    "raw.dead_entries": {"entry_ms": "int8", "entry_seq": "int8", "stream_id": "int4"}
    | {"type": "bytea", "key": "bytea", "cause": "bytea", "data": "bytea", "error": "text"},
    "raw.accounts": _ROW_START
    | {
        "login": "int8", "server": "text", "currency": "text", "leverage": "int4",
        "trade_mode": "int2", "margin_mode": "int2", "trade_allowed": "bool",
        "trade_expert": "bool", "balance": "float8", "credit": "float8", "profit": "float8",
        "equity": "float8", "margin": "float8", "margin_free": "float8", "margin_level": "float8",
    },
    "raw.positions": _ROW_START
    | {
        "idx": "int4", "login": "int8", "symbol_id": "int4", "ticket": "numeric",
        "identifier": "numeric", "side": "int2", "volume_lots": "float8", "price_open": "float8",
        "stop_loss": "float8", "take_profit": "float8", "magic": "numeric", "reason": "int2",
        "comment": "text", "open_time": "timestamptz", "open_time_server_ms": "int8",
    },
    "raw.orders": _ROW_START
    | {
        "idx": "int4", "login": "int8", "symbol_id": "int4", "done": "bool", "ticket": "numeric",
        "type": "int2", "state": "int2", "type_time": "int2", "type_filling": "int2",
        "magic": "numeric", "position_id": "numeric", "position_by_id": "numeric",
        "reason": "int2", "volume_initial_lots": "float8", "volume_current_lots": "float8",
        "price_open": "float8", "price_stoplimit": "float8", "stop_loss": "float8",
        "take_profit": "float8", "comment": "text", "setup_time": "timestamptz",
        "setup_time_server_ms": "int8", "done_time": "timestamptz", "done_time_server_ms": "int8",
    },
    "raw.deals": _ROW_START
    | {
        "login": "int8", "symbol_id": "int4", "ticket": "numeric", "order_ticket": "numeric",
        "position_id": "numeric", "type": "int2", "entry": "int2", "reason": "int2",
        "magic": "numeric", "volume_lots": "float8", "price": "float8", "profit": "float8",
        "commission": "float8", "swap": "float8", "fee": "float8", "comment": "text",
        "external_id": "text", "time_server_ms": "int8",
    },
    "raw.instruments": _ROW_START
    | {
        "symbol_id": "int4", "broker_symbol": "text", "description": "text", "path": "text",
        "currency_base": "text", "currency_profit": "text", "currency_margin": "text",
        "digits": "int2", "point": "float8", "tick_size": "float8", "tick_value": "float8",
        "contract_size": "float8", "volume_min_lots": "float8", "volume_max_lots": "float8",
        "volume_step_lots": "float8", "calc_mode": "int2", "trade_mode": "int2",
        "stops_level_points": "int4", "freeze_level_points": "int4", "swap_mode": "int2",
        "swap_long": "float8", "swap_short": "float8",
    },
}  # fmt: skip
"""Tables written row by row: column -> type of its binary form (json travels as text)."""


class Ids(Protocol):
    """Small numbers for names: terminals' symbols, streams, and symbols within a stream."""

    def stream(self, stream: Stream) -> int: ...

    def symbol(self, namespace: str, symbol: str) -> int: ...

    def feed(self, stream: Stream, symbol: str) -> int: ...


def instant(utc_ms: int) -> datetime:
    """UTC ms -> datetime, clamped to the years 1..9999."""
    clamped = min(max(utc_ms, TIME_MIN_MS), TIME_MAX_MS)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=clamped)


def text(value: str) -> str:
    """A string that PostgreSQL stores: no NUL, no lone surrogates (the entry keeps them)."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def row_start(entry: Entry, event_time_ms: int, ids: Ids) -> Row:
    return (instant(event_time_ms), entry.id.ms, entry.id.seq, ids.stream(entry.stream))


def typed_rows(entry: Entry, event: Event, ids: Ids) -> Iterator[tuple[str, Row]]:
    """The rows of a JSON event beside its row in raw.events: (table, row) each.

    Raises OverflowError for numbers that no column takes.
    """
    maker = _MAKERS.get(type(event))
    if maker is not None:
        yield from maker(entry, event, ids)


def _account(entry: Entry, event: Account, ids: Ids) -> Iterator[tuple[str, Row]]:
    yield (
        "raw.accounts",
        (
            *row_start(entry, event.event_time_ms, ids),
            event.login, text(event.server), text(event.currency), event.leverage,
            event.trade_mode, event.margin_mode, event.trade_allowed, event.trade_expert,
            event.balance, event.credit, event.profit, event.equity, event.margin,
            event.margin_free, event.margin_level_percent,
        ),
    )  # fmt: skip


def _book(entry: Entry, event: Book, ids: Ids) -> Iterator[tuple[str, Row]]:
    start = row_start(entry, event.event_time_ms, ids)
    namespace = entry.stream.slot.namespace
    for index, place in enumerate(event.positions):
        yield (
            "raw.positions",
            (
                *start, index, event.login, ids.symbol(namespace, place.symbol), place.ticket,
                place.identifier, place.side, place.volume_lots, place.price_open,
                place.stop_loss, place.take_profit, place.magic, place.reason,
                text(place.comment), instant(place.time_ms), place.time_server_ms,
            ),
        )  # fmt: skip


def _orders(entry: Entry, event: Orders, ids: Ids) -> Iterator[tuple[str, Row]]:
    for index, order in enumerate(event.orders):
        yield _order(entry, event, order, ids, index=index, done=False)


def _order_done(entry: Entry, event: OrderDone, ids: Ids) -> Iterator[tuple[str, Row]]:
    yield _order(entry, event, event.order, ids, index=0, done=True)


def _order(
    entry: Entry, event: Orders | OrderDone, order: Order, ids: Ids, *, index: int, done: bool
) -> tuple[str, Row]:
    return (
        "raw.orders",
        (
            *row_start(entry, event.event_time_ms, ids),
            index, event.login, ids.symbol(entry.stream.slot.namespace, order.symbol), done,
            order.ticket, order.type, order.state, order.type_time, order.type_filling,
            order.magic, order.position_id, order.position_by_id, order.reason,
            order.volume_initial_lots, order.volume_current_lots, order.price_open,
            order.price_stoplimit, order.stop_loss, order.take_profit, text(order.comment),
            instant(order.time_setup_ms), order.time_setup_server_ms,
            instant(order.time_done_ms) if order.time_done_ms else None,
            order.time_done_server_ms,
        ),
    )  # fmt: skip


def _deal(entry: Entry, event: Deal, ids: Ids) -> Iterator[tuple[str, Row]]:
    namespace = entry.stream.slot.namespace
    yield (
        "raw.deals",
        (
            *row_start(entry, event.event_time_ms, ids),
            event.login, ids.symbol(namespace, event.symbol) if event.symbol else None,
            event.ticket, event.order, event.position_id, event.type, event.entry, event.reason,
            event.magic, event.volume_lots, event.price, event.profit, event.commission,
            event.swap, event.fee, text(event.comment), text(event.external_id),
            event.time_server_ms,
        ),
    )  # fmt: skip


def _instrument(entry: Entry, event: Instrument, ids: Ids) -> Iterator[tuple[str, Row]]:
    yield (
        "raw.instruments",
        (
            *row_start(entry, event.event_time_ms, ids),
            ids.symbol(entry.stream.slot.namespace, event.symbol), text(event.broker_symbol),
            text(event.description), text(event.path), text(event.currency_base),
            text(event.currency_profit), text(event.currency_margin), event.digits, event.point,
            event.tick_size, event.tick_value, event.contract_size, event.volume_min_lots,
            event.volume_max_lots, event.volume_step_lots, event.calc_mode, event.trade_mode,
            event.stops_level_points, event.freeze_level_points, event.swap_mode,
            event.swap_long, event.swap_short,
        ),
    )  # fmt: skip


_MAKERS: dict[type[Event], Callable[..., Iterator[tuple[str, Row]]]] = {
    Account: _account,
    Book: _book,
    Deal: _deal,
    Instrument: _instrument,
    OrderDone: _order_done,
    Orders: _orders,
}

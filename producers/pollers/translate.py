"""From the terminal's structs to events. Pure; every server time also becomes UTC."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from events.market import Instrument, Quote, Quotes
from events.marks import MARK_DTYPE, Marks
from events.ticks import OffsetSource
from events.trading import Account, Book, Deal, Order, OrderDone, Orders, Position


@dataclass(frozen=True, slots=True)
class Reading:
    """Under which circumstances structs were read."""

    login: int
    recv_ms: int
    """UTC clock of the terminal's host."""
    offset_s: int
    offset_source: OffsetSource
    utc_ms: Callable[[int], int]
    """Server time in ms to UTC in ms."""
    canonical: Callable[[str], str]
    """The broker's name of a symbol to ours."""

    def utc(self, server_ms: int) -> int:
        """UTC of a server time; 0 ("none") stays 0."""
        return self.utc_ms(server_ms) if server_ms else 0

    @property
    def header(self) -> dict[str, Any]:
        """Fields every event about the account shares; levels hold at the time of reading."""
        return {
            "event_time_ms": self.recv_ms,
            "recv_time_ms": self.recv_ms,
            "offset_s": self.offset_s,
            "offset_source": self.offset_source,
            "login": self.login,
        }


def account(info: Any, reading: Reading, *, deals_pending: bool = False) -> Account:
    """`account_info` as an event."""
    return Account(
        **reading.header,
        server=info.server,
        name=info.name,
        company=info.company,
        currency=info.currency,
        currency_digits=info.currency_digits,
        trade_mode=info.trade_mode,
        margin_mode=info.margin_mode,
        leverage=info.leverage,
        balance=info.balance,
        credit=info.credit,
        profit=info.profit,
        equity=info.equity,
        margin=info.margin,
        margin_free=info.margin_free,
        margin_level_percent=info.margin_level,
        margin_so_mode=info.margin_so_mode,
        margin_so_call=info.margin_so_call,
        margin_so_so=info.margin_so_so,
        trade_allowed=bool(info.trade_allowed),
        trade_expert=bool(info.trade_expert),
        fifo_close=bool(info.fifo_close),
        limit_orders=info.limit_orders,
        deals_pending=deals_pending,
    )


def book(positions: Iterable[Any], reading: Reading) -> Book:
    """`positions_get` as an event, ordered by ticket."""
    rows = sorted(positions, key=lambda position: position.ticket)
    return Book(**reading.header, positions=tuple(_position(row, reading) for row in rows))


def _position(row: Any, reading: Reading) -> Position:
    return Position(
        ticket=row.ticket,
        identifier=row.identifier,
        symbol=reading.canonical(row.symbol),
        side=row.type,
        volume_lots=row.volume,
        price_open=row.price_open,
        stop_loss=row.sl,
        take_profit=row.tp,
        magic=row.magic,
        reason=row.reason,
        comment=row.comment,
        external_id=row.external_id,
        time_ms=reading.utc(row.time_msc),
        time_server_ms=row.time_msc,
        time_update_server_ms=row.time_update_msc,
    )


def book_shape(positions: Iterable[Any]) -> tuple[Any, ...]:
    """What makes a book another book: tickets, sides, volumes, prices of opening, stops."""
    return tuple(
        sorted(
            (row.ticket, row.identifier, row.type, row.volume, row.price_open, row.sl, row.tp)
            for row in positions
        )
    )


def marks(positions: Iterable[Any], reading: Reading) -> Marks:
    """Current price, profit and swap of every open position."""
    rows = sorted((row.ticket, row.price_current, row.profit, row.swap) for row in positions)
    return Marks(
        login=reading.login,
        rows=np.array(rows, MARK_DTYPE),
        event_time_ms=reading.recv_ms,
        recv_time_ms=reading.recv_ms,
        offset_s=reading.offset_s,
        offset_source=reading.offset_source,
    )


def quotes(ticks: Iterable[tuple[str, Any]], reading: Reading) -> Quotes:
    """(canonical symbol, `symbol_info_tick`) pairs as one event."""
    return Quotes(
        **reading.header,
        quotes=tuple(
            Quote(
                symbol=symbol,
                bid=tick.bid,
                ask=tick.ask,
                last=tick.last,
                time_ms=reading.utc(tick.time_msc),
                time_server_ms=tick.time_msc,
            )
            for symbol, tick in sorted(ticks, key=lambda pair: pair[0])
        ),
    )


def orders(rows: Iterable[Any], reading: Reading) -> Orders:
    """`orders_get` as an event, ordered by ticket."""
    ordered = sorted(rows, key=lambda row: row.ticket)
    return Orders(**reading.header, orders=tuple(order(row, reading) for row in ordered))


def orders_shape(rows: Iterable[Any]) -> tuple[Any, ...]:
    """What makes active orders other ones: everything but the moving current price."""
    return tuple(
        sorted(
            (
                row.ticket, row.type, row.state, row.volume_initial, row.volume_current,
                row.price_open, row.price_stoplimit, row.sl, row.tp, row.time_expiration,
            )
            for row in rows
        )
    )  # fmt: skip


def order(row: Any, reading: Reading) -> Order:
    """One active or finished order."""
    return Order(
        ticket=row.ticket,
        symbol=reading.canonical(row.symbol),
        type=row.type,
        state=row.state,
        type_time=row.type_time,
        type_filling=row.type_filling,
        magic=row.magic,
        position_id=row.position_id,
        position_by_id=row.position_by_id,
        reason=row.reason,
        volume_initial_lots=row.volume_initial,
        volume_current_lots=row.volume_current,
        price_open=row.price_open,
        price_stoplimit=row.price_stoplimit,
        stop_loss=row.sl,
        take_profit=row.tp,
        comment=row.comment,
        external_id=row.external_id,
        time_setup_ms=reading.utc(row.time_setup_msc),
        time_setup_server_ms=row.time_setup_msc,
        time_done_ms=reading.utc(row.time_done_msc),
        time_done_server_ms=row.time_done_msc,
        time_expiration_server_s=row.time_expiration,
    )


def order_done(row: Any, reading: Reading) -> OrderDone:
    """An order of the history; its event time is when it was done."""
    fields = {**reading.header, "event_time_ms": reading.utc(row.time_done_msc) or reading.recv_ms}
    return OrderDone(**fields, order=order(row, reading))


def deal(row: Any, reading: Reading) -> Deal:
    """One deal; its event time is when it was made."""
    return Deal(
        **{**reading.header, "event_time_ms": reading.utc(row.time_msc) or reading.recv_ms},
        ticket=row.ticket,
        order=row.order,
        position_id=row.position_id,
        symbol=reading.canonical(row.symbol) if row.symbol else "",
        type=row.type,
        entry=row.entry,
        reason=row.reason,
        magic=row.magic,
        volume_lots=row.volume,
        price=row.price,
        profit=row.profit,
        commission=row.commission,
        swap=row.swap,
        fee=row.fee,
        comment=row.comment,
        external_id=row.external_id,
        time_server_ms=row.time_msc,
    )


def instrument(symbol: str, info: Any, reading: Reading) -> Instrument:
    """`symbol_info` as an event; `symbol` is our name of it."""
    header = {name: value for name, value in reading.header.items() if name != "login"}
    return Instrument(
        **header,
        symbol=symbol,
        broker_symbol=info.name,
        description=info.description,
        path=info.path,
        currency_base=info.currency_base,
        currency_profit=info.currency_profit,
        currency_margin=info.currency_margin,
        digits=info.digits,
        point=info.point,
        tick_size=info.trade_tick_size,
        tick_value=info.trade_tick_value,
        tick_value_profit=info.trade_tick_value_profit,
        tick_value_loss=info.trade_tick_value_loss,
        contract_size=info.trade_contract_size,
        volume_min_lots=info.volume_min,
        volume_max_lots=info.volume_max,
        volume_step_lots=info.volume_step,
        volume_limit_lots=info.volume_limit,
        calc_mode=info.trade_calc_mode,
        trade_mode=info.trade_mode,
        execution_mode=info.trade_exemode,
        filling_mode=info.filling_mode,
        order_mode=info.order_mode,
        expiration_mode=info.expiration_mode,
        stops_level_points=info.trade_stops_level,
        freeze_level_points=info.trade_freeze_level,
        swap_mode=info.swap_mode,
        swap_long=info.swap_long,
        swap_short=info.swap_short,
        swap_rollover_weekday=info.swap_rollover3days,
        margin_initial=info.margin_initial,
        margin_maintenance=info.margin_maintenance,
        margin_hedged=info.margin_hedged,
        margin_hedged_use_leg=bool(info.margin_hedged_use_leg),
        chart_mode=info.chart_mode,
    )


_MOVING = {
    "event_time_ms", "recv_time_ms", "offset_s", "offset_source",
    "tick_value", "tick_value_profit", "tick_value_loss",
}  # fmt: skip
TICK_VALUE_STEP = 0.005
"""A tick value that moved by this share is a change; smaller moves are the conversion rate's."""


def instrument_changed(old: Instrument | None, new: Instrument) -> bool:
    """Whether arithmetic needs the new facts."""
    if old is None:
        return True
    if old.model_dump(exclude=_MOVING) != new.model_dump(exclude=_MOVING):
        return True
    return abs(new.tick_value - old.tick_value) > TICK_VALUE_STEP * abs(old.tick_value)

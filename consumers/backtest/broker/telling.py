"""What happened at the broker, as the events a terminal's producer appends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from consumers.backtest.broker.prices.present import Present
from consumers.backtest.broker.spec.account import AccountSpec
from events.accounting import BookedDeal, OpenPosition
from events.broker.orders import BrokerOrder
from events.broker.server import TradeServer
from events.codec import AnyEvent
from events.market import Contracts, Instrument, Quote, Quotes
from events.marks import MARK_DTYPE, Marks
from events.ticks import OffsetSource
from events.trading import Account, Book, Deal, Order, OrderDone, Orders, Position

CONTRACTS_EVERY_MS = 300_000
"""As often does a producer repeat the facts of all symbols."""


class Teller:
    """Follows one trade server and tells what changed since it was last asked."""

    def __init__(
        self,
        server: TradeServer,
        present: Present,
        account: AccountSpec,
        instruments: Mapping[str, Instrument],
    ) -> None:
        self._server, self._present = server, present
        self._account, self._instruments = account, instruments
        self._deals = 0
        self._book: tuple[Any, ...] | None = None
        self._revision = -1
        self._orders: tuple[Order, ...] | None = None
        self._contracts_ms: int | None = None

    def changes(self) -> list[AnyEvent]:
        """Deals, orders that are done, active orders, book and account, as far as they changed."""
        server = self._server
        if (
            not server.touched_orders
            and not server.touched_positions
            and self._deals == len(server.deals)
            and self._revision == server.ledger.revision
        ):
            return []  # fmt: skip
        found: list[AnyEvent] = [self._deal(deal) for deal in server.deals[self._deals :]]
        self._deals = len(server.deals)
        found += [
            self._order_done(order)
            for order in server.touched_orders.values()
            if order.time_done_ms
        ]
        found += self._levels()
        server.touched_orders.clear()
        server.touched_positions.clear()
        server.orders_done.clear()
        found.append(self._told_account())
        return found

    def look(self) -> list[AnyEvent]:
        """The account as it stands: what changed, and what moves with prices."""
        found, changed = self._contracts(), self.changes()
        found += changed
        if self._book is None:
            found += self._levels()
        if self._server.ledger.positions:
            found.append(self._marks())
        found.append(Quotes(**self._header, quotes=self._quotes()))
        if not isinstance(changed[-1] if changed else None, Account):
            found.append(self._told_account())
        return found

    def _levels(self) -> list[AnyEvent]:
        server, found = self._server, list[AnyEvent]()
        orders = tuple(
            self._order(order) for order in sorted(server.orders.values(), key=lambda o: o.ticket)
        )
        if orders != self._orders:
            self._orders = orders
            found.append(Orders(**self._header, orders=orders))
        if self._revision != server.ledger.revision:
            self._revision = server.ledger.revision
            held = sorted(server.ledger.positions.values(), key=lambda one: one.ticket)
            shape = tuple(
                (p.ticket, p.identifier, p.side, p.volume_lots, p.price_open, p.stop_loss,
                 p.take_profit)
                for p in held
            )  # fmt: skip
            if shape != self._book:
                self._book = shape
                positions = tuple(self._position(one) for one in held)
                found.append(Book(**self._header, positions=positions))
        return found

    @property
    def _header(self) -> dict[str, Any]:
        now_ms = self._server.now_ms
        return {
            "event_time_ms": now_ms,
            "recv_time_ms": now_ms,
            "offset_s": self._present.offset_s(now_ms),
            "offset_source": OffsetSource.HISTORY,
            "login": self._account.login,
        }

    def _utc(self, server_ms: int) -> int:
        return server_ms - self._present.offset_s(0) * 1000 if server_ms else 0

    def _told_account(self) -> Account:
        server, account = self._server, self._account
        figures = server.valuer.figures(server.ledger, server.now_ms)
        return Account(
            **self._header,
            server=account.server,
            name=account.name,
            company=account.company,
            currency=account.currency,
            currency_digits=account.currency_digits,
            trade_mode=account.trade_mode,
            margin_mode=account.margin_mode,
            leverage=account.leverage,
            balance=figures.balance,
            credit=figures.credit,
            profit=figures.profit,
            equity=figures.equity,
            margin=figures.margin,
            margin_free=figures.margin_free,
            margin_level_percent=figures.margin_level_percent,
            margin_so_mode=account.margin_so_mode,
            margin_so_call=account.margin_so_call,
            margin_so_so=account.margin_so_so,
            fifo_close=account.fifo_close,
            limit_orders=account.limit_orders,
        )

    def _marks(self) -> Marks:
        server = self._server
        marks = server.valuer.marks(server.ledger, server.now_ms)
        rows = sorted(
            (one.ticket, *marks[one.identifier], one.swap)
            for one in server.ledger.positions.values()
        )
        return Marks(
            rows=np.array(rows, MARK_DTYPE), **self._header
        )  # fmt: skip

    def _quotes(self) -> tuple[Quote, ...]:
        offset_ms = self._present.offset_s(0) * 1000
        found = []
        for symbol in sorted(self._instruments):
            seen = self._present.seen(symbol)
            if seen is not None:
                bid, ask, time_ms = seen
                found.append(
                    Quote(
                        symbol=symbol, bid=bid, ask=ask, time_ms=time_ms,
                        time_server_ms=time_ms + offset_ms,
                    )
                )  # fmt: skip
        return tuple(found)

    def _contracts(self) -> list[AnyEvent]:
        now_ms = self._server.now_ms
        if self._contracts_ms is not None and now_ms - self._contracts_ms < CONTRACTS_EVERY_MS:
            return []
        self._contracts_ms = now_ms
        instruments = tuple(self._instruments[name] for name in sorted(self._instruments))
        return [Contracts(**self._header, instruments=instruments, quotes=self._quotes())]

    def _position(self, one: OpenPosition) -> Position:
        return Position(
            ticket=one.ticket,
            identifier=one.identifier,
            symbol=one.symbol,
            side=one.side,
            volume_lots=one.volume_lots,
            price_open=one.price_open,
            stop_loss=one.stop_loss,
            take_profit=one.take_profit,
            magic=one.magic,
            reason=one.reason,
            comment=one.comment,
            time_ms=self._utc(one.time_ms),
            time_server_ms=one.time_ms,
            time_update_server_ms=one.time_update_ms,
        )

    def _order(self, one: BrokerOrder) -> Order:
        return Order(
            ticket=one.ticket,
            symbol=one.symbol,
            type=one.type,
            state=one.state,
            type_time=one.type_time,
            type_filling=one.type_filling,
            magic=one.magic,
            position_id=one.position_id,
            position_by_id=one.position_by_id,
            reason=one.reason,
            volume_initial_lots=one.volume_initial,
            volume_current_lots=one.volume_current,
            price_open=one.price_open,
            price_stoplimit=one.price_stoplimit,
            stop_loss=one.stop_loss,
            take_profit=one.take_profit,
            comment=one.comment,
            time_setup_ms=self._utc(one.time_setup_ms),
            time_setup_server_ms=one.time_setup_ms,
            time_done_ms=self._utc(one.time_done_ms),
            time_done_server_ms=one.time_done_ms,
            time_expiration_server_s=one.time_expiration_s,
        )

    def _order_done(self, one: BrokerOrder) -> OrderDone:
        header = {**self._header, "event_time_ms": self._utc(one.time_done_ms)}
        return OrderDone(**header, order=self._order(one))

    def _deal(self, deal: BookedDeal) -> Deal:
        return Deal(
            **{**self._header, "event_time_ms": self._utc(deal.time_ms)},
            ticket=deal.ticket,
            order=deal.order,
            position_id=deal.position_id,
            symbol=deal.symbol,
            type=deal.type,
            entry=int(deal.entry),
            reason=deal.reason,
            magic=deal.magic,
            volume_lots=deal.volume_lots,
            price=deal.price,
            profit=deal.profit,
            commission=deal.commission,
            swap=deal.swap,
            fee=deal.fee,
            comment=deal.comment,
            time_server_ms=deal.time_ms,
        )

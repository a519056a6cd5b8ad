"""Deals and the book to trades: entry, exit, volume and net result of every position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, cast

from consumers.runtime.handler import Handler, Inputs, Order
from consumers.trades import balance, record
from consumers.trades.legs import Booked, Leg, row_of, state_of, trade_of, withdrawn
from consumers.trades.record import Record
from consumers.trades.tickets import KnownTickets
from events.accounting import SELL
from events.codec import AnyEvent
from events.log import Lane
from events.marks import Marks
from events.trading import Account, Book, Deal, Position, TradeUpdate

CLOSED_KEPT_MAX = 256
"""Closed positions of an account that a late deal still finds."""
WITHDRAWN = "withdrawn"
APART_MS = 10_000
"""Deals and book are no one snapshot: so long they may tell different things."""


class TradesHandler(Handler):
    """One TradeUpdate per deal and leg it changes, and one when the book tells more than deals.

    A deal that was taken already changes nothing. State is bounded: open positions, the newest
    closed ones, and the newest tickets.
    """

    order: ClassVar[Order] = Order.LOG
    inputs: ClassVar[Inputs] = Inputs(lanes=(Lane.HIGH,))
    tasks: ClassVar[int | None] = 1
    types: ClassVar[frozenset[str]] = frozenset({"deal", "book", "account", "marks"})

    def setup(self) -> None:
        self._tickets: dict[int, KnownTickets] = {}

    def handle(self, event: AnyEvent) -> Iterator[AnyEvent]:
        if isinstance(event, Deal):
            yield from self._deal(event)
        elif isinstance(event, Book):
            self._book(event)
            yield from self._doubted(event)
        elif isinstance(event, Account):
            yield from self._account(event)
            yield from self._doubted(event)
        elif isinstance(event, Marks):
            yield from self._doubted(event)

    def _deal(self, deal: Deal) -> Iterator[TradeUpdate]:
        if not self._known(deal.login).add(deal.ticket, deal.event_time_ms):
            return
        expected = self._expected(deal.login)
        if expected is not None:
            balance.book(expected, deal)
        if deal.type > SELL or not deal.position_id:
            return
        kept = self._record(deal.login, deal.position_id)
        booked = self._booked(deal.login).get(deal.position_id)
        if kept is None:
            kept = self.state[_key(deal.login, deal.position_id)] = record.new_record(booked)
        legs = record.numbered(kept)
        record.take(kept, row_of(deal))
        self._doubt(deal.login, deal.position_id, deal.recv_time_ms)
        yield from self._changed(deal, deal.position_id, kept, legs, at_ms=deal.event_time_ms)

    def _book(self, book: Book) -> None:
        """Remember it; doubt what it tells otherwise than the deals."""
        before = self._booked(book.login)
        now = {one.identifier: _booked(one) for one in book.positions}
        self.state[f"book:{book.login}"] = now
        for identifier in sorted(before.keys() | now.keys()):
            if before.get(identifier) != now.get(identifier):
                self._doubt(book.login, identifier, book.recv_time_ms)

    def _account(self, seen: Account) -> Iterator[AnyEvent]:
        expected = self._expected(seen.login)
        if expected is None:
            self.state[f"balance:{seen.login}"] = balance.first(seen)
            return
        told = balance.compare(expected, seen)
        if told is not None:
            yield told

    def _doubt(self, login: int, identifier: int, now_ms: int) -> None:
        """Look at a position again when nothing of it was told for a while, unless deals and book
        agree."""
        doubts: dict[int, int] = self.state.setdefault(f"doubts:{login}", {})
        booked = self._booked(login).get(identifier)
        if record.fits_book(self._record(login, identifier), booked):
            kept = self._record(login, identifier)
            if kept is None or not kept["doubt"]:
                doubts.pop(identifier, None)
                return
        doubts[identifier] = now_ms

    def _doubted(self, event: Account | Book | Marks) -> Iterator[TradeUpdate]:
        """Decide what deals and book told differently for too long."""
        doubts = self.state.get(f"doubts:{event.login}")
        if not doubts or f"book:{event.login}" not in self.state:
            return
        now_ms = event.recv_time_ms
        due = [one for one, since_ms in doubts.items() if now_ms - since_ms >= APART_MS]
        for identifier in sorted(due):
            del doubts[identifier]
            booked = self._booked(event.login).get(identifier)
            kept = self._record(event.login, identifier)
            if kept is None:
                if booked is None:
                    continue
                kept = self.state[_key(event.login, identifier)] = record.new_record(booked)
            legs, doubt = record.numbered(kept), kept["doubt"]
            record.follow_book(kept, booked, now_ms=now_ms)
            if kept["doubt"] != doubt:
                legs.pop(max(legs), None)  # told again, though it is the same
            yield from self._changed(event, identifier, kept, legs, at_ms=now_ms)

    def _changed(
        self,
        event: Deal | Book | Account | Marks,
        identifier: int,
        kept: Record,
        before: dict[int, Leg],
        *,
        at_ms: int,
    ) -> Iterator[TradeUpdate]:
        """Legs that are not what they were before, as events."""
        expected = self._expected(event.login)
        legs = record.numbered(kept)
        gone = {one: withdrawn(leg) for one, leg in before.items() if one > max(legs, default=-1)}
        for number, leg in {**legs, **gone}.items():
            if before.get(number) == leg:
                continue
            yield TradeUpdate(
                event_time_ms=at_ms, recv_time_ms=event.recv_time_ms, offset_s=event.offset_s,
                offset_source=event.offset_source, login=event.login,
                state=WITHDRAWN if number in gone else state_of(leg),
                trade=trade_of(identifier, number, leg),
                unexplained=expected["total"] if expected is not None else 0.0,
                doubt=kept["doubt"] if number == max(legs) else "",
            )  # fmt: skip
        if legs and state_of(legs[max(legs)]) == "closed":
            self._closed(event.login, identifier)

    def _closed(self, login: int, identifier: int) -> None:
        """Keep the newest closed positions; forget older ones, those first whose opening is known:
        a deal of the past may still tell the others."""
        closed: list[int] = self.state.setdefault(f"closed:{login}", [])
        if identifier in closed:
            closed.remove(identifier)
        closed.append(identifier)
        if len(closed) > CLOSED_KEPT_MAX:
            oldest = next((one for one in closed if self._whole(login, one)), closed[0])
            closed.remove(oldest)
            kept = self._record(login, oldest)
            if kept is not None and state_of(kept["legs"][-1]) == "closed":
                del self.state[_key(login, oldest)]

    def _whole(self, login: int, identifier: int) -> bool:
        kept = self._record(login, identifier)
        return kept is None or all(leg["known"] for leg in kept["legs"])

    def _known(self, login: int) -> KnownTickets:
        if login not in self._tickets:
            self._tickets[login] = KnownTickets(self.state, login)
        return self._tickets[login]

    def _record(self, login: int, identifier: int) -> Record | None:
        return cast("Record | None", self.state.get(_key(login, identifier)))

    def _expected(self, login: int) -> balance.Expected | None:
        return cast("balance.Expected | None", self.state.get(f"balance:{login}"))

    def _booked(self, login: int) -> dict[int, Booked]:
        booked: dict[int, Any] = self.state.get(f"book:{login}", {})
        return booked


def _key(login: int, identifier: int) -> str:
    return f"position:{login}:{identifier}"


def _booked(position: Position) -> Booked:
    return Booked(
        symbol=position.symbol, side=position.side, lots=round(position.volume_lots, 8) + 0.0,
        price=position.price_open, time_ms=position.time_ms, magic=position.magic,
        comment=position.comment,
    )  # fmt: skip

"""Deals to positions: the one place where an execution changes an account.

A *fill* is an execution without consequences; `Ledger.book` turns it into deals, and `apply`
is the only function that changes positions and balance. So whoever has the deals has the account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum

BUY, SELL = 0, 1
TYPE_CREDIT = 3
LOTS_DIGITS = 8


class MarginMode(IntEnum):
    """How an account keeps positions (MT5's ACCOUNT_MARGIN_MODE)."""

    NETTING = 0
    EXCHANGE = 1
    HEDGING = 2


class Entry(IntEnum):
    """What a deal does to its position (MT5's DEAL_ENTRY)."""

    IN = 0
    OUT = 1
    IN_OUT = 2
    OUT_BY = 3


class RefusedFill(ValueError):
    """A fill that fits no position: wrong ticket, side or volume."""


@dataclass(frozen=True, slots=True)
class Fill:
    """An execution: side 0 buy, 1 sell; `position` is the ticket to close on hedging accounts."""

    symbol: str
    side: int
    volume_lots: float
    price: float
    order: int
    time_ms: int
    position: int = 0
    magic: int = 0
    reason: int = 0
    comment: str = ""


@dataclass(frozen=True, slots=True)
class BookedDeal:
    """One deal; money in account currency. `type` 0 buy, 1 sell, 2 and above work on the balance
    (3 on the credit) by `profit` and have no position."""

    ticket: int
    type: int
    time_ms: int
    order: int = 0
    position_id: int = 0
    symbol: str = ""
    entry: int = Entry.IN
    volume_lots: float = 0.0
    price: float = 0.0
    profit: float = 0.0
    swap: float = 0.0
    commission: float = 0.0
    fee: float = 0.0
    magic: int = 0
    reason: int = 0
    comment: str = ""

    @property
    def amount(self) -> float:
        """What the deal changes balance (or credit) by."""
        return self.profit + self.swap + self.commission + self.fee


@dataclass(slots=True)
class OpenPosition:
    """An open position. `ticket` may change, `identifier` never does."""

    ticket: int
    identifier: int
    symbol: str
    side: int
    volume_lots: float
    price_open: float
    time_ms: int
    time_update_ms: int
    magic: int = 0
    reason: int = 0
    comment: str = ""
    stop_loss: float = 0.0
    take_profit: float = 0.0
    swap: float = 0.0


ProfitOf = Callable[[OpenPosition, float, float], float]
"""(position, volume in lots, closing price) -> profit in account currency."""
ChargeOf = Callable[[str, float, Entry], float]
"""(symbol, volume in lots, entry) -> commission in account currency (negative: paid)."""


def _no_charge(symbol: str, volume_lots: float, entry: Entry) -> float:
    return 0.0


@dataclass(slots=True)
class Ledger:
    """Balance, credit and open positions of one account."""

    mode: MarginMode
    currency_digits: int = 2
    balance: float = 0.0
    credit: float = 0.0
    positions: dict[int, OpenPosition] = field(default_factory=dict)
    """By identifier, in the order they were opened."""
    revision: int = field(default=0, compare=False)
    """Counts the changes of positions, for who keeps what he derived from them."""

    def by_ticket(self, ticket: int) -> OpenPosition | None:
        """The position whose current ticket this is."""
        return next((p for p in self.positions.values() if p.ticket == ticket), None)

    def of_symbol(self, symbol: str) -> list[OpenPosition]:
        return [p for p in self.positions.values() if p.symbol == symbol]

    def book(
        self,
        fill: Fill,
        *,
        ticket: int,
        profit_of: ProfitOf,
        commission_of: ChargeOf = _no_charge,
        fee_of: ChargeOf = _no_charge,
    ) -> BookedDeal:
        """The deal a fill makes on this account, applied. Raises RefusedFill, changing nothing."""
        if fill.volume_lots <= 0 or fill.price <= 0:
            raise RefusedFill(f"a fill needs a volume and a price, not {fill}")
        charges = {"commission": commission_of, "fee": fee_of}
        deal = self._deal(fill, ticket, profit_of, charges)
        self.apply(deal)
        return deal

    def close_by(
        self,
        first: OpenPosition,
        second: OpenPosition,
        *,
        order: int,
        tickets: tuple[int, int],
        time_ms: int,
        profit_of: ProfitOf,
    ) -> tuple[BookedDeal, BookedDeal]:
        """Close two opposite positions of a symbol against each other. The first's profit is
        taken at the second's opening price; what is left of the larger stays open. Raises
        RefusedFill."""
        if first.symbol != second.symbol or first.side == second.side:
            raise RefusedFill("only opposite positions of one symbol close each other")
        volume = min(first.volume_lots, second.volume_lots)
        price = second.price_open
        deals = tuple(
            self._closing(
                position,
                BookedDeal(
                    ticket=ticket, type=1 - position.side, time_ms=time_ms, order=order,
                    symbol=position.symbol, entry=Entry.OUT_BY, volume_lots=volume, price=price,
                    position_id=position.identifier, magic=position.magic,
                ),
                closed_lots=volume,
                profit=profit_of(position, volume, price),
            )
            for position, ticket in zip((first, second), tickets, strict=True)
        )  # fmt: skip
        for deal in deals:
            self.apply(deal)
        return deals[0], deals[1]

    def reopen(
        self,
        position: OpenPosition,
        *,
        order: int,
        tickets: tuple[int, int],
        time_ms: int,
        closed: float,
        opened: float,
        reason: int,
        profit_of: ProfitOf,
    ) -> tuple[BookedDeal, BookedDeal]:
        """Close a position whole at one price and open it again at another, as brokers do who
        charge swap that way: ticket `order`, identifier as before, no charges. Stop and target
        are the caller's to set again."""
        leaving = BookedDeal(
            ticket=tickets[0], type=1 - position.side, time_ms=time_ms, order=order,
            symbol=position.symbol, entry=Entry.OUT, volume_lots=position.volume_lots,
            price=closed, position_id=position.identifier, magic=position.magic, reason=reason,
            comment=position.comment,
        )  # fmt: skip
        leaving = self._closing(
            position, leaving, closed_lots=position.volume_lots,
            profit=profit_of(position, position.volume_lots, closed),
        )  # fmt: skip
        coming = replace(
            leaving, ticket=tickets[1], type=position.side, entry=Entry.IN, price=opened,
            profit=0.0, swap=0.0,
        )  # fmt: skip
        self.apply_all((leaving, coming))
        return leaving, coming

    def charge_swap(self, identifier: int, amount: float) -> None:
        """Add one night's swap to a position; it reaches the balance with the closing deal."""
        position = self.positions[identifier]
        position.swap = self.money(position.swap + amount)
        self.revision += 1

    def apply(self, deal: BookedDeal) -> None:
        """Let a deal take effect. Raises RefusedFill when it fits no position."""
        if deal.type <= SELL:
            self._apply_trade(deal)
            self.revision += 1
        if deal.type == TYPE_CREDIT:
            self.credit = self.money(self.credit + deal.amount)
        else:
            self.balance = self.money(self.balance + deal.amount)

    def apply_all(self, deals: Iterable[BookedDeal]) -> None:
        for deal in deals:
            self.apply(deal)

    def money(self, amount: float) -> float:
        """Rounded to the currency's digits."""
        return round(amount, self.currency_digits) + 0.0

    def _deal(
        self, fill: Fill, ticket: int, profit_of: ProfitOf, charges: dict[str, ChargeOf]
    ) -> BookedDeal:
        position = self._target(fill)
        entry = _entry(position, fill)
        charged = {
            name: self.money(charge(fill.symbol, fill.volume_lots, entry))
            for name, charge in charges.items()
        }
        identifier = fill.order if position is None else position.identifier
        deal = BookedDeal(
            ticket=ticket, type=fill.side, time_ms=fill.time_ms, order=fill.order,
            position_id=identifier, symbol=fill.symbol, entry=entry, price=fill.price,
            volume_lots=fill.volume_lots, magic=fill.magic, reason=fill.reason,
            comment=fill.comment, commission=charged["commission"], fee=charged["fee"],
        )  # fmt: skip
        if position is None or entry is Entry.IN:
            return deal
        closed = min(fill.volume_lots, position.volume_lots)
        profit = profit_of(position, closed, fill.price)
        return self._closing(position, deal, closed_lots=closed, profit=profit)

    def _target(self, fill: Fill) -> OpenPosition | None:
        """The position a fill works on; None opens a new one."""
        if self.mode is MarginMode.HEDGING:
            if not fill.position:
                return None
            position = self.by_ticket(fill.position)
            if position is None:
                raise RefusedFill(f"there is no position {fill.position}")
            if position.symbol != fill.symbol or position.side == fill.side:
                raise RefusedFill(f"position {fill.position} is not closed by {fill}")
            if _lots(fill.volume_lots - position.volume_lots) > 0:
                raise RefusedFill(f"position {fill.position} holds {position.volume_lots} lots")
            return position
        return next(iter(self.of_symbol(fill.symbol)), None)

    def _closing(
        self, position: OpenPosition, deal: BookedDeal, *, closed_lots: float, profit: float
    ) -> BookedDeal:
        """The deal with its profit and its part of the position's swap."""
        whole = _lots(position.volume_lots - closed_lots) == 0
        part = 1.0 if whole else closed_lots / position.volume_lots
        swap = position.swap if whole else self.money(position.swap * part)
        return replace(deal, profit=self.money(profit), swap=swap)

    def _apply_trade(self, deal: BookedDeal) -> None:
        position = self.positions.get(deal.position_id)
        if position is None:
            if deal.entry != Entry.IN:
                raise RefusedFill(f"deal {deal.ticket} closes an unknown position")
            self.positions[deal.position_id] = _opened(deal)
        elif deal.entry == Entry.IN:
            _add(position, deal)
        elif deal.entry == Entry.IN_OUT:
            _reverse(position, deal)
        else:
            self._reduce(position, deal)

    def _reduce(self, position: OpenPosition, deal: BookedDeal) -> None:
        left = _lots(position.volume_lots - deal.volume_lots)
        if left < 0:
            raise RefusedFill(f"deal {deal.ticket} closes more than position {position.ticket}")
        if left == 0:
            del self.positions[position.identifier]
            return
        position.volume_lots = left
        position.swap = self.money(position.swap - deal.swap)
        position.time_update_ms = deal.time_ms


def _entry(position: OpenPosition | None, fill: Fill) -> Entry:
    if position is None or position.side == fill.side:
        return Entry.IN
    if _lots(fill.volume_lots - position.volume_lots) > 0:
        return Entry.IN_OUT
    return Entry.OUT


def _opened(deal: BookedDeal) -> OpenPosition:
    return OpenPosition(
        ticket=deal.order or deal.position_id, identifier=deal.position_id, symbol=deal.symbol,
        side=deal.type, volume_lots=deal.volume_lots, price_open=deal.price,
        time_ms=deal.time_ms, time_update_ms=deal.time_ms, magic=deal.magic,
        reason=deal.reason, comment=deal.comment,
    )  # fmt: skip


def _add(position: OpenPosition, deal: BookedDeal) -> None:
    """Add to a netting position at the weighted price."""
    total = _lots(position.volume_lots + deal.volume_lots)
    paid = position.price_open * position.volume_lots + deal.price * deal.volume_lots
    position.price_open, position.volume_lots = paid / total, total
    position.time_update_ms = deal.time_ms


def _reverse(position: OpenPosition, deal: BookedDeal) -> None:
    """Turn a netting position: a new ticket and side, the identifier stays."""
    position.volume_lots = _lots(deal.volume_lots - position.volume_lots)
    position.ticket, position.side = deal.order, deal.type
    position.price_open, position.swap = deal.price, 0.0
    position.stop_loss = position.take_profit = 0.0
    position.time_update_ms = deal.time_ms


def _lots(volume: float) -> float:
    """Without the dust of floating point."""
    return round(volume, LOTS_DIGITS)

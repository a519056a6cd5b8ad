"""An account that trades at random, told in events as a producer tells them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from consumers.runtime.state import State
from consumers.trades import TradesHandler
from events.accounting import BookedDeal, Entry, Fill, Ledger, MarginMode, OpenPosition
from events.codec import AnyEvent
from events.trading import Account, Book, Deal, Position, TradeUpdate

LOGIN = 7
BEGIN_MS = 1_790_000_000_000
SERVER_AHEAD_MS = 3 * 3_600_000
DEPOSIT = 10_000.0
SYMBOLS = ("EURUSD", "GBPUSD", "XAUUSD")
STEP_MS = 1_000


def profit_of(position: OpenPosition, lots: float, price: float) -> float:
    sign = 1 if position.side == 0 else -1
    return sign * lots * 100_000 * (price - position.price_open)


def commission_of(symbol: str, lots: float, entry: Entry) -> float:
    return -3.37 * lots


def deal_of(deal: BookedDeal, *, recv_ms: int | None = None) -> Deal:
    """As the producer tells it."""
    at_ms = BEGIN_MS + deal.time_ms
    return Deal(
        event_time_ms=at_ms, recv_time_ms=recv_ms or at_ms, offset_s=SERVER_AHEAD_MS // 1000,
        login=LOGIN, ticket=deal.ticket, order=deal.order, position_id=deal.position_id,
        symbol=deal.symbol, type=deal.type, entry=int(deal.entry), reason=deal.reason,
        magic=deal.magic, volume_lots=deal.volume_lots, price=deal.price, profit=deal.profit,
        commission=deal.commission, swap=deal.swap, fee=deal.fee, comment=deal.comment,
        time_server_ms=at_ms + SERVER_AHEAD_MS,
    )  # fmt: skip


def book_of(positions: Iterable[OpenPosition], at_ms: int) -> Book:
    return Book(
        event_time_ms=BEGIN_MS + at_ms, recv_time_ms=BEGIN_MS + at_ms, login=LOGIN,
        positions=tuple(
            Position(
                ticket=one.ticket, identifier=one.identifier, symbol=one.symbol, side=one.side,
                volume_lots=one.volume_lots, price_open=one.price_open, magic=one.magic,
                comment=one.comment, time_ms=BEGIN_MS + one.time_ms,
                time_server_ms=BEGIN_MS + one.time_ms + SERVER_AHEAD_MS,
            )
            for one in positions
        ),
    )  # fmt: skip


def account_of(balance: float, at_ms: int) -> Account:
    return Account(
        event_time_ms=BEGIN_MS + at_ms, recv_time_ms=BEGIN_MS + at_ms, login=LOGIN, server="demo",
        currency="EUR", trade_mode=0, margin_mode=2, leverage=100, balance=balance, credit=0.0,
        profit=0.0, equity=balance, margin=0.0, margin_free=balance, margin_level_percent=0.0,
    )  # fmt: skip


def handler(state: State | None = None) -> TradesHandler:
    made = TradesHandler()
    made.state = State() if state is None else state
    made.setup()
    return made


def tell(trades: TradesHandler, events: Iterable[AnyEvent]) -> list[AnyEvent]:
    return [found for event in events for found in trades.handle(event)]


def last_of(found: Iterable[AnyEvent]) -> dict[str, TradeUpdate]:
    """Every trade by its key, as it was told last."""
    updates = {event.key: event for event in found if isinstance(event, TradeUpdate)}
    return {key: update for key, update in updates.items() if update.state != "withdrawn"}


def net_of(updates: Iterable[TradeUpdate]) -> float:
    return round(sum(update.trade.net_profit for update in updates), 6)


@dataclass
class Trading:
    """Fills on a ledger, and what is told of them."""

    mode: MarginMode
    fifo: bool = False
    """Hedging accounts that close the oldest position of a symbol first."""
    ledger: Ledger = field(init=False)
    deals: list[BookedDeal] = field(default_factory=list)
    now_ms: int = 0
    ticket: int = 1_000

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.mode)
        self.balance_operation(DEPOSIT)

    def balance_operation(self, amount: float, type_: int = 2) -> BookedDeal:
        deal = BookedDeal(self._next(), type_, self.now_ms, profit=amount)
        self.ledger.apply(deal)
        self.deals.append(deal)
        return deal

    def fill(
        self, side: int, lots: float, price: float, *, symbol: str = "EURUSD", position: int = 0,
        reason: int = 3, magic: int = 0, comment: str = "",
    ) -> BookedDeal:  # fmt: skip
        deal = self.ledger.book(
            Fill(symbol, side, lots, price, order=self._next(), time_ms=self.now_ms,
                 position=position, reason=reason, magic=magic, comment=comment),
            ticket=self._next(), profit_of=profit_of, commission_of=commission_of,
        )  # fmt: skip
        self.deals.append(deal)
        return deal

    def close_by(self, first: OpenPosition, second: OpenPosition) -> tuple[BookedDeal, ...]:
        deals = self.ledger.close_by(
            first, second, order=self._next(), tickets=(self._next(), self._next()),
            time_ms=self.now_ms, profit_of=profit_of,
        )  # fmt: skip
        self.deals += deals
        return deals

    def book(self) -> Book:
        return book_of(self.ledger.positions.values(), self.now_ms)

    def account(self) -> Account:
        return account_of(self.ledger.balance, self.now_ms)

    def look(self, deals: Sequence[BookedDeal]) -> list[AnyEvent]:
        """What a producer appends after these deals."""
        at_ms = BEGIN_MS + self.now_ms
        return [*(deal_of(deal, recv_ms=at_ms) for deal in deals), self.book(), self.account()]

    def _next(self) -> int:
        self.ticket += 1
        self.now_ms += STEP_MS
        return self.ticket


def random_move(trading: Trading, random: Random) -> list[BookedDeal]:
    """One fill, partial close, close-by, swap charge with nothing else, or balance operation."""
    ledger = trading.ledger
    held = list(ledger.positions.values())
    price = round(1.1 + random.randrange(-500, 500) * 1e-5, 5)
    lots = random.randint(1, 30) / 100
    kind = random.random()
    if kind < 0.04:
        return [trading.balance_operation(random.choice((250.0, -99.99, 1.23)))]
    if held and kind < 0.15:
        ledger.charge_swap(random.choice(held).identifier, -random.randint(1, 400) / 100)
        return []
    if trading.mode is MarginMode.HEDGING and held and kind < 0.6:
        one = random.choice(held)
        if trading.fifo:
            one = next(o for o in held if (o.symbol, o.side) == (one.symbol, one.side))
        other = next((o for o in held if o.symbol == one.symbol and o.side != one.side), None)
        if other is not None and kind < 0.3 and not trading.fifo:
            return list(trading.close_by(one, other))
        part = one.volume_lots if kind < 0.45 else min(lots, one.volume_lots)
        closed = trading.fill(
            1 - one.side, part, price, symbol=one.symbol, position=one.ticket,
            reason=random.choice((0, 3, 4, 5, 6)),
        )  # fmt: skip
        return [closed]
    return [
        trading.fill(
            random.randrange(2), lots, price, symbol=random.choice(SYMBOLS),
            magic=random.randrange(3), comment=random.choice(("", "grid 1")),
        )
    ]  # fmt: skip

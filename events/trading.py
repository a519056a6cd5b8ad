"""Events about the account and what is traded on it, as levels: each is the whole state seen."""

from __future__ import annotations

from typing import ClassVar

from events.event import Part, TerminalEvent, Ticket
from events.log import Lane

OPERATION_TYPES = frozenset({2, 3, 5, 6})
"""Types of deals that are neither profit nor loss, but money that came or went: MT5's
DEAL_TYPE_BALANCE, CREDIT, CORRECTION, BONUS. Charges, commissions, interest, dividends and taxes
(4, 7 and above) are earned or paid."""


class _AccountEvent(TerminalEvent):
    LANE: ClassVar[Lane] = Lane.HIGH
    KEEP_LAST: ClassVar[bool] = True

    login: int

    @property
    def key(self) -> str:
        return str(self.login)


class Account(_AccountEvent):
    """`account_info` at one moment (the older design's AccountMetrics). Money in `currency`."""

    TYPE: ClassVar[str] = "account"

    server: str
    name: str = ""
    company: str = ""
    currency: str
    currency_digits: int = 2
    trade_mode: int
    """0 demo, 1 contest, 2 real."""
    margin_mode: int
    """0 netting, 1 exchange, 2 hedging."""
    leverage: int
    balance: float
    credit: float
    profit: float
    equity: float
    margin: float
    margin_free: float
    margin_level_percent: float
    """0 when there is no margin in use, which means "no positions", not "bankrupt"."""
    margin_so_mode: int = 0
    margin_so_call: float = 0.0
    margin_so_so: float = 0.0
    trade_allowed: bool = True
    trade_expert: bool = True
    fifo_close: bool = False
    limit_orders: int = 0
    deals_pending: bool = False
    """Whether deals of the past are still being pulled (a first start, a long outage): sums over
    weeks are not whole, and a position may have been opened by a deal that comes yet."""


AccountMetrics = Account


class Position(Part):
    """One open position. `identifier` never changes and keys its history."""

    ticket: Ticket
    identifier: Ticket
    symbol: str
    side: int
    """0 buy, 1 sell (MT5's POSITION_TYPE)."""
    volume_lots: float
    price_open: float
    stop_loss: float = 0.0
    take_profit: float = 0.0
    magic: Ticket = 0
    reason: int = 0
    comment: str = ""
    external_id: str = ""
    time_ms: int
    """UTC time of opening."""
    time_server_ms: int
    time_update_server_ms: int = 0


class Book(_AccountEvent):
    """The whole open book; appended when tickets, sides, volumes or stops changed."""

    TYPE: ClassVar[str] = "book"

    positions: tuple[Position, ...]


class Order(Part):
    """One order: active in `Orders`, final in `OrderDone`."""

    ticket: Ticket
    symbol: str
    type: int
    state: int
    type_time: int = 0
    type_filling: int = 0
    magic: Ticket = 0
    position_id: Ticket = 0
    position_by_id: Ticket = 0
    reason: int = 0
    volume_initial_lots: float
    volume_current_lots: float
    price_open: float
    price_stoplimit: float = 0.0
    stop_loss: float = 0.0
    take_profit: float = 0.0
    comment: str = ""
    external_id: str = ""
    time_setup_ms: int
    time_setup_server_ms: int
    time_done_ms: int = 0
    time_done_server_ms: int = 0
    time_expiration_server_s: int = 0


class Orders(_AccountEvent):
    """Every active order; appended when it changed."""

    TYPE: ClassVar[str] = "orders"

    orders: tuple[Order, ...]


class OrderDone(_AccountEvent):
    """An order that reached its final state (filled, cancelled, rejected, expired)."""

    TYPE: ClassVar[str] = "order_done"
    KEEP_LAST: ClassVar[bool] = False

    order: Order


class Deal(_AccountEvent):
    """One execution or balance operation; `ticket` is unique in the account."""

    TYPE: ClassVar[str] = "deal"
    KEEP_LAST: ClassVar[bool] = False

    ticket: Ticket
    order: Ticket
    position_id: Ticket
    symbol: str
    type: int
    """0 buy, 1 sell; 2 and above are operations on the balance and carry no symbol."""
    entry: int
    """0 in, 1 out, 2 in/out, 3 out by."""
    reason: int
    magic: Ticket = 0
    volume_lots: float
    price: float
    profit: float
    commission: float
    swap: float
    fee: float
    comment: str = ""
    external_id: str = ""
    time_server_ms: int


class Trade(Part):
    """One position from its first deal to its last, with the net result of all of them."""

    position_id: Ticket
    symbol: str
    side: int
    volume_lots: float
    """Largest volume it had."""
    price_entry: float
    """Mean of its entries, by volume."""
    price_exit: float
    """Mean of its exits, by volume; 0 while there is none."""
    open_time_ms: int
    close_time_ms: int
    """0 while it is open."""
    profit: float
    commission: float
    swap: float
    fee: float
    volume_open_lots: float = 0.0
    """What is still open."""
    magic: Ticket = 0
    """Of the deal that opened it."""
    comment: str = ""
    closed_by: str = ""
    """client, mobile, web, expert, stop_loss, take_profit, stop_out, rollover, close_by, reversal,
    other, unknown (it left the book, and no deal tells how); empty while it is open."""
    deals: tuple[Ticket, ...] = ()
    leg: int = 0
    """Reversals of a netting position are trades of their own: 0 for the first, and so on."""
    entry_known: bool = True
    """False: it was opened before our history. Volume, price and time of the entry are those of
    the book where it was seen there (0 where not), and what was charged at the entry is missing."""
    deals_count: int = 0
    """All of its deals; `deals` names the newest of them."""

    @property
    def net_profit(self) -> float:
        """Account currency; everything the broker booked for this position."""
        return self.profit + self.commission + self.swap + self.fee


class TradeUpdate(_AccountEvent):
    """A trade as it stands after a deal; the last one of a trade holds its result."""

    TYPE: ClassVar[str] = "trade"
    LANE: ClassVar[Lane] = Lane.HIGH
    KEEP_LAST: ClassVar[bool] = False  # there is no end to trades

    state: str
    """open, partly_closed, closed, withdrawn (a late deal showed that there was no such leg)."""
    trade: Trade
    unexplained: float = 0.0
    """Changes of this account's balance that no deal explained so far, in account currency."""
    doubt: str = ""
    """What does not fit for longer than deals and book may lie apart, such as `the book holds 0.5
    lots, its deals leave 0.3`; empty: everything fits."""

    @property
    def key(self) -> str:
        return f"{self.login}/{self.trade.position_id}/{self.trade.leg}"


class BalanceUnexplained(_AccountEvent):
    """The balance changed, and for some time no deal told why. One that comes later is told as
    the opposite amount, so that all of them add up to what is unexplained."""

    TYPE: ClassVar[str] = "balance_unexplained"
    KEEP_LAST: ClassVar[bool] = False

    amount: float
    """Balance less what the deals lead to, in account currency."""
    balance: float
    total: float
    """All such amounts of the account so far."""
    since_ms: int
    """When the difference was first seen (UTC)."""

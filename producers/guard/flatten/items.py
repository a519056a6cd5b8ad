"""What is known of each position and order that is to go: what was sent for it, and what became
of that. Pure: looks and times come in.

While a request for an item is in flight, or may be, nothing else is sent for it. That ends when
the account shows what it did, or when positions, orders and deals agree that it did nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from events.guarding import TicketOutcome
from producers.guard.flatten.account import VOLUME_DUST_LOTS, Held, Key, Look, Working
from producers.terminals import constants as mt5

CONFIRM_S = 2.0
"""An answer says done, and lists still show the position: they follow within that time."""
QUIET_S = 1.0
"""Nobody knows whether a request arrived: nothing is concluded from lists younger than that."""
STUCK_S = 5.0
"""A market order that the broker has not finished by then is cancelled."""
DEALS_S = 10.0
"""If deals cannot be read, or contradict the position, for so long, the position alone counts."""
ROW_LENGTH = 5


@dataclass(slots=True)
class Sent:
    """A request whose outcome is not settled. Times are monotonic seconds."""

    intents: tuple[int, ...]
    before_lots: float
    at_s: float
    patience_s: float
    """How long good looks may show nothing before deals are asked."""
    seen_s: float | None = None
    """The first good look since."""


class Stand(Enum):
    """How an item stands in a look."""

    OPEN = "open"
    """Something may be sent for it."""
    GONE = "gone"
    MOVED = "moved"
    """What was sent did its work in part: the rest may be sent for."""
    FLYING = "flying"
    """What was sent may still take effect."""
    DOUBTFUL = "doubtful"
    """Lists had time enough and show nothing: deals must tell whether it did nothing."""


@dataclass(slots=True)
class Item:
    """A position or an order that is to go, down to `keep_lots`."""

    kind: Literal["position", "order"]
    ticket: int
    identifier: int
    symbol: str
    volume_lots: float
    """When it was first seen."""
    price_seen: float
    keep_lots: float = 0.0
    others: bool = False
    """Somebody opened it after the flatten began, and rules leave it alone."""
    status: Literal["open", "closed", "cancelled", "parked", "refused"] = "open"
    due_s: float = 0.0
    """Monotonic: nothing is sent before."""
    tries: dict[int, int] = field(default_factory=dict)
    """How often each answer came."""
    requests: int = 0
    share: float = 1.0
    """Of its volume that a request asks for."""
    retcode: int | None = None
    price_closed: float = 0.0
    explained: bool = False
    """Whether history accounts for its end."""
    detail: str = ""
    sent: Sent | None = None

    @property
    def done(self) -> bool:
        return self.status in ("closed", "cancelled")

    @property
    def key(self) -> Key:
        return (self.kind, self.ticket if self.kind == "order" else self.identifier)

    def as_row(self) -> tuple[Any, ...]:
        """What the next process must know of it, as JSON values."""
        return (*self.key, self.ticket, self.symbol, self.volume_lots)

    def attempt(self, code: int) -> int:
        """Count an answer; how often it came, from 1."""
        self.tries[code] = self.tries.get(code, 0) + 1
        return self.tries[code]

    def gone(self, detail: str = "") -> None:
        """It is not there any more."""
        self.status = "closed" if self.kind == "position" else "cancelled"
        self.sent = None
        self.detail = detail

    def outcome(self) -> TicketOutcome:
        """As a flatten reports it."""
        told: Literal["closed", "cancelled", "parked", "refused", "unknown"]
        if self.sent is not None:
            told = "unknown"
        elif self.status == "open":
            answered = self.retcode is not None
            told = "refused" if answered or self.others else "unknown"
        else:
            told = self.status
        if self.done and not self.explained:
            told = "unknown"
        return TicketOutcome(
            ticket=self.ticket,
            symbol=self.symbol,
            outcome=told,
            retcode=self.retcode,
            volume_lots=self.volume_lots,
            price_seen=self.price_seen,
            price_closed=self.price_closed,
            detail=self.detail,
        )


def item_of(one: Held | Working) -> Item:
    """A position or a pending order as it is now."""
    if isinstance(one, Working):
        return Item("order", one.ticket, 0, one.symbol, one.volume_lots, one.price)
    number = one.identifier or one.ticket
    return Item("position", one.ticket, number, one.symbol, one.volume_lots, one.price_current)


def item_of_row(row: Sequence[Any]) -> Item:
    """From `Item.as_row`; what an older version wrote (kind and number) names no volume."""
    kind, number, ticket, symbol, lots = row if len(row) == ROW_LENGTH else (*row, row[1], "", 0.0)
    if kind == "order":
        return Item("order", int(ticket), 0, str(symbol), float(lots), 0.0)
    return Item("position", int(ticket), int(number), str(symbol), float(lots), 0.0)


def held_of_item(item: Item, look: Look) -> Held | None:
    """The position of an item now. Its ticket may change (a netting reversal, a swap that
    re-opens); its identifier does not."""
    found = look.of_identifier(item.identifier) or look.position(item.ticket)
    if found is not None:
        item.ticket = found.ticket
    return found


def stand_of(item: Item, look: Look, now_s: float) -> Stand:
    """How a position's item stands in a good look."""
    held = held_of_item(item, look)
    sent = item.sent
    if held is None or held.volume_lots <= item.keep_lots + VOLUME_DUST_LOTS:
        return Stand.GONE
    if sent is None:
        return Stand.OPEN
    if look.working_on(held):
        return Stand.FLYING
    if held.volume_lots < sent.before_lots - VOLUME_DUST_LOTS:
        return Stand.MOVED
    if sent.seen_s is None:
        sent.seen_s = now_s
    return Stand.FLYING if now_s < sent.seen_s + sent.patience_s else Stand.DOUBTFUL


def stuck_order(item: Item, look: Look, now_s: float, *, magic: int) -> Working | None:
    """An order of ours for an item that should have been final long ago."""
    if item.sent is None or now_s < item.sent.at_s + STUCK_S:
        return None
    held = held_of_item(item, look)
    working = () if held is None else look.working_on(held)
    return next((order for order in working if order.magic == magic), None)


@dataclass(frozen=True, slots=True)
class DealSum:
    """The deals of one position. `net_lots`: bought minus sold over all of them."""

    count: int
    net_lots: float
    closed_lots: float
    price_closed: float
    opened: bool
    """Whether the deal that opened it is among them."""

    def explains_end_of(self, volume_lots: float) -> bool:
        """Whether the position ended by them."""
        if self.opened:
            return abs(self.net_lots) <= VOLUME_DUST_LOTS
        return self.closed_lots >= volume_lots - VOLUME_DUST_LOTS

    def agrees_with(self, held: Held) -> bool:
        """Whether no deal is missing from what the position shows."""
        return self.opened and abs(self.net_lots - held.lots_signed) <= VOLUME_DUST_LOTS


def sum_deals(deals: Any) -> DealSum:
    """From TradeDeals of one position."""
    trades = [d for d in deals if d.type in (mt5.DEAL_TYPE_BUY, mt5.DEAL_TYPE_SELL)]
    closing = [d for d in trades if d.entry != mt5.DEAL_ENTRY_IN]
    lots = sum(d.volume for d in closing)
    return DealSum(
        count=len(trades),
        net_lots=sum(-d.volume if d.type else d.volume for d in trades),
        closed_lots=lots,
        price_closed=sum(d.volume * d.price for d in closing) / lots if lots else 0.0,
        opened=any(d.entry == mt5.DEAL_ENTRY_IN for d in trades),
    )

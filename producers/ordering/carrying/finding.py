"""What an account says of an order whose outcome nobody knows. Pure: from a look to a finding.

An order, its deals and its position carry the number of the intent (`magic`), so they tell that it
arrived. That it did not arrive shows in nothing of its kind being there, and in the symbol's net
volume being what it was before, as far as the deals since do not account for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from events.executing import OrderIntent
from producers.ordering.carrying.instruments import LOTS_DUST
from producers.ordering.carrying.reading import Seen, net_lots
from producers.ordering.carrying.requests import is_pending, number_of
from producers.terminals import constants as mt5

MARGIN_MS = 5_000
"""A deal may carry a time so much before the moment its order was handed over."""
_ENDED = frozenset({mt5.ORDER_STATE_CANCELED, mt5.ORDER_STATE_REJECTED, mt5.ORDER_STATE_EXPIRED})
_BY_SERVER = frozenset({mt5.DEAL_REASON_SL, mt5.DEAL_REASON_TP, mt5.DEAL_REASON_SO})


class Found(Enum):
    """What there is of an order."""

    FILLED = "filled"
    PART = "part"
    """A part is filled, and the rest will not be."""
    PLACED = "placed"
    """A pending order stands."""
    WORKING = "working"
    """It arrived, and is not finished."""
    ENDED = "ended"
    """It arrived, and ended without a deal."""
    NOTHING = "nothing"
    DOUBTFUL = "doubtful"
    """Nothing of it is there, but something changed that nobody accounts for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The judgement of one look."""

    found: Found
    volume_lots: float = 0.0
    price: float = 0.0
    order: int = 0
    deal: int = 0
    position: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was handed over. `symbol` is the broker's name, `request` what was asked for last,
    `order` the ticket where an answer named it. `before_lots`: the symbol's net volume before;
    `server_ms`: when, by the broker's clock. None: nobody knows."""

    intent: OrderIntent
    symbol: str
    request: Mapping[str, Any]
    order: int = 0
    before_lots: float | None = None
    server_ms: int | None = None

    @property
    def number(self) -> int:
        return number_of(self.intent)

    def made(self, record: Any) -> bool:
        """Whether an order or a deal is its own. The order by which a stop-loss ends a position
        carries the position's number too, and is of the other side."""
        own = record.magic == self.number and record.type % 2 == self.intent.side
        return own or bool(self.order and record.ticket == self.order)


def find(sent: Sent, seen: Seen) -> Finding:
    """What a look says of an order."""
    intent = sent.intent
    if intent.verb == "modify":
        return _modified(sent, seen)
    if intent.verb == "cancel":
        return _cancelled(intent, seen)
    active = _first(o for o in seen.orders if sent.made(o))
    done = _first(o for o in seen.done_orders if sent.made(o))
    deals = _deals(sent, seen, sent.order or _ticket(active) or _ticket(done))
    if active is not None:
        return _of_active(intent, active, deals)
    if deals:
        return _of_deals(intent, deals, done)
    if done is not None:
        if done.state in _ENDED:
            why = str(done.comment) or "cancelled, rejected or expired at the broker"
            return Finding(Found.ENDED, order=done.ticket, detail=why)
        return Finding(Found.WORKING, order=done.ticket, detail="its deal is not shown yet")
    held = _first(p for p in seen.positions if p.magic == sent.number and p.type == intent.side)
    if held is not None and intent.verb == "open":
        return Finding(
            Found.WORKING, float(held.volume), float(held.price_open),
            position=int(held.identifier or held.ticket), detail="its deal is not shown yet",
        )  # fmt: skip
    return _of_nothing(seen, sent)


def _deals(sent: Sent, seen: Seen, ticket: int) -> list[Any]:
    """Fills of an order, by the broker's time."""
    fills = [
        d
        for d in seen.deals
        if d.type == sent.intent.side
        and (d.magic == sent.number or (ticket and d.order == ticket))
        and d.reason not in _BY_SERVER
    ]
    return sorted(fills, key=lambda d: (d.time_msc, d.ticket))


def _of_active(intent: OrderIntent, active: Any, deals: list[Any]) -> Finding:
    lots, price = _mean(deals)
    pending = is_pending(intent) and active.type >= mt5.ORDER_TYPE_BUY_LIMIT
    return Finding(
        Found.PLACED if pending else Found.WORKING, lots, price, order=int(active.ticket),
        deal=_last_deal(deals),
    )  # fmt: skip


def _of_deals(intent: OrderIntent, deals: list[Any], done: Any) -> Finding:
    lots, price = _mean(deals)
    ticket = int(deals[-1].order)
    position = int(deals[-1].position_id)
    wanted = intent.volume_lots or lots
    whole = lots >= wanted - LOTS_DUST
    found = Found.FILLED if whole else Found.PART
    if not whole and (done is None or done.state == mt5.ORDER_STATE_FILLED):
        found = Found.WORKING  # more deals follow, or its end is not shown yet
    return Finding(found, lots, price, ticket, _last_deal(deals), position)


def _of_nothing(seen: Seen, sent: Sent) -> Finding:
    if sent.before_lots is None:
        return Finding(Found.NOTHING)
    change = net_lots(seen.positions, sent.symbol) - sent.before_lots
    if abs(change) <= LOTS_DUST or _explained(change, seen, sent):
        return Finding(Found.NOTHING)
    return Finding(
        Found.DOUBTFUL,
        detail=f"{sent.symbol} changed by {change:+g} lots that no deal accounts for",
    )


def _explained(change: float, seen: Seen, sent: Sent) -> bool:
    """Whether deals of others since the sending make up a change. One just before it may or may
    not have been in what was seen before."""
    begin_ms = 0 if sent.server_ms is None else sent.server_ms - MARGIN_MS
    deals = sorted(
        (d for d in seen.deals if d.symbol == sent.symbol and d.time_msc >= begin_ms),
        key=lambda d: (d.time_msc, d.ticket),
        reverse=True,
    )
    total = 0.0
    for deal in deals:
        if deal.type not in (mt5.DEAL_TYPE_BUY, mt5.DEAL_TYPE_SELL):
            continue
        total += -deal.volume if deal.type else deal.volume
        if abs(total - change) <= LOTS_DUST:
            return True
    return False


def _modified(sent: Sent, seen: Seen) -> Finding:
    """Whether a position or a pending order is as it was asked to be."""
    intent, request = sent.intent, sent.request
    if intent.order:
        order = _first(o for o in seen.orders if o.ticket == intent.order)
        if order is None:
            return Finding(Found.ENDED, order=intent.order, detail="the order is gone")
        wanted = (request.get("sl"), request.get("tp"), request.get("price"))
        same = _same((order.sl, order.tp, order.price_open), wanted)
        return Finding(Found.FILLED if same else Found.NOTHING, order=intent.order)
    held = position_of(intent, seen.positions, symbol=sent.symbol)
    if held is None:
        return Finding(Found.ENDED, detail="the position is gone")
    same = _same((held.sl, held.tp), (request.get("sl"), request.get("tp")))
    return Finding(Found.FILLED if same else Found.NOTHING, position=int(held.ticket))


def _cancelled(intent: OrderIntent, seen: Seen) -> Finding:
    if any(o.ticket == intent.order for o in seen.orders):
        return Finding(Found.NOTHING, order=intent.order)
    done = _first(o for o in seen.done_orders if o.ticket == intent.order)
    if done is None:
        return Finding(Found.WORKING, order=intent.order, detail="its end is not shown yet")
    if done.state == mt5.ORDER_STATE_FILLED:
        return Finding(Found.ENDED, order=intent.order, detail="the order was filled before")
    return Finding(Found.FILLED, order=intent.order)


def position_of(intent: OrderIntent, positions: Iterable[Any], *, symbol: str) -> Any:
    """The position that an intent is about: by its ticket, which may have changed (a swap that
    re-opens), then by its identifier; where it names none, the symbol's."""
    held = tuple(positions)
    number = intent.position
    if number:
        found = _first(p for p in held if p.ticket == number)
        return found if found is not None else _first(p for p in held if p.identifier == number)
    return _first(p for p in held if p.symbol == symbol)


def _same(found: Iterable[float], wanted: Iterable[float | None]) -> bool:
    return all(
        abs(float(one) - (other or 0.0)) <= 1e-9 * max(1.0, abs(one))
        for one, other in zip(found, wanted, strict=True)
    )


def _mean(deals: list[Any]) -> tuple[float, float]:
    lots = sum(d.volume for d in deals)
    price = sum(d.volume * d.price for d in deals) / lots if lots else 0.0
    return round(float(lots), 8), float(price)


def _last_deal(deals: list[Any]) -> int:
    return int(deals[-1].ticket) if deals else 0


def _ticket(order: Any) -> int:
    return 0 if order is None else int(order.ticket)


def _first(rows: Iterable[Any]) -> Any:
    return next(iter(rows), None)

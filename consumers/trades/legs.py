"""Deals of one position folded into its legs. Pure arithmetic on plain values.

A position of a hedging account has one leg. One of a netting account has one more for each deal
that turned it around (MT5's DEAL_ENTRY_INOUT): each leg becomes a trade of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from events.accounting import Entry
from events.trading import Deal, Trade

DEALS_TOLD_MAX = 50
"""Tickets that a trade names: the newest of its deals."""
LOTS_DIGITS = 8
MONEY_DIGITS = 8
"""Sums are kept without the dust of floating point; currencies have fewer digits."""
CENTS = 2
REASONS = {
    0: "client", 1: "mobile", 2: "web", 3: "expert", 4: "stop_loss", 5: "take_profit",
    6: "stop_out", 7: "rollover",
}  # fmt: skip
"""MT5's DEAL_REASON by the name a trade is told to be closed by."""
UNKNOWN = "unknown"


class DealRow(TypedDict):
    """What a trade needs of a deal; `event_time_ms` is UTC, money in account currency."""

    ticket: int
    symbol: str
    event_time_ms: int
    type: int
    entry: int
    reason: int
    lots: float
    price: float
    profit: float
    commission: float
    swap: float
    fee: float
    magic: int
    comment: str


class Leg(TypedDict):
    """A trade while it is put together. Values are lots times price."""

    symbol: str
    side: int
    lots_max: float
    lots_open: float
    entry_lots: float
    entry_value: float
    exit_lots: float
    exit_value: float
    price_seen: float
    """Mean entry price by the book, where the deals alone do not tell it; else 0."""
    open_ms: int
    close_ms: int
    profit: float
    commission: float
    swap: float
    fee: float
    magic: int
    comment: str
    closed_by: str
    known: bool
    deals: list[int]
    deals_count: int


class Booked(TypedDict):
    """A position as the book shows it."""

    symbol: str
    side: int
    lots: float
    price: float
    time_ms: int
    magic: int
    comment: str


def row_of(deal: Deal) -> DealRow:
    return DealRow(
        ticket=deal.ticket, symbol=deal.symbol, event_time_ms=deal.event_time_ms, type=deal.type,
        entry=deal.entry, reason=deal.reason, lots=deal.volume_lots, price=deal.price,
        profit=deal.profit, commission=deal.commission, swap=deal.swap, fee=deal.fee,
        magic=deal.magic, comment=deal.comment,
    )  # fmt: skip


def order_of(row: DealRow) -> tuple[int, int]:
    """Deals of a position take effect in this order."""
    return row["event_time_ms"], row["ticket"]


def fold(
    legs: Iterable[Leg], deals: Iterable[DealRow], *, before: Booked | None = None
) -> list[Leg]:
    """The legs after further deals, as new objects. `before` is the position as the book showed
    it before the first deal, used where deals alone do not tell what they close."""
    folded = [copy_of(leg) for leg in legs]
    for deal in deals:
        if deal["entry"] == Entry.IN_OUT:
            _turn(folded, deal, before)
        elif deal["entry"] == Entry.IN:
            _open(folded, deal)
        else:
            _close(folded, deal, before)
    return folded


def copy_of(leg: Leg) -> Leg:
    copied = leg.copy()
    copied["deals"] = list(leg["deals"])
    return copied


def seen_leg(booked: Booked) -> Leg:
    """A position of which no deal is known."""
    leg = _new(booked["symbol"], booked["side"], booked["time_ms"], known=False)
    leg["magic"], leg["comment"] = booked["magic"], booked["comment"]
    fit(leg, booked)
    return leg


def fit(leg: Leg, booked: Booked) -> None:
    """Let a leg of unknown entry follow the book: what is open, and at which mean price."""
    leg["lots_open"] = booked["lots"]
    leg["lots_max"] = max(leg["lots_max"], _lots(booked["lots"] + leg["exit_lots"]))
    leg["price_seen"] = booked["price"]
    leg["open_ms"] = min(leg["open_ms"], booked["time_ms"]) or booked["time_ms"]
    leg["close_ms"], leg["closed_by"] = 0, ""


def fits(legs: list[Leg], booked: Booked | None) -> bool:
    """Whether deals and book tell the same open volume."""
    lots = legs[-1]["lots_open"] if legs else 0.0
    if booked is None:
        return lots == 0
    return lots == booked["lots"] and legs[-1]["side"] == booked["side"]


def vanish(leg: Leg, at_ms: int) -> None:
    """It left the book, and no deal tells how."""
    leg["lots_open"], leg["close_ms"], leg["closed_by"] = 0.0, at_ms, UNKNOWN


def trade_of(position_id: int, number: int, leg: Leg) -> Trade:
    """The leg as a trade."""
    entry_price = leg["entry_value"] / leg["entry_lots"] if leg["entry_lots"] else 0.0
    return Trade(
        position_id=position_id, symbol=leg["symbol"], side=leg["side"],
        volume_lots=leg["lots_max"], price_entry=_price(leg["price_seen"] or entry_price),
        price_exit=_price(leg["exit_value"] / leg["exit_lots"] if leg["exit_lots"] else 0.0),
        open_time_ms=leg["open_ms"], close_time_ms=leg["close_ms"], profit=leg["profit"],
        commission=leg["commission"], swap=leg["swap"], fee=leg["fee"],
        volume_open_lots=leg["lots_open"], magic=leg["magic"], comment=leg["comment"],
        closed_by=leg["closed_by"], deals=tuple(leg["deals"]), leg=number,
        entry_known=leg["known"], deals_count=leg["deals_count"],
    )  # fmt: skip


def withdrawn(leg: Leg) -> Leg:
    """The same with nothing in it: a late deal showed that there was no such leg."""
    return _new(leg["symbol"], leg["side"], leg["open_ms"], known=leg["known"])


def state_of(leg: Leg) -> str:
    """open, partly_closed, closed."""
    if leg["lots_open"] == 0:
        return "closed"
    return "partly_closed" if leg["exit_lots"] else "open"


def _open(legs: list[Leg], deal: DealRow) -> None:
    """An entry: the first of a leg, or one more."""
    leg = legs[-1] if legs else None
    if leg is None or (leg["lots_open"] == 0 and leg["known"]):
        leg = _new(deal["symbol"], deal["type"], deal["event_time_ms"], known=True)
        leg["magic"], leg["comment"] = deal["magic"], deal["comment"]
        legs.append(leg)
    _book(leg, deal)
    _enter(leg, deal["lots"], deal["price"])


def _close(legs: list[Leg], deal: DealRow, before: Booked | None) -> None:
    """A partial or whole close. What it closes beyond what was known to be open was opened before
    our history."""
    if not legs:
        legs.append(_before_us(deal, before))
    leg = legs[-1]
    _book(leg, deal)
    _leave(leg, deal, deal["lots"])
    if leg["lots_open"] == 0:
        closed_by = REASONS.get(deal["reason"], "other")
        if deal["entry"] == Entry.OUT_BY:
            closed_by = "close_by"
        _end(leg, deal, closed_by)


def _turn(legs: list[Leg], deal: DealRow, before: Booked | None) -> None:
    """A netting position is closed and opened again on the other side by one deal: its profit and
    swap belong to the leg it closes, its charges to both by volume."""
    if not legs:
        legs.append(_before_us(deal, before))
    old = legs[-1]
    closed = min(old["lots_open"], deal["lots"])
    whole = deal["lots"] or 1.0
    paid = {
        "commission": round(deal["commission"] * closed / whole, CENTS),
        "fee": round(deal["fee"] * closed / whole, CENTS),
    }
    opening: DealRow = {
        **deal, "profit": 0.0, "swap": 0.0,
        "commission": _money(deal["commission"] - paid["commission"]),
        "fee": _money(deal["fee"] - paid["fee"]), "lots": _lots(deal["lots"] - closed),
    }  # fmt: skip
    closing: DealRow = {**deal, "commission": paid["commission"], "fee": paid["fee"]}
    _book(old, closing)
    _leave(old, deal, closed)
    _end(old, deal, "reversal")
    new = _new(deal["symbol"], deal["type"], deal["event_time_ms"], known=closed > 0)
    new["magic"], new["comment"] = deal["magic"], deal["comment"]
    legs.append(new)
    _book(new, opening)
    _enter(new, opening["lots"], deal["price"])


def _before_us(deal: DealRow, before: Booked | None) -> Leg:
    """A leg whose opening is not known, from the deal that closes some of it."""
    if before is not None and before["side"] != deal["type"]:
        return seen_leg(before)
    return _new(deal["symbol"], 1 - deal["type"], 0, known=False)


def _new(symbol: str, side: int, open_ms: int, *, known: bool) -> Leg:
    return Leg(
        symbol=symbol, side=side, lots_max=0.0, lots_open=0.0, entry_lots=0.0, entry_value=0.0,
        exit_lots=0.0, exit_value=0.0, price_seen=0.0, open_ms=open_ms, close_ms=0, profit=0.0,
        commission=0.0, swap=0.0, fee=0.0, magic=0, comment="", closed_by="", known=known,
        deals=[], deals_count=0,
    )  # fmt: skip


def _enter(leg: Leg, lots: float, price: float) -> None:
    leg["entry_lots"] = _lots(leg["entry_lots"] + lots)
    leg["entry_value"] += lots * price
    leg["lots_open"] = _lots(leg["lots_open"] + lots)
    leg["lots_max"] = max(leg["lots_max"], leg["lots_open"])
    leg["close_ms"], leg["closed_by"] = 0, ""


def _leave(leg: Leg, deal: DealRow, lots: float) -> None:
    left = _lots(leg["lots_open"] - lots)
    if left < 0:  # more than was known to be open
        leg["known"], leg["lots_max"] = False, _lots(leg["lots_max"] - left)
    leg["lots_open"] = max(left, 0.0)
    leg["exit_lots"] = _lots(leg["exit_lots"] + lots)
    leg["exit_value"] += lots * deal["price"]


def _end(leg: Leg, deal: DealRow, closed_by: str) -> None:
    leg["close_ms"], leg["closed_by"] = deal["event_time_ms"], closed_by


def _book(leg: Leg, deal: DealRow) -> None:
    """Add a deal's money and ticket."""
    leg["profit"] = _money(leg["profit"] + deal["profit"])
    leg["commission"] = _money(leg["commission"] + deal["commission"])
    leg["swap"] = _money(leg["swap"] + deal["swap"])
    leg["fee"] = _money(leg["fee"] + deal["fee"])
    leg["deals"] = [*leg["deals"], deal["ticket"]][-DEALS_TOLD_MAX:]
    leg["deals_count"] += 1


def _lots(lots: float) -> float:
    return round(lots, LOTS_DIGITS) + 0.0


def _money(amount: float) -> float:
    return round(amount, MONEY_DIGITS) + 0.0


def _price(price: float) -> float:
    return round(price, LOTS_DIGITS + 2)

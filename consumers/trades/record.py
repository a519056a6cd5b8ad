"""What is remembered of one position: its legs, and the newest deals in case one comes late."""

from __future__ import annotations

from bisect import insort
from typing import NotRequired, TypedDict

from consumers.trades.legs import (
    Booked,
    DealRow,
    Leg,
    copy_of,
    fit,
    fits,
    fold,
    order_of,
    seen_leg,
    vanish,
)
from events.accounting import Entry

DEALS_KEPT_MAX = 64
"""Deals that can still be put into another order; older ones are folded for good."""


class Record(TypedDict):
    """`legs` are `base` with `deals` folded onto it; `first` counts legs that are over and left
    the record."""

    base: list[Leg]
    deals: list[DealRow]
    legs: list[Leg]
    first: int
    before: Booked | None
    vanished: bool
    doubt: str
    guessed: NotRequired[list[DealRow]]
    """Newest deals that lie in a base whose opening only the book told."""


def new_record(before: Booked | None) -> Record:
    return Record(
        base=[], deals=[], legs=[], first=0, before=before, vanished=False, doubt=""
    )  # fmt: skip


def numbered(record: Record) -> dict[int, Leg]:
    """Legs by their number, as copies."""
    return {record["first"] + at: copy_of(leg) for at, leg in enumerate(record["legs"])}


def take(record: Record, deal: DealRow) -> None:
    """Let a deal take effect where it belongs in time."""
    if _opens_what_was_guessed(record, deal):
        record["deals"] = sorted([*record.pop("guessed", []), *record["deals"]], key=order_of)
        record["base"], record["before"], record["vanished"] = [], None, True
    deals = record["deals"]
    late = bool(deals) and order_of(deal) < order_of(deals[-1])
    insort(deals, deal, key=order_of)
    if late or record["vanished"]:
        record["legs"] = fold(record["base"], deals, before=record["before"])
        record["vanished"] = False
    else:
        record["legs"] = fold(record["legs"], [deal], before=record["before"])
    if len(deals) > DEALS_KEPT_MAX:
        _settle_oldest(record)


def _opens_what_was_guessed(record: Record, deal: DealRow) -> bool:
    """Whether this is the opening of a position that was taken from the book before its deals
    were here: they tell it better."""
    if deal["entry"] != Entry.IN or record["first"] or len(record["base"]) != 1:
        return False
    leg = record["base"][0]
    return not leg["known"] and not leg["entry_lots"] and deal["event_time_ms"] <= leg["open_ms"]


def _settle_oldest(record: Record) -> None:
    half = DEALS_KEPT_MAX // 2
    base = fold(record["base"], record["deals"][:half], before=record["before"])
    over = len(base) - 1
    record["base"], record["deals"] = base[over:], record["deals"][half:]
    record["legs"], record["first"] = record["legs"][over:], record["first"] + over


def fits_book(record: Record | None, booked: Booked | None) -> bool:
    return fits(record["legs"], booked) if record is not None else booked is None


def follow_book(record: Record, booked: Booked | None, *, now_ms: int) -> None:
    """Deals and book differ for longer than they may lie apart: where the opening is not known
    the book decides, and a position that left it is over; else the doubt is told."""
    legs = record["legs"]
    record["doubt"] = ""
    if fits(legs, booked):
        return
    if booked is None:
        vanish(legs[-1], now_ms)
        record["vanished"] = True
    elif not legs:
        record["legs"] = [seen_leg(booked)]
        record["base"] = [seen_leg(booked)]
    elif not legs[-1]["known"] and legs[-1]["side"] == booked["side"]:
        fit(legs[-1], booked)
        guessed = [*record.get("guessed", []), *record["deals"]][-DEALS_KEPT_MAX:]
        record["base"], record["deals"] = [copy_of(leg) for leg in legs], []
        record["guessed"] = guessed
        record["vanished"] = False
    else:
        side = "sell" if booked["side"] else "buy"
        record["doubt"] = (
            f"the book holds {booked['lots']:g} lots {side}, "
            f"its deals leave {legs[-1]['lots_open']:g}"
        )

"""What each target owns of the account, as deals and the book tell. Pure.

On hedging accounts a position belongs to the target whose order opened it. On accounts that net
there is one position per symbol, made of parts: one per target, and one of all strangers (people,
other programs). Volumes are signed, negative when short.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

from events.accounting import BUY, Entry
from events.magic import parts_of
from events.trading import Deal

DUST_LOTS = 1e-8
_MANUAL = frozenset({0, 1, 2})
_EXPERT, _STOP_LOSS, _TAKE_PROFIT, _STOP_OUT, _ROLLOVER = 3, 4, 5, 6, 7
_BROKERS = {
    _STOP_LOSS: "stop_loss", _TAKE_PROFIT: "take_profit", _STOP_OUT: "stop_out", 8: "manual",
    9: "manual",
}  # fmt: skip
MANUAL, OTHER, UNKNOWN = "manual", "other", "unknown"


class Seen(NamedTuple):
    """A position as the book shows it."""

    identifier: int
    ticket: int
    symbol: str
    side: int
    volume_lots: float
    stop_loss: float
    take_profit: float
    magic: int

    @property
    def lots(self) -> float:
        """Negative when short."""
        return self.volume_lots if self.side == BUY else -self.volume_lots


class Part(TypedDict):
    """What one target owns of a position."""

    lots: float
    number: int
    """Of the intent that opened it."""


class Held(TypedDict):
    """A position of a hedging account, or everything of a symbol on one that nets."""

    symbol: str
    position: int
    """Its identifier."""
    ticket: int
    """What requests name it by."""
    parts: dict[int, Part]
    strangers: float
    book_ms: int
    """When the book decided what is held: deals up to then are in it. 0: deals decided."""
    stops: list[float]
    """Stop-loss and take-profit as asked for last; 0: none."""


Holdings = dict[str, Held]
"""By identifier (hedging) or symbol (netting)."""
Closed = tuple[int, str]
"""(owner, why) of a target of which somebody else closed something."""


def held_lots(holdings: Holdings, owner: int) -> float:
    """What a target owns, signed."""
    lots = sum(one["parts"][owner]["lots"] for one in holdings.values() if owner in one["parts"])
    return round(lots, 8) + 0.0


def held_by(holdings: Holdings, owner: int) -> list[tuple[str, Held]]:
    """Its positions, the oldest first."""
    found = [(key, one) for key, one in holdings.items() if owner in one["parts"]]
    return sorted(found, key=lambda pair: pair[1]["position"])


def net_lots(held: Held) -> float:
    """Of all parts together."""
    lots = held["strangers"] + sum(part["lots"] for part in held["parts"].values())
    return round(lots, 8) + 0.0


def book_deal(holdings: Holdings, deal: Deal, *, hedging: bool, asked: bool) -> list[Closed]:
    """Let a deal take effect. `asked`: it carries out an intent that we know of.

    Gives the targets of which somebody else closed a part.
    """
    if deal.reason == _ROLLOVER:
        return []  # closed and opened again by the broker: nothing changes hands
    known = holdings.get(str(deal.position_id) if hedging else deal.symbol)
    if known is not None and deal.event_time_ms <= known["book_ms"]:
        return []  # the book told it before the deal did
    lots = deal.volume_lots if deal.type == BUY else -deal.volume_lots
    ours = parts_of(deal.magic)
    if hedging:
        return _hedged(holdings, deal, lots, ours, asked=asked)
    return _netted(holdings, deal, lots, ours, asked=asked)


def _hedged(
    holdings: Holdings, deal: Deal, lots: float, ours: tuple[int, int] | None, *, asked: bool
) -> list[Closed]:
    key = str(deal.position_id)
    held = holdings.get(key)
    if deal.entry == Entry.IN:
        if ours is None:
            return []
        if held is None:
            held = holdings[key] = _new(deal.symbol, deal.position_id, deal.order)
        _add(held, ours, lots)
        return []
    if held is None:
        return []
    closed: list[Closed] = []
    for owner, part in list(held["parts"].items()):
        if not asked and not _by_us(deal, ours, part):
            closed.append((owner, why_closed(deal)))
        part["lots"] = round(part["lots"] + lots, 8)
        _drop_dust(held, owner)
    if not held["parts"]:
        del holdings[key]
    return closed


def _by_us(deal: Deal, ours: tuple[int, int] | None, part: Part) -> bool:
    """A close with the number of the opening is somebody else's: the broker and people close with
    the position's own magic."""
    return ours is not None and deal.reason == _EXPERT and ours[1] != part["number"]


def _netted(
    holdings: Holdings, deal: Deal, lots: float, ours: tuple[int, int] | None, *, asked: bool
) -> list[Closed]:
    held = holdings.get(deal.symbol)
    if held is None:
        held = holdings[deal.symbol] = _new(deal.symbol, deal.position_id, deal.order)
    closed: list[Closed] = []
    if deal.position_id != held["position"]:  # the one before is gone, and nobody told
        gone = _all_closed(held, UNKNOWN) if held["position"] else []
        closed = [pair for pair in gone if ours is None or pair[0] != ours[0]]
        held["position"], held["ticket"], held["stops"] = deal.position_id, deal.order, [0.0, 0.0]
    before = net_lots(held)
    if ours is not None and (asked or deal.reason == _EXPERT):
        _add(held, ours, lots)
    else:
        closed += _strange(held, deal, lots)
    _turned(held, before, deal.order)
    if not held["parts"] and abs(held["strangers"]) < DUST_LOTS:
        del holdings[deal.symbol]
    return closed


def _turned(held: Held, before: float, order: int) -> None:
    """A position that was closed or turned around has lost its stops, and gets another ticket."""
    after = net_lots(held)
    if abs(after) < DUST_LOTS:
        held["position"], held["ticket"], held["stops"] = 0, 0, [0.0, 0.0]
    elif before * after < 0:
        held["ticket"], held["stops"] = order, [0.0, 0.0]


def _strange(held: Held, deal: Deal, lots: float) -> list[Closed]:
    """A stranger's deal: it takes from what strangers hold first, then from ours. One that leaves
    nothing, or turns the position around, ends everything there was."""
    before = net_lots(held)
    after = round(before + lots, 8)
    if deal.entry == Entry.IN or before * lots >= 0:
        held["strangers"] = round(held["strangers"] + lots, 8)
        return []
    why = why_closed(deal)
    if deal.entry == Entry.IN_OUT or abs(after) < DUST_LOTS or before * after < 0:
        closed = _all_closed(held, why)
        held["strangers"] = after
        return closed
    sign = 1.0 if before > 0 else -1.0
    left = abs(lots)
    taken = min(left, max(held["strangers"] * sign, 0.0))
    held["strangers"] = round(held["strangers"] - taken * sign, 8)
    left = round(left - taken, 8)
    closed = []
    for owner in sorted(held["parts"]):
        part = held["parts"][owner]
        taken = min(left, max(part["lots"] * sign, 0.0))
        if taken > DUST_LOTS:
            part["lots"] = round(part["lots"] - taken * sign, 8)
            left = round(left - taken, 8)
            closed.append((owner, why))
            _drop_dust(held, owner)
    held["strangers"] = round(held["strangers"] - left * sign, 8)
    return closed


def why_closed(deal: Deal) -> str:
    """stop_loss, take_profit, stop_out, manual or other."""
    if deal.reason in _MANUAL:
        return MANUAL
    return _BROKERS.get(deal.reason, OTHER)


def follow_book(
    holdings: Holdings, book: Mapping[int, Seen], *, hedging: bool, now_ms: int
) -> Iterator[Closed]:
    """Take over what the book has told for so long that no deal can be under way any more."""
    by_symbol = {} if hedging else {one.symbol: one for one in book.values()}
    for key, held in list(holdings.items()):
        found = book.get(held["position"]) if hedging else by_symbol.get(held["symbol"])
        signed = 0.0 if found is None else found.lots
        before = net_lots(held)
        if abs(signed - before) < DUST_LOTS:
            continue
        held["book_ms"] = now_ms
        if hedging and signed * before > 0:
            for owner, part in held["parts"].items():
                part["lots"] = signed
                if abs(signed) < abs(before):
                    yield owner, UNKNOWN
        elif found is None or hedging:
            yield from _all_closed(held, UNKNOWN)
            del holdings[key]
        else:
            held["strangers"] = round(held["strangers"] + signed - before, 8)
    if hedging:
        _adopt(holdings, book, now_ms)


def follow_tickets(holdings: Holdings, book: Mapping[int, Seen]) -> None:
    """Brokers give a position another ticket when they open it again; its identifier stays."""
    for held in holdings.values():
        found = book.get(held["position"])
        if found is not None:
            held["ticket"] = found.ticket


def disagrees(holdings: Holdings, book: Mapping[int, Seen], *, hedging: bool) -> bool:
    """Whether the book tells otherwise of what we own."""
    if hedging:
        owned = {one["position"]: net_lots(one) for one in holdings.values()}
        told = {
            one.identifier: one.lots
            for one in book.values()
            if parts_of(one.magic) is not None or one.identifier in owned
        }
        return _differ(owned, told)
    nets = {symbol: net_lots(one) for symbol, one in holdings.items() if one["parts"]}
    shown = {one.symbol: one.lots for one in book.values() if one.symbol in nets}
    return _differ(nets, shown)


def _differ(one: Mapping[Any, float], other: Mapping[Any, float]) -> bool:
    keys = one.keys() | other.keys()
    return any(abs(one.get(key, 0.0) - other.get(key, 0.0)) >= DUST_LOTS for key in keys)


def _adopt(holdings: Holdings, book: Mapping[int, Seen], now_ms: int) -> None:
    """Positions with a magic of ours that no deal told of: opened before our history."""
    for position in book.values():
        ours = parts_of(position.magic)
        key = str(position.identifier)
        if ours is None or key in holdings:
            continue
        held = holdings[key] = _new(position.symbol, position.identifier, position.ticket)
        held["stops"], held["book_ms"] = [position.stop_loss, position.take_profit], now_ms
        _add(held, ours, position.lots)


def _all_closed(held: Held, why: str) -> list[Closed]:
    closed = [(owner, why) for owner in sorted(held["parts"])]
    held["parts"].clear()
    held["strangers"] = 0.0
    return closed


def _new(symbol: str, position: int, order: int) -> Held:
    return Held(
        symbol=symbol, position=position, ticket=order or position, parts={}, strangers=0.0,
        book_ms=0, stops=[0.0, 0.0],
    )  # fmt: skip


def _add(held: Held, ours: tuple[int, int], lots: float) -> None:
    owner, number = ours
    part = held["parts"].setdefault(owner, Part(lots=0.0, number=number))
    part["lots"] = round(part["lots"] + lots, 8)
    _drop_dust(held, owner)


def _drop_dust(held: Held, owner: int) -> None:
    if abs(held["parts"][owner]["lots"]) < DUST_LOTS:
        del held["parts"][owner]

"""What a strategy holds, from deals alone: whose a position is stands in its magic number.

Deals are what the broker booked, one by one and for good; they come with the account's own events,
so nothing else has to run for a strategy to know its position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consumers.strategies.authoring.fill import Fill
from events.accounting import BUY
from events.executing import TargetState
from events.magic import owner_of
from events.ownership import Held, Part, Seen, book_deal, follow_book, held_lots, why_closed
from events.ownership import Holdings as Owned
from events.trading import OPERATION_TYPES, Book, Deal

DUST_LOTS = 1e-8


class Holdings:
    """What one strategy owns, by symbol and leg; and what each deal changed of it."""

    def __init__(self, strategy: str) -> None:
        self._strategy = strategy
        self._held: Owned = {}
        self._owners: dict[int, tuple[str, str]] = {}
        self.hedging = False
        """Of the account, as its newest event told."""

    def know(self, symbol: str, leg: str = "") -> None:
        """It may own something under this symbol and leg."""
        self._owners.setdefault(owner_of(self._strategy, symbol, leg), (symbol, leg))

    def begin(self, book: Book | None, targets: Sequence[TargetState]) -> None:
        """Take over what it held before it began: legs and volumes as group execute told them
        last, on hedging accounts the positions of the book that carry its magic."""
        if book is None:
            return
        mine = [one for one in targets if one.strategy == self._strategy]
        for one in mine:
            self.know(one.symbol, one.leg)
        if self.hedging:
            shown = {
                p.identifier: Seen(
                    p.identifier, p.ticket, p.symbol, p.side, p.volume_lots, p.stop_loss,
                    p.take_profit, p.magic,
                )
                for p in book.positions
            }  # fmt: skip
            list(follow_book(self._held, shown, hedging=True, now_ms=book.event_time_ms))
            return
        for position in book.positions:
            owned = {
                owner_of(self._strategy, one.symbol, one.leg): one.held_lots
                for one in mine
                if one.symbol == position.symbol and one.held_lots
            }
            if owned:
                net = position.volume_lots if position.side == BUY else -position.volume_lots
                self._held[position.symbol] = Held(
                    symbol=position.symbol, position=position.identifier, ticket=position.ticket,
                    parts={owner: Part(lots=lots, number=0) for owner, lots in owned.items()},
                    strangers=round(net - sum(owned.values()), 8), book_ms=book.event_time_ms,
                    stops=[position.stop_loss, position.take_profit],
                )  # fmt: skip

    def lots(self) -> dict[tuple[str, str], float]:
        """What it holds by symbol and leg, where that is not nothing."""
        found = {of: held_lots(self._held, owner) for owner, of in self._owners.items()}
        return {of: lots for of, lots in found.items() if abs(lots) >= DUST_LOTS}

    def book(self, deal: Deal) -> list[Fill]:
        """Let a deal take effect: what it changed of ours, by leg."""
        if deal.type in OPERATION_TYPES or not deal.symbol:
            return []
        mine = {owner: of for owner, of in self._owners.items() if of[0] == deal.symbol}
        before = {owner: held_lots(self._held, owner) for owner in mine}
        book_deal(self._held, deal, hedging=self.hedging, asked=False)
        fills = []
        for owner, (symbol, leg) in mine.items():
            after = held_lots(self._held, owner)
            if abs(after - before[owner]) >= DUST_LOTS:
                fills.append(self._fill(deal, symbol, leg, before[owner], after))
        return fills

    def _fill(self, deal: Deal, symbol: str, leg: str, before: float, after: float) -> Fill:
        volume = abs(after - before)
        share = min(1.0, volume / deal.volume_lots) if deal.volume_lots else 1.0
        opens = abs(after) > abs(before)
        ours = deal.reason == 3  # DEAL_REASON_EXPERT
        return Fill(
            symbol, leg, deal.event_time_ms, "buy" if deal.type == BUY else "sell",
            "in" if opens else "out", round(volume, 8), deal.price, deal.profit * share,
            (deal.commission + deal.swap + deal.fee) * share,
            "expert" if ours else why_closed(deal), deal.position_id, after,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {
            "held": self._held,
            "owners": [[symbol, leg] for symbol, leg in self._owners.values()],
            "hedging": self.hedging,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`."""
        self._held, self.hedging = state["held"], state["hedging"]
        self._owners = {}
        for symbol, leg in state["owners"]:
            self.know(symbol, leg)

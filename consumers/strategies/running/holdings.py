"""What a strategy holds, from deals alone: whose a position is stands in its magic number.

Deals are what the broker booked, one by one and for good; they come with the account's own events,
so nothing else has to run for a strategy to know its position.
"""

from __future__ import annotations

from typing import Any

from consumers.strategies.authoring.fill import Fill
from events.accounting import BUY
from events.magic import owner_of
from events.ownership import Holdings as Held
from events.ownership import book_deal, held_lots, why_closed
from events.trading import OPERATION_TYPES, Deal

DUST_LOTS = 1e-8


class Holdings:
    """What one strategy owns, by symbol and leg; and what each deal changed of it."""

    def __init__(self, strategy: str) -> None:
        self._strategy = strategy
        self._held: Held = {}
        self._owners: dict[int, tuple[str, str]] = {}
        self.hedging = False
        """Of the account, as its newest event told."""

    def know(self, symbol: str, leg: str = "") -> None:
        """It may own something under this symbol and leg."""
        self._owners.setdefault(owner_of(self._strategy, symbol, leg), (symbol, leg))

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

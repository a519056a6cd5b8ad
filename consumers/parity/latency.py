"""How long orders were under way live, given to the broker model order by order."""

from __future__ import annotations

import statistics

from consumers.parity.comparing.fills import EXPERT, Key, keyed
from consumers.parity.live import Live
from events.executing import OrderIntent
from events.log import EntryId

DELAY_MS_MAX = 60_000
"""An order that took longer waited for something else."""


class ObservedLatency:
    """Called by the model with every intent: how many ms it is under way.

    An order of a signal that live filled gets there when live's did, any other one after the
    median. It also remembers the model's intents, by magic.
    """

    def __init__(self, live: Live) -> None:
        moments = live.moments()
        fills = keyed(live.deals, live.intents, lambda intent: moments.get(intent.signal))
        self._filled_ms = {key: deal.event_time_ms for key, deal in fills if deal.reason == EXPERT}
        delays = [filled - key.signal_ms for key, filled in self._filled_ms.items()]
        kept = [delay for delay in delays if 0 <= delay <= DELAY_MS_MAX]
        self.median_ms = round(statistics.median(kept)) if kept else 0
        self.intents: dict[int, OrderIntent] = {}
        self._counts: dict[tuple[str, str, int, str], int] = {}

    def __call__(self, intent: OrderIntent, now_ms: int) -> int:
        """Keep an intent, and tell its delay from now on."""
        self.intents[intent.magic or intent.intent_id] = intent
        moment = self.signal_ms(intent)
        pending = intent.price_limit is not None or intent.price_stop is not None
        if moment is None or pending or intent.verb not in ("open", "close"):
            return self.median_ms
        what = intent.symbol, intent.leg, moment, intent.verb
        self._counts[what] = self._counts.get(what, 0) + 1
        filled_ms = self._filled_ms.get(Key(*what, self._counts[what]))
        if filled_ms is None:
            return self.median_ms
        return min(max(0, filled_ms - now_ms), DELAY_MS_MAX)

    @staticmethod
    def signal_ms(intent: OrderIntent) -> int | None:
        """In a backtest the id of a signal's entry begins with its time."""
        try:
            return EntryId.parse(intent.signal.rpartition("@")[2]).ms
        except ValueError:
            return None

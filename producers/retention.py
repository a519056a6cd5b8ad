"""What a producer reads from the log when it begins again, so that retention keeps it for then."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from events.codec import TICKS
from events.log import ACCOUNT_PARTITION, END, OPERATOR, EntryId, Lane, Log, Slot
from events.retention import Need, Retention, RetentionLoop
from events.trading import Deal, OrderDone
from producers.append import Writer
from producers.pollers.deals import COPIES
from producers.ticks.feed import FEED_PREFIX
from producers.ticks.place import CursorPlace

MARGIN_S = 2 * 24 * 3600


class SourceNeeds:
    """The entries a producer of one namespace needs, by slot."""

    def __init__(self, log: Log, *, deals_backfill_s: int, now_ms: Callable[[], int]) -> None:
        self._log, self._now_ms = log, now_ms
        self._deals_ms = (deals_backfill_s + MARGIN_S) * 1000

    def __call__(self, slot: Slot) -> Sequence[Need]:
        """The windows of its tick cursors; and where the account lies, the newest deals and
        orders: a spool that begins anew learns from them what is not new. Raises LogError."""
        if slot.writer == OPERATOR:
            return []
        needs = []
        for feed, text in self._log.cursors(slot).items():
            place = CursorPlace.parse(text) if feed.startswith(FEED_PREFIX) else None
            if place is not None and place.last_entry is not None:
                symbol = feed.removeprefix(FEED_PREFIX)
                types = frozenset({TICKS})
                needs.append(
                    Need(feed, Lane.NORMAL, types, place.window_from, place.last_entry, symbol)
                )
        if slot.partition == ACCOUNT_PARTITION:
            first = EntryId(max(0, self._now_ms() - self._deals_ms), 0)
            types = frozenset({Deal.TYPE, OrderDone.TYPE})
            needs.append(Need(COPIES, Lane.HIGH, types, first, END))
        return needs


def retention_loop(
    retention: Retention, writer: Writer, *, deals_backfill_s: int, now_ms: Callable[[], int]
) -> RetentionLoop:
    """Keeps every slot that a producer writes, and the operators', whom nobody else looks after."""

    def slots() -> list[Slot]:
        own = [writer.slot(partition) for partition in range(writer.partitions)]
        return [*own, Slot(writer.namespace, OPERATOR, 0)]

    needs = SourceNeeds(writer.log, deals_backfill_s=deals_backfill_s, now_ms=now_ms)
    return RetentionLoop(retention, slots, needs)

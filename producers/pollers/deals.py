"""Deals and finished orders, each exactly once by its ticket, across restarts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from events.codec import AnyEvent, decode, decode_data
from events.log import ACCOUNT_PARTITION, END, Entry, EntryId, Lane
from events.retention import copied
from events.trading import Deal, OrderDone, Orders
from producers.pollers import translate
from producers.pollers.context import Context
from producers.pollers.translate import Reading
from producers.spool.file import Known

logger = logging.getLogger(__name__)

OVERLAP_S = 3_600
"""A deal may appear in the history a while after its time."""
SCAN_ENTRIES_MAX = 1_000_000
SCAN_PAGE = 5_000
COPIES = "deals"
"""What copies of deals and orders are called that left the log and must be known."""
DEAL, ORDER = "deal", "order"


class DealFeed:
    """Which part of the history to ask for, and which of its rows are news.

    Known tickets stand in the spool, written in one transaction with their events.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._active: dict[int, int] = {}
        """Ticket -> setup time (server s) of orders that were active and are not done yet: the
        history lists an order by its setup time, which may be days back."""

    def start(self) -> None:
        """Learn what the log has. Raises LogUnavailable."""
        log, slot = self._context.writer.log, self._context.writer.slot(ACCOUNT_PARTITION)
        for (type_, key), data in log.last_states(slot).items():
            if type_.startswith(Orders.TYPE + "."):
                event = decode_data(type_, key, data)
                assert isinstance(event, Orders)
                self._active = {
                    order.ticket: order.time_setup_server_ms // 1000 for order in event.orders
                }
        if self._context.spool.known_newest_s(DEAL) is None:
            self._learn_from_log()

    def _learn_from_log(self) -> None:
        """A spool that begins anew: read the tickets of the log, newest entries first."""
        stream = self._context.writer.slot(ACCOUNT_PARTITION).stream(Lane.HIGH)
        before, seen = END, 0
        slot = self._context.writer.slot(ACCOUNT_PARTITION)
        known: list[Known] = []
        while seen < SCAN_ENTRIES_MAX:
            page = self._context.writer.log.newest(stream, count_max=SCAN_PAGE, before=before)
            known += _tickets(page)
            seen += len(page)
            if len(page) < SCAN_PAGE:
                break
            before = _before(page[-1].id)
        # The log first: what leaves it meanwhile was copied before.
        known += _tickets(copied(self._context.writer.log, slot).get(COPIES, []))
        self._context.spool.learn(known)
        if known:
            logger.info("learned %d tickets of deals and orders from the log", len(known))

    def window(self) -> tuple[int, int]:
        """(from, until) in server seconds. UTC now lies behind server now, and a day more costs
        nothing: the newest deal is never cut off."""
        until_s = self._context.server_far_s()
        newest_s = self._context.spool.known_newest_s(DEAL)
        begin_s = until_s - self._context.options.deals_backfill_s
        if newest_s is not None:
            begin_s = newest_s - OVERLAP_S
        return begin_s, until_s

    def orders_from(self, begin_s: int) -> int:
        """From when to ask for finished orders, so that every order once active is found."""
        return min([begin_s, *self._active.values()])

    def take(
        self, deals: Sequence[Any], orders: Sequence[Any], reading: Reading
    ) -> tuple[list[AnyEvent], list[Known]]:
        """Events of rows not known yet, in their order in time, and their tickets."""
        spool = self._context.spool
        new_orders = spool.unknown(ORDER, (row.ticket for row in orders))
        new_deals = spool.unknown(DEAL, (row.ticket for row in deals))
        events: list[AnyEvent] = []
        known: list[Known] = []
        for row in sorted(orders, key=lambda row: (row.time_done_msc, row.ticket)):
            if row.ticket in new_orders:
                events.append(translate.order_done(row, reading))
                known.append(Known(ORDER, row.ticket, row.time_done))
        for row in sorted(deals, key=lambda row: (row.time_msc, row.ticket)):
            if row.ticket in new_deals:
                events.append(translate.deal(row, reading))
                known.append(Known(DEAL, row.ticket, row.time))
        return events, known

    def noted(self, known: Iterable[Known], active: Iterable[Any]) -> None:
        """The events of `take` are on disk."""
        for ticket in known:
            if ticket.kind == ORDER:
                self._active.pop(ticket.number, None)
        self._active |= {row.ticket: row.time_setup for row in active}


def _tickets(entries: Iterable[Entry]) -> list[Known]:
    found = []
    for entry in entries:
        if entry.type.startswith((f"{Deal.TYPE}.", f"{OrderDone.TYPE}.")):
            event = decode(entry)
            assert isinstance(event, Deal | OrderDone)
            found.append(_known(event))
    return found


def _known(event: Deal | OrderDone) -> Known:
    if isinstance(event, Deal):
        return Known(DEAL, event.ticket, event.time_server_ms // 1000)
    return Known(ORDER, event.order.ticket, event.order.time_done_server_ms // 1000)


def _before(id_: EntryId) -> EntryId:
    """The largest id below another one."""
    return EntryId(id_.ms, id_.seq - 1) if id_.seq else EntryId(id_.ms - 1, 2**64 - 1)

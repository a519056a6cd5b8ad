"""Deals and finished orders, each exactly once by its ticket, across restarts.

The account is looked at often and asks for the last days only. What is older than that, on a
first start and after a long outage, is pulled once, a day at a time, at the priority of history:
a cold history call takes half a minute, and nothing may stand behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Any, NamedTuple

from events.codec import AnyEvent, decode, decode_data
from events.log import ACCOUNT_PARTITION, END, Entry, EntryId, Lane
from events.retention import copied
from events.trading import Deal, OrderDone, Orders
from producers.pollers import translate
from producers.pollers.connection import Connection
from producers.pollers.context import DAY_S, Context
from producers.pollers.translate import Reading
from producers.spool.file import Known, SpoolFull, SpoolUnusable
from producers.terminals.interface import Priority, Reply, TerminalLost

logger = logging.getLogger(__name__)

OVERLAP_S = 3_600
"""A deal may appear in the history a while after its time."""
RECENT_S = 2 * DAY_S
"""So far back of UTC a look at the account asks at most: the firm's day that runs is in it
wherever the server's clock is."""
SEEN_S = 16 * 3_600
"""What a look saw for certain: no server's clock is 15 h behind UTC, and a deal may be late."""
CHUNK_S = DAY_S
CHUNKS_A_TURN_MAX = 10
RETRY_S = 5.0
SETTLE_S = 60.0
"""A terminal that just connected may still be loading its history: what it gave is asked for
again so much later, until that brings nothing new."""
PASSES_MAX = 10
SCAN_ENTRIES_MAX = 1_000_000
SCAN_PAGE = 5_000
COPIES = "deals"
"""What copies of deals and orders are called that left the log and must be known."""
DEAL, ORDER = "deal", "order"
_BEGIN, _AT, _UNTIL = "past deals begin", "past deals at", "past deals until"


class Past(NamedTuple):
    """A part of the history that the account's looks leave out (server seconds), and how far it
    was pulled."""

    begin_s: int
    at_s: int
    until_s: int

    @property
    def places(self) -> dict[str, int]:
        return dict(zip((_BEGIN, _AT, _UNTIL), self, strict=True))


class DealFeed:
    """Which part of the history to ask for, and which of its rows are news.

    Known tickets stand in the spool, written in one transaction with their events; so does the
    part of the past that is still to be pulled. Hold `lock` from `take` until its events are on
    disk: two may ask for the same deals.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.lock = Lock()
        self.past: Past | None = None
        """None: nothing is left to be pulled."""
        self.pending = False
        """Whether deals of the past are still missing (a second pass only makes sure)."""
        self._covered_s: int | None = None
        """Up to here (server s) looks, and the past to be pulled, leave nothing out."""
        self._asked_s = 0
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
        begin_s, at_s, until_s = (self._context.spool.place(one) for one in (_BEGIN, _AT, _UNTIL))
        if at_s < until_s:
            self.past, self.pending = Past(begin_s, at_s, until_s), True

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
        """(from, until) in server seconds, for a look at the account. UTC now lies behind server
        now, and a day more costs nothing: the newest deal is never cut off.

        Raises SpoolFull, SpoolUnusable: what the look leaves out is noted first."""
        utc_s, until_s = self._context.utc_ms // 1000, self._context.server_far_s()
        newest_s = self._context.spool.known_newest_s(DEAL)
        first_s = until_s - self._context.options.deals_backfill_s
        since_s = first_s if newest_s is None else newest_s - OVERLAP_S
        if self._context.options.ends:  # plays its own time, and no broker is asked
            return since_s, until_s
        if self._covered_s is None:
            # Without a mark nobody knows whether what is older was ever pulled.
            known = newest_s is not None and self._context.spool.place(_BEGIN)
            self._covered_s = min([since_s if known else first_s, *self._active.values()])
        recent_s = utc_s - RECENT_S
        if self._covered_s < recent_s:
            self._leave(self._covered_s, utc_s)
        self._asked_s = utc_s
        return max(recent_s, since_s), until_s

    def _leave(self, begin_s: int, until_s: int) -> None:
        """Let a part of the history be pulled apart from the looks."""
        with self.lock:
            past = Past(begin_s, begin_s, until_s)
            if self.past is not None:
                if self.past.begin_s <= begin_s and until_s <= self.past.until_s + SEEN_S:
                    return  # noted when the look was tried before
                past = Past(
                    min(self.past.begin_s, begin_s),
                    min(self.past.at_s if self.pending else begin_s, begin_s),
                    until_s,
                )
            self._context.emit([], places=past.places)
            self.past, self.pending = past, True

    def pulled(self, past: Past | None) -> None:
        """The past was pulled so far, and that is on disk; None: nothing is left of it."""
        self.past = past
        if past is None or past.at_s >= past.until_s:
            self.pending = False

    def orders_from(self, begin_s: int) -> int:
        """From when to ask for finished orders, so that every order once active is found. Old
        ones are asked for when the terminal has loaded what lies there."""
        return begin_s if self.pending else min([begin_s, *self._active.values()])

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
        """The events of `take` are on disk; `active` orders were seen with them."""
        self.noted_orders(known)
        self._active |= {row.ticket: row.time_setup for row in active}
        if self._covered_s is not None:
            self._covered_s = max(self._covered_s, self._asked_s - SEEN_S)

    def noted_orders(self, known: Iterable[Known]) -> None:
        """Orders that are done are no longer waited for."""
        for ticket in known:
            if ticket.kind == ORDER:
                self._active.pop(ticket.number, None)


class PastDeals:
    """Pulls the part of the history that looks at the account leave out, oldest first. It has a
    thread of its own, and how far it came outlives a restart."""

    def __init__(
        self,
        context: Context,
        connection: Connection,
        deals: DealFeed,
        *,
        ready: Callable[[], bool],
    ) -> None:
        """`ready`: whether the account was looked at; the newest deals come with that."""
        self._context, self._connection = context, connection
        self._deals, self._ready = deals, ready
        self._next_at = 0.0
        self._passes = self._found = 0
        self._whole = False
        """Whether this pass began at the beginning."""
        self._mine: Past | None = None
        """What this made of the past; another one begins anew."""

    def poll(self) -> None:
        """One turn."""
        try:
            for _ in range(CHUNKS_A_TURN_MAX):
                if not self._due() or not self._pull():
                    return
        except TerminalLost as error:
            self._connection.lost(error)
            self._later(RETRY_S)
        except (SpoolFull, SpoolUnusable) as error:
            self._context.report.incident("spool", str(error))
            self._later(RETRY_S)

    def _due(self) -> bool:
        if self._deals.past is None or self._context.stopping.is_set():
            return False
        now = self._context.monotonic()
        return self._connection.up and self._ready() and now >= self._next_at

    def _later(self, seconds: float) -> None:
        self._next_at = self._context.monotonic() + seconds

    def _pull(self) -> bool:
        """One part; False where it must be asked for again later."""
        past = self._deals.past
        assert past is not None, "asked only while something is left"
        if past is not self._mine:
            self._passes, self._found, self._whole, self._mine = 0, 0, False, past
        if past.at_s >= past.until_s:  # one more pass, to make sure
            past = past._replace(at_s=past.begin_s)
        self._whole |= past.at_s == past.begin_s
        end_s = min(past.at_s + CHUNK_S, past.until_s)
        terminal, before, deals, orders, account = (
            self._ask("terminal_info"),
            self._ask("account_info"),
            # Whether a terminal counts its upper bound in is not documented: a second more.
            self._ask("history_deals_get", past.at_s, end_s + 1),
            self._ask("history_orders_get", past.at_s, end_s + 1),
            self._ask("account_info"),
        )
        if not all(self._connection.observe(terminal, seen) for seen in (before, account)):
            self._later(RETRY_S)
            return False
        for reply in (deals, orders):
            if reply.unknown:
                code, text = reply.error
                self._context.report.incident("history", f"past deals: {text} ({code})")
                self._later(RETRY_S)
                return False
        self._context.report.recovered("history")
        reading = self._context.reading(self._connection.login, account)
        return self._keep(past, end_s, deals.value, orders.value, reading)

    def _ask(self, method: str, *args: int) -> Reply:
        return self._context.client.call(method, *args, priority=Priority.HISTORY)

    def _keep(
        self, past: Past, end_s: int, deals: Sequence[Any], orders: Sequence[Any], reading: Reading
    ) -> bool:
        """Put what is new on disk, and how far we came."""
        feed = self._deals
        with feed.lock:
            events, known = feed.take(deals, orders, reading)
            if feed.past is not self._mine:  # more was left out meanwhile
                self._context.emit(events, known)
                feed.noted_orders(known)
                return True
            over = end_s >= past.until_s
            done = over and self._sure(news=bool(self._found or events))
            moved = self._mine = past._replace(at_s=end_s)
            self._context.emit(events, known, places=moved.places)
            feed.noted_orders(known)
            feed.pulled(None if done else moved)
        self._context.report.count("past_deals", len(known))
        if not over:
            self._found += len(events)
            return True
        self._passes, self._found, self._whole = self._passes + 1, 0, False
        if done:
            self._passes = 0
            logger.info("deals and orders of the past are all here")
        else:
            self._later(SETTLE_S)
        return False

    def _sure(self, *, news: bool) -> bool:
        """Whether what was pulled is all there is."""
        if self._context.options.virtual or self._passes + 1 >= PASSES_MAX:
            return True
        return self._whole and self._passes > 0 and not news


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

"""Account, book, marks, quotes and orders: one consistent look at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from events.codec import AnyEvent
from events.trading import Account
from producers.pollers import translate
from producers.pollers.connection import Connection
from producers.pollers.context import Context
from producers.pollers.conversion import Conversions
from producers.pollers.deals import DealFeed
from producers.pollers.translate import Reading
from producers.spool.file import Known, SpoolFull, SpoolUnusable
from producers.terminals.interface import Priority, Reply, TerminalLost

LOOKS_MAX = 3
"""Looks at a book that changes under our eyes; the last one counts."""
EMPTY_AGAIN_S = 1.0
"""Right after connecting, an empty list is believed when it is still empty this much later."""
SOURCE = "account"


class _Look:
    """Replies of one look, in the order they were asked for."""

    def __init__(self, replies: Sequence[Reply], ticks: dict[str, Reply]) -> None:
        self.terminal, self.account_before, *self.lists, self.account = replies
        self.before, self.deals, self.done, self.orders, self.after = self.lists
        self.quoted = [
            (symbol, reply.value)
            for symbol, reply in ticks.items()
            if not reply.unknown and reply.value.time_msc
        ]
        """(our name, newest tick) of every symbol that has one."""


@dataclass(slots=True)
class _Told:
    """What was appended last, so that only changes follow."""

    account: dict[str, Any] | None = None
    account_at: float = 0.0
    book: tuple[Any, ...] | None = None
    orders: tuple[Any, ...] | None = None
    quotes: list[tuple[Any, ...]] = field(default_factory=list)
    positions: int = 0


class AccountPoller:
    """Asks for positions, deals, orders and positions again in one go; facts are recorded when
    both looks at the positions agree (MetaTrader's lists are not one snapshot)."""

    def __init__(self, context: Context, connection: Connection, deals: DealFeed) -> None:
        self._context = context
        self._connection = connection
        self._deals = deals
        self.conversions = Conversions(context)
        self._told = _Told()
        self._generation = -1
        self._rewinds = 0
        self._empty_since: float | None = None
        self._next_at = 0.0

    def poll(self) -> None:
        """One turn: at most the short interval apart while positions are open."""
        now = self._context.monotonic()
        if not self._connection.up or now < self._next_at:
            return
        if self._connection.generation != self._generation:
            self._generation, self._empty_since = self._connection.generation, None
            self._told = _Told()
        if self._context.writer.rewinds() != self._rewinds:  # the log may lack what was told
            self._rewinds, self._told = self._context.writer.rewinds(), _Told()
        try:
            look = self._look()
            if look is not None:
                self._record(look)
        except TerminalLost as error:
            self._connection.lost(error)
        except (SpoolFull, SpoolUnusable) as error:
            # Nothing counts as told: the same changes are seen and tried again.
            self._context.report.incident("spool", str(error))
            self._told = _Told()
        options = self._context.options
        if not self._told.positions:
            self._next_at = now + options.account_idle_interval_s - options.account_interval_s / 2

    @property
    def believed(self) -> bool:
        """Whether a whole look was recorded since the terminal came up."""
        return self._told.book is not None

    def expire(self) -> None:
        """Look again in the next turn, however short ago the last one was."""
        self._next_at = 0.0

    def _look(self) -> _Look | None:
        for _ in range(LOOKS_MAX):
            look = self._ask()
            if not self._usable(look):
                return None
            shape = translate.book_shape(look.after.value)
            if translate.book_shape(look.before.value) == shape:
                break
            self._context.report.count("account_looks_again")
        return look if self._believed(look) else None

    def _ask(self) -> _Look:
        """The host serves calls of one priority in order, so this is one sweep."""
        client = self._context.client
        begin_s, until_s = self._deals.window()

        def ask(method: str, *args: Any) -> Future[Reply]:
            return client.submit(method, *args, priority=Priority.ACCOUNT)

        asked = [
            ask("terminal_info"),
            ask("account_info"),
            ask("positions_get"),
            ask("history_deals_get", begin_s, until_s),
            ask("history_orders_get", self._deals.orders_from(begin_s), until_s),
            ask("orders_get"),
            ask("positions_get"),
            ask("account_info"),
        ]
        wanted = self.conversions.wanted if self._told.positions else {}
        ticks = {
            symbol: ask("symbol_info_tick", broker_symbol)
            for symbol, broker_symbol in wanted.items()
        }
        replies = [future.result() for future in asked]
        quotes = {symbol: future.result() for symbol, future in ticks.items()}
        look = _Look(replies, quotes)
        self._context.heard(look.account)
        self._context.report.count("account_polls")
        return look

    def _usable(self, look: _Look) -> bool:
        # The account may be switched between two calls: it must be ours before and after.
        for account in (look.account_before, look.account):
            if not self._connection.observe(look.terminal, account):
                return False
        for reply in look.lists:
            if reply.unknown:
                self._connection.unknown(SOURCE, reply)
                return False
        self._context.report.recovered(SOURCE)
        return True

    def _believed(self, look: _Look) -> bool:
        """Lists may be empty for a while right after connecting (None is another matter)."""
        if look.after.value or look.orders.value or self._told.book is not None:
            self._empty_since = None
            return True
        now = self._context.monotonic()
        if self._empty_since is None:
            self._empty_since = now
        return now - self._empty_since >= EMPTY_AGAIN_S

    def _record(self, look: _Look) -> None:
        reading = self._context.reading(self._connection.login, look.after)
        told = self._told
        with self._deals.lock:
            events, known = self._deals.take(look.deals.value, look.done.value, reading)
            events += self._levels(look, reading)
            # One transaction: a deal and the book it explains are on disk together.
            self._context.emit(events, known)
            self._note(look, known)
        if any(isinstance(event, Account) for event in events):
            told.account_at = self._context.monotonic()
        if len(look.after.value) and told.positions == 0:
            self._next_at = 0.0
        told.positions = len(look.after.value)
        self.conversions.hold({row.symbol for row in look.after.value}, look.account.value.currency)

    def _levels(self, look: _Look, reading: Reading) -> list[AnyEvent]:
        positions, orders = look.after.value, look.orders.value
        events: list[AnyEvent] = []
        if translate.orders_shape(orders) != self._told.orders:
            events.append(translate.orders(orders, reading))
        if translate.book_shape(positions) != self._told.book:
            events.append(translate.book(positions, reading))
        if len(positions):
            events.append(translate.marks(positions, reading))
            quoted = look.quoted
            if quoted and [tuple(tick) for _, tick in quoted] != self._told.quotes:
                events.append(translate.quotes(quoted, reading))
        now = self._context.monotonic()
        due = now - self._told.account_at >= self._context.options.account_repeat_s
        if due or self._account_shape(look) != self._told.account:
            pending = self._deals.pending
            events.append(translate.account(look.account.value, reading, deals_pending=pending))
        return events

    def _account_shape(self, look: _Look) -> dict[str, Any]:
        return {**look.account.value._asdict(), "deals_pending": self._deals.pending}

    def _note(self, look: _Look, known: list[Known]) -> None:
        """The events are on disk: from now on only changes of them are news."""
        self._told.account = self._account_shape(look)
        self._told.book = translate.book_shape(look.after.value)
        self._told.orders = translate.orders_shape(look.orders.value)
        self._told.quotes = [tuple(tick) for _, tick in look.quoted]
        self._deals.noted(known, look.orders.value)

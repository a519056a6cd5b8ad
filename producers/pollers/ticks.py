"""Ticks of a group of symbols: look for change, copy, append, and heal gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from events.log import APPEND_ENTRIES_MAX, Fenced, Lane, LogError
from events.operations import GapHealed
from producers.append import Outcome
from producers.pollers.connection import Connection
from producers.pollers.context import Context
from producers.spool.file import SpoolFull, SpoolUnusable
from producers.terminals.constants import COPY_TICKS_ALL
from producers.terminals.interface import Priority, Reply, TerminalLost
from producers.ticks.feed import FIRST_S, REWIND_S, FeedState, Page, TickFeed
from producers.ticks.log_windows import read_windows

LOG_BACK_OFF_S = 1.0
LOG_GAP_S = 10.0
"""The log being away for longer is told as a gap."""
LAUNCHES_PER_SWEEP_MAX = 2_000
APPEND_BYTES_MAX = 8 * 1024 * 1024
HUNG_WAIT_MIN_S = 0.05
DEEP_S = 3_600
"""Ticks this far back may not be at the terminal any more: asking for them may take long."""

_Proposed = tuple[TickFeed, Page]


@dataclass(frozen=True, slots=True)
class _Flight:
    """A call in the air: `what` is look (newest quote), copy, or finished."""

    feed: TickFeed
    what: str
    epoch: int


class TickPoller:
    """Drives the feeds of one group of symbols; `sweep` is one turn.

    Calls of all symbols are in the air at once and answers are taken as they come, so that one
    symbol whose call hangs costs the others nothing: it is left in the air and skipped until its
    deadline ends it. Answers that arrive together are appended together.
    """

    def __init__(self, context: Context, connection: Connection, feeds: Sequence[TickFeed]) -> None:
        self.feeds = tuple(feeds)
        self._context = context
        self._connection = connection
        self._flights: dict[Future[Reply], _Flight] = {}
        self._generation = 0
        self._rewinds = {feed.partition: 0 for feed in feeds}
        self._log_retry_at = 0.0
        self._log_away_since: float | None = None

    @property
    def finished(self) -> bool:
        """True when a recorded terminal has nothing more for any symbol of the group."""
        return all(feed.finished for feed in self.feeds)

    def sweep(self) -> None:
        """One turn: launch a call for every idle feed, take answers, append."""
        if not self._connection.up:
            self._land(self._done(0.0))
            return
        if self._context.monotonic() < self._log_retry_at:
            return
        try:
            self._prepare()
            self._fly()
        except Fenced:
            return
        except LogError as error:
            self._log_away(error)

    def _prepare(self) -> None:
        """Settle what is open with the log, then notice gaps. Raises LogError."""
        self._hear_of_rewinds()
        partitions = {feed.partition for feed in self.feeds if feed.state is not FeedState.READY}
        for partition in sorted(partitions):
            self._settle(partition)
        self._hear_of_rewinds()
        if self._log_away_since is not None:
            away_s = self._context.monotonic() - self._log_away_since
            self._log_away_since = None
            if away_s >= LOG_GAP_S:
                self._begin_gap("log_unavailable")
        if self._generation != self._connection.generation:
            first, self._generation = self._generation == 0, self._connection.generation
            self._begin_gap("producer_restart" if first else self._connection.former_reason)

    def _hear_of_rewinds(self) -> None:
        """Where the log lost its tail every feed goes on from the log's cursor."""
        for partition, known in self._rewinds.items():
            rewinds = self._context.writer.rewinds(partition)
            if rewinds != known:
                self._rewinds[partition] = rewinds
                for feed in (feed for feed in self.feeds if feed.partition == partition):
                    feed.rewound()
                self._settle(partition)

    def _settle(self, partition: int) -> None:
        writer = self._context.writer
        mine = [feed for feed in self.feeds if feed.partition == partition]
        open_ = [feed for feed in mine if feed.state is FeedState.UNSETTLED]
        outcomes = writer.settle(partition, {feed.name: feed.sent[0].cursor_text for feed in open_})
        for feed in open_:
            if outcomes[feed.name] is Outcome.ABSENT:
                feed.dropped()
            else:
                self._context.report.count(f"appends_{outcomes[feed.name].value}")
                if outcomes[feed.name] is Outcome.LANDED:
                    self._count(feed, feed.sent[0])
                feed.astray()
        astray = [feed for feed in mine if feed.state is FeedState.ASTRAY]
        texts = {feed.symbol: writer.cursor(partition, feed.name) for feed in astray}
        windows = read_windows(writer.log, writer.slot(partition), texts)
        for feed in astray:
            feed.resume(windows[feed.symbol])

    def _begin_gap(self, reason: str) -> None:
        for feed in self.feeds:
            feed.begin_gap(reason)
            self._context.report.symbols[feed.symbol].state = "healing"

    def _fly(self) -> None:
        launches = sum(
            self._launch(feed)
            for feed in self.feeds
            if not feed.in_flight and feed.state is FeedState.READY and not feed.finished
        )
        # A sweep ends when nothing arrives for an interval; what hangs stays in the air.
        patience_s = max(self._context.options.price_interval_s, HUNG_WAIT_MIN_S)
        while self._flights and launches < LAUNCHES_PER_SWEEP_MAX:
            done = self._done(patience_s)
            if not done or self._context.stopping.is_set():
                return
            launches += self._land(done)

    def _done(self, timeout_s: float) -> list[Future[Reply]]:
        if not self._flights:
            return []
        return list(wait(self._flights, timeout=timeout_s, return_when=FIRST_COMPLETED).done)

    def _launch(self, feed: TickFeed, what: str = "") -> int:
        """Put the feed's next call into the air: a copy when one is due, else a look."""
        context, now = self._context, self._context.monotonic()
        broker_symbol = context.symbols[feed.symbol]
        if feed.cursor is None and not self._begin(feed):
            what = "look"
        elif not what:
            what = "copy" if feed.bulk or feed.again or now >= feed.copy_at else "look"
        priority = Priority.HISTORY if feed.healing else Priority.TICKS
        if what == "copy":
            assert feed.cursor is not None
            begin_s, count = feed.cursor.request()
            if self._lies_deep(feed, begin_s):
                priority = Priority.HISTORY
            future = context.client.submit(
                "copy_ticks_from", broker_symbol, begin_s, count, COPY_TICKS_ALL, priority=priority
            )
            feed.copy_at = now + context.options.copy_interval_s
        elif what == "finished":
            future = context.client.submit("finished", priority=priority)
        else:
            future = context.client.submit("symbol_info_tick", broker_symbol, priority=priority)
        feed.in_flight = True
        self._flights[future] = _Flight(feed, what, feed.epoch)
        return 1

    def _lies_deep(self, feed: TickFeed, begin_s: int) -> bool:
        """Whether a copy may have to come from the broker's server first. A quiet symbol is asked
        for old times too; only one that has to catch up may wait for that."""
        now_s = self._context.clock.now_s()
        catches_up = feed.again or feed.newest_utc_ms is None
        return not feed.bulk and catches_up and now_s is not None and begin_s < now_s - DEEP_S

    def _begin(self, feed: TickFeed) -> bool:
        """A symbol the log never saw: begin before the server's now, which the clock tells, or
        else the newest quote. Returns False while neither is known."""
        server_s = self._context.clock.now_s()
        if feed.known_s is not None:  # the log forgot the symbol, we did not
            server_s = feed.known_s + FIRST_S - REWIND_S + self._context.options.backfill_s
        elif feed.bulk:
            server_s = self._context.options.backfill_s + FIRST_S
        elif server_s is None:
            if not feed.quote:
                return False
            server_s = int(str(feed.quote[0]))
        begin_s = max(0, server_s - FIRST_S - self._context.options.backfill_s)
        stream = self._context.writer.slot(feed.partition).stream(Lane.NORMAL)
        feed.begin(begin_s, self._context.writer.log.info(stream).last_id)
        return True

    def _land(self, done: Sequence[Future[Reply]]) -> int:
        """Take answers. Returns how many calls were put into the air because of them."""
        pages: dict[int, list[_Proposed]] = {}
        try:
            launched = sum(self._land_one(future, pages) for future in done)
            for partition, proposed in pages.items():
                for portion in _portions(proposed):
                    launched += self._append(partition, portion)
            return launched
        finally:
            # Whatever went wrong on the way: a page proposed is in the log, or is settled.
            for feed in (feed for proposed in pages.values() for feed, _ in proposed):
                if feed.sent and feed.state is FeedState.READY:
                    feed.unsettled()

    def _land_one(self, future: Future[Reply], pages: dict[int, list[_Proposed]]) -> int:
        flight = self._flights.pop(future)
        flight.feed.in_flight = False
        try:
            reply = future.result()
        except TerminalLost as error:
            self._connection.lost(error)
            self._context.report.incident(flight.feed.symbol, str(error))
            return 0
        self._context.heard(reply)
        if not self._connection.up or flight.epoch != flight.feed.epoch:
            return 0
        return self._take(flight, reply, pages)

    def _take(self, flight: _Flight, reply: Reply, pages: dict[int, list[_Proposed]]) -> int:
        feed = flight.feed
        if flight.what == "finished":
            feed.ending = reply.value is True
            return self._launch(feed, "copy") if feed.ending else 0
        if reply.unknown or reply.value is None:
            self._connection.unknown(feed.symbol, reply)
            return 0
        self._context.report.recovered(feed.symbol)
        if flight.what == "look":
            return self._looked(feed, reply)
        page = feed.page(reply, self._context.clock.segments)
        if len(reply.value):
            self._observe(feed, int(reply.value["time_msc"][-1]), reply)
        if page is None:
            return self._settled_down(feed)
        pages.setdefault(feed.partition, []).append((feed, page))
        # At full speed the next page is on its way while this one is appended.
        return self._launch(feed) if feed.bulk and feed.again else 0

    def _looked(self, feed: TickFeed, reply: Reply) -> int:
        quote = tuple(reply.value)
        self._observe(feed, reply.value.time_msc, reply)
        if feed.cursor is not None:
            feed.cursor.quote_seen(reply.value.time_msc)
        if quote == feed.quote:
            return 0
        feed.quote = quote
        return self._launch(feed, "copy" if feed.cursor is not None else "")

    def _observe(self, feed: TickFeed, server_msc: int, reply: Reply) -> None:
        if server_msc > 0:
            self._context.clock.observe(feed.symbol, server_msc, reply)

    def _settled_down(self, feed: TickFeed) -> int:
        """Everything there is was taken (for now): tell of a gap that is closed, or go on."""
        if feed.again:
            return self._launch(feed, "copy")
        self._tell_healed(feed)
        self._context.report.symbols[feed.symbol].state = "live"
        if not self._context.options.ends or feed.sent:
            return 0
        feed.finished = feed.ending
        return 0 if feed.finished else self._launch(feed, "finished")

    def _append(self, partition: int, proposed: list[_Proposed]) -> int:
        """Append pages of several symbols with their cursors, all or nothing."""
        entries = [entry for _, page in proposed for entry in page.entries]
        moves = {feed.name: page.cursor_text for feed, page in proposed}
        try:
            appended = self._context.writer.append(partition, entries, moves)
        except Fenced:
            raise
        except LogError as error:
            for feed, _ in proposed:
                feed.unsettled()
            self._log_away(error)
            return 0
        launched, at = 0, 0
        for feed, page in proposed:
            feed.landed(appended.ids[at : at + len(page.entries)])
            at += len(page.entries)
            self._count(feed, page)
            if not feed.in_flight:
                launched += self._settled_down(feed)
        return launched

    def _count(self, feed: TickFeed, page: Page) -> None:
        report, ticks = self._context.report, page.taken.new
        report.ticks_appended(feed.symbol, len(ticks))
        report.count("ticks_late", int(page.taken.late.sum()))
        row = report.symbols[feed.symbol]
        newest_ms = int(ticks["time_msc"].max())
        if newest_ms >= (row.last_tick_server_ms or 0):
            row.last_tick_server_ms = newest_ms
            row.last_tick_ms = newest_ms - page.offset_s * 1000
            row.bid, row.ask = float(ticks["bid"][-1]), float(ticks["ask"][-1])

    def _tell_healed(self, feed: TickFeed) -> None:
        gap = feed.healed()
        if gap is None:
            return
        reason = gap.reason if not gap.caught_up else f"{gap.reason}: late back-fill"
        until_ms = self._context.utc_ms
        event = GapHealed(
            event_time_ms=until_ms,
            symbol=feed.symbol,
            reason=reason,
            from_ms=self._context.clock.utc_ms(gap.from_server_ms),
            until_ms=until_ms,
            ticks=gap.ticks,
        )
        try:
            self._context.emit([event])
        except (SpoolFull, SpoolUnusable) as error:
            self._context.report.incident("spool", str(error))
        self._context.report.count("gaps_healed")

    def _log_away(self, error: LogError) -> None:
        """Nothing is dropped: what was not appended is pulled again when the log is back."""
        now = self._context.monotonic()
        self._log_retry_at = now + LOG_BACK_OFF_S
        if self._log_away_since is None:
            self._log_away_since = now
        self._context.report.incident("log", str(error))


def _portions(proposed: list[_Proposed]) -> Iterator[list[_Proposed]]:
    """Pages that fit into one append."""
    portion: list[_Proposed] = []
    count = size = 0
    for feed, page in proposed:
        page_size = sum(len(entry.data) for entry in page.entries)
        full = count + len(page.entries) > APPEND_ENTRIES_MAX or size + page_size > APPEND_BYTES_MAX
        if portion and full:
            yield portion
            portion, count, size = [], 0, 0
        portion.append((feed, page))
        count, size = count + len(page.entries), size + page_size
    if portion:
        yield portion

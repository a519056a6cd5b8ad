"""The producer: from one terminal to the log, until it is told to stop."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from events.log import Log, LogError, LogUnavailable, WriterHeld, partition_of
from events.retention import Retention
from producers.append import Writer
from producers.clock.broker_clock import BrokerClock
from producers.pollers.account import EMPTY_AGAIN_S, AccountPoller
from producers.pollers.candles import CandlePoller
from producers.pollers.connection import Attached, Connection
from producers.pollers.context import Context, ProducerOptions
from producers.pollers.contracts import ContractPoller
from producers.pollers.deals import DealFeed, PastDeals
from producers.pollers.instruments import InstrumentPoller
from producers.pollers.server_time import HostTime, ServerTime
from producers.pollers.ticks import TickPoller
from producers.pulse import Pulse
from producers.report import Report, SymbolReport
from producers.retention import retention_loop
from producers.scheduler import Scheduler
from producers.spool.file import Spool
from producers.spool.sender import Sender
from producers.terminals.interface import TerminalClient
from producers.ticks.feed import TickFeed
from producers.ticks.state import CursorLimits

logger = logging.getLogger(__name__)

GROUP_SYMBOLS_MAX = 25
LOG_BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
DRAIN_S = 10.0
WAKE_S = 0.2
PULSE_S = 1.0
HISTORY_LOOK_S = 1.0
BULK_SWEEP_S = 0.02


class Producer:
    """Claims the namespace, follows the terminal, and appends what it sees.

    `attach` makes sure that the terminal can be asked and returns the broker's names of our
    symbols; `host_state` tells of the terminal host (fields of ProducerState); `retention` lets
    old entries go (None: nothing is ever removed); setting `stopping` ends `wait`. Client and log
    belong to the caller, who closes them after `stop`.
    """

    def __init__(
        self,
        options: ProducerOptions,
        client: TerminalClient,
        log: Log,
        *,
        attach: Callable[[], Attached],
        clock: BrokerClock,
        host_state: Callable[[], Mapping[str, Any]] = dict,
        retention: Retention | None = None,
        stopping: threading.Event | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self.report = Report(monotonic=monotonic, wall=wall)
        self._writer = Writer(
            log,
            options.namespace,
            options.partitions,
            holder=options.holder,
            report=self.report,
        )
        path = options.state_dir / "spool" / f"{options.namespace}.sqlite"
        self._spool = Spool(path, bytes_max=options.spool_bytes_max)
        self._sender = Sender(self._spool, self._writer, self.report)
        self._retention = (
            None
            if retention is None
            else retention_loop(
                retention,
                self._writer,
                deals_backfill_s=options.deals_backfill_s,
                now_ms=lambda: int(wall() * 1000),
            )
        )
        self.context = Context(
            options=options,
            client=client,
            writer=self._writer,
            spool=self._spool,
            clock=ServerTime(
                clock, HostTime(virtual=options.virtual, wall=wall, monotonic=monotonic)
            ),
            report=self.report,
            monotonic=monotonic,
            wall=wall,
            stopping=stopping or threading.Event(),
        )
        self.connection = Connection(self.context, attach)
        self._deals = DealFeed(self.context)
        self._account = AccountPoller(self.context, self.connection, self._deals)
        self._past = PastDeals(
            self.context, self.connection, self._deals, ready=lambda: self._account.believed
        )
        self._instruments = InstrumentPoller(self.context, self.connection)
        self._candles = CandlePoller(self.context, self.connection)
        self._contracts = ContractPoller(self.context, self.connection, self._account.conversions)
        self.pulse = Pulse(self.context, self.connection, host_state)
        self._scheduler = Scheduler(self.report, workers=options.workers)
        self.tick_pollers: list[TickPoller] = []
        self._connector: threading.Thread | None = None

    @property
    def finished(self) -> bool:
        """True when a recorded terminal was played to its end."""
        return bool(self.tick_pollers) and all(p.finished for p in self.tick_pollers)

    def start(self) -> None:
        """Claim, learn what the log has, and begin to poll in the background.

        Waits for a log that does not answer. Raises WriterHeld (another producer lives; the
        message names it) and LogError.
        """
        self.prepare()
        self._connector = threading.Thread(
            target=self.connection.run, name="producer-terminal", daemon=True
        )
        self._connector.start()
        self._schedule()
        self._scheduler.start()

    def prepare(self) -> None:
        """`start` without polling: claim, read what the log has, send what is spooled."""
        self._with_log(self._writer.open)
        self._writer.start_beating(self.context.stopping.set)
        self._sender.start()
        if self._retention is not None:
            self._retention.start()
        self._with_log(self._deals.start)
        self._with_log(self._instruments.start)
        self._make_tick_pollers()

    def _with_log(self, step: Callable[[], None]) -> None:
        """Take a step at the start that needs the log; wait with back-off while it is away."""
        for failures in range(1_000_000):
            try:
                step()
            except LogUnavailable as error:
                self.report.incident("log", f"{error}; waiting for it")
                pause_s = LOG_BACK_OFF_S[min(failures, len(LOG_BACK_OFF_S) - 1)]
                if self.context.stopping.wait(pause_s):
                    raise
            else:
                self.report.recovered("log")
                return

    def _make_tick_pollers(self) -> None:
        """One poller per group; the symbols of a partition stay together, so that what they
        bring is appended together."""
        options = self.options
        partitions: dict[int, list[str]] = {}
        for symbol in options.symbols:
            partition = partition_of(symbol, self._writer.partitions)
            partitions.setdefault(partition, []).append(symbol)
            self.report.symbols[symbol] = SymbolReport(symbol, symbol)
        wanted = math.ceil(len(options.symbols) / GROUP_SYMBOLS_MAX)
        count = max(1, min(options.workers, wanted, len(partitions)))
        groups: list[list[TickFeed]] = [[] for _ in range(count)]
        # A terminal that plays files has all of them from its first answer on.
        warm_up = {"warmup_tries": 0} if options.ends else {}
        limits = CursorLimits(page=options.page_ticks, **warm_up)
        for partition, symbols in sorted(partitions.items(), key=lambda item: -len(item[1])):
            smallest = min(groups, key=len)
            smallest += [
                TickFeed(
                    symbol,
                    partition,
                    limits=limits,
                    entry_ticks_max=options.entry_ticks_max,
                    bulk=options.bulk,
                    twice_since_s=self.context.clock.clock.twice_since_s,
                )
                for symbol in symbols
            ]
        self.tick_pollers = [TickPoller(self.context, self.connection, group) for group in groups]

    def _schedule(self) -> None:
        options, every = self.options, self._scheduler.every
        sweep_s = BULK_SWEEP_S if options.bulk else options.price_interval_s
        for number, poller in enumerate(self.tick_pollers):
            every(f"ticks {number}", sweep_s, poller.sweep)
        # What must not wait for a worker that waits for the terminal has a thread of its own.
        every("account", options.account_interval_s, self._account.poll, alone=True)
        every("pulse", PULSE_S, self.pulse.beat, alone=True)
        every("instruments", HISTORY_LOOK_S, self._instruments.poll, alone=True)
        every("contracts", HISTORY_LOOK_S, self._contracts.poll, alone=True)
        every("past deals", HISTORY_LOOK_S, self._past.poll, alone=True)
        self._scheduler.cron("instruments anew", options.instrument_cron, self._instruments.expire)
        if options.timeframes:
            every("candles", HISTORY_LOOK_S, self._candles.poll, alone=True)

    def wait(self, for_s: float | None = None) -> None:
        """Return when told to stop, after `for_s`, or when a recorded terminal is played.

        Raises what makes going on senseless: Fenced, WriterHeld, SymbolsRefused,
        TerminalUnusable.
        """
        deadline = None if for_s is None else self.context.monotonic() + for_s
        while not self.context.stopping.wait(WAKE_S):
            if self.finished:
                break
            if deadline is not None and self.context.monotonic() >= deadline:
                break
        for error in (self._writer.fenced, self.connection.refusal):
            if error is not None:
                raise error

    def stop(self) -> None:
        """Poll no more, send what is spooled, say that the terminal is down, give the slots up.
        May be called without `start`, and twice."""
        self.pulse.finished = self.finished
        self.context.stopping.set()
        self._scheduler.stop()
        if self.finished and self.connection.up:
            self._look_a_last_time()
        if self._connector is not None:
            self._connector.join()
            self._connector = None
            self.connection.stop()
            self._finish()
        self._sender.stop()
        if self._retention is not None:
            self._retention.stop()
        self._writer.close()
        self._spool.close()

    def _look_a_last_time(self) -> None:
        """What a recorded terminal's account and candles came to."""
        for poller in (self._instruments, self._candles, self._account):
            poller.expire()
            poller.poll()
        if not self._account.believed:  # a short film: empty lists count the second time
            time.sleep(EMPTY_AGAIN_S)
            self._account.expire()
            self._account.poll()

    def _finish(self) -> None:
        if self._writer.fenced is not None:
            return
        if not self._sender.drain(DRAIN_S):
            logger.warning(
                "%d events stay in the spool %s until the next start",
                self._spool.size.rows,
                self._spool.path,
            )
        try:
            self.pulse.append_state()
        except LogError as error:
            logger.warning("the last state could not be appended: %s", error)


__all__ = ["Attached", "Producer", "ProducerOptions", "WriterHeld"]

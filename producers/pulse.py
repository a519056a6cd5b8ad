"""What the producer says every second whether anything happens or not: the time, and its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from events.codec import encode
from events.log import ACCOUNT_PARTITION, Fenced, LogError
from events.operations import ClockTick, ProducerState, SymbolState
from producers.pollers.connection import Connection
from producers.pollers.context import Context
from producers.spool.file import SpoolFull, SpoolUnusable

RETRY_S = 2.0
_OWN_FIELDS = ("ticks_appended", "entries_appended", "gaps_healed")


class Pulse:
    """Clock entries, changes of the clock, and `ProducerState`. None of them is repeated when
    the log is away: their absence is the message."""

    def __init__(
        self, context: Context, connection: Connection, host_state: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._context = context
        self._connection = connection
        self._host_state = host_state
        self._started_ms = int(context.wall() * 1000)
        self._state_at = 0.0
        self._retry_at = 0.0
        self._told_connection = ""
        self.log_available = True
        self.finished = False

    def beat(self) -> None:
        """One second passed."""
        self._tell_clock_changes()
        self._watch_spool()
        now = self._context.monotonic()
        if now < self._retry_at:
            return
        try:
            self._append_clock()
            changed = self._connection.reason != self._told_connection
            if changed or now - self._state_at >= self._context.options.state_interval_s:
                self.append_state()
                self._state_at, self._told_connection = now, self._connection.reason
        except Fenced:
            return
        except LogError as error:
            self.log_available, self._retry_at = False, now + RETRY_S
            self._context.report.incident("log", str(error))
        else:
            self.log_available = True

    def _append_clock(self) -> None:
        utc_ms = self._context.utc_ms
        offset_s, source = self._context.clock.offset(utc_ms)
        entry = encode(
            ClockTick(
                event_time_ms=utc_ms,
                offset_s=offset_s,
                offset_source=source,
                terminal_connected=self._connection.up,
            )
        )
        for partition in range(self._context.writer.partitions):
            self._context.writer.append(partition, [entry])

    def _tell_clock_changes(self) -> None:
        changes = self._context.clock.changes(self._connection.server)
        alarm = self._context.clock.clock.state.alarm
        if alarm:
            self._context.report.incident("clock", alarm)
        else:
            self._context.report.recovered("clock")
        try:
            self._context.emit(changes)
        except (SpoolFull, SpoolUnusable) as error:
            self._context.report.incident("spool", str(error))

    def _watch_spool(self) -> None:
        spool = self._context.spool
        if spool.alarming:
            self._context.report.incident(
                "spool size",
                f"over 80 % of {spool.bytes_max} bytes wait for the log: bring it back",
            )
        else:
            self._context.report.recovered("spool size")

    def append_state(self) -> None:
        """Raises LogError."""
        entry = encode(self.state())
        self._context.writer.append(ACCOUNT_PARTITION, [entry])

    def state(self) -> ProducerState:
        """Everything `status` wants to know."""
        context, report = self._context, self._context.report
        utc_ms = context.utc_ms
        offset_s, source = context.clock.offset(utc_ms)
        size = context.spool.size
        counters = dict(report.counters)
        return ProducerState(
            event_time_ms=utc_ms,
            terminal=context.options.terminal,
            kind=context.options.kind,
            holder=context.options.holder,
            login=self._connection.login,
            server=self._connection.server,
            connection=self._connection.reason,
            started_ms=self._started_ms,
            finished=self.finished,
            rule=context.clock.rule,
            offset_s=offset_s,
            offset_source=source,
            ticks_per_s=round(report.ticks_per_s, 1),
            **{name: counters.pop(name, 0) for name in _OWN_FIELDS},
            **self._host_state(),
            counters=counters,
            spool_rows=size.rows,
            spool_bytes=size.bytes,
            log_available=self.log_available,
            last_error=report.last_error,
            last_error_ms=report.last_error_ms,
            symbols=tuple(
                SymbolState(
                    symbol=symbol.symbol,
                    broker_symbol=context.symbols.get(symbol.symbol, symbol.symbol),
                    state=symbol.state,
                    ticks=symbol.ticks,
                    last_tick_ms=symbol.last_tick_ms,
                    last_tick_server_ms=symbol.last_tick_server_ms,
                    bid=symbol.bid,
                    ask=symbol.ask,
                    last_error=symbol.last_error,
                )
                for symbol in report.symbols.values()
            ),
        )

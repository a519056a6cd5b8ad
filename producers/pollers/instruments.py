"""Facts of symbols, when they changed; and whether they are still in Market Watch."""

from __future__ import annotations

from events.codec import decode_data
from events.market import Instrument
from producers.pollers import translate
from producers.pollers.connection import Connection
from producers.pollers.context import Context
from producers.spool.file import SpoolFull, SpoolUnusable
from producers.terminals.interface import Priority, TerminalLost


class InstrumentPoller:
    """`symbol_info` of every configured symbol."""

    def __init__(self, context: Context, connection: Connection) -> None:
        self._context = context
        self._connection = connection
        self._told: dict[str, Instrument] = {}
        self._generation = -1
        self._rewinds = 0
        self._next_at = 0.0

    def start(self) -> None:
        """Take over what the log has. Raises LogUnavailable."""
        writer = self._context.writer
        for partition in range(writer.partitions):
            states = writer.log.last_states(writer.slot(partition))
            for (type_, key), data in states.items():
                if type_.startswith(Instrument.TYPE + "."):
                    event = decode_data(type_, key, data)
                    assert isinstance(event, Instrument)
                    self._told[event.symbol] = event

    def poll(self) -> None:
        """One turn over all symbols: after every (re)connect, then at the interval."""
        if not self._connection.up:
            return
        now = self._context.monotonic()
        rewinds = self._context.writer.rewinds()
        known = (self._connection.generation, rewinds) == (self._generation, self._rewinds)
        if known and now < self._next_at:
            return
        if rewinds != self._rewinds:  # the log may lack what was told
            self._rewinds, self._told = rewinds, {}
        try:
            for symbol, broker_symbol in self._context.symbols.items():
                self._look(symbol, broker_symbol)
        except TerminalLost as error:
            self._connection.lost(error)
            return
        except (SpoolFull, SpoolUnusable) as error:
            self._context.report.incident("spool", str(error))
            return
        self._generation = self._connection.generation
        self._next_at = now + self._context.options.instrument_interval_s

    def expire(self) -> None:
        """Look at every symbol again in the next turn."""
        self._next_at = 0.0

    def _look(self, symbol: str, broker_symbol: str) -> None:
        reply = self._context.client.call("symbol_info", broker_symbol, priority=Priority.TICKS)
        source = f"{symbol} instrument"
        if reply.unknown:
            self._connection.unknown(source, reply)
            return
        if not reply.value.select:
            selected = self._context.client.call(
                "symbol_select", broker_symbol, True, priority=Priority.TICKS
            )
            if not selected.value:
                self._connection.unknown(source, selected)
                return
            self._context.report.count("symbols_selected")
        self._context.report.recovered(source)
        reading = self._context.reading(self._connection.login, reply)
        event = translate.instrument(symbol, reply.value, reading)
        if translate.instrument_changed(self._told.get(symbol), event):
            self._context.emit([event])
            self._told[symbol] = event

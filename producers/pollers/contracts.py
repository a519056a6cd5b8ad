"""What risk needs beside the account: facts and prices of symbols, and closes of held ones."""

from __future__ import annotations

from collections.abc import Mapping

from events.log import LogError
from events.market import Closes, Contracts, Instrument, Quote
from producers.pollers import translate
from producers.pollers.connection import Connection
from producers.pollers.context import Context
from producers.pollers.conversion import SYMBOLS_MAX, Conversions
from producers.spool.file import SpoolFull, SpoolUnusable
from producers.terminals import constants
from producers.terminals.interface import Priority, TerminalLost

CLOSES_TIMEFRAME = "H1"
CLOSES_MAX = 1_000
"""Candles of a held symbol: two months of a market that trades five days a week."""
CLOSES_INTERVAL_S = 600.0


class ContractPoller:
    """Appends `Contracts` when a symbol is new, and at the interval of instruments; `Closes` of
    each held symbol when a candle closed. It has a thread of its own: a slow history delays
    nobody."""

    def __init__(self, context: Context, connection: Connection, conversions: Conversions) -> None:
        self._context = context
        self._connection = connection
        self._conversions = conversions
        self._asked: frozenset[str] = frozenset()
        """Symbols of the last look."""
        self._generation = -1
        self._rewinds = 0
        self._next_at = 0.0
        self._closes_at: dict[str, float] = {}
        self._closes_told: dict[str, int] = {}

    def poll(self) -> None:
        """One turn."""
        if not self._connection.up:
            return
        known = (self._connection.generation, self._context.writer.rewinds())
        if known != (self._generation, self._rewinds):  # the log may lack what was told
            self._generation, self._rewinds = known
            self._asked, self._closes_told, self._closes_at = frozenset(), {}, {}
        held = dict(self._conversions.held)
        wanted = {**held, **self._conversions.wanted, **self._context.symbols}
        wanted = dict(list(wanted.items())[:SYMBOLS_MAX])
        try:
            now = self._context.monotonic()
            if now >= self._next_at or not wanted.keys() <= self._asked:
                self._look(wanted)
                self._next_at = now + self._context.options.instrument_interval_s
            for symbol, broker_symbol in held.items():
                if now >= self._closes_at.get(symbol, 0.0):
                    self._look_back(symbol, broker_symbol)
                    self._closes_at[symbol] = now + CLOSES_INTERVAL_S
        except TerminalLost as error:
            self._connection.lost(error)
        except (SpoolFull, SpoolUnusable) as error:
            self._context.report.incident("spool", str(error))
            self._asked = frozenset()
        except LogError as error:
            self._context.report.incident("log", str(error))

    def expire(self) -> None:
        """Look at everything again in the next turn."""
        self._next_at = 0.0
        self._closes_at.clear()

    def _look(self, wanted: Mapping[str, str]) -> None:
        """Facts and prices of all symbols that answer; the others are asked at the next look."""
        found: dict[str, Instrument] = {}
        quotes = []
        for symbol, broker_symbol in wanted.items():
            reply = self._context.client.call("symbol_info", broker_symbol, priority=Priority.TICKS)
            if reply.unknown:
                continue
            info = reply.value
            reading = self._context.reading(self._connection.login, reply)
            found[symbol] = translate.instrument(symbol, info, reading)
            if info.bid > 0 and info.ask > 0:
                quotes.append(
                    Quote(
                        symbol=symbol, bid=info.bid, ask=info.ask, last=info.last,
                        time_ms=reading.utc(info.time * 1000), time_server_ms=info.time * 1000,
                    )
                )  # fmt: skip
        if found:
            self._context.emit(
                [
                    Contracts(
                        **reading.header, instruments=tuple(found.values()), quotes=tuple(quotes)
                    )
                ]
            )
        self._asked = frozenset(wanted)

    def _look_back(self, symbol: str, broker_symbol: str) -> None:
        """Closed candles of a held symbol, when there is one more."""
        frame = getattr(constants, f"TIMEFRAME_{CLOSES_TIMEFRAME}")
        reply = self._context.client.call(
            "copy_rates_from_pos", broker_symbol, frame, 1, CLOSES_MAX, priority=Priority.HISTORY
        )
        if reply.unknown or not len(reply.value):
            return
        rows = reply.value
        newest = int(rows["time"][-1])
        if self._closes_told.get(symbol) == newest:
            return
        reading = self._context.reading(self._connection.login, reply)
        closes = Closes(
            **reading.header,
            symbol=symbol,
            timeframe=CLOSES_TIMEFRAME,
            time_server_s=tuple(rows["time"].tolist()),
            close=tuple(rows["close"].tolist()),
        )
        self._context.emit([closes])
        self._closes_told[symbol] = newest

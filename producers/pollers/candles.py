"""Closed candles of every symbol and timeframe, from where the log ends."""

from __future__ import annotations

from events.candles import TIMEFRAME_SECONDS, CandleBatch
from events.codec import encode
from events.log import Fenced, LogError, NewEntry
from events.ticks import RATE_DTYPE, OffsetSource, RateArray
from producers.append import Outcome
from producers.pollers.connection import Connection
from producers.pollers.context import Context
from producers.terminals import constants
from producers.terminals.interface import Priority, Reply, TerminalLost

CANDLES_PAGE = 5_000
PAGES_MAX = 200
CLOSED_FOR_S = 5
"""A candle counts as closed this long after its end: its last ticks may come late."""
SETTLE_S = 30.0
"""After (re)connecting a terminal fills its history in: candles wait that long."""
WARM_UP_MAX = 10
WARM_UP_S = 0.5
NOTHING = -1
UNEVEN = ("W1", "MN1")


class CandlePoller:
    """One feed per symbol and timeframe; its cursor reads `SERVER_S:COUNT`: the opening time of
    the last candle in the log, and how many there are. Candles never change once appended."""

    def __init__(
        self,
        context: Context,
        connection: Connection,
        *,
        settle_s: float = SETTLE_S,
        warm_up_s: float = WARM_UP_S,
    ) -> None:
        self._context = context
        self._connection = connection
        self._settle_s = settle_s
        self._next_at = 0.0
        self._warm_up_s = 0.0 if context.options.virtual else warm_up_s

    def poll(self) -> None:
        """Append what closed since the last turn, at most once per interval."""
        now = self._context.monotonic()
        if now < self._next_at:
            return
        settled = now - self._connection.up_since >= self._settle_s
        if not self._connection.up or not (settled or self._context.options.virtual):
            return
        try:
            for symbol, broker_symbol in self._context.symbols.items():
                for timeframe in self._context.options.timeframes:
                    self._follow(symbol, broker_symbol, timeframe)
            self._next_at = now + self._context.options.history_interval_s
            self._context.report.recovered("history")
        except TerminalLost as error:
            self._connection.lost(error)
        except Fenced:
            return
        except LogError as error:
            self._context.report.incident("log", str(error))

    def expire(self) -> None:
        """Look again in the next turn."""
        self._next_at = 0.0

    def _follow(self, symbol: str, broker_symbol: str, timeframe: str) -> None:
        partition, feed = self._context.partition(symbol), f"candles:{symbol}:{timeframe}"
        last_s, count = _parse(self._context.writer.cursor(partition, feed))
        begin_s = last_s
        for _ in range(PAGES_MAX):
            if not self._connection.up:
                return
            reply, end_s = self._ask(broker_symbol, timeframe, begin_s)
            source = f"{symbol} {timeframe}"
            if reply.value is None or reply.unknown:
                self._connection.unknown(source, reply)
                return
            self._context.report.recovered(source)
            rows = self._closed(reply, timeframe, last_s)
            if len(rows):
                last_s, count = int(rows["time"][-1]), count + len(rows)
                entries = self._entries(symbol, timeframe, rows, reply)
                self._append(partition, entries, {feed: f"{last_s}:{count}"})
                self._context.report.count("candles_appended", len(rows))
            if end_s is None:
                return
            # A page without candles: the symbol slept; look behind it.
            begin_s = last_s if len(rows) else end_s

    def _append(self, partition: int, entries: list[NewEntry], move: dict[str, str]) -> None:
        writer = self._context.writer
        try:
            writer.append(partition, entries, move)
        except Fenced:
            raise
        except LogError:
            if set(writer.settle(partition, move).values()) != {Outcome.LANDED}:
                raise

    def _ask(self, broker_symbol: str, timeframe: str, begin_s: int) -> tuple[Reply, int | None]:
        """The next candles (the forming one too), and where the page ends: None at the end."""
        frame = getattr(constants, f"TIMEFRAME_{timeframe}")
        client = self._context.client
        if begin_s == NOTHING:
            return self._ask_first(broker_symbol, frame), None
        until_s = self._context.server_far_s()
        end_s = begin_s + CANDLES_PAGE * TIMEFRAME_SECONDS[timeframe]
        reply = client.call(
            "copy_rates_range", broker_symbol, frame, begin_s + 1, min(end_s, until_s),
            priority=Priority.HISTORY,
        )  # fmt: skip
        return reply, end_s if end_s < until_s else None

    def _ask_first(self, broker_symbol: str, frame: int) -> Reply:
        """A terminal that just began to load a history answers with what it has: ask until two
        answers agree."""
        count, length = self._context.options.candles_first, -1
        for _ in range(WARM_UP_MAX):
            reply = self._context.client.call(
                "copy_rates_from_pos", broker_symbol, frame, 0, count, priority=Priority.HISTORY
            )
            if reply.unknown or len(reply.value) == length:
                break
            length = len(reply.value)
            if self._warm_up_s and self._context.stopping.wait(self._warm_up_s):
                break
        return reply

    def _closed(self, reply: Reply, timeframe: str, last_s: int) -> RateArray:
        """Candles after `last_s` that certainly ended."""
        rows: RateArray = reply.value
        rows = rows[rows["time"] > last_s]
        offset_s, source = self._context.clock.offset(reply.utc_ms)
        if source is OffsetSource.UNKNOWN or timeframe in UNEVEN:
            # Only the newest candle can be the forming one; which is all that can be said
            # without a clock, and of months, which are not equally long.
            return rows[: max(0, len(rows) - 1)]
        ended_s = reply.utc_ms // 1000 + offset_s - CLOSED_FOR_S
        closed: RateArray = rows[rows["time"] + TIMEFRAME_SECONDS[timeframe] <= ended_s]
        return closed

    def _entries(
        self, symbol: str, timeframe: str, rows: RateArray, reply: Reply
    ) -> list[NewEntry]:
        """One batch per clock offset."""
        entries = []
        for span, offset_s, source in self._context.clock.segments_of(rows["time"] * 1000):
            part = rows[span].astype(RATE_DTYPE, copy=False)
            end_s = int(part["time"][-1]) + TIMEFRAME_SECONDS[timeframe]
            batch = CandleBatch(
                symbol=symbol,
                timeframe=timeframe,
                candles=part,
                offset_s=offset_s,
                offset_source=source,
                event_time_ms=(end_s - offset_s) * 1000,
                recv_time_ms=reply.utc_ms,
            )
            entries.append(encode(batch))
        return entries


def _parse(text: str) -> tuple[int, int]:
    """(opening time of the last candle, count) of a cursor, (NOTHING, 0) for none."""
    place, _, count = text.rpartition("@")[0].partition(":")
    return (int(place), int(count)) if place else (NOTHING, 0)

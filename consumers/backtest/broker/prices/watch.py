"""The first tick at which prices do something to an account: numpy looks, nothing walks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from consumers.backtest.broker.prices.present import Present
from consumers.backtest.broker.prices.tape import Prices, Tape
from events import mt5
from events.accounting import OpenPosition
from events.broker.orders import BrokerOrder
from events.broker.server import TradeServer
from events.broker.valuation import Series

WINDOW_FIRST, WINDOW_MAX = 1024, 262_144
"""Ticks that are looked at together: few at first, since a level may be near."""
_NONE_BELOW, _NONE_ABOVE = -np.inf, np.inf


@dataclass(slots=True)
class Levels:
    """Prices of one symbol at which something happens: the nearest of each kind."""

    bid_low: float = _NONE_BELOW
    bid_high: float = _NONE_ABOVE
    ask_low: float = _NONE_BELOW
    ask_high: float = _NONE_ABOVE

    def add(self, side: int, level: float, *, downwards: bool) -> None:
        """`side` 0: reached by the bid, 1: by the ask."""
        if side == 0 and downwards:
            self.bid_low = max(self.bid_low, level)
        elif side == 0:
            self.bid_high = min(self.bid_high, level)
        elif downwards:
            self.ask_low = max(self.ask_low, level)
        else:
            self.ask_high = min(self.ask_high, level)

    def first(self, prices: Prices, low: int, high: int) -> int | None:
        """The first place of low..high at which one is reached while the symbol trades."""
        bid, ask = prices.bid[low:high], prices.ask[low:high]
        checks = []
        if self.bid_low > _NONE_BELOW and bid.min() <= self.bid_low:
            checks.append(bid <= self.bid_low)
        if self.bid_high < _NONE_ABOVE and bid.max() >= self.bid_high:
            checks.append(bid >= self.bid_high)
        if self.ask_low > _NONE_BELOW and ask.min() <= self.ask_low:
            checks.append(ask <= self.ask_low)
        if self.ask_high < _NONE_ABOVE and ask.max() >= self.ask_high:
            checks.append(ask >= self.ask_high)
        if not checks:
            return None
        hits = checks[0]
        for more in checks[1:]:
            hits = hits | more
        if prices.open is not None:
            hits = hits & prices.open[low:high]
        at = int(np.argmax(hits))
        return low + at if hits[at] else None


def levels_of(
    positions: Iterable[OpenPosition], orders: Iterable[BrokerOrder]
) -> dict[str, Levels]:
    """By symbol: stops and targets of positions, prices of pending orders."""
    found: dict[str, Levels] = {}
    for position in positions:
        long = position.side == 0
        if position.stop_loss:
            found.setdefault(position.symbol, Levels()).add(
                position.side, position.stop_loss, downwards=long
            )
        if position.take_profit:
            found.setdefault(position.symbol, Levels()).add(
                position.side, position.take_profit, downwards=not long
            )
    for order in orders:
        if not order.is_market:
            found.setdefault(order.symbol, Levels()).add(
                1 - order.side, order.price_open, downwards=order.waits_below
            )
    return found


def first_reached(server: TradeServer, present: Present, tape: Tape, first: int, stop: int) -> int:
    """The first tick of first..stop at which a level or the stop-out is reached; `stop`: none."""
    ledger = server.ledger
    levels = levels_of(ledger.positions.values(), server.orders.values())
    watches_equity = bool(ledger.positions) and _can_stop_out(server)
    if not levels and not watches_equity:
        return stop
    low, width = first, WINDOW_FIRST
    while low < stop:
        high = min(low + width, stop)
        found = _first_level(tape, levels, low, high)
        if watches_equity:
            found = _first_stop_out(server, present, low, found, tape)
        if found < high:
            return found
        low, width = high, min(width * 4, WINDOW_MAX)
    return stop


def _first_level(tape: Tape, levels: dict[str, Levels], low: int, high: int) -> int:
    found = high
    for symbol, of_symbol in levels.items():
        prices = tape.prices(symbol)
        begin, end = prices.before(low), prices.before(found)
        if begin == end:
            continue
        place = of_symbol.first(prices, begin, end)
        if place is not None:
            found = min(found, prices.index(place))
    return found


def _can_stop_out(server: TradeServer) -> bool:
    percent = server.account.margin_so_mode == mt5.ACCOUNT_STOPOUT_MODE_PERCENT
    return not percent or server.account.margin_so_so > 0


def _first_stop_out(server: TradeServer, present: Present, low: int, high: int, tape: Tape) -> int:
    """The first tick of low..high at which the stop-out level is reached, else `high`."""
    if high <= low:
        return high
    valuer, ledger = server.valuer, server.ledger
    if not _may_stop_out(server, present, low, high):
        return high
    series: dict[str, Series | None] = {}

    def quote(symbol: str) -> Series | None:
        if symbol not in series:
            series[symbol] = present.series(symbol, low, high)
        return series[symbol]

    at = valuer.stopped_out(ledger, quote, high - low)
    return high if at is None else low + at


def _may_stop_out(server: TradeServer, present: Present, low: int, high: int) -> bool:
    """Whether it could, if every symbol were at its worst at once, and margin at its highest. True
    also where that bounds nothing, because profits are converted."""
    valuer, ledger = server.valuer, server.ledger
    rising = valuer.converting(ledger)
    if rising is None:
        return True
    ranges: dict[str, tuple[float, float, float, float] | None] = {}

    def range_of(symbol: str) -> tuple[float, float, float, float] | None:
        if symbol not in ranges:
            series = present.series(symbol, low, high)
            if series is None:
                ranges[symbol] = None
            else:
                bid, ask = series
                ranges[symbol] = (
                    float(np.min(bid)), float(np.max(bid)), float(np.min(ask)), float(np.max(ask)),
                )  # fmt: skip
        return ranges[symbol]

    def worst(symbol: str) -> Series | None:
        found = range_of(symbol)
        return None if found is None else (found[0], found[3])

    def dearest(symbol: str) -> Series | None:
        found = range_of(symbol)
        if found is None:
            return None
        return (found[1], found[3]) if rising.get(symbol, True) else (found[0], found[2])

    if any(range_of(symbol) is None for symbol in rising):
        return True
    return bool(valuer.equity(ledger, worst) <= valuer.stop_out_equity(ledger, dearest))

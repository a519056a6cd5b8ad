"""What one tick does to an account: levels it reaches, inside a bar the worst case first."""

from __future__ import annotations

from typing import NamedTuple

from consumers.backtest.broker.prices.bars import INSIDE, WORST_FIRST, bar_end, bar_ticks
from consumers.backtest.broker.prices.tape import Prices
from events import mt5
from events.accounting import OpenPosition
from events.broker.orders import BrokerOrder
from events.broker.reached import activate, pull, stop_out
from events.broker.server import TradeServer

PULLS_MAX = 100_000


class Reached(NamedTuple):
    """A level that a tick reached, and at what price it is filled."""

    price: float
    position: OpenPosition | None = None
    order: BrokerOrder | None = None
    reason: int = 0


class Reaching:
    """Carries out what prices reach. Remembers until when inside a bar a target does not count:
    whether the price was there before or after the entry, nobody knows."""

    def __init__(self, server: TradeServer) -> None:
        self._server = server
        self._entered: dict[int, int] = {}
        """Position -> end (UTC ms) of the bar it was entered in by a pending order."""

    def happen(self, prices: Prices, symbol: str, place: int) -> None:
        """Let one tick of a symbol act: stops and targets, pending orders, at last the
        stop-out."""
        for _ in range(PULLS_MAX):
            found = self._first(prices, symbol, place)
            if found is None:
                break
            self._carry_out(found, prices, place)
        if self._server.ledger.positions:
            stop_out(self._server)

    def _first(self, prices: Prices, symbol: str, place: int) -> Reached | None:
        if prices.open is not None and not prices.open[place]:
            return None
        for position in self._server.ledger.of_symbol(symbol):
            if position.stop_loss or position.take_profit:
                found = self._of_position(position, prices, place)
                if found is not None:
                    return found
        for order in self._server.orders.values():
            if order.symbol == symbol and not order.is_market:
                price = _reached(
                    prices, place, 1 - order.side, order.price_open, downwards=order.waits_below
                )
                if price is not None:
                    return Reached(price, order=order)
        return None

    def _of_position(self, position: OpenPosition, prices: Prices, place: int) -> Reached | None:
        stop = _stopped(prices, place, position)
        if stop is not None:
            return Reached(stop, position, reason=mt5.ORDER_REASON_SL)
        long = position.side == 0
        if not position.take_profit:
            return None
        price = _reached(prices, place, position.side, position.take_profit, downwards=not long)
        if price is None:
            return None
        entered_until = self._entered.get(position.identifier, 0)
        if prices.time_ms[place] <= entered_until:
            return None
        if int(prices.flags[place]) & WORST_FIRST:
            for later in range(place + 1, bar_end(prices, place)):
                stop = _stopped(prices, later, position)
                if stop is not None:
                    return Reached(stop, position, reason=mt5.ORDER_REASON_SL)
        return Reached(price, position, reason=mt5.ORDER_REASON_TP)

    def _carry_out(self, found: Reached, prices: Prices, place: int) -> None:
        server = self._server
        if found.position is not None:
            pull(server, found.position, found.price, reason=found.reason)
            self._entered.pop(found.position.identifier, None)
            return
        assert found.order is not None
        before = len(server.deals)
        activate(server, found.order, found.price)
        if int(prices.flags[place]) & WORST_FIRST and len(server.deals) > before:
            self._entered_inside(prices, place, server.deals[-1].position_id)

    def _entered_inside(self, prices: Prices, place: int, identifier: int) -> None:
        """A pending order was filled inside a bar: its stop counts if the bar reached it at all,
        its target not before the next bar."""
        position = self._server.ledger.positions.get(identifier)
        if position is None:
            return
        ticks = bar_ticks(prices, place)
        self._entered[identifier] = int(prices.time_ms[ticks[-1]])
        for other in ticks:
            stop = _stopped(prices, other, position)
            if stop is not None and other != place:
                # What this bar's price was before does not matter: the stop is filled at its level
                # unless the bar opened beyond it.
                pull(self._server, position, stop, reason=mt5.ORDER_REASON_SL)
                del self._entered[identifier]
                return


def _stopped(prices: Prices, place: int, position: OpenPosition) -> float | None:
    if not position.stop_loss:
        return None
    return _reached(prices, place, position.side, position.stop_loss, downwards=position.side == 0)


def _reached(
    prices: Prices, place: int, side: int, level: float, *, downwards: bool
) -> float | None:
    """At what price a level is filled at a tick: its price, or, where a bar went there without a
    gap, the level itself. None: it is not reached. `side` 0 bid, 1 ask."""
    column = prices.bid if side == 0 else prices.ask
    price = float(column[place])
    if price > level if downwards else price < level:
        return None
    if int(prices.flags[place]) & INSIDE and place:
        before = float(column[place - 1])
        if before > level if downwards else before < level:
            return level
    return price

"""Requests that reduce, and what their answers say. A close always names its position.

Without its position a close on a hedging account would open an opposite one (MQL5 reference,
"Trade request structure"), so no request is ever built without.
"""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from producers.guard.flatten.account import AccountCalls, Held, Working, known
from producers.guard.flatten.instruments import InstrumentBook
from producers.guard.flatten.planning import Close
from producers.terminals import constants as mt5
from producers.terminals.interface import NotSent, Reply, TerminalLost

COMMENT_LENGTH_MAX = 26
"""Longer ones were refused by some builds of the module."""

Kind = Literal["cancel", "close", "close_by"]


@dataclass(frozen=True, slots=True)
class Ready:
    """A request that may be sent. `before_lots`: what its position had."""

    kind: Kind
    ticket: int
    symbol: str
    volume_lots: float
    before_lots: float
    request: dict[str, Any]
    close: Close | None = None

    def legs(self) -> list[tuple[str, int, int, float]]:
        """What it is for: kind, number, ticket, volume before. For whoever must reconcile it."""
        if self.close is None:
            return [("order", self.ticket, self.ticket, self.before_lots)]
        return [(*leg.key, leg.ticket, leg.volume_lots) for leg in self.close.legs]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `retcode` None: nothing, and `error` is the module's last_error(); with
    `never_sent` it certainly did nothing."""

    retcode: int | None
    error: tuple[int, str]
    never_sent: bool = False
    filled_lots: float = 0.0
    price: float = 0.0
    took_ms: float = 0.0


class Quotes:
    """Fresh prices for a few closes, asked for at once. What cannot be read (a symbol that left
    Market Watch) is selected once; else the position's own price must do."""

    def __init__(self, calls: AccountCalls) -> None:
        self._calls = calls
        self._asked: dict[str, Future[Reply]] = {}
        self._selected: set[str] = set()

    def ask(self, symbols: set[str]) -> None:
        """Ask for fresh prices; does not wait."""
        self._asked = {name: self._calls.submit("symbol_info_tick", name) for name in symbols}

    def price(self, held: Held) -> float:
        """At which a position closes now: bid for a long one, ask for a short one."""
        asked = self._asked.get(held.symbol)
        tick = None if asked is None else known(asked)
        if tick is None and held.symbol not in self._selected:
            self._selected.add(held.symbol)
            self._calls.read("symbol_select", held.symbol, True)
            tick = self._calls.read("symbol_info_tick", held.symbol)
        price = 0.0 if tick is None else float(tick.ask if held.side else tick.bid)
        return price if math.isfinite(price) and price > 0 else held.price_current


class RequestDesk:
    """Builds requests of one flatten. `comment` is dropped for good once it was refused."""

    def __init__(
        self, book: InstrumentBook, *, magic: int, comment: str, deviation_points: int
    ) -> None:
        self._book = book
        self._deviation_points = deviation_points
        self.magic = magic
        self._comment = comment[:COMMENT_LENGTH_MAX]

    def drop_comment(self) -> None:
        self._comment = ""

    def close(self, close: Close, price: float) -> Ready:
        """At the market, with the filling mode the symbol took last."""
        held = close.held
        instrument = self._book.of(held.symbol)
        volume = instrument.at_most(close.volume_lots)
        request = self._named(
            action=mt5.TRADE_ACTION_DEAL,
            position=held.ticket,
            symbol=held.symbol,
            volume=float(volume),
            type=mt5.ORDER_TYPE_BUY if held.side else mt5.ORDER_TYPE_SELL,
            price=round(float(price), instrument.digits),
            deviation=self._deviation_points,
            type_time=mt5.ORDER_TIME_GTC,
            type_filling=self._book.filling(held.symbol),
        )
        return Ready("close", held.ticket, held.symbol, volume, held.volume_lots, request, close)

    def close_by(self, close: Close) -> Ready:
        """Two opposite positions against each other."""
        held, against = close.held, close.against
        assert against is not None
        request = self._named(
            action=mt5.TRADE_ACTION_CLOSE_BY,
            symbol=held.symbol,
            position=held.ticket,
            position_by=against.ticket,
        )
        volume = close.volume_lots
        return Ready("close_by", held.ticket, held.symbol, volume, held.volume_lots, request, close)

    def cancel(self, order: Working) -> Ready:
        """A pending order, or a market order that the broker does not finish."""
        request = {"action": mt5.TRADE_ACTION_REMOVE, "order": order.ticket}
        volume = order.volume_lots
        return Ready("cancel", order.ticket, order.symbol, volume, volume, request)

    def _named(self, **request: Any) -> dict[str, Any]:
        if self._comment:
            request["comment"] = self._comment
        return {**request, "magic": self.magic}


def answer_of(call: Future[Reply]) -> Answer:
    """Wait for the answer to an order_send. Never raises."""
    try:
        reply = call.result()
    except NotSent as error:
        return Answer(None, (mt5.RES_E_INTERNAL_FAIL_CONNECT, str(error)), never_sent=True)
    except TerminalLost as error:
        return Answer(None, (mt5.RES_E_INTERNAL_FAIL_RECEIVE, str(error)))
    result = reply.value
    if result is None:
        return Answer(None, reply.error, took_ms=reply.took_ms)
    return Answer(
        int(result.retcode),
        reply.error,
        filled_lots=float(result.volume),
        price=float(result.price),
        took_ms=reply.took_ms,
    )

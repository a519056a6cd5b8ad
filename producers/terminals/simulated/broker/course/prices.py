"""What prices do to an account by themselves: stops, targets, pending orders, stop-outs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from events.broker.reached import activate, pull, stop_out
from events.broker.valuation import Series
from producers.terminals.simulated.broker.course.triggers import (
    Trigger,
    first_trigger,
    market_ticks,
)

if TYPE_CHECKING:
    from producers.terminals.simulated.broker.server import TradeServer

PULLS_MAX = 100_000
"""More than any span of time can hold; what is left then is found in the next one."""
CLOSED_AGAIN_MS = 1000
"""A stop-out that finds every market closed is tried again so much later."""


def happen_until(server: TradeServer, target_ms: int) -> None:
    """Let a server's prices act up to a moment (UTC ms), in order of time. One tick may reach
    several levels; stops are filled before it is asked whether the account is stopped out, which
    every tick is asked that values something open."""
    after_ms = judged_ms = server.now_ms
    for _ in range(PULLS_MAX):
        trigger = _first_trigger(server, after_ms, target_ms)
        until_ms = target_ms if trigger is None else trigger.utc_ms - 1
        again_ms = max(judged_ms, server.stop_out_again_ms - 1)
        stopped = _first_stop_out(server, again_ms, until_ms)
        if stopped is not None:
            server.now_ms = after_ms = judged_ms = stopped
            if not stop_out(server):
                server.stop_out_again_ms = stopped + CLOSED_AGAIN_MS
        elif trigger is not None:
            judged_ms = max(judged_ms, until_ms)
            server.now_ms = trigger.utc_ms
            after_ms = trigger.utc_ms - 1
            _pull(server, trigger)
        else:
            return


def _first_trigger(server: TradeServer, after_ms: int, target_ms: int) -> Trigger | None:
    held = server.valuer.holdings(server.ledger).guarded
    pending = [order for order in server.orders.values() if not order.is_market]
    if not held and not pending:
        return None
    return first_trigger(
        server.market, held, pending, after_utc_ms=after_ms, until_utc_ms=target_ms
    )


def _pull(server: TradeServer, trigger: Trigger) -> None:
    if trigger.position is not None:
        pull(server, trigger.position, trigger.price, reason=trigger.reason)
        return
    assert trigger.order is not None, "a trigger has a position or an order"
    activate(server, trigger.order, trigger.price)


def _first_stop_out(server: TradeServer, after_ms: int, until_ms: int) -> int | None:
    """The first tick with after < time <= until at which the level is reached. Several ticks of a
    millisecond count as the last of them."""
    if not server.ledger.positions or until_ms <= after_ms:
        return None
    times = [
        market_ticks(server.market, symbol, after_ms, until_ms)["time_msc"]
        for symbol in _valued_by(server)
    ]
    moments = np.unique(np.concatenate(times))
    if not len(moments):
        return None
    series: dict[str, Series | None] = {}

    def quote(symbol: str) -> Series | None:
        if symbol not in series:
            series[symbol] = server.quotes.series(symbol, moments)
        return series[symbol]

    at = server.valuer.stopped_out(server.ledger, quote, len(moments))
    return None if at is None else int(moments[at])


def _valued_by(server: TradeServer) -> list[str]:
    """Symbols whose prices make equity and margin: what is held, and what converts it."""
    revision, known = server.valued_by
    if revision == server.ledger.revision:
        return known
    asked = {position.symbol for position in server.ledger.positions.values()}

    def quote(symbol: str) -> tuple[float, float] | None:
        asked.add(symbol)
        return server.quotes.at(symbol, server.now_ms)

    server.valuer.stopped_out(server.ledger, quote, 1)
    server.valued_by = server.ledger.revision, sorted(asked)
    return server.valued_by[1]

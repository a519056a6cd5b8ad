"""What prices do to an account by themselves: stops, targets, pending orders, stop-outs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from events.broker.reached import activate, pull, stop_out
from events.broker.valuation import Series
from producers.terminals.simulated.broker.course.triggers import Trigger, first_trigger

if TYPE_CHECKING:
    from producers.terminals.simulated.broker.server import TradeServer

STOP_OUT_GRID_MS = 1000
STOP_OUTS_PER_STEP_MAX = 1000


def happen_until(server: TradeServer, target_ms: int) -> None:
    """Let a server's prices act up to a moment (UTC ms), in order of time. One tick may reach
    several levels; stops are filled before it is asked whether the account is stopped out."""
    after_ms = server.now_ms
    for _ in range(STOP_OUTS_PER_STEP_MAX):
        trigger = _first_trigger(server, after_ms, target_ms)
        stopped = _first_stop_out(server, target_ms if trigger is None else trigger.utc_ms - 1)
        if stopped is not None:
            server.now_ms = after_ms = stopped
            stop_out(server)
        elif trigger is not None:
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


def _first_stop_out(server: TradeServer, target_ms: int) -> int | None:
    if not server.ledger.positions:
        return None
    first = (server.now_ms // STOP_OUT_GRID_MS + 1) * STOP_OUT_GRID_MS
    grid = np.arange(first, target_ms + 1, STOP_OUT_GRID_MS, dtype=np.int64)
    if not len(grid):
        return None
    series: dict[str, Series | None] = {}

    def quote(symbol: str) -> Series | None:
        if symbol not in series:
            series[symbol] = server.quotes.series(symbol, grid)
        return series[symbol]

    at = server.valuer.stopped_out(server.ledger, quote, len(grid))
    return None if at is None else int(grid[at])

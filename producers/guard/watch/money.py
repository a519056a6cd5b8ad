"""What a guard reads from deals: deposits and withdrawals, and the balance at the firm's reset."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from events.trading import OPERATION_TYPES
from producers.terminals.interface import Priority, Reply, TerminalClient, TerminalLost

DAY_MS = 86_400_000
FAR_S = 2 * 86_400
"""No server's clock is a day ahead of UTC; asking for what lies ahead costs nothing."""
EARLIEST_MS, LATEST_MS = -12 * 3_600_000, 14 * 3_600_000
"""Server clocks less UTC lie between these."""
STEP_MS = 1_800_000
"""They differ from UTC by whole half hours."""
FRESH_MS = 60_000
"""A tick tells the server's clock when it is no older than this."""
SYMBOLS_MAX = 4
EPSILON = 1e-9


def operations_since(
    client: TerminalClient, known: set[int], *, since_ms: int, utc_ms: int, within_s: float
) -> list[tuple[int, float]] | None:
    """(ticket, amount) of deposits, withdrawals and the like since a moment, and of the last day,
    that are not `known` yet; None when the terminal does not say."""
    begin_ms = min(since_ms, utc_ms) - DAY_MS
    deals = _deals(client, begin_ms, utc_ms, within_s)
    if deals is None:
        return None
    return [
        (int(deal.ticket), _amount(deal))
        for deal in deals
        if deal.type in OPERATION_TYPES and deal.ticket not in known
    ]


def balance_at_reset(
    client: TerminalClient, *, balance: float, reset_ms: int, utc_ms: int, within_s: float
) -> float | None:
    """What the balance would be without the trades since the reset (`Reading.reset_balance`).

    Deals are stamped with the server's clock, which a guard does not know: where it matters, a
    fresh tick tells. None when the terminal does not say, or no tick is fresh.
    """
    deals = _deals(client, reset_ms - DAY_MS, utc_ms, within_s)
    if deals is None or deals != _deals(client, reset_ms - DAY_MS, utc_ms, within_s):
        return None  # a history that is still being loaded
    trades = [one for one in deals if one.type not in OPERATION_TYPES and abs(_amount(one)) > 0]
    earliest = [one for one in trades if _server_ms(one) - EARLIEST_MS >= reset_ms]
    latest = [one for one in trades if _server_ms(one) - LATEST_MS >= reset_ms]
    if len(earliest) != len(latest):
        symbols = {one.symbol for one in earliest if one.symbol}
        offset_ms = _server_offset_ms(client, symbols, within_s)
        if offset_ms is None:
            return None
        latest = [one for one in trades if _server_ms(one) - offset_ms >= reset_ms]
    return balance - sum(_amount(one) for one in latest)


def _server_offset_ms(
    client: TerminalClient, symbols: Iterable[str], within_s: float
) -> int | None:
    """Server time less UTC, from the freshest tick of some symbols; None: none is fresh."""
    found: list[int] = []
    for symbol in sorted(symbols)[:SYMBOLS_MAX]:
        reply = _asked(
            client.submit("symbol_info_tick", symbol, priority=Priority.ACCOUNT), within_s
        )
        if reply is not None and not reply.unknown:
            found.append(int(reply.value.time_msc) - reply.utc_ms)
    if not found:
        return None
    offset_ms = -(-max(found) // STEP_MS) * STEP_MS
    fresh = offset_ms - max(found) <= FRESH_MS and EARLIEST_MS <= offset_ms <= LATEST_MS
    return offset_ms if fresh else None


def _deals(
    client: TerminalClient, begin_ms: int, utc_ms: int, within_s: float
) -> tuple[Any, ...] | None:
    asked = client.submit(
        "history_deals_get", begin_ms // 1000, utc_ms // 1000 + FAR_S, priority=Priority.ACCOUNT
    )
    reply = _asked(asked, within_s)
    return None if reply is None or reply.unknown else tuple(reply.value)


def _asked(future: Future[Reply], within_s: float) -> Reply | None:
    try:
        return future.result(timeout=within_s)
    except (TerminalLost, FutureTimeout):
        future.cancel()
        return None


def _server_ms(deal: Any) -> int:
    return int(deal.time_msc)


def _amount(deal: Any) -> float:
    return float(deal.profit + deal.swap + deal.commission + deal.fee)

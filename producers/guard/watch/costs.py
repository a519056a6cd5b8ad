"""What closing everything would cost beyond the spread.

MT5 values a position at the price it would be closed at (bid for a long one, ask for a short one),
so equity has the spread in it already. What it has not: commission of the closing deals, slippage.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from events.rules import Costs
from producers.terminals.interface import Priority, TerminalClient, TerminalLost

SPEC_WITHIN_S = 2.0
SYMBOLS_MAX = 2_000


class ClosingCosts:
    """Estimates it from the rules' figures; values of a point are read once per symbol."""

    def __init__(self, client: TerminalClient) -> None:
        self._client = client
        self._points: dict[str, float] = {}
        """Account currency per point and lot."""

    def of(self, positions: Sequence[Any], costs: Costs) -> float:
        """Account currency, 0 or more. A symbol whose facts are unknown adds no slippage."""
        lots = sum(row.volume for row in positions)
        total = lots * (costs.commission_per_lot or 0.0)
        if costs.slippage_points:
            total += sum(
                row.volume * costs.slippage_points * self._point_value(row.symbol)
                for row in positions
            )
        return float(total)

    def _point_value(self, symbol: str) -> float:
        """P/L of one point: point / tick_size * tick_value_loss (MQL5 reference, symbol
        properties)."""
        if symbol in self._points:
            return self._points[symbol]
        future = self._client.submit("symbol_info", symbol, priority=Priority.ACCOUNT)
        try:
            reply = future.result(timeout=SPEC_WITHIN_S)
        except (TerminalLost, FutureTimeout):
            future.cancel()
            return 0.0
        if reply.unknown or not reply.value.trade_tick_size:
            return 0.0
        spec = reply.value
        value = float(spec.point / spec.trade_tick_size * spec.trade_tick_value_loss)
        if len(self._points) < SYMBOLS_MAX:
            self._points[symbol] = value
        return value

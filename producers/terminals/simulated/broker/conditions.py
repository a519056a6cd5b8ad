"""What a broker lets happen at a moment, beyond the rules of its symbols."""

from __future__ import annotations

from typing import Protocol
from zlib import crc32

from producers.terminals.simulated.faults import FaultBoard


class Conditions(Protocol):
    """Asked by the trade server with UTC ms."""

    def liquidity_lots(self, symbol: str, utc_ms: int) -> float | None:
        """How much one order gets at once; None: all it wants."""
        ...

    def slippage_points(self, order_ticket: int) -> float:
        """How much worse than the price a market order is filled."""
        ...

    def comment(self, comment: str, utc_ms: int) -> str:
        """The comment the broker writes on the deal of an order."""
        ...

    def closed(self, symbol: str, utc_ms: int) -> bool:
        """Whether the market is closed though its hours say otherwise."""
        ...

    def trade_mode(self, symbol: str, utc_ms: int, *, usual: int) -> int:
        """SYMBOL_TRADE_MODE as it is now."""
        ...


class _NoConditions:
    def liquidity_lots(self, symbol: str, utc_ms: int) -> float | None:
        return None

    def slippage_points(self, order_ticket: int) -> float:
        return 0.0

    def comment(self, comment: str, utc_ms: int) -> str:
        return comment

    def closed(self, symbol: str, utc_ms: int) -> bool:
        return False

    def trade_mode(self, symbol: str, utc_ms: int, *, usual: int) -> int:
        return usual


NO_CONDITIONS: Conditions = _NoConditions()
"""Everything as the symbols say."""


class FaultConditions:
    """Conditions from the faults of a terminal and what its options say of liquidity."""

    def __init__(
        self, faults: FaultBoard, *, liquidity_lots: float | None, slippage_points: float
    ) -> None:
        self._faults = faults
        self._liquidity_lots = liquidity_lots
        self._slippage_points = slippage_points

    def slippage_points(self, order_ticket: int) -> float:
        if not self._slippage_points:
            return 0.0
        draw = crc32(str(order_ticket).encode()) / (1 << 32)
        return round(draw * self._slippage_points)

    def liquidity_lots(self, symbol: str, utc_ms: int) -> float | None:
        fault = self._faults.active("liquidity", utc_ms, symbol=symbol)
        return self._liquidity_lots if fault is None else fault.lots

    def comment(self, comment: str, utc_ms: int) -> str:
        fault = self._faults.active("comment_rewritten", utc_ms)
        return comment if fault is None else fault.text

    def closed(self, symbol: str, utc_ms: int) -> bool:
        return self._faults.active("market_closed", utc_ms, symbol=symbol) is not None

    def trade_mode(self, symbol: str, utc_ms: int, *, usual: int) -> int:
        fault = self._faults.active("trade_mode", utc_ms, symbol=symbol)
        return usual if fault is None else fault.code

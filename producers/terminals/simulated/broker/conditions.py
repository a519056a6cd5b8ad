"""What a simulated broker lets happen: faults, liquidity, slippage."""

from __future__ import annotations

from zlib import crc32

from producers.terminals.simulated.faults import FaultBoard


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

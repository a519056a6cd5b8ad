"""One closed bar."""

from __future__ import annotations

from typing import NamedTuple

from events.candles import CandleBatch


class Bar(NamedTuple):
    """A closed bar of one symbol and timeframe. Prices are the bid's, unless it was built of
    last prices."""

    symbol: str
    timeframe: str
    time_ms: int
    """When it opened (UTC)."""
    time_server_s: int
    """When it opened by the broker's clock: the `time` MT5 shows."""
    open: float
    high: float
    low: float
    close: float
    tick_volume: int
    spread_points: int
    """The smallest spread in it; 0 where the size of a point is not known."""
    real_volume: float
    """Lots that were traded, where the broker tells them."""


def bars_of(candles: CandleBatch) -> list[Bar]:
    """Bars of recorded candles, oldest first."""
    return [
        Bar(
            symbol=candle.symbol,
            timeframe=candle.timeframe,
            time_ms=candle.time_ms,
            time_server_s=candle.time_server_s,
            open=candle.open,
            high=candle.high,
            low=candle.low,
            close=candle.close,
            tick_volume=candle.tick_volume,
            spread_points=candle.spread,
            real_volume=float(candle.real_volume),
        )
        for candle in candles
    ]

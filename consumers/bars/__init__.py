"""Closed bars from ticks, for every timeframe of MT5, as its terminal builds them."""

from consumers.bars.bar import Bar, bars_of
from consumers.bars.builder import BarBuilder, ClosedBar, TickColumns

__all__ = ["Bar", "BarBuilder", "ClosedBar", "TickColumns", "bars_of"]

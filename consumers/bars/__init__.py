"""Closed bars from ticks, as MT5 builds them."""

"""A tick by itself, without arrays: what a live market brings is mostly that."""

from __future__ import annotations

from typing import Any

from consumers.strategies.authoring.signal import Signal
from consumers.strategies.authoring.tick import Tick
from consumers.strategies.running.bar_feed import BarFeed
from consumers.strategies.running.part import Part, tell_bar
from consumers.strategies.running.traits import Traits
from consumers.strategies.running.walking import NO_STOP_ITERATION, StrategyFailed, signals_of
from events.market import Instrument
from events.ticks import PriceData

FEW_TICKS = 4
"""Up to so many in a batch are cheaper one by one."""


def told_singly(
    price: PriceData, part: Part, feed: BarFeed | None, facts: Instrument | None, traits: Traits
) -> list[Signal]:
    """Tell a strategy one tick, and before it the bars that it closes; what it says to that.

    The same as a walk over a run of this tick alone. Raises StrategyFailed.
    """
    part.dirty = True
    said: list[Signal] = []
    if feed is not None:
        for bar in feed.closed_by_one(price, facts):
            said += tell_bar(part, feed, bar)
    if not traits.ticks:
        return said
    symbol, time_ms, _, bid, ask, last, volume, flags = price
    tick = tuple.__new__(Tick, (symbol, time_ms, bid, ask, last, volume, flags, (bid + ask) / 2))
    try:
        given: Any = part.strategy.on_tick(tick)
        if given:
            if traits.generates:
                given = [one for one in given if one is not None]
            said += signals_of(given, "on_tick")
    except Exception as error:
        cause = RuntimeError(NO_STOP_ITERATION) if isinstance(error, StopIteration) else error
        raise StrategyFailed(
            f"on_tick failed at the tick of {symbol} at {time_ms} ms UTC: "
            f"{type(cause).__name__}: {cause}"
        ) from error
    return said

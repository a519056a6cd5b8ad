"""What a strategy has to see before its first signal: as much as it says, or its indicators do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from consumers.indicators import Indicator
from consumers.strategies.authoring.strategy import Strategy, Surroundings, live_in
from events.market import Instrument

SETTLED = 4
"""Of what an indicator takes for its first value, so many times are read back: averages that
never forget have settled by then."""
DEPTH_MAX = 8
"""Attributes nested deeper than this are not looked through for indicators."""


@dataclass(frozen=True, slots=True)
class Need:
    """Per symbol. Nothing: the strategy begins as it is."""

    ticks: int = 0
    bars: Mapping[str, int] = field(default_factory=dict)
    """Closed bars by timeframe."""

    def __bool__(self) -> bool:
        return bool(self.ticks or self.bars)


def need_of(
    strategy: type[Strategy],
    parameters: Mapping[str, Any],
    symbols: tuple[str, ...],
    *,
    ticks: bool,
    timeframes: tuple[str, ...],
) -> Need:
    """`warm_up` where the strategy says one, else what its indicators need, some times over.

    `ticks`: it is told ticks. `timeframes`: of the bars that it is told, which are then counted.
    """
    count = parameters.get("warm_up", strategy.warm_up)
    if not count:
        try:
            made = rehearsed(strategy, parameters, symbols)
        except (Exception, SystemExit):
            return Need()  # its task tells of it
        count = SETTLED * max(_warm_ups(vars(made).values(), DEPTH_MAX), default=0)
    if timeframes:
        return Need(bars=dict.fromkeys(timeframes, count) if count else {})
    return Need(ticks=count if ticks else 0)


def rehearsed(
    strategy: type[Strategy], parameters: Mapping[str, Any], symbols: tuple[str, ...]
) -> Strategy:
    """A strategy that was set up as with the first tick of its symbol, on made-up facts.

    Raises whatever its `setup` raises.
    """
    values = {**parameters, "symbols": symbols} if symbols else dict(parameters)
    named = values.get("symbols", strategy.symbols)
    together = values.get("together", strategy.together)
    symbol = "" if together else next(iter(named), "EURUSD")
    around = Surroundings(instruments=_StandIns())
    return live_in(strategy(), symbol=symbol, surroundings=around, values=values)


class _StandIns(dict[str, Instrument]):
    """Facts of any symbol, for a `setup` that asks for them: periods do not hang on them."""

    def get(self, key: str, default: Any = None) -> Any:
        return made_up_facts(key)


def made_up_facts(symbol: str) -> Instrument:
    """Of a symbol of which nothing is known, to try a strategy out on."""
    return Instrument(
        event_time_ms=0, recv_time_ms=0, symbol=symbol, broker_symbol=symbol, digits=5,
        point=1e-5, tick_size=1e-5, contract_size=100_000, volume_min_lots=0.01,
        volume_max_lots=100, volume_step_lots=0.01,
    )  # fmt: skip


def _warm_ups(values: Iterable[Any], depth: int) -> Iterable[int]:
    for value in values if depth else ():
        if isinstance(value, Indicator):
            yield int(value.warm_up)
        elif isinstance(value, Mapping):
            yield from _warm_ups(value.values(), depth - 1)
        elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
            yield from _warm_ups(list(value), depth - 1)
        elif hasattr(value, "__dict__") and not isinstance(value, type | Strategy | Surroundings):
            yield from _warm_ups(vars(value).values(), depth - 1)

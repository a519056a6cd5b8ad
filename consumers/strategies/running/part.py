"""One strategy object of a task, with what is counted and remembered about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from consumers.bars import Bar
from consumers.strategies.authoring.signal import Signal
from consumers.strategies.authoring.strategy import Strategy
from consumers.strategies.running.bar_feed import BarFeed
from consumers.strategies.running.remembering import Prices, remembered, restore
from consumers.strategies.running.walking import StrategyFailed, signals_of
from events.decisions import TradeSignal

T = TypeVar("T")


@dataclass(slots=True)
class Part:
    """One strategy object, and what is counted about it."""

    strategy: Strategy
    bars: dict[str, BarFeed] = field(default_factory=dict)
    """By symbol."""
    ticks_seen: int = 0
    """Counted until it is warm."""
    timer_ms: int | None = None
    """The multiple of its timer that was told last."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Signals so far, by symbol."""
    dirty: bool = True
    """Whether it was told something since it was remembered last."""

    def event(
        self, signal: Signal, *, name: str, time_ms: int, prices: Prices | None
    ) -> TradeSignal:
        """A signal as an event of strategy `name`, which counts it."""
        number = self.numbers[signal.symbol] = self.numbers.get(signal.symbol, 0) + 1
        self.dirty = True
        lasts_s = signal.valid_for_s
        return TradeSignal(
            event_time_ms=time_ms, strategy=name, symbol=signal.symbol,
            leg=signal.leg, target=signal.target, volume_lots=signal.volume_lots,
            risk_percent=signal.risk_percent, notional=signal.notional,
            price_limit=signal.price_limit, price_stop=signal.price_stop,
            stop_loss=signal.stop_loss, take_profit=signal.take_profit,
            no_stop=bool(self.strategy.no_stop),
            valid_until_ms=None if lasts_s is None else time_ms + round(lasts_s * 1000),
            price_deviation_points_max=signal.price_deviation_points_max,
            bid=None if prices is None else prices[0], ask=None if prices is None else prices[1],
            number=number, reason=signal.reason,
        )  # fmt: skip

    def remember(self) -> dict[str, Any]:
        """All of it as plain values. Raises NotStorable."""
        self.dirty = False
        return {
            "strategy": remembered(self.strategy),
            "bars": {symbol: feed.state() for symbol, feed in self.bars.items()},
            "ticks_seen": self.ticks_seen,
            "timer_ms": self.timer_ms,
            "numbers": dict(self.numbers),
        }

    def restore(self, told: Mapping[str, Any], timeframes: tuple[str, ...]) -> None:
        """Go on from what `remember` told. Raises NotStorable."""
        restore(self.strategy, told["strategy"])
        self.bars = {
            symbol: BarFeed(symbol, timeframes, memory) for symbol, memory in told["bars"].items()
        }
        self.ticks_seen, self.timer_ms = told["ticks_seen"], told["timer_ms"]
        self.numbers, self.dirty = dict(told["numbers"]), False


def guarded(what: str, symbol: str, work: Callable[[], T]) -> T:
    """Do something in a strategy's own code. Raises StrategyFailed, which names the method."""
    try:
        return work()
    except StrategyFailed:
        raise
    except Exception as error:
        of = f" of {symbol}" if symbol else ""
        raise StrategyFailed(f"{what}{of} failed: {type(error).__name__}: {error}") from error


def ask(
    part: Part, what: str, method: Callable[[Any], Any], told: object
) -> list[tuple[Part, Signal]]:
    """Tell a strategy something; what it says to that. Raises StrategyFailed."""
    part.dirty = True
    said = guarded(what, part.strategy.symbol, lambda: signals_of(method(told), what))
    return [(part, signal) for signal in said]


def tell_bar(part: Part, feed: BarFeed, bar: Bar) -> list[Signal]:
    """Tell it a closed bar, unless history told it already. Raises StrategyFailed."""
    if not feed.is_new(bar):
        return []
    return [signal for _, signal in ask(part, "on_bar", part.strategy.on_bar, bar)]

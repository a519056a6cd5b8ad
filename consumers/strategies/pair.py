"""Pair: two symbols that go together, against the one that ran ahead of the other.

Trades the ratio of two prices: short the dear one and long the cheap one, both of equal value,
until the ratio is back at its average. See Gatev, Goetzmann and Rouwenhorst, Pairs Trading:
Performance of a Relative-Value Arbitrage Rule, Review of Financial Studies 19 (2006).
"""

from collections.abc import Iterator
from math import log

from consumers.strategies import Bar, Fill, RollingCorrelation, Signal, Strategy, ZScore


class Pair(Strategy):
    """Both symbols in one object; each leg has a stop of its own, and one stop ends both."""

    symbols = ("AUDUSD", "NZDUSD")
    together = True
    timeframes = ("M5",)
    warm_up = 60
    period: int = 60
    enter_score: float = 2.0
    leave_score: float = 0.5
    correlation_min: float = 0.5
    stop_percent: float = 1.0
    notional = 10_000.0

    def setup(self) -> None:
        self.score, self.link = ZScore(self.period), RollingCorrelation(self.period)
        self.bars: dict[str, Bar] = {}
        self.side = 0

    def on_bar(self, bar: Bar) -> Iterator[Signal]:
        self.bars[bar.symbol] = bar
        first, second = (self.bars.get(symbol) for symbol in self.symbols)
        if first is None or second is None or first.time_ms != second.time_ms:
            return
        score = self.score.update(log(first.close / second.close))
        link = self.link.update(first.close, second.close)
        if score is None or link is None:
            return
        if self.side and -self.side * score < self.leave_score:
            yield from self.hold(0, "ratio back at its average")
        elif not self.side and abs(score) > self.enter_score and link > self.correlation_min:
            yield from self.hold(-1 if score > 0 else 1, f"z-score of the ratio {score:.1f}")

    def hold(self, side: int, reason: str) -> Iterator[Signal]:
        self.side = side
        for symbol, way in zip(self.symbols, (side, -side), strict=True):
            stop = self.bars[symbol].close * (1 - way * self.stop_percent / 100) if way else None
            yield self.target(way, symbol=symbol, stop_loss=stop, reason=reason)

    def on_trade(self, trade: Fill) -> Iterator[Signal]:
        if self.side and trade.entry == "out" and trade.reason != "expert":
            yield from self.hold(0, f"{trade.symbol} was closed: {trade.reason}")

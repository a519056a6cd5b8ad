"""Breakout: follow a close outside of the range of the last bars, with a stop by volatility.

Richard Donchian's channel as the Turtles traded it: enter on a new extreme of `entry` bars, leave
on an opposite extreme of `leave` bars, stop two average true ranges away (Curtis Faith, Way of the
Turtle, 2007).
"""

from consumers.strategies import Atr, Bar, Donchian, Fill, Signal, Strategy


class Breakout(Strategy):
    """One position per symbol, sized by what its stop would cost."""

    timeframes = ("H1",)
    warm_up = 21
    entry: int = 20
    leave: int = 10
    stop_ranges: float = 2.0
    risk_percent = 0.5

    def setup(self) -> None:
        self.far, self.near = Donchian(self.entry), Donchian(self.leave)
        self.atr = Atr(self.entry)
        self.side = 0

    def on_bar(self, bar: Bar) -> Signal | None:
        far, near = self.far.value, self.near.value  # as they were before this bar
        self.far.update_bar(bar)
        self.near.update_bar(bar)
        span = self.atr.update_bar(bar)
        if far is None or near is None or not span:
            return None
        side = 1 if bar.close > far.upper else -1 if bar.close < far.lower else 0
        if side and side != self.side:
            self.side = side
            stop = bar.close - side * self.stop_ranges * span
            return self.target(side, stop_loss=stop, reason=f"close beyond {self.entry} bars")
        if (self.side > 0 and bar.close < near.lower) or (self.side < 0 and bar.close > near.upper):
            self.side = 0
            return self.target("flat", reason=f"close beyond {self.leave} bars, against us")
        return None

    def on_trade(self, trade: Fill) -> None:
        if not trade.position and trade.reason != "expert":  # a stop, or somebody else
            self.side = 0

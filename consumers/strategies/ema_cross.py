"""EMA cross: long while the fast average of the price lies above the slow one, else short.

The oldest trend rule there is; tested by Brock, Lakonishok and LeBaron, Simple Technical Trading
Rules and the Stochastic Properties of Stock Returns, Journal of Finance 47 (1992). Averages are
of ticks, so `fast` and `slow` count ticks.
"""

from consumers.strategies import Crossover, Ema, Signal, Strategy, Tick


class EmaCross(Strategy):
    """Turns around at each crossing; the stop lies a fixed share of the price away."""

    fast: int = 12
    slow: int = 48
    stop_percent: float = 0.5
    risk_percent = 0.5

    def setup(self) -> None:
        self.cross = Crossover(Ema(self.fast), Ema(self.slow))

    def on_tick(self, tick: Tick) -> Signal | None:
        if side := self.cross.update(tick.mid):
            stop = tick.mid * (1 - side * self.stop_percent / 100)
            return self.target(side, stop_loss=stop, reason="fast EMA crossed slow EMA")
        return None

"""Mean reversion: against a price that lies far from its average, out when it is back.

A z-score of the close says how far, and the RSI that the move is overdone. See Ernest Chan,
Algorithmic Trading: Winning Strategies and Their Rationale (2013), chapters 2 and 3.
"""

from consumers.strategies import Atr, Bar, Fill, Rsi, Signal, Strategy, ZScore


class MeanReversion(Strategy):
    """For quiet hours: trends run over it, hence the stop three average true ranges away."""

    timeframes = ("M15",)
    warm_up = 40
    period: int = 40
    enter_score: float = 2.0
    leave_score: float = 0.5
    rsi_edge: float = 30.0
    stop_ranges: float = 3.0
    risk_percent = 0.5

    def setup(self) -> None:
        self.score, self.rsi, self.atr = ZScore(self.period), Rsi(14), Atr(14)
        self.side = 0

    def on_bar(self, bar: Bar) -> Signal | None:
        score, rsi = self.score.update_bar(bar), self.rsi.update_bar(bar)
        span = self.atr.update_bar(bar)
        if score is None or rsi is None or not span:
            return None
        if self.side and -self.side * score < self.leave_score:
            self.side = 0
            return self.target("flat", reason="back at its average")
        low = score < -self.enter_score and rsi < self.rsi_edge
        high = score > self.enter_score and rsi > 100 - self.rsi_edge
        if not self.side and (low or high):
            self.side = 1 if low else -1
            stop = bar.close - self.side * self.stop_ranges * span
            return self.target(self.side, stop_loss=stop, reason=f"z-score {score:.1f}")
        return None

    def on_trade(self, trade: Fill) -> None:
        if not trade.position and trade.reason != "expert":  # a stop, or somebody else
            self.side = 0

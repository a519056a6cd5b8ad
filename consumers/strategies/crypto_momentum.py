"""Crypto momentum: along the last days' return where it stands out of the noise.

Coins that rose go on rising for a while: Liu and Tsyvinski, Risks and Returns of Cryptocurrency,
Review of Financial Studies 34 (2021). The return over `bars` is measured in its own standard
deviation; a weak trend (ADX) is left alone. For symbols that trade around the clock.
"""

from math import log, sqrt

from consumers.strategies import Adx, Atr, Bar, Fill, RollingStd, Signal, Sma, Strategy


class CryptoMomentum(Strategy):
    """Long or short by the sign of the momentum, with a wide stop and a small size."""

    symbols = ("BTCUSD", "ETHUSD")
    timeframes = ("H1",)
    warm_up = 170
    bars: int = 168
    enter_score: float = 1.0
    adx_min: float = 20.0
    stop_ranges: float = 4.0
    risk_percent = 0.25

    def setup(self) -> None:
        self.mean, self.noise = Sma(self.bars), RollingStd(self.bars)
        self.adx, self.atr = Adx(14), Atr(14)
        self.last, self.side = 0.0, 0

    def on_bar(self, bar: Bar) -> Signal | None:
        trend, span = self.adx.update_bar(bar), self.atr.update_bar(bar)
        change, self.last = log(bar.close / self.last) if self.last else 0.0, bar.close
        mean, noise = self.mean.update(change), self.noise.update(change)
        if mean is None or trend is None or not noise or not span:
            return None
        score = mean / noise * sqrt(self.bars)
        if self.side * score < 0:
            self.side = 0
            return self.target("flat", reason="momentum turned")
        if not self.side and abs(score) > self.enter_score and trend.adx > self.adx_min:
            self.side = 1 if score > 0 else -1
            stop = bar.close - self.side * self.stop_ranges * span
            return self.target(self.side, stop_loss=stop, reason=f"momentum {score:.1f}")
        return None

    def on_trade(self, trade: Fill) -> None:
        if not trade.position and trade.reason != "expert":  # a stop, or somebody else
            self.side = 0

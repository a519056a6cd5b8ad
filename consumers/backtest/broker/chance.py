"""What of a backtest's broker is drawn: seeded by the run and by each order, so that one order
more changes no other."""

from __future__ import annotations

from random import Random

from consumers.backtest.broker.options import BrokerOptions


class Chance:
    """Draws for one run. It serves a trade server as its conditions."""

    def __init__(self, options: BrokerOptions, seed: int) -> None:
        self._options, self._seed = options, seed

    def latency_ms(self, intent_id: int) -> int:
        """How long an intent is under way."""
        amount = self._options.latency_ms
        if not amount:
            return 0
        return round(amount.draw(self._random("latency", intent_id)))

    def slippage_points(self, order_ticket: int) -> float:
        """How much worse than the price an order is filled; whole points."""
        amount = self._options.slippage_points
        if not amount:
            return 0.0
        return float(round(amount.draw(self._random("slippage", order_ticket))))

    def _random(self, what: str, number: int) -> Random:
        return Random(f"{self._seed}/{what}/{number}")  # noqa: S311 - made-up chance, no secret

    def liquidity_lots(self, symbol: str, utc_ms: int) -> float | None:
        return self._options.liquidity_lots

    def comment(self, comment: str, utc_ms: int) -> str:
        return comment

    def closed(self, symbol: str, utc_ms: int) -> bool:
        return False

    def trade_mode(self, symbol: str, utc_ms: int, *, usual: int) -> int:
        return usual

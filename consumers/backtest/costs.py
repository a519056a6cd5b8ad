"""What trading cost: what the broker charged, and what was lost to spread and slippage."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from consumers.backtest.broker.symbols import contracts_of, pairs_of
from consumers.backtest.result import Costs
from consumers.strategies.running.tick_run import TickRun
from events.accounting import MissingRate, Rates
from events.executing import OrderIntent
from events.market import Instrument
from events.trading import Deal

LOOK_BACK_TICKS = 512
PRICES_MAX = 100_000
"""Expected prices of intents that were not filled yet; the oldest are forgotten first."""
SELL = 1


class CostRecorder:
    """Adds up what deals cost in account currency, as they come. `rates` are fixed ones, of pairs
    without ticks."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        currency: str,
        *,
        rates: Mapping[str, float],
    ) -> None:
        self._contracts = contracts_of(instruments)
        self._currency, self._fixed = currency, dict(rates)
        self._rates = Rates(pairs_of(instruments), self._converting)
        self._expected: dict[int, float] = {}
        """Intent -> price at which it was sent."""
        self._last: dict[str, tuple[float, float]] = {}
        self._here: tuple[TickRun, int] | None = None
        self._commission = self._swap = self._fee = 0.0
        self._spread = self._slippage = 0.0
        self.values: list[float] = []
        """What each deal traded was worth, in the order they came."""

    def intent(self, intent: OrderIntent, run: TickRun, index: int) -> None:
        """Remember the price an order meets when it is sent."""
        price = intent.price_limit or intent.price_stop
        if price is None:
            bid, ask = self._quote(intent.symbol, run, index)
            price = bid if intent.side == SELL else ask
        if len(self._expected) >= PRICES_MAX:
            del self._expected[next(iter(self._expected))]
        self._expected[intent.intent_id] = price

    def deal(self, deal: Deal, run: TickRun, index: int) -> None:
        """Count what a deal was charged, and what it lost to spread and slippage."""
        if deal.type > SELL:
            self.values.append(0.0)
            return
        self._here = run, index
        self.values.append(self._money(deal, deal.price))
        self._commission -= deal.commission
        self._swap -= deal.swap
        self._fee -= deal.fee
        bid, ask = self._quote(deal.symbol, run, index)
        if bid > 0 and ask >= bid:
            self._spread += self._money(deal, (ask - bid) / 2)
        expected = self._expected.get(deal.magic)
        if expected:
            self._slippage += self._money(
                deal, expected - deal.price if deal.type == SELL else deal.price - expected
            )

    def costs(self) -> Costs:
        rounded = [
            round(value, 2) + 0.0
            for value in (self._commission, self._swap, self._fee, self._spread, self._slippage)
        ]
        return Costs(*rounded)

    def leave(self, run: TickRun) -> None:
        """A run ends: keep the newest price of every symbol of it."""
        for symbol in run.symbols:
            self._last[symbol] = self._quote(symbol, run, len(run) - 1)

    def _money(self, deal: Deal, move: float) -> float:
        """What a move of the price is worth to a deal's volume; 0 where nothing converts it."""
        contract = self._contracts.get(deal.symbol)
        if contract is None or not move:
            return 0.0
        try:
            rate = self._rates.rate(contract.currency_profit, self._currency, side=0)
        except MissingRate:
            return 0.0
        return float(contract.profit(0, deal.volume_lots, 0.0, move)) * float(rate)

    def _converting(self, symbol: str) -> tuple[float, float] | None:
        if self._here is not None:
            bid, ask = self._quote(symbol, *self._here)
            if bid > 0 and ask > 0:
                return bid, ask
        fixed = self._fixed.get(symbol)
        return None if fixed is None else (fixed, fixed)

    def _quote(self, symbol: str, run: TickRun, index: int) -> tuple[float, float]:
        """(bid, ask) at a tick: the newest of the symbol at or before it; zeros: none."""
        if run.symbol is None:
            at = index if symbol == run.symbols[0] else -1
        else:
            at = _newest(run, symbol, index)
        if at < 0:
            return self._last.get(symbol, (0.0, 0.0))
        return float(run.bid[at]), float(run.ask[at])


def _newest(run: TickRun, symbol: str, index: int) -> int:
    """Index of a symbol's newest tick at or before `index`; -1: there is none in this run."""
    if run.symbol is None or symbol not in run.symbols:
        return -1
    number, stop, width = run.symbols.index(symbol), index + 1, LOOK_BACK_TICKS
    while stop > 0:
        begin = max(0, stop - width)
        found = np.flatnonzero(run.symbol[begin:stop] == number)
        if len(found):
            return begin + int(found[-1])
        stop, width = begin, width * 4
    return -1

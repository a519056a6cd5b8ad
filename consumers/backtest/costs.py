"""What trading cost beside commission, swap and fee: spread and slippage, in account currency."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from consumers.backtest.result import Costs
from consumers.strategies.running.tick_run import TickRun
from events.executing import OrderIntent
from events.trading import Deal

MoneyOf = Callable[[str, float, float], float]
"""(symbol, lots, move of the price) -> account currency, at the rates of now."""
LOOK_BACK_TICKS = 512
PRICES_MAX = 100_000
"""Expected prices of intents that were not filled yet; the oldest are forgotten first."""
SELL = 1


class CostRecorder:
    """Adds up what deals cost, as they come."""

    def __init__(self, money_of: MoneyOf) -> None:
        self._money_of = money_of
        self._expected: dict[int, float] = {}
        """Intent -> price at which it was sent."""
        self._last: dict[str, tuple[float, float]] = {}
        self._commission = self._swap = self._fee = 0.0
        self._spread = self._slippage = 0.0

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
            return
        self._commission -= deal.commission
        self._swap -= deal.swap
        self._fee -= deal.fee
        bid, ask = self._quote(deal.symbol, run, index)
        if bid > 0 and ask >= bid:
            self._spread += self._money_of(deal.symbol, deal.volume_lots, (ask - bid) / 2)
        expected = self._expected.get(deal.magic)
        if expected is None:
            return
        worse = expected - deal.price if deal.type == SELL else deal.price - expected
        if worse:
            self._slippage += self._money_of(deal.symbol, deal.volume_lots, worse)

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

    def _quote(self, symbol: str, run: TickRun, index: int) -> tuple[float, float]:
        """(bid, ask) at a tick: the newest of the symbol at or before it."""
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

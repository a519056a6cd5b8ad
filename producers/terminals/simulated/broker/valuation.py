"""The prices and contracts a simulated broker values accounts by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from events.accounting import Contract
from events.accounting.contract import margin_currency
from events.accounting.conversion import currency_pairs
from events.broker.terms import AccountTerms
from events.broker.valuation import Valuer
from producers.terminals import constants as mt5
from producers.terminals.simulated.market.generated import Market
from producers.terminals.simulated.symbols import CATALOGUE, SymbolSpec

Int64Array = npt.NDArray[np.int64]
QUOTES_KEPT_MAX = 512
QUOTE_LOOK_BACK_MS = 60_000


def contract_of(spec: SymbolSpec) -> Contract:
    """The facts of a symbol that arithmetic needs."""
    hedged = spec.contract_size if spec.margin_hedged is None else spec.margin_hedged
    return Contract(
        symbol=spec.name,
        calc_mode=spec.calc_mode,
        contract_size=spec.contract_size,
        point=spec.point,
        tick_size=spec.step,
        currency_base=spec.currency_base,
        currency_profit=spec.currency_profit,
        currency_margin=spec.currency_margin
        or margin_currency(spec.calc_mode, spec.currency_base, spec.currency_profit),
        margin_initial=spec.margin_initial,
        margin_hedged=hedged,
        margin_hedged_use_leg=spec.margin_hedged_use_leg,
        swap_mode=spec.swap_mode,
        swap_long=spec.swap_long,
        swap_short=spec.swap_short,
        swap_rollover_weekday=spec.swap_rollover3days,
    )


class MarketQuotes:
    """The broker's own prices at a moment. Symbols without a market (conversion pairs nobody
    plays) stand at their catalogue price."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._known: dict[tuple[str, int], tuple[float, float] | None] = {}

    def at(self, symbol: str, utc_ms: int) -> tuple[float, float] | None:
        """(bid, ask) at a moment, None before the first tick."""
        key = (symbol, utc_ms)
        if key not in self._known:
            if len(self._known) >= QUOTES_KEPT_MAX:
                self._known.clear()
            self._known[key] = self._read(symbol, utc_ms)
        return self._known[key]

    def moment(self, utc_ms: int) -> int:
        """Prices follow from the time alone."""
        return utc_ms

    def series(self, symbol: str, grid_ms: Int64Array) -> tuple[Any, Any] | None:
        """Bids and asks at several moments in order."""
        before = self.at(symbol, int(grid_ms[0]))
        if before is None:
            return None
        try:
            rows = self._market.ticks(symbol, int(grid_ms[0]), int(grid_ms[-1]) + 1)
        except KeyError:
            return np.full(len(grid_ms), before[0]), np.full(len(grid_ms), before[1])
        rows = rows[(rows["bid"] > 0) & (rows["ask"] > 0) & (rows["time_msc"] > 0)]
        at = np.searchsorted(rows["time_msc"], grid_ms, side="right")
        bids = np.concatenate([[before[0]], rows["bid"]])[at]
        asks = np.concatenate([[before[1]], rows["ask"]])[at]
        return bids, asks

    def _read(self, symbol: str, utc_ms: int) -> tuple[float, float] | None:
        try:
            row = self._market.last_tick(symbol, utc_ms)
            if len(row) and (row["bid"][0] <= 0 or row["ask"][0] <= 0):
                rows = self._market.ticks(symbol, utc_ms - QUOTE_LOOK_BACK_MS, utc_ms + 1)
                row = rows[(rows["bid"] > 0) & (rows["ask"] > 0)][-1:]
        except KeyError:
            spec = CATALOGUE.get(symbol)
            return None if spec is None else (spec.price, spec.price)
        return (float(row["bid"][0]), float(row["ask"][0])) if len(row) else None


def valuer_of(specs: dict[str, SymbolSpec], quotes: MarketQuotes, account: AccountTerms) -> Valuer:
    """What values an account at this broker. Every pair of the catalogue converts."""
    pairs = currency_pairs(
        (spec.name, spec.currency_base, spec.currency_profit)
        for spec in (*specs.values(), *CATALOGUE.values())
        if spec.calc_mode == mt5.SYMBOL_CALC_MODE_FOREX
    )
    contracts = {name: contract_of(spec) for name, spec in specs.items()}
    return Valuer(specs, contracts, quotes, account, pairs=pairs)

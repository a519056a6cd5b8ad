"""What positions and requests are worth at the broker's prices, in account currency."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from events.accounting import (
    AccountFigures,
    Contract,
    Entry,
    Ledger,
    Leg,
    MarginMode,
    OpenPosition,
    Rates,
    Valuation,
    floating_figures,
    symbol_margin,
)
from events.accounting.contract import margin_currency
from events.accounting.conversion import currency_pairs
from producers.terminals import constants as mt5
from producers.terminals.simulated.broker.holdings import Holdings
from producers.terminals.simulated.market.generated import Market
from producers.terminals.simulated.options import AccountOptions
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


class Quotes:
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


class Valuer:
    """Profit, margin and figures of one account; of its one ledger what did not change is kept."""

    def __init__(
        self, specs: dict[str, SymbolSpec], quotes: Quotes, account: AccountOptions
    ) -> None:
        self.specs = specs
        self.quotes = quotes
        self._account = account
        self._contracts = {name: contract_of(spec) for name, spec in specs.items()}
        self._held: tuple[int, Holdings] = (-1, Holdings((), 0.0))
        self._marked: tuple[int, int, dict[int, tuple[float, float]]] = (-1, 0, {})
        offered = [*specs.values(), *CATALOGUE.values()]
        self._pairs = currency_pairs(
            (spec.name, spec.currency_base, spec.currency_profit)
            for spec in offered
            if spec.calc_mode == mt5.SYMBOL_CALC_MODE_FOREX
        )

    def contract(self, symbol: str) -> Contract:
        return self._contracts[symbol]

    def rate(self, source: str, side: int, utc_ms: int) -> float:
        """One unit of a currency in account currency. Raises MissingRate."""
        rates = Rates(self._pairs, lambda symbol: self.quotes.at(symbol, utc_ms))
        return float(rates.rate(source, self._account.currency, side=side))

    def require_conversions(self) -> None:
        """Raises ValueError when a symbol's money cannot become account currency."""
        rates = Rates(self._pairs, lambda _: None)
        account = self._account.currency
        for name, contract in self._contracts.items():
            for currency in (contract.currency_profit, contract.currency_margin):
                if currency != account and not rates.symbols(currency, account):
                    raise ValueError(
                        f"symbol {name}: nothing converts {currency} into the account's"
                        f" {account}: offer a pair of them, or use another account currency"
                    )

    def closing_price(self, symbol: str, side: int, utc_ms: int) -> float | None:
        """The price at which a position of a side would close now."""
        quote = self.quotes.at(symbol, utc_ms)
        return None if quote is None else quote[side]

    def profit(
        self, symbol: str, side: int, volume_lots: float, *, opened: float, closed: float,
        utc_ms: int,
    ) -> float:  # fmt: skip
        """Profit in account currency, rounded to its digits. Raises MissingRate."""
        contract = self._contracts[symbol]
        amount = contract.profit(side, volume_lots, opened, closed)
        rate = self.rate(contract.currency_profit, side, utc_ms)
        return round(float(amount * rate), self._account.currency_digits) + 0.0

    def margin(self, symbol: str, side: int, volume_lots: float, *, price: float,
               utc_ms: int) -> float:  # fmt: skip
        """Margin of a new position alone, in account currency. Raises MissingRate."""
        contract = self._contracts[symbol]
        amount = contract.margin(volume_lots, price, self._account.leverage)
        rate = self.rate(contract.currency_margin, side, utc_ms)
        return round(float(amount * rate), self._account.currency_digits)

    def commission(self, symbol: str, volume_lots: float, entry: Entry) -> float:
        """What one deal pays (negative); close-by pays nothing."""
        spec = self.specs[symbol]
        free = {"in": Entry.OUT, "out": Entry.IN}.get(spec.commission_on)
        if entry in (Entry.OUT_BY, free):
            return 0.0
        return -spec.commission_per_lot * volume_lots

    def fee(self, symbol: str, volume_lots: float, entry: Entry) -> float:
        """What the exchange takes for one deal (negative)."""
        return 0.0 if entry is Entry.OUT_BY else -self.specs[symbol].fee_per_deal

    def swap(self, position: OpenPosition, utc_ms: int) -> float:
        """Swap of one night in account currency."""
        contract = self._contracts[position.symbol]
        now = self.closing_price(position.symbol, position.side, utc_ms) or position.price_open
        amount, currency = contract.swap(
            position.side, position.volume_lots, price_now=now, price_open=position.price_open
        )
        return amount * self.rate(currency or self._account.currency, position.side, utc_ms)

    def marks(self, ledger: Ledger, utc_ms: int) -> dict[int, tuple[float, float]]:
        """Current price and profit of every position, by identifier."""
        revision, at_ms, marks = self._marked
        if (revision, at_ms) == (ledger.revision, utc_ms):
            return marks
        marks, digits = {}, self._account.currency_digits
        for group in self.holdings(ledger).groups:
            contract, closing = (
                self._contracts[group.symbol],
                self.closing_price(group.symbol, group.side, utc_ms),
            )
            price = group.prices_open if closing is None else closing
            amounts = contract.profit(group.side, group.volumes_lots, group.prices_open, price)
            rate = self.rate(contract.currency_profit, group.side, utc_ms)
            profits = np.broadcast_to(amounts * rate, group.volumes_lots.shape).tolist()
            prices = np.broadcast_to(price, group.volumes_lots.shape).tolist()
            for identifier, now, profit in zip(group.identifiers, prices, profits, strict=True):
                marks[identifier] = (now, round(profit, digits) + 0.0)
        self._marked = ledger.revision, utc_ms, marks
        return marks

    def figures(self, ledger: Ledger, utc_ms: int) -> AccountFigures:
        """Balance to margin level at a moment."""
        marks = self.marks(ledger, utc_ms)
        rates = Rates(self._pairs, lambda symbol: self.quotes.at(symbol, utc_ms))
        held = self.holdings(ledger)
        return floating_figures(
            balance=ledger.balance,
            credit=ledger.credit,
            margin=float(self._margin_of(held, ledger.mode, rates)),
            floating=sum(profit for _, profit in marks.values()) + held.swap,
            digits=self._account.currency_digits,
        )

    def valuations(self, ledger: Ledger, marks: dict[int, tuple[float, float]]) -> list[Valuation]:
        return [
            Valuation(position.identifier, marks[position.identifier][1], position.swap)
            for position in ledger.positions.values()
        ]

    def stopped_out(self, ledger: Ledger, grid_ms: Int64Array) -> int | None:
        """Index of the first moment of a grid at which the stop-out level is reached."""
        series: dict[str, tuple[Any, Any] | None] = {}

        def quote(symbol: str) -> tuple[Any, Any] | None:
            if symbol not in series:
                series[symbol] = self.quotes.series(symbol, grid_ms)
            return series[symbol]

        rates = Rates(self._pairs, quote)
        held = self.holdings(ledger)
        equity = np.full(len(grid_ms), ledger.balance + ledger.credit + held.swap)
        for one in held.sides:
            contract, prices = self._contracts[one.symbol], quote(one.symbol)
            closing = one.price_open if prices is None else prices[one.side]
            amount = contract.profit(one.side, one.volume_lots, one.price_open, closing)
            rate = rates.rate(contract.currency_profit, self._account.currency, side=one.side)
            equity = equity + amount * rate
        level = self._account.margin_so_so
        if self._account.margin_so_mode == mt5.ACCOUNT_STOPOUT_MODE_PERCENT:
            level = self._margin_of(held, ledger.mode, rates) * level / 100
        below = np.flatnonzero(np.broadcast_to(equity <= level, grid_ms.shape))
        return int(below[0]) if len(below) else None

    def margin_without(
        self, ledger: Ledger, position: OpenPosition, volume_lots: float, utc_ms: int
    ) -> float:
        """Margin in account currency after a volume of a position was closed."""
        rates = Rates(self._pairs, lambda symbol: self.quotes.at(symbol, utc_ms))
        rest = Holdings.without(ledger, position, volume_lots)
        return float(self._margin_of(rest, ledger.mode, rates))

    def holdings(self, ledger: Ledger) -> Holdings:
        """The positions taken together, made anew when one of them changed."""
        if self._held[0] != ledger.revision:
            self._held = ledger.revision, Holdings.of(ledger)
        return self._held[1]

    def _margin_of(self, held: Holdings, mode: MarginMode, rates: Rates) -> Any:
        total: Any = 0.0
        currency, leverage = self._account.currency, self._account.leverage
        for symbol, sides in held.by_symbol().items():
            contract = self._contracts[symbol]
            legs = [
                Leg(
                    one.side, one.volume_lots, one.price_open,
                    rates.rate(contract.currency_margin, currency, side=one.side),
                )
                for one in sides
            ]  # fmt: skip
            hedging = mode is MarginMode.HEDGING
            total = total + symbol_margin(contract, legs, leverage=leverage, hedging=hedging)
        return total

"""What positions and requests are worth at the broker's prices, in account currency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from events import mt5
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
from events.broker.holdings import Group, Holdings
from events.broker.terms import AccountTerms, Quotes, SymbolTerms

FEW = 16
"""So many positions are valued one by one: that is faster than arrays of them."""

Series = tuple[Any, Any]
"""Bids and asks at several moments: arrays, or floats that hold for all of them."""


class Valuer:
    """Profit, margin and figures of one account; of its one ledger what did not change is kept."""

    def __init__(
        self,
        specs: Mapping[str, SymbolTerms],
        contracts: Mapping[str, Contract],
        quotes: Quotes,
        account: AccountTerms,
        *,
        pairs: Mapping[tuple[str, str], str],
    ) -> None:
        """`specs` and `contracts` have the same keys; `pairs` (base, profit) -> symbol convert."""
        self.specs = specs
        self.quotes = quotes
        self._account = account
        self._contracts = contracts
        self._held: tuple[int, Holdings] = (-1, Holdings((), 0.0))
        self._marked: tuple[int, Any, dict[int, tuple[float, float]]] = (-1, None, {})
        self._margined: tuple[Holdings | None, Any] = (None, 0.0)
        self._pairs = pairs

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
        moment = self.quotes.moment(utc_ms)
        revision, before, marks = self._marked
        if revision == ledger.revision and before == moment:
            return marks
        marks, digits = {}, self._account.currency_digits
        for group in self.holdings(ledger).groups:
            contract = self._contracts[group.symbol]
            closing = self.closing_price(group.symbol, group.side, utc_ms)
            rate = self.rate(contract.currency_profit, group.side, utc_ms)
            mark = self._mark_each if len(group.identifiers) <= FEW else self._mark_together
            for identifier, now, profit in mark(group, contract, closing, rate):
                marks[identifier] = (now, round(profit, digits) + 0.0)
        self._marked = ledger.revision, moment, marks
        return marks

    @staticmethod
    def _mark_each(
        group: Group, contract: Contract, closing: float | None, rate: float
    ) -> Iterator[tuple[int, float, float]]:
        """(identifier, price now, profit) of a few positions."""
        side = group.side
        for identifier, lots, opened in zip(
            group.identifiers, group.volumes_lots, group.prices_open, strict=True
        ):
            now = opened if closing is None else closing
            yield identifier, now, contract.profit(side, lots, opened, now) * rate

    @staticmethod
    def _mark_together(
        group: Group, contract: Contract, closing: float | None, rate: float
    ) -> Iterator[tuple[int, float, float]]:
        """The same of many, as arrays."""
        lots, opened = group.arrays()
        price = opened if closing is None else closing
        amounts = contract.profit(group.side, lots, opened, price)
        profits = np.broadcast_to(amounts * rate, lots.shape).tolist()
        prices = np.broadcast_to(price, lots.shape).tolist()
        return zip(group.identifiers, prices, profits, strict=True)

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

    def equity(self, ledger: Ledger, quote: Callable[[str], Series | None]) -> Any:
        """Equity at several moments, whose prices `quote` gives; a float where nothing is open.
        Not rounded."""
        rates = Rates(self._pairs, quote)
        held = self.holdings(ledger)
        equity: Any = ledger.balance + ledger.credit + held.swap
        for one in held.sides:
            contract, prices = self._contracts[one.symbol], quote(one.symbol)
            closing = one.price_open if prices is None else prices[one.side]
            amount = contract.profit(one.side, one.volume_lots, one.price_open, closing)
            rate = rates.rate(contract.currency_profit, self._account.currency, side=one.side)
            equity = equity + amount * rate
        return equity

    def stop_out_equity(self, ledger: Ledger, quote: Callable[[str], Series | None]) -> Any:
        """At or below which equity positions are closed, at several moments. MissingRate."""
        level = self._account.margin_so_so
        if self._account.margin_so_mode != mt5.ACCOUNT_STOPOUT_MODE_PERCENT:
            return level
        rates = Rates(self._pairs, quote)
        return self._margin_of(self.holdings(ledger), ledger.mode, rates) * level / 100

    def stopped_out(
        self, ledger: Ledger, quote: Callable[[str], Series | None], count: int
    ) -> int | None:
        """The first of `count` moments at which the stop-out level is reached."""
        below = self.equity(ledger, quote) <= self.stop_out_equity(ledger, quote)
        if isinstance(below, bool):
            return 0 if below and count else None
        hits = np.flatnonzero(np.broadcast_to(below, (count,)))
        return int(hits[0]) if len(hits) else None

    def converting(self, ledger: Ledger) -> dict[str, bool] | None:
        """The pairs whose prices turn margin into account currency, and whether margin rises with
        the price; None where the price of something else may matter too."""
        found: dict[str, bool] = {}
        account, rates = self._account.currency, Rates(self._pairs, lambda _: None)
        for one in self.holdings(ledger).sides:
            contract = self._contracts[one.symbol]
            if contract.currency_profit not in ("", account):
                return None
            source = contract.currency_margin
            if source in ("", account):
                continue
            symbols = rates.symbols(source, account)
            if len(symbols) != 1:
                return None
            found[symbols[0]] = self._pairs.get((source, account)) == symbols[0]
        return found

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
        """Margin of what is held; remembered where no price changes it."""
        if self._margined[0] is held:
            return self._margined[1]
        total = self._margin_now(held, mode, rates)
        currency = self._account.currency
        if all(self._contracts[one.symbol].currency_margin in ("", currency) for one in held.sides):
            self._margined = held, total
        return total

    def _margin_now(self, held: Holdings, mode: MarginMode, rates: Rates) -> Any:
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

"""What is held and what the market says, as arithmetic needs it. Prices are UTC, money is in
account currency unless a name says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from events.accounting import Contract, MissingRate, Rates
from events.accounting.contract import CalcMode
from events.accounting.conversion import currency_pairs
from events.market import Instrument

PAIR_MODES = frozenset({CalcMode.FOREX, CalcMode.FOREX_NO_LEVERAGE})
"""Symbols of these modes exchange one currency for another; all others are things with a price."""
VALUED_MODES = frozenset(
    {
        CalcMode.FUTURES,
        CalcMode.EXCHANGE_FUTURES,
        CalcMode.EXCHANGE_OPTIONS,
        CalcMode.EXCHANGE_OPTIONS_MARGIN,
    }
)
"""Their money follows from the tick value, which the terminal gives in account currency."""


@dataclass(frozen=True, slots=True)
class Holding:
    """One open position. `side` 0 buy, 1 sell; `stop_loss` 0: it has none."""

    ticket: int
    symbol: str
    side: int
    volume_lots: float
    price_open: float
    price_current: float
    profit: float
    swap: float
    stop_loss: float = 0.0
    magic: int = 0
    open_time_ms: int = 0

    @property
    def sign(self) -> int:
        """+1 long, -1 short."""
        return 1 if self.side == 0 else -1

    @property
    def floating(self) -> float:
        """Profit with swap."""
        return self.profit + self.swap


@dataclass(frozen=True, slots=True)
class PriceSeen:
    """The newest price of a symbol, and when its tick was (UTC)."""

    bid: float
    ask: float
    time_ms: int

    @property
    def mid(self) -> float:
        return (self.bid + self.ask) / 2


@dataclass(frozen=True)
class Market:
    """Facts and prices of symbols, and the account's currency."""

    currency: str
    contracts: Mapping[str, Contract] = field(default_factory=dict)
    prices: Mapping[str, PriceSeen] = field(default_factory=dict)
    instruments: Mapping[str, Instrument] = field(default_factory=dict)
    """Where the contracts come from, with the volumes that orders must fit."""
    rates: Rates = field(init=False, repr=False, compare=False)
    """Conversion by the pairs among them."""

    def __post_init__(self) -> None:
        pairs = currency_pairs(
            (contract.symbol, contract.currency_base, contract.currency_profit)
            for contract in self.contracts.values()
            if contract.calc_mode in PAIR_MODES
        )
        object.__setattr__(self, "rates", Rates(pairs, self._quote))

    def _quote(self, symbol: str) -> tuple[float, float] | None:
        price = self.prices.get(symbol)
        return None if price is None or price.bid <= 0 or price.ask <= 0 else (price.bid, price.ask)

    def rate(self, currency: str, side: int) -> float | None:
        """One unit of a currency in account currency, at the bid (side 0) or ask of the pair that
        converts; None: nothing converts it."""
        try:
            return float(self.rates.rate(currency, self.currency, side=side))
        except (MissingRate, ZeroDivisionError):
            return None

    def mid_rate(self, contract: Contract) -> float | None:
        """One unit of a symbol's profit currency in account currency, in the middle of bid and
        ask; without a pair that converts, what the terminal's tick value implies."""
        bid = self.rate(contract.currency_profit, 0)
        ask = self.rate(contract.currency_profit, 1)
        if bid is not None and ask is not None:
            return (bid + ask) / 2
        return implied_rate(contract)

    def price(self, symbol: str) -> float | None:
        """The middle of bid and ask; None: no price."""
        quote = self._quote(symbol)
        return None if quote is None else (quote[0] + quote[1]) / 2

    def money(self, contract: Contract, side: int, lots: float, opened: float,
              closed: float) -> float | None:  # fmt: skip
        """Profit of a price change in account currency, as `order_calc_profit` computes it; None:
        nothing converts it."""
        amount = float(contract.profit(side, lots, opened, closed))
        if contract.calc_mode in VALUED_MODES and contract.tick_value:
            return amount
        rate = self.rate(contract.currency_profit, side)
        rate = implied_rate(contract) if rate is None else rate
        return None if rate is None else amount * rate

    def notional(self, contract: Contract, lots: float, price: float) -> float | None:
        """What a volume is worth: lots * contract size * price, in account currency.

        Of futures and options the money of a price is tick value per tick size. None: nothing
        converts it.
        """
        if contract.calc_mode in VALUED_MODES and contract.tick_value and contract.tick_size:
            return lots * price / contract.tick_size * contract.tick_value
        rate = self.mid_rate(contract)
        return None if rate is None else lots * contract.contract_size * price * rate


def implied_rate(contract: Contract) -> float | None:
    """Profit currency in account currency, out of the tick value: tick value / (tick size *
    contract size) (MQL5 reference, SYMBOL_TRADE_TICK_VALUE)."""
    size = contract.tick_size * contract.contract_size
    return contract.tick_value / size if contract.tick_value and size else None

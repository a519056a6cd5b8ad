"""How each symbol is traded and what it costs, from instruments and options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from consumers.backtest.broker.options import BrokerOptions, SymbolCosts
from events import mt5
from events.accounting import Contract, Rates
from events.accounting.contract import CalcMode
from events.accounting.conversion import currency_pairs
from events.market import Instrument

_PAIR_MODES = (CalcMode.FOREX, CalcMode.FOREX_NO_LEVERAGE)
_VALUED_MODES = (
    CalcMode.FUTURES,
    CalcMode.EXCHANGE_FUTURES,
    CalcMode.EXCHANGE_OPTIONS,
    CalcMode.EXCHANGE_OPTIONS_MARGIN,
)


class NoConversion(ValueError):
    """Money of a symbol cannot become account currency. Names cause and cure."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The rules of one symbol, as `events.broker.terms.SymbolTerms` asks for them."""

    name: str
    digits: int
    point: float
    tick_size: float
    volume_min: float
    volume_max: float
    volume_step: float
    volume_limit: float
    stops_level: int
    freeze_level: int
    execution_mode: int
    filling_mode: int
    order_mode: int
    expiration_mode: int
    trade_mode: int
    commission_per_lot: float
    commission_on: Literal["both", "in", "out"]
    fee_per_deal: float

    @classmethod
    def of(cls, instrument: Instrument, costs: SymbolCosts) -> Terms:
        """A symbol that names no filling takes both: brokers announce wrongly."""
        return cls(
            name=instrument.symbol,
            digits=instrument.digits,
            point=instrument.point,
            tick_size=instrument.tick_size or instrument.point,
            volume_min=instrument.volume_min_lots,
            volume_max=instrument.volume_max_lots,
            volume_step=instrument.volume_step_lots or instrument.volume_min_lots,
            volume_limit=instrument.volume_limit_lots,
            stops_level=instrument.stops_level_points,
            freeze_level=instrument.freeze_level_points,
            execution_mode=instrument.execution_mode,
            filling_mode=instrument.filling_mode or mt5.SYMBOL_FILLING_FOK | mt5.SYMBOL_FILLING_IOC,
            order_mode=instrument.order_mode,
            expiration_mode=instrument.expiration_mode,
            trade_mode=instrument.trade_mode,
            commission_per_lot=costs.commission_per_lot,
            commission_on=costs.commission_on,
            fee_per_deal=costs.fee_per_deal,
        )

    def price(self, price: float) -> float:
        """Rounded to the tick size, then to the digits."""
        return round(round(price / self.tick_size) * self.tick_size, self.digits)

    @property
    def filling(self) -> int:
        """The filling a market order asks for: what is there at once, where it may."""
        if self.execution_mode == mt5.SYMBOL_TRADE_EXECUTION_EXCHANGE:
            return mt5.ORDER_FILLING_RETURN
        ioc = self.filling_mode & mt5.SYMBOL_FILLING_IOC
        return mt5.ORDER_FILLING_IOC if ioc else mt5.ORDER_FILLING_FOK


def terms_of(instruments: Mapping[str, Instrument], options: BrokerOptions) -> dict[str, Terms]:
    """By symbol."""
    return {
        symbol: Terms.of(instrument, options.costs.get(symbol, SymbolCosts()))
        for symbol, instrument in instruments.items()
    }


def contracts_of(instruments: Mapping[str, Instrument]) -> dict[str, Contract]:
    """By symbol. Profits of futures and options that have a tick value are in account currency
    already: their contracts name no profit currency."""
    contracts = {}
    for symbol, instrument in instruments.items():
        contract = Contract.of(instrument)
        if contract.calc_mode in _VALUED_MODES and contract.tick_value:
            contract = replace(contract, currency_profit="")
        contracts[symbol] = contract
    return contracts


def pairs_of(
    instruments: Mapping[str, Instrument], rates: Iterable[str] = ()
) -> dict[tuple[str, str], str]:
    """(base, profit) -> symbol of every pair of currencies among the instruments, and of pairs
    with fixed rates (`EURUSD`: the first three letters against the next)."""
    named = [
        (one.symbol, one.currency_base, one.currency_profit)
        for one in instruments.values()
        if one.calc_mode in _PAIR_MODES
    ]
    return currency_pairs([*named, *((pair, pair[:3], pair[3:6]) for pair in rates)])


def conversions_of(
    currency: str,
    instruments: Mapping[str, Instrument],
    traded: Iterable[str],
    *,
    rates: Iterable[str] = (),
) -> tuple[str, ...]:
    """The symbols whose prices turn the money of traded symbols into account currency. Raises
    NoConversion when no instrument and no fixed rate does."""
    known = Rates(pairs_of(instruments, rates), lambda _: None)
    contracts = contracts_of(instruments)
    needed: dict[str, None] = {}
    for symbol in traded:
        contract = contracts[symbol]
        for source in (contract.currency_profit, contract.currency_margin):
            if source in ("", currency):
                continue
            found = known.symbols(source, currency)
            if not found:
                raise NoConversion(
                    f"{symbol}: nothing converts {source} into the account's {currency}: add the "
                    f"facts and ticks of a pair of both (or of each against USD), or a fixed rate "
                    f"for {source}{currency} under [rates] in the spec"
                )
            needed.update(dict.fromkeys(found))
    return tuple(needed)

"""The largest volume of each symbol that could be opened now without reaching a limit."""

from __future__ import annotations

from collections.abc import Mapping

from consumers.risk.figures.holdings import Market
from events.accounting import MissingRate, Rates
from events.market import Instrument
from events.rules import References, Rules
from events.rules.sizing import LotFacts, largest_lot, lot_facts
from events.trading import Account

SHARE_WITHOUT_RETURNS = 0.01
"""Of the price: how far the stop is taken to be where nothing is known of the symbol's moves."""


def largest_lots(
    account: Account,
    market: Market,
    *,
    held_lots: Mapping[str, float],
    daily_deviations: Mapping[str, float],
    rules: Rules,
    references: References,
    named: Mapping[str, float | None],
) -> dict[str, float]:
    """Symbol -> lots, with a stop one daily standard deviation away. Symbols without a price or
    a conversion are left out."""
    found = {}
    for symbol, instrument in market.instruments.items():
        deviation = daily_deviations.get(symbol, SHARE_WITHOUT_RETURNS)
        facts = facts_of(
            account, market, instrument, deviation=deviation, held=held_lots.get(symbol, 0.0)
        )
        if facts is not None:
            found[symbol] = largest_lot(rules, references, named, facts)
    return found


def facts_of(
    account: Account,
    market: Market,
    instrument: Instrument,
    *,
    deviation: float,
    held: float,
) -> LotFacts | None:
    """What one lot means for the account, with a stop `deviation` (share of the price) away;
    None: no price or conversion."""
    price = market.prices.get(instrument.symbol)
    if price is None or price.bid <= 0 or price.ask <= 0:
        return None
    rates: Rates = market.rates
    try:
        return lot_facts(
            instrument, rates, bid=price.bid, ask=price.ask, currency=account.currency,
            leverage=max(1, account.leverage), stop_distance=deviation * price.mid,
            held_lots=held,
        )  # fmt: skip
    except MissingRate:
        return None
